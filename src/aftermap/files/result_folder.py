"""A result that takes long to make: claimed by one process, resumed after a kill, published in one step.

    OUT.work/
      journal.json    what the parts belong to: a fingerprint of options, model and inputs
      PARTS/...       finished parts, each there whole or not at all
      result/         the output folder in the making; takes the place of OUT when it is complete

Wherever the process dies, OUT is the old result or the new one, and OUT.work can be gone on with or begun again.
What the user put into OUT stays there, whatever replaces the rest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from aftermap.errors import InputError, OutputError
from aftermap.files.claims import LOCK_NAME, Claim
from aftermap.files.folders import make_folder, put_in_place, real_path, remove_folder, restore
from aftermap.files.plain_json import read_json, write_json
from aftermap.files.whole import PREFIX
from aftermap.files.writing import writing

_JOURNAL = "journal.json"
_FILES = "files"


class ResultFolder:
    """`OUT.work`, claimed for one run.

    Args:
        out: the output folder that the run will make.
        fingerprint: everything that decides the result: options, model, inputs.
        marker: JSON file of a finished result, which tells it from other folders; it is given the names of our files.
        ours: names of our files in a result whose marker does not list them, with `*` and `?`.
        parts: sub-folder of finished parts.
        resume: continue what an interrupted run with the same fingerprint left.
        overwrite: replace a result at `out`, and start again where an interrupted run lies.

    Raises:
        OutputError: a result, an interrupted run or another process is in the way, or nothing can be written there.
    """

    also: Sequence[str] = ()
    """Names that the work folder holds beside the ones above."""

    def __init__(
        self,
        out: Path,
        fingerprint: Mapping[str, Any],
        *,
        marker: str,
        ours: Sequence[str],
        parts: str,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.out, self.marker, self.ours = real_path(out), marker, ours
        self.path = work_path(self.out)
        self.parts, self.result = self.path / parts, self.path / "result"
        check_output(out, marker=marker, overwrite=overwrite)
        text = json.dumps(fingerprint, sort_keys=True, default=str)
        digest, options = hashlib.sha256(text.encode()).hexdigest(), json.loads(text)
        with writing(self.path):
            self._check_path()
            self._claim = Claim(self.path)
            try:
                if not self._goes_on(digest, options, resume=resume, overwrite=overwrite):
                    self._begin({"format": 1, "fingerprint": digest, "options": options})
                remove_folder(self.result)
                self.result.mkdir()
            except BaseException:
                self._claim.release()
                raise

    def publish(self) -> Path:
        """Put the finished result in place of an older one, and remove the work folder."""
        with writing(self.out, resumable=True):
            marker = self.result / self.marker
            names = sorted(entry.name for entry in self.result.iterdir())
            write_json(marker, {**read_json(marker), _FILES: names})
            put_in_place(self.result, self.out, ours=self._names_in_old())
            remove_folder(self.path)
        self._claim.release()
        return self.out

    def release(self) -> None:
        """Leave the work folder to another process; what is finished stays."""
        self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _check_path(self) -> None:
        """Refuse a work folder that holds anything that is not of an interrupted run."""
        if not self.path.exists():
            return
        known = {_JOURNAL, f"{_JOURNAL}.part", LOCK_NAME, self.parts.name, self.result.name, *self.also}
        names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else {""}
        strange = sorted(name for name in names - known if not name.startswith(PREFIX))
        if strange and _JOURNAL in names:
            raise OutputError(
                f"{self.path} holds {strange[0]}, which is not of the interrupted run there: move it away"
            )
        if strange:
            raise OutputError(
                f"{self.path} exists and is not an interrupted run: move it away or choose another output"
            )

    def _goes_on(self, digest: str, options: Mapping[str, Any], *, resume: bool, overwrite: bool) -> bool:
        """Whether finished parts are gone on with; refuses to throw them away unasked."""
        journal = self.path / _JOURNAL
        if not journal.is_file():  # nothing was finished, or the rest of a run whose result is published
            return False
        try:
            known = read_json(journal)
            earlier = dict(known.get("options", {}))
        except (InputError, AttributeError, TypeError, ValueError):
            known, earlier = {}, {}
        if resume:
            if known.get("fingerprint") == digest:
                make_folder(self.parts)
                return True
            changed = sorted(k for k in {*options, *earlier} if options.get(k) != earlier.get(k))
            raise OutputError(
                f"{self.path} comes from a run with other {', '.join(changed) or 'options'}: repeat that run's "
                "options, or start again without --resume and with --overwrite"
            )
        if not overwrite:
            raise OutputError(
                f"{self.path} holds an interrupted run: pass --resume to continue it, or --overwrite to start again"
            )
        return False

    def _begin(self, journal: Mapping[str, Any]) -> None:
        """Empty the work folder; the old journal goes first, so that it never speaks for parts of another run."""
        (self.path / _JOURNAL).unlink(missing_ok=True)
        remove_folder(self.parts)
        self.parts.mkdir()
        write_json(self.path / _JOURNAL, journal)

    def _names_in_old(self) -> Sequence[str]:
        """Names of our files in the result that is replaced."""
        try:
            names = read_json(self.out / self.marker).get(_FILES)
        except (InputError, AttributeError):
            names = None
        return [str(name) for name in names] if isinstance(names, list) else self.ours


def work_path(out: Path) -> Path:
    """The work folder beside an output folder."""
    return out.with_name(out.name + ".work")


def check_output(out: Path, *, marker: str, overwrite: bool) -> None:
    """Refuse an output folder that cannot be made, before any work is done.

    Raises:
        OutputError: it exists, would replace something that is not a result, or lies where nothing can be written.
    """
    if not out.name:
        raise OutputError(f"{out} cannot be an output folder: give it a name")
    _restore(real_path(out))
    if out.exists():
        if not overwrite:
            raise OutputError(
                f"{out} exists: pass --overwrite to replace it, or choose another output folder"
            )
        if not (out.is_dir() and ((out / marker).is_file() or not any(out.iterdir()))):
            raise OutputError(
                f"{out} is not a result of aftermap, so --overwrite leaves it: choose another output"
            )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.with_name(f"{PREFIX}{out.name}")
        probe.touch()
        probe.unlink()


def _restore(out: Path) -> None:
    """Bring back a result that a killed run had moved aside."""
    with writing(out):
        restore(out)
        old = out.with_name(out.name + ".old")
        if not out.exists() and old.is_dir() and (work_path(out) / "result").is_dir():
            old.rename(out)  # by a version that knew no exchange
