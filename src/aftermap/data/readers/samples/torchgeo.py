"""Adapter of torchgeo: its datasets, or any that gives samples by number, named as in Python."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from aftermap.data.preparing.dataset import Dataset
from aftermap.data.readers.samples.columns import Columns, Sample
from aftermap.data.readers.samples.dataset import Meaning, Part, samples_dataset
from aftermap.errors import DataError, InputError, MissingExtraError, RecipeError
from aftermap.trust import function_named

_LIBRARY = "torchgeo.datasets"


def torchgeo_dataset(
    source: Path,
    *,
    dataset: str,
    meaning: Meaning,
    columns: Columns | None = None,
    splits: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    tile_px: int | None = None,
    event: str | None = None,
    licence: str | None = None,
) -> Dataset:
    """Samples of a dataset of torchgeo.

    Its class is called with `root` (or `paths`) and downloads nothing. Datasets of large rasters, which torchgeo asks by
    place, are cut into tiles side by side.

    Args:
        source: the folder with the data, `root` (or `paths`) of the class.
        dataset: a class of `torchgeo.datasets`, or `module:name` of a class or function of one's own.
        meaning: what masks hold.
        columns: which entries are read; `image`, or `image1` and `image2`, and `mask`.
        splits: values of the class's argument `split`; each becomes a set.
        arguments: further arguments of the class.
        tile_px: side of the tiles of large rasters.
        event: name of the event; by default the class's.
        licence: of the data, in words.

    Raises:
        DataError: torchgeo does not find the data.
        InputError: a name or an argument that torchgeo does not have.
        MissingExtraError: torchgeo is not installed.
    """
    target = dataset if ":" in dataset else f"{_LIBRARY}:{dataset}"
    given = dict(arguments or {})
    if given.get("download"):
        raise InputError("download is not possible here: get the data first, and name its folder")
    _check_installed(target)
    parts = {
        split: Part(OpenedByNumber(target, str(source), given | ({"split": split} if split else {}), tile_px))
        for split in splits or ("",)
    }
    first = next(iter(parts.values())).samples
    if columns is None and len(first):
        names = set(first[0])
        columns = (
            Columns("image1", "image2") if "image" not in names and {"image1", "image2"} <= names else None
        )
    options = {
        "dataset": dataset,
        "arguments": repr(sorted(given.items())),
        "tile_px": "" if tile_px is None else str(tile_px),
    }
    return samples_dataset(
        parts,
        meaning=meaning,
        columns=columns,
        source=source,
        event=event or dataset.rpartition(":")[2].lower(),
        licence=licence,
        kind="torchgeo",
        options=options,
    )


@dataclass(frozen=True)
class OpenedByNumber:
    """A dataset's samples by number; every process opens it for itself.

    Attributes:
        target: `module:name` of its class.
        root: the folder with the data.
        arguments: of the class.
        tile_px: side of the tiles of large rasters.
    """

    target: str
    root: str
    arguments: Mapping[str, Any] = field(hash=False)
    tile_px: int | None = None

    def __len__(self) -> int:
        """How many samples there are."""
        opened, queries = _opened(self)
        return len(opened) if queries is None else len(queries)

    def __getitem__(self, number: int) -> Sample:
        """One of them."""
        opened, queries = _opened(self)
        sample: Sample = opened[number if queries is None else queries[number]]
        return sample


@lru_cache(maxsize=4)
def _opened(samples: OpenedByNumber) -> tuple[Any, list[Any] | None]:
    """A dataset, with the places to ask for where it goes by place."""
    target, root, tile_px = samples.target, samples.root, samples.tile_px
    try:
        make = function_named(target, "dataset")
    except RecipeError as error:
        raise InputError(str(error)) from None
    try:
        opened = _called(make, root, samples.arguments)
    except FileNotFoundError as error:
        raise DataError(f"{root} is not what {target} reads: {' '.join(str(error).split())[:300]}") from None
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"{target} refuses its arguments: {' '.join(str(error).split())[:300]}") from None
    if not _goes_by_place(opened):
        if tile_px is not None:
            raise InputError(f"the samples of {target} have their own size: leave --tile-px out")
        return opened, None
    if tile_px is None:
        raise InputError(f"{target} holds large rasters: say how wide their tiles are with --tile-px 512")
    sampler = function_named("torchgeo.samplers:GridGeoSampler", "sampler")
    return opened, list(sampler(opened, size=tile_px, stride=tile_px))


def _goes_by_place(opened: Any) -> bool:
    return any(
        one.__name__ == "GeoDataset" and one.__module__.startswith("torchgeo.")
        for one in type(opened).__mro__
    )


def _called(make: Any, root: str, arguments: Mapping[str, Any]) -> Any:
    """The dataset of a class that calls its folder `root` or `paths`, if it asks for one."""
    known = inspect.signature(make).parameters
    place = next((name for name in ("root", "paths") if name in known), None)
    return make(**({} if place is None else {place: root}), **arguments)


def _check_installed(target: str) -> None:
    from importlib.util import find_spec

    if target.startswith("torchgeo.") and find_spec("torchgeo") is None:
        raise MissingExtraError(
            "'aftermap data prepare torchgeo' needs torchgeo: pip install torchgeo (0.8 was tried), or name a class of "
            "your own as module:Name"
        )
