"""Tries readers on changed files: `python tests/fuzz/run.py --help`.

Every try follows from target, seed and number alone. Tries run in a process of their own with limits on memory and
processor time, so that a library that crashes, hangs or eats the memory is seen as such; the next process goes on
with the next try. What failed is kept as a folder with the files, the reason, and the command that repeats it.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS), str(TESTS / "geo")]

from seeds import quietly  # noqa: E402
from targets import TARGETS, Files, Target, check_line  # noqa: E402

from aftermap.errors import AftermapError, AftermapWarning  # noqa: E402

CPU_S = 20
"""Processor time of one try."""

MEMORY = 4 << 30
"""What a try may take above what the process has when it begins."""


@dataclass
class Outcome:
    """What came of the tries of one target."""

    tries: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


def cases_of(target: Target, folder: Path) -> dict[str, Files]:
    """Valid files by case; made where the folder holds none yet."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        quietly(target.make, folder)
    return {
        case.name: {
            path.relative_to(case).as_posix(): path.read_bytes()
            for path in sorted(case.rglob("*"))
            if path.is_file()
        }
        for case in sorted(folder.iterdir())
    }


def write_case(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def attempt(target: Target, cases: dict[str, Files], where: str, number: int, folder: Path) -> int:
    """One try. Returns how many readers refused it.

    Raises:
        Exception: whatever a reader raised that is no refusal.
    """
    chance = random.Random(f"{where}-{number}")
    write_case(target.change(cases[chance.choice(sorted(cases))], chance), folder)
    refused = 0
    for read in target.readers:
        try:
            read(folder)
        except AftermapError as error:
            refused += 1
            check_line(error)
    return refused


def child(target: Target, cases: dict[str, Files], where: str, numbers: range, place: Path, out: int) -> None:
    """Tries in this process; tells (number, refused, reason of a failure) as lines of JSON."""
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.resetwarnings()
    warnings.simplefilter("error")
    for kind in (
        AftermapWarning,
        DeprecationWarning,
        PendingDeprecationWarning,
        FutureWarning,
        ResourceWarning,
    ):
        warnings.simplefilter("ignore", kind)
    with os.fdopen(out, "w", buffering=1) as tell:
        for number in numbers:
            folder = place / "case"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            used = resource.getrusage(resource.RUSAGE_SELF)
            limit = int(used.ru_utime + used.ru_stime) + CPU_S
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            tell.write(json.dumps([number, None, None]) + "\n")
            try:
                tell.write(json.dumps([number, attempt(target, cases, where, number, folder), None]) + "\n")
            except Exception:
                tell.write(json.dumps([number, 0, traceback.format_exc()]) + "\n")
                return


def batch(
    target: Target, cases: dict[str, Files], where: str, numbers: range, place: Path
) -> tuple[int, int, str | None]:
    """(last number tried, refusals, reason of its failure) of tries in a process of their own."""
    source, out = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(source)
            child(target, cases, where, numbers, place, out)
        finally:
            os._exit(0)
    os.close(out)
    with os.fdopen(source) as lines:
        told = [json.loads(line) for line in lines]
    _, status = os.waitpid(pid, 0)
    refused = sum(done[1] or 0 for done in told)
    number, finished, reason = told[-1]
    if finished is None:
        reason = (
            f"the process ended with {signal.Signals(os.WTERMSIG(status)).name}"
            if os.WIFSIGNALED(status)
            else "?"
        )
    return number, refused, reason


def fuzz(name: str, *, seed: int, tries: range, seconds: float | None, seeds: Path, kept: Path) -> Outcome:
    """Try one target, a number of times or for a time."""
    target, outcome, where = TARGETS[name], Outcome(), f"{name}-{seed}"
    cases = cases_of(target, seeds / name)
    end = None if seconds is None else time.monotonic() + seconds
    number, stop = tries.start, tries.stop
    with tempfile.TemporaryDirectory() as place:
        while number < stop if end is None else time.monotonic() < end:
            last = stop if end is None else number + 50
            done, refused, reason = batch(target, cases, where, range(number, last), Path(place))
            outcome.tries += done + 1 - number
            outcome.refused += refused
            if reason is not None:
                folder = kept / f"{where}-{done}"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(Path(place) / "case", folder / "files")
                again = f"python tests/fuzz/run.py --target {name} --seed {seed} --first {done} --tries 1"
                (folder / "reason.txt").write_text(f"{again}\n{reason}\n")
                outcome.failures.append(f"{again}: {reason.strip().splitlines()[-1]}")
            number = done + 1
    return outcome


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=["all", *TARGETS], default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first try")
    parser.add_argument("--tries", type=int, help="for each target; those of the test suite without it")
    parser.add_argument("--scale", type=float, default=1, help="multiplies the tries of the test suite")
    parser.add_argument("--seconds", type=float, help="in all, instead of a number of tries")
    parser.add_argument("--seeds", type=Path, help="folder of the valid files: kept there, used again")
    parser.add_argument("--kept", type=Path, default=Path("build/fuzz"), help="where failures are kept")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    given = parser.parse_args(words)
    names = list(TARGETS) if given.target == "all" else [given.target]
    outcomes = {}
    with tempfile.TemporaryDirectory() as made:
        for name in names:
            count = given.tries or max(1, round(TARGETS[name].tries * given.scale))
            outcomes[name] = fuzz(
                name,
                seed=given.seed,
                tries=range(given.first, given.first + count),
                seconds=given.seconds and given.seconds / len(names),
                seeds=given.seeds or Path(made),
                kept=given.kept,
            )
            if not given.json:
                out = outcomes[name]
                print(
                    f"{name}: {out.tries} tries, {out.refused} refusals, {len(out.failures)} failures",
                    flush=True,
                )
                print("".join(f"  {failure}\n" for failure in out.failures), end="", flush=True)
    if given.json:
        print(json.dumps({name: asdict(outcome) for name, outcome in outcomes.items()}))
    return int(any(outcome.failures for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
