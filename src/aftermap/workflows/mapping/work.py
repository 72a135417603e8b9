"""The work folder of a map run: finished rows survive an interruption, and the result appears whole or not at
all.

    OUT.work/
      journal.json          what the rows belong to: a fingerprint of options, model and inputs
      rows/START-STOP.npz   finished rows, each file written under another name and renamed
      result/               the output folder in the making; renamed to OUT when it is complete
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.errors import OutputError

MARKER = "provenance.json"
"""A folder that holds this file is a result of ours and may be replaced."""

_FULL_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Finished rows on disk: `start` to `stop`, half-open."""

    path: Path
    start: int
    stop: int

    def load(self, *names: str) -> tuple[np.ndarray, ...]:
        """Read some of the arrays that were stored."""
        with np.load(self.path, allow_pickle=False) as arrays:
            return tuple(arrays[name] for name in names)


class WorkFolder:
    """`OUT.work`, claimed for one run.

    Args:
        out: the output folder that the run will make.
        fingerprint: everything that decides the pixels: options, model, inputs.
        resume: continue rows that an interrupted run with the same fingerprint left.
        overwrite: replace a result at `out`, and start again where an interrupted run lies.

    Raises:
        OutputError: a result or an interrupted run is in the way, or nothing can be written there.
    """

    def __init__(
        self, out: Path, fingerprint: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> None:
        self.out = out
        self.path = work_path(out)
        self.result = self.path / "result"
        check_output(out, overwrite=overwrite)
        text = json.dumps(fingerprint, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with writing(self.path):
            if self.path.exists():
                self._take_over(digest, json.loads(text), resume=resume, overwrite=overwrite)
            if not self.path.exists():
                (self.path / "rows").mkdir(parents=True)
                journal = {"format": 1, "fingerprint": digest, "options": json.loads(text)}
                _replace(self.path / "journal.json", (json.dumps(journal, indent=1) + "\n").encode())
            shutil.rmtree(self.result, ignore_errors=True)
            self.result.mkdir()

    def finished(self) -> list[Rows]:
        """The finished rows from the top without a gap."""
        found: list[Rows] = []
        for path in sorted((self.path / "rows").glob("*.npz")):
            start, stop = map(int, path.stem.split("-"))
            if start != (found[-1].stop if found else 0):
                break
            found.append(Rows(path, start, stop))
        return found

    def add(self, start: int, stop: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store finished rows; they are on disk, or not there, whenever the process dies."""
        path = self.path / "rows" / f"{start:09d}-{stop:09d}.npz"
        part = path.with_suffix(".part")
        with writing(self.path):
            # fastest compression: np.savez_compressed takes four times as long for a tenth less
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            part.replace(path)

    def publish(self) -> Path:
        """Put the finished result in place of an older one, and remove the work folder."""
        old = self.out.with_name(self.out.name + ".old")
        with writing(self.out):
            if old.exists():
                _remove_result(old)
            if self.out.exists():
                self.out.rename(old)
            self.result.rename(self.out)
            if old.exists():
                _remove_result(old)
            shutil.rmtree(self.path)
        return self.out

    def _take_over(self, digest: str, options: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        journal = self.path / "journal.json"
        if not journal.is_file():
            raise OutputError(
                f"{self.path} exists and is not an interrupted run: move it away or choose another output"
            )
        try:
            known = json.loads(journal.read_bytes())
        except ValueError:
            known = {}
        if resume:
            if known.get("fingerprint") == digest:
                return
            earlier = known.get("options", {})
            changed = sorted(k for k in {*options, *earlier} if options.get(k) != earlier.get(k))
            raise OutputError(
                f"{self.path} comes from a run with other {', '.join(changed) or 'options'}: repeat "
                "that run's options, "
                "or start again without --resume and with --overwrite"
            )
        if not overwrite:
            raise OutputError(
                f"{self.path} holds an interrupted run: pass --resume to continue it, or --overwrite to "
                "start again"
            )
        shutil.rmtree(self.path)


def work_path(out: Path) -> Path:
    """The work folder beside an output folder."""
    return out.with_name(out.name + ".work")


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be made, before any work is done.

    Raises:
        OutputError: it exists, would replace something that is not a result, or lies where nothing can be
            written.
    """
    if out.exists():
        if not overwrite:
            raise OutputError(
                f"{out} exists: pass --overwrite to replace it, or choose another output folder"
            )
        if not (out.is_dir() and ((out / MARKER).is_file() or not any(out.iterdir()))):
            raise OutputError(
                f"{out} is not a result of aftermap, so --overwrite leaves it: choose another output"
            )
    if not out.name:
        raise OutputError(f"{out} cannot be an output folder: give it a name")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.with_name(f".{out.name}.probe")
        probe.touch()
        probe.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a failed write into an OutputError that says what to do."""
    try:
        yield
    except (OSError, OutputError) as error:
        if _is_full(path):  # libraries report it in many words, some of them far from the cause
            raise OutputError(
                f"cannot write {path}: the disk is full: free some space, then pass --resume"
            ) from error
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}: choose another output folder") from error


def _is_full(path: Path) -> bool:
    place = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    return shutil.disk_usage(place).free < _FULL_BYTES


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def _remove_result(folder: Path) -> None:
    if not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise OutputError(f"{folder} is in the way and is not a result of aftermap: move it away")
    shutil.rmtree(folder)
