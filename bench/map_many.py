"""Many scenes by `aftermap map-many`: against a loop over `aftermap map`, by one and two workers, and under random kills.

    python bench/map_many.py loop --scenes 64 --size 1024            CPU and wall, half of the loop before, half after
    python bench/map_many.py efficiency --scenes 64 --size 1024      one worker against two, in turns; a quiet machine
    python bench/map_many.py kills --scenes 200 --kills 20           Ray and an S3 server of this machine

The scenes are cut from one made-up town, which is kept in --work. `loop` puts them side by side, `kills` leaves them
where they overlap. `kills` starts moto's S3 server and a Ray cluster of two cores, kills workers and the command itself
at random moments, one in each equal share of the scenes, resumes it each time it died, and holds the result against a
run that nobody disturbed: scenes that are missing, buildings that are lost or there twice.
"""

import argparse
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src"
AFTERMAP = [sys.executable, "-m", "aftermap.cli.app"]
TOWN_PX = 2048
APART = 8  # columns of scenes that lie side by side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("loop", "efficiency", "kills"))
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/map-many-bench"), help="for scenes and results"
    )
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--base", type=Path, default=SOURCE, help="source folder of the loop, such as an older build's"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of efficiency")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--engine", choices=("processes", "ray"), default="ray", help="of kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    pairs = made_scenes(options.work, options.scenes, options.size, side_by_side=options.what != "kills")
    {"loop": loop, "efficiency": efficiency, "kills": kills}[options.what](pairs, options)


def environment(source: Path = SOURCE, **more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "AFTERMAP_TRACKING": "off"} | more


def measured(command: Sequence[str], source: Path = SOURCE) -> tuple[float, float, str]:
    """Processor seconds of a command and all its processes, wall seconds, and what it printed."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment(source), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    told, errors = process.stdout.read(), process.stderr.read()  # type: ignore[union-attr]
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{errors.decode()[-2000:]}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - begun, told.decode()


def made_scenes(work: Path, count: int, size: int, *, side_by_side: bool) -> Path:
    """A list of scenes that are cut from one town at places that differ."""
    import rasterio
    from affine import Affine
    from rasterio.windows import Window

    folder = work / f"{'side' if side_by_side else 'over'}-{count}-{size}"
    table = folder / "pairs.csv"
    if table.is_file():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    town = work / "town"
    if not (town / "manifest.json").is_file():
        measured(
            [
                *AFTERMAP,
                "data",
                "synth",
                "-o",
                str(town),
                "--scenes",
                "1",
                "--size",
                str(TOWN_PX),
                "--seed",
                "5",
            ]
        )
    across = int(count**0.5 - 1e-9) + 1
    step = (TOWN_PX - size) // max(1, across - 1)
    rows = ["name,pre,post"]
    images = {date: next((town / "geotiff").glob(f"*_{date}.tif")) for date in ("pre", "post")}
    for number in range(count):
        row, col = divmod(number, across)
        name = f"s{number:04d}"
        for date, path in images.items():
            with rasterio.open(path) as source:
                window = Window(col * step, row * step, size, size)
                transform = source.window_transform(window)
                if side_by_side:
                    transform = source.transform @ Affine.translation(
                        number % APART * size, number // APART * size
                    )
                profile = source.profile | {"width": size, "height": size, "transform": transform}
                with rasterio.open(folder / f"{name}_{date}.tif", "w", **profile) as target:
                    target.write(source.read(window=window))
        rows.append(f"{name},{name}_pre.tif,{name}_post.tif")
    table.write_text("\n".join(rows) + "\n")
    return table


def listed(pairs: Path) -> list[dict[str, str]]:
    with pairs.open() as file:
        return list(csv.DictReader(file))


def loop(pairs: Path, options: argparse.Namespace) -> None:
    """The list by one command, between two halves of a loop over commands."""
    rows = listed(pairs)
    used, took = 0.0, 0.0

    def one_by_one(some: Sequence[dict[str, str]]) -> None:
        nonlocal used, took
        for row in some:
            images = [str(pairs.parent / row[date]) for date in ("pre", "post")]
            cpu, wall, _ = measured(
                [*AFTERMAP, "map", *images, "-o", str(options.work / "loop" / row["name"]), "--overwrite"],
                options.base,
            )
            used, took = used + cpu, took + wall

    one_by_one(rows[:1])  # fills the caches
    used, took = 0.0, 0.0
    one_by_one(rows[: len(rows) // 2])
    cpu, wall, told = many(pairs, options.work / "many", options.workers)
    one_by_one(rows[len(rows) // 2 :])
    print(f"{len(rows)} scenes of {options.size} px, {options.workers} workers, CPU and wall seconds")
    print("\n| | CPU s | wall s |\n|---|---|---|")
    print(f"| loop over aftermap map | {used:.1f} | {took:.1f} |")
    print(f"| aftermap map-many | {cpu:.1f} | {wall:.1f} |")
    print(f"| times less | {used / cpu:.2f} | {took / wall:.2f} |")
    memory(told, options.work / "many")


def many(pairs: Path, out: Path, workers: int, *more: str) -> tuple[float, float, dict[str, Any]]:
    cpu, wall, told = measured(
        [
            *AFTERMAP,
            "map-many",
            str(pairs),
            "-o",
            str(out),
            "--overwrite",
            "--workers",
            str(workers),
            "--json",
            *more,
        ]
    )
    return cpu, wall, json.loads(told)


def memory(told: dict[str, Any], out: Path) -> None:
    """How much a worker held after its scenes, early and late."""
    with (out / "jobs.csv").open() as file:
        held = [float(row["resident_mb"]) for row in csv.DictReader(file) if row["resident_mb"]]
    quarter = max(1, len(held) // 4)
    first, last = sorted(held[quarter : 2 * quarter])[quarter // 2], sorted(held[-quarter:])[quarter // 2]
    print(
        f"\nmemory of a worker after a scene, median: second quarter {first:.0f} MB, last quarter {last:.0f} MB"
    )
    print(f"driver: {told['seconds']} s in all, of which merging {told['stages']['merging']:.1f} s")


def efficiency(pairs: Path, options: argparse.Namespace) -> None:
    """One worker against two, in turns: T1 / (2 T2), of mapping, of merging and of the whole command.

    A single worker does not leave the other core idle: images are read beside the network, and COGs are packed by all
    cores. So it is measured twice, with both cores and with one alone.
    """
    cases = {"one worker, one core": (1, {0}), "one worker": (1, {0, 1}), "two workers": (2, {0, 1})}
    times: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, (workers, cores) in cases.items():
            everywhere = os.sched_getaffinity(0)
            os.sched_setaffinity(0, set(sorted(everywhere)[: len(cores)]))
            try:
                cpu, wall, told = many(pairs, options.work / f"by-{workers}", workers, "--format", "none")
            finally:
                os.sched_setaffinity(0, everywhere)
            stages = told["stages"]
            times[name].append((stages["mapping"], stages["merging"], wall, cpu))
    best = {name: [min(each[place] for each in kept) for place in range(4)] for name, kept in times.items()}
    print("| | mapping, s | merging, s | whole command, s | CPU s |\n|---|---:|---:|---:|---:|")
    for name, seconds in best.items():
        print(f"| {name} | {' | '.join(f'{each:.1f}' for each in seconds)} |")
    two = best["two workers"]
    for name in ("one worker, one core", "one worker"):
        shares = [best[name][place] / two[place] / 2 for place in range(3)]
        print(f"| efficiency from {name} to two | {' | '.join(f'{share:.2f}' for share in shares)} | |")


def kills(pairs: Path, options: argparse.Namespace) -> None:
    """Random kills of workers and of the command, until the map is there."""
    import psutil

    draw = random.Random(options.seed)
    calm = options.work / "calm"
    if not (calm / "provenance.json").is_file():
        many(pairs, calm, options.workers, "--format", "none")
    with Services(options.work, ray=options.engine == "ray") as services:
        command = [
            *AFTERMAP,
            "map-many",
            str(pairs),
            "-o",
            "s3://maps/event",
            "--workers",
            str(options.workers),
            "--retries",
            "5",
        ]
        command += ["--engine", options.engine, "--format", "none", *services.address]
        plan = planned(draw, options.kills, options.scenes)
        killed: list[tuple[str, int]] = []
        begun, starts = time.monotonic(), 0
        while True:
            driver = subprocess.Popen(
                [*command, "--resume" if starts else "--overwrite"],
                env=services.environment, stdout=subprocess.DEVNULL, stderr=(options.work / "driver.log").open("w"),
            )  # fmt: skip
            starts += 1
            while driver.poll() is None:
                time.sleep(draw.uniform(0.05, 0.5))
                done = services.parts()
                if not plan or done < plan[0][1]:
                    continue
                if plan[0][0] == "command":
                    driver.kill()
                else:
                    workers = services.workers(psutil.Process(driver.pid) if driver.poll() is None else None)
                    if not workers:
                        continue
                    draw.choice(workers).kill()
                killed.append((plan.pop(0)[0], done))
                print(f"{len(killed)} kills, {done} scenes done", file=sys.stderr, flush=True)
            if driver.wait() == 0:
                break
            if driver.returncode != -signal.SIGKILL:
                raise SystemExit((options.work / "driver.log").read_text()[-2000:])
        took = time.monotonic() - begun
        services.fetch("event/jobs.csv", options.work / "jobs.csv")
        services.fetch("event/buildings.geojson", options.work / "buildings.geojson")
    with (options.work / "jobs.csv").open() as file:
        jobs = list(csv.DictReader(file))
    ids, calm_ids = (identities(folder / "buildings.geojson") for folder in (options.work, calm))
    of = [name for name, _ in killed]
    told = f"{of.count('worker')} kills of workers, {of.count('command')} of the command, {starts} starts, {took:.0f} s"
    print(f"{len(jobs)} scenes, {options.engine}, {told}")
    print(f"scenes done at each kill: {', '.join(str(done) for _, done in killed)}")
    print(f"scenes lost: {sum(job['state'] != 'done' for job in jobs) + options.scenes - len(jobs)}")
    print(f"scenes twice: {len(jobs) - len({job['name'] for job in jobs})}")
    lost, others = set(calm_ids) - set(ids), set(ids) - set(calm_ids)
    print(
        f"buildings lost: {len(lost)} of {len(calm_ids)}, there twice: {len(ids) - len(set(ids))}, others: {len(others)}"
    )


def planned(draw: random.Random, kills: int, scenes: int) -> list[tuple[str, int]]:
    """What is killed once how many scenes are done: one in each equal share of them, and each fourth the command."""
    victims = ["command"] * (kills // 4) + ["worker"] * (kills - kills // 4)
    draw.shuffle(victims)
    return [(each, int((number + draw.random()) / kills * scenes)) for number, each in enumerate(victims)]


def identities(path: Path) -> list[str]:
    """Buildings by their ids and outlines."""
    features = json.loads(path.read_text())["features"]
    return [f"{each['properties']['building_id']} {each['geometry']['coordinates']}" for each in features]


class Services:
    """An S3 server, and a Ray cluster where that is asked for, of this machine; both end with this."""

    def __init__(self, work: Path, *, ray: bool) -> None:
        self.s3, self.ray, self._started = free_port(), free_port() if ray else None, []
        self.environment = environment(
            AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench", AWS_REGION="us-east-1",
            AWS_ENDPOINT=f"http://127.0.0.1:{self.s3}", AWS_ALLOW_HTTP="true", RAY_worker_niceness="0",
            RAY_USAGE_STATS_ENABLED="0", AFTERMAP_CACHE=str(work / "cache"),
        )  # fmt: skip
        self.address = [] if self.ray is None else ["--address", f"127.0.0.1:{self.ray}"]
        self._work = work

    def __enter__(self) -> "Services":
        folder = Path(sys.executable).parent
        self._start([str(folder / "moto_server"), "-H", "127.0.0.1", "-p", str(self.s3)])
        self._wait(lambda: self._ask("PUT", "maps"))
        if self.ray is not None:
            head = [str(folder / "ray"), "start", "--head", "--block", f"--port={self.ray}", "--num-cpus=2"]
            self._start([*head, "--include-dashboard=false", "--disable-usage-stats"])
            self._wait(lambda: self._said(1, b"Ray runtime started"))
        return self

    def __exit__(self, *_: object) -> None:
        import psutil

        for process in self._started:
            family = [
                process,
                *(psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []),
            ]
            for member in family:
                try:
                    member.kill()
                except (psutil.NoSuchProcess, OSError):
                    continue
            process.wait()

    def workers(self, driver: Any) -> list[Any]:
        """The processes that map scenes."""
        import psutil

        found = []
        roots = [psutil.Process(self._started[1].pid)] if self.ray is not None else [driver] if driver else []
        for root in roots:
            try:
                for process in root.children(recursive=True):
                    words = " ".join(process.cmdline())
                    if "_Actor" in words or "worklist.worker" in words:
                        found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def parts(self) -> int:
        """Scenes that are done."""
        return self._ask("GET", "maps?list-type=2&prefix=event/parts/").count(b"<Key>")

    def fetch(self, key: str, path: Path) -> None:
        """Bring a file here, as a program with the right to would."""
        code = "import sys; from aftermap.remote import Online; open(sys.argv[2], 'wb').write(Online().read(sys.argv[1]))"
        subprocess.run(
            [sys.executable, "-c", code, f"s3://maps/{key}", str(path)], env=self.environment, check=True
        )

    def _ask(self, method: str, what: str) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.s3}/{what}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def _start(self, command: Sequence[str]) -> None:
        log = (self._work / f"service-{len(self._started)}.log").open("wb")
        self._started.append(
            subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
        )

    def _said(self, number: int, words: bytes) -> None:
        if words not in (self._work / f"service-{number}.log").read_bytes():
            raise OSError("not yet")

    def _wait(self, look: Callable[[], Any]) -> None:
        end = time.monotonic() + 400
        while time.monotonic() < end and all(process.poll() is None for process in self._started):
            try:
                look()
                return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(
            f"a service does not answer: see service-{len(self._started) - 1}.log in {self._work}"
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
