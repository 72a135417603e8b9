"""Kill the server of a review at random moments: is every answer that it confirmed in the journal?

    python bench/review_kills.py --kills 200

Each round starts a server in a child process, answers buildings over HTTP as fast as it confirms, and kills it (SIGKILL)
after a random time. The next round goes on with the same folder. At the end every confirmed answer has to be a whole line
of the journal.
"""

import argparse
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import uvicorn  # noqa: E402

from aftermap.web.app import review_app  # noqa: E402
from aftermap.web.serving import bind  # noqa: E402
from aftermap.workflows.mapping.finished import open_map  # noqa: E402
from aftermap.workflows.review.answers import Journal  # noqa: E402
from aftermap.workflows.review.opened import open_review  # noqa: E402
from reviewed_map import make_map  # noqa: E402

VERDICTS = ("no-damage", "minor-damage", "major-damage", "destroyed", "not-a-building")


def serve(folder: Path, listener: object) -> None:
    """What a child does: the server of a review, from its folder alone."""
    review = open_review(open_map(folder), budget=20)
    config = uvicorn.Config(review_app(review, "token"), log_level="critical", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])  # type: ignore[list-item]


def post(connection: http.client.HTTPConnection, what: str, body: dict[str, object]) -> bool:
    """Whether the server confirmed it."""
    connection.request("POST", f"/token/{what}", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=0.4, help="seconds between the first answer and the kill"
    )
    chosen = parser.parse_args()
    draw = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = make_map(folder)
        open_review(found, pre=folder / "before.tif", post=folder / "after.tif", budget=20)
        confirmed: set[str] = set()
        unconfirmed = kills = 0
        begun = time.perf_counter()
        while kills < chosen.kills:
            listener = bind("127.0.0.1", 0)
            port = listener.getsockname()[1]
            child = os.fork()
            if child == 0:
                try:
                    serve(found.folder, listener)
                finally:
                    os._exit(1)
            listener.close()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            killer = threading.Timer(draw.uniform(0, chosen.longest), os.kill, (child, signal.SIGKILL))
            started = False
            while True:
                key = uuid.uuid4().hex
                body: dict[str, object] = {"reviewer": f"r{draw.randrange(3)}", "key": key}
                what = "undo" if draw.random() < 0.1 else "answer"
                if what == "answer":
                    body |= {"building_id": f"b{draw.randrange(25)}", "verdict": draw.choice(VERDICTS)}
                try:
                    is_saved = post(connection, what, body)
                except (OSError, http.client.HTTPException):
                    unconfirmed += 1
                    break
                if is_saved and what == "answer":
                    confirmed.add(key)
                if not started:
                    started = True
                    killer.start()
            if started:
                killer.join()
            else:  # it never answered
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
        lines = list(Journal(found.folder).lines())
        there = {line.key for line in lines}
        raw = Journal(found.folder).path.read_bytes().split(b"\n")
        print(f"{kills} kills in {time.perf_counter() - begun:.0f} s")
        print(f"{len(confirmed)} answers confirmed, {len(confirmed - there)} of them lost")
        print(
            f"{unconfirmed} were under way when the server died, {len(there - confirmed)} other lines in the journal"
        )
        print(f"{sum(bool(row) for row in raw) - len(lines)} lines cut off by a kill, and ignored")
    sys.exit(bool(confirmed - there))


if __name__ == "__main__":
    main()
