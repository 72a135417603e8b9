"""What teachers said about fixed crops, kept on disk: named by content, bounded in size, shared by processes."""

import hashlib
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aftermap.errors import AftermapWarning, OutputError
from aftermap.files import replacing
from aftermap.learning.objectives.distillation_terms import TeacherOutput
from aftermap.learning.teachers import Teacher

_PATTERN = "??/*.safetensors"
_LOOK_AGAIN = 64  # entries written between two looks at what other processes wrote
_FORGOTTEN_S = 3600.0  # after which a half-written file has no process any more


class TeacherCacheWarning(AftermapWarning):
    """Outputs of teachers are no longer kept: the run goes on and computes them again."""


class TeacherCache:
    """A folder of small files, one per crop and teacher, in half precision.

    Entries that this run has not used make room for new ones, the longest unused first. Its own are never dropped, as
    they come round again: what does not fit beside them is not kept.

    Attributes:
        hits: entries found.
        misses: entries looked for in vain.
    """

    def __init__(self, folder: Path, *, gigabytes: float) -> None:
        """Open or make the folder.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot keep teachers' outputs in {folder}: {error.strerror or error}: change objective.cache"
            ) from None
        self.hits = self.misses = 0
        self._folder, self._limit = folder, round(gigabytes * 1e9)
        self._since = time.time()
        self._touched: set[str] = set()
        self._stopped = False
        self._written = 0
        self._bytes = self._look()

    def read(self, key: str) -> dict[str, Tensor] | None:
        """Tensors in 32 bits, on the CPU; None where nothing usable is kept under the key."""
        path = self._path(key)
        try:
            found = load(path.read_bytes())
            if key not in self._touched:
                os.utime(path)  # in use: other processes leave it alone
                self._touched.add(key)
        except (OSError, SafetensorError, ValueError):
            self.misses += 1
            return None
        self.hits += 1
        return {name: value.float() for name, value in found.items()}

    def write(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors of 16 bits under a key, whole or not at all."""
        if self._stopped:
            return
        data = save({name: value.cpu().contiguous() for name, value in tensors.items()})
        if self._written % _LOOK_AGAIN == 0:
            self._bytes = self._look()
        if self._bytes + len(data) > self._limit and not self._make_room(len(data)):
            self._stop(f"{self._folder} is full ({self._limit / 1e9:g} GB): raise objective.cache_gb")
            return
        path = self._path(key)
        try:
            with replacing(path, parents=True, sync=False, shared=True) as part:
                part.write_bytes(data)
        except OutputError as error:
            self._stop(str(error))
            return
        self._touched.add(key)
        self._written += 1
        self._bytes += len(data)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _stop(self, reason: str) -> None:
        self._stopped = True
        warnings.warn(f"no more outputs of teachers are kept: {reason}", TeacherCacheWarning, stacklevel=2)

    def _look(self) -> int:
        """Bytes of all entries; what a killed process left half-written is swept out."""
        for part in (*self._folder.glob("??/.part-*"), *self._folder.glob("??/*.part")):
            if _age(part) > _FORGOTTEN_S:
                part.unlink(missing_ok=True)
        return sum(_size(path) for path in self._folder.glob(_PATTERN))

    def _make_room(self, wanted: int) -> bool:
        """Drop entries that no run has used since this one began, until so many bytes fit; whether they do."""
        others = [path for path in self._folder.glob(_PATTERN) if path.stem not in self._touched]
        for used, path in sorted((_used(path), path) for path in others):
            if used >= self._since:
                break
            if self._bytes + wanted <= self._limit:
                break
            size = _size(path)
            path.unlink(missing_ok=True)
            self._bytes -= size
        return self._bytes + wanted <= self._limit


def remembered(teacher: Teacher, image: Tensor, cache: TeacherCache, *, features: bool) -> TeacherOutput:
    """What a teacher says about a batch, as far as possible out of the cache; the teacher runs on the rest at once.

    Answers are those that are kept, in the precision in which they are kept, whether they were there or not, so that a
    run does not depend on what others left behind.

    Args:
        teacher: asked about the samples that are not kept.
        image: the student's normalised images (B, T, C, H, W).
        cache: read and filled.
        features: see `Teacher.forward`.
    """
    seen = image[:, : teacher.dates]
    keys = sample_keys(teacher, seen, features=features)
    entries = [cache.read(key) for key in keys]
    missing = [number for number, entry in enumerate(entries) if entry is None]
    if missing:
        fresh = _as_kept(teacher(seen[missing], features=features))
        for position, number in enumerate(missing):
            entry = {name: values[position] for name, values in fresh.items()}
            cache.write(keys[number], entry)
            entries[number] = {name: value.float() for name, value in entry.items()}
    found = [entry for entry in entries if entry is not None]
    stacked = {name: torch.stack([entry[name].to(image.device) for entry in found]) for name in found[0]}
    logits = stacked.pop("logits", None)
    if logits is None:
        logits = image.new_zeros(len(image), 0, *image.shape[-2:])
    return TeacherOutput(logits, tuple(stacked[name] for name in sorted(stacked)))


def sample_keys(teacher: Teacher, image: Tensor, *, features: bool) -> list[str]:
    """Names of the entries of each sample: the pixels, the teacher, what is kept, and how it was computed."""
    device = image.device.type
    lowered = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else ""
    about = repr((teacher.identity, features, lowered, tuple(image.shape[1:]), str(image.dtype))).encode()
    pixels = image.detach().cpu().contiguous().numpy()
    return [hashlib.blake2b(about + sample.tobytes(), digest_size=20).hexdigest() for sample in pixels]


def _as_kept(output: TeacherOutput) -> dict[str, Tensor]:
    """Logits (where there are any) and features by name, in half precision."""
    named = {f"features_{date}": values for date, values in enumerate(output.features)}
    if output.logits.shape[1]:
        named["logits"] = output.logits
    most = torch.finfo(torch.float16).max
    return {name: values.detach().float().clamp(-most, most).half() for name, values in named.items()}


def _used(path: Path) -> float:
    """When an entry was last used; in the future where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _age(path: Path) -> float:
    return time.time() - _used(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
