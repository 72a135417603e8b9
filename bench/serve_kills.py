"""Kill the worker of a service at random moments: is every job done, and each once? And how long a map takes through it.

    python bench/serve_kills.py --kills 50
    python bench/serve_kills.py --pairs 5         # the demo town through the service against the command, in turn

Kills: jobs wait for one worker process, which is killed (SIGKILL) after a random time again and again, and every third
time the server too. At the end every job has to be done, with one map each, equal to the byte to what the command makes
of the same images.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from reviewed_map import make_map  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "aftermap.cli.app", *words]


class Server:
    """`aftermap serve` with one worker, started again on the same folder after a kill."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.start()

    def start(self) -> None:
        with (self.data.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command("serve", str(self.data), "--port", "0", "--json"),
                env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        text = b""
        while b"}" not in text:
            text += self.process.stdout.readline()
        self.address = json.loads(text)["address"].rstrip("/")

    def ask(self, path: str, data: bytes | None = None, kind: str = "application/json") -> object:
        request = urllib.request.Request(self.address + path, data, {"content-type": kind})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(number) for number in (task / "children").read_text().split()]
        return found or [int(number) for number in children.split()]

    def cpu_seconds(self) -> float:
        """Of the server and its worker."""
        total = 0
        for number in (self.process.pid, *self.workers()):
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def upload(self, path: Path) -> str:
        told = self.ask(f"/api/uploads?name={path.name}", path.read_bytes(), "application/octet-stream")
        return str(told["id"])  # type: ignore[index]

    def job(self, pre: str, post: str, **more: object) -> str:
        body = json.dumps({"pre": pre, "post": post, **more}).encode()
        return str(self.ask("/api/jobs", body)["id"])  # type: ignore[index]


def kills(folder: Path, count: int, jobs: int, seed: int) -> None:
    chance = random.Random(seed)
    make_map(folder)
    expected = folder / "by-command"
    pair = [str(folder / "before.tif"), str(folder / "after.tif")]
    subprocess.run(
        command("map", *pair, "-o", str(expected), "--align", "off"),
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    server = Server(folder / "data")
    uploads = [server.upload(Path(path)) for path in pair]
    asked = [server.job(*uploads, align="off", title=f"job {n}") for n in range(jobs)]
    killed = servers = 0
    while killed < count:
        time.sleep(chance.uniform(0.2, 4.0))
        if killed % 3 == 2:
            server.kill()
            servers += 1
            server.start()
        else:
            found = server.workers()
            if not found:
                continue
            os.kill(found[0], signal.SIGKILL)
        killed += 1
        states = [job["state"] for job in server.ask("/api/jobs?limit=1000")]  # type: ignore[union-attr,index]
        if states.count("done") == len(asked):
            asked.append(server.job(*uploads, align="off", title=f"job {len(asked)}"))
        for job in server.ask("/api/jobs?limit=1000"):  # type: ignore[union-attr]
            if job["state"] == "failed":  # given up after three kills, as it says; asked for again
                assert "3 times" in job["error"], job
                server.ask(f"/api/jobs/{job['id']}/retry", b"")
    end = time.monotonic() + 600
    while time.monotonic() < end:
        states = [job["state"] for job in server.ask("/api/jobs?limit=1000")]  # type: ignore[union-attr,index]
        for job in server.ask("/api/jobs?limit=1000"):  # type: ignore[union-attr]
            if job["state"] == "failed":
                server.ask(f"/api/jobs/{job['id']}/retry", b"")
        if states.count("done") == len(asked):
            break
        time.sleep(0.5)
    maps = [each["id"] for each in server.ask("/api/maps?limit=1000")]  # type: ignore[union-attr,index]
    same = sum(
        (server.data / "maps" / number / "damage.tif").read_bytes() == (expected / "damage.tif").read_bytes()
        for number in maps
    )
    attempts = sum(job["attempts"] for job in server.ask("/api/jobs?limit=1000"))  # type: ignore[union-attr]
    left = [path.name for path in (server.data / "maps").glob("*.work")]
    server.stop()
    print(
        f"{killed} kills ({servers} of the server and its worker), {len(asked)} jobs, {attempts} attempts since the last "
        f"retry: {len(set(maps) & set(asked))} maps of {len(asked)} jobs, {len(maps) - len(set(maps))} double, "
        f"{len(set(asked) - set(maps))} lost, {same} equal to the command's, {len(left)} work folders left"
    )
    assert sorted(maps) == sorted(asked) and same == len(asked) and not left


def pairs(folder: Path, count: int) -> None:
    """The same map by the command and through the service, in turn, wall and processor seconds."""
    demo = folder / "demo"
    subprocess.run(command("demo", "-o", str(demo)), env=ENVIRONMENT, check=True, capture_output=True)
    images = sorted((demo / "town/geotiff").glob("*.tif"))
    post, pre = images if "_post" in images[0].name else images[::-1]
    server = Server(folder / "data")
    uploads = server.upload(pre), server.upload(post)
    time.sleep(5)  # the worker begins
    rows = []
    for number in range(count + 1):
        out = folder / f"by-command-{number}"
        before, begun = os.times(), time.monotonic()
        words = command("map", str(pre), str(post), "-o", str(out))
        subprocess.run(words, env=ENVIRONMENT, check=True, capture_output=True)
        by_command, after = time.monotonic() - begun, os.times()
        of_command = (
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        spent, begun = server.cpu_seconds(), time.monotonic()
        job = server.job(*uploads)
        with urllib.request.urlopen(f"{server.address}/api/jobs/{job}/events", timeout=600) as stream:
            stream.read()
        through = time.monotonic() - begun
        of_service = server.cpu_seconds() - spent
        assert server.ask(f"/api/jobs/{job}")["state"] == "done"  # type: ignore[index]
        print(
            f"command {by_command:.2f} s ({of_command:.2f} CPU), service {through:.2f} s ({of_service:.2f} CPU)",
            flush=True,
        )
        if number:
            rows.append((through / by_command, of_service / of_command))
        shutil.rmtree(out)
    server.stop()
    wall, cpu = (sorted(column)[len(rows) // 2] for column in zip(*rows, strict=True))
    print(
        f"service against command, median of {len(rows)}: {wall:.2f} x the time, {cpu:.2f} x the processor time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.kills:
            kills(Path(folder), chosen.kills, chosen.jobs, chosen.seed)
        if chosen.pairs:
            pairs(Path(folder), chosen.pairs)


if __name__ == "__main__":
    main()
