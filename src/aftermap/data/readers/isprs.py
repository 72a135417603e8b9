"""Reader of the ISPRS 2D semantic labelling sets, Potsdam and Vaihingen: large images, cut into tiles."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from aftermap.data.legends import ISPRS
from aftermap.data.preparing.class_dataset import class_dataset
from aftermap.data.preparing.dataset import Dataset, ExtraBand, SourceScene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.class_labels import LABEL, LabelReader, deal_validation
from aftermap.data.readers.colours import TOLERANCE, OffPalette
from aftermap.data.scene import Split
from aftermap.errors import DataError, DataWarning

City = Literal["potsdam", "vaihingen"]
Channels = Literal["rgb", "rgbir", "irrg"]
BANDS: dict[Channels, tuple[str, ...]] = {
    "rgb": ("red", "green", "blue"),
    "rgbir": ("red", "green", "blue", "nir"),
    "irrg": ("nir", "red", "green"),
}
TILING = Tiling(tile_px=512, overlap_px=112, mostly_unknown=0.75)
"""Source: README of MiB-CD."""


@dataclass(frozen=True, slots=True)
class CityFiles:
    """What the files of a city are called, and how it is split.

    Attributes:
        train: names of the images that the publisher labels for training.
        test: those whose labels were published later.
        image: pattern of an image's file name in lower case; its first group is the name.
        label: the same of a label, with `_noboundary` taken off.
        dsm: the same of a surface model.
        crs: reference system of the world files.
        dsm_range: values of the surface model that become 0 and 255; Potsdam's are 8-bit heights above ground already,
            Vaihingen's metres.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    image: str
    label: str
    dsm: str
    crs: str
    dsm_range: tuple[float, float]


def _potsdam(rows: Mapping[int, Sequence[int]]) -> tuple[str, ...]:
    return tuple(f"{row}_{col}" for row, cols in rows.items() for col in cols)


CITIES: dict[City, CityFiles] = {
    "potsdam": CityFiles(
        train=_potsdam(
            {
                **dict.fromkeys((2, 3, 4, 5), (10, 11, 12)),
                6: range(7, 13),
                7: range(7, 13),
            }
        ),
        test=_potsdam(
            {2: (13, 14), 3: (13, 14), 4: (13, 14, 15), 5: (13, 14, 15), 6: (13, 14, 15), 7: (13,)}
        ),
        image=r"top_potsdam_(\d+_\d+)_{channels}",
        label=r"top_potsdam_(\d+_\d+)_label",
        dsm=r"dsm_potsdam_(\d+_\d+)_normalized_lastools",
        crs="EPSG:32633",
        dsm_range=(0, 255),
    ),
    "vaihingen": CityFiles(
        train=tuple(map(str, (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37))),
        test=tuple(map(str, (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38))),
        image=r"top_mosaic_09cm_area(\d+)",
        label=r"top_mosaic_09cm_area(\d+)",
        dsm=r"dsm_09cm_matching_area(\d+)",
        crs="EPSG:32632",
        dsm_range=(240, 361),
    ),
}
"""Source of splits and ranges: MiB-CD, after the ISPRS benchmark."""

_SUFFIXES = (".tif", ".tiff", ".png", ".jpg")
_ERODED = "_noboundary"
_LABEL_FOLDER = re.compile(r"label|gt|ground_?truth")


@dataclass(frozen=True, slots=True)
class IsprsOptions:
    """What is taken of the data.

    Attributes:
        city: which of the two sets.
        channels: bands; None: red, green, blue and infrared of Potsdam, the only ones of Vaihingen.
        dsm: the surface model as a further band.
        dsm_range: its values that become 0 and 255; None: those of the city.
        eroded: labels whose boundaries are unknown.
        validation: share of the training images whose tiles are for validation.
        seed: of the choice of these.
        crs: reference system of files that state a place but none; None: that of the city.
    """

    city: City
    channels: Channels | None = None
    dsm: bool = False
    dsm_range: tuple[float, float] | None = None
    eroded: bool = False
    validation: float = 0.1
    seed: int = 0
    crs: str | None = None


def isprs_dataset(
    source: Path,
    options: IsprsOptions,
    *,
    tiling: Tiling = TILING,
    off_palette: OffPalette = "refuse",
    tolerance: float = TOLERANCE,
) -> Dataset:
    """The images of a city to cut into tiles with masks of the six classes, in the official split.

    Files are known by their names, anywhere below the source: the folders of the release and those of other systems are
    read alike. Every image is an event, validation takes whole images.

    Args:
        source: folder of the city.
        options: what is taken.
        tiling: how images are cut.
        off_palette: what becomes of label colours that are not of the six classes.
        tolerance: see `data.colours.decode_colours`.

    Raises:
        DataError: files are missing or do not fit.
    """
    images = find_isprs(source, options)
    low, high = options.dsm_range or CITIES[options.city].dsm_range
    channels = _channels(options)
    return class_dataset(
        images,
        ISPRS,
        LabelReader(ISPRS, off_palette, tolerance).of,
        kind="isprs",
        tiling=tiling,
        options={
            "city": options.city,
            "channels": channels,
            "dsm": f"{low:g},{high:g}" if options.dsm else "",
            "eroded": str(options.eroded).lower(),
            "off_palette": off_palette,
            "tolerance": f"{tolerance:g}",
        },
        notes={
            "source": str(source.resolve()),
            "split": "event",
            "split_validation": f"{options.validation:g}",
            "split_seed": str(options.seed),
        },
    )


def find_isprs(source: Path, options: IsprsOptions) -> list[SourceScene]:
    """The images of a city with their labels, in the official split.

    Raises:
        DataError: none is found, or files of one are missing.
    """
    if options.city not in CITIES:
        raise DataError(f"there is no city {options.city!r} in ISPRS: expected {' or '.join(CITIES)}")
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: expected the ISPRS data of {options.city}")
    city, channels = CITIES[options.city], _channels(options)
    files = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in _SUFFIXES]
    images = _matching(files, city.image.replace("{channels}", channels), labels=False)
    labels = _matching(files, city.label, labels=True, eroded=options.eroded)
    surfaces = _matching(files, city.dsm, labels=False) if options.dsm else {}
    known = [name for name in (*city.train, *city.test) if name in images]
    if not known:
        raise DataError(
            f"{source} holds no {channels} image of {options.city}: expected files such as {_example(city, channels)} "
            "in it or in its folders, or choose other --channels"
        )
    known = _labelled(known, images, labels, city, eroded=options.eroded)
    low, high = options.dsm_range or city.dsm_range
    if not low < high:
        raise DataError(f"--dsm-range {low:g},{high:g} does not rise: pass two rising heights")
    if lacking := [name for name in known if options.dsm and name not in surfaces]:
        raise DataError(
            f"{images[lacking[0]]} has no surface model ({len(lacking)} such images): leave --dsm out"
        )
    judged = deal_validation([name for name in known if name in city.train], options.validation, options.seed)
    return [
        SourceScene(
            name=f"{options.city}_{name}",
            event=f"{options.city}_{name}",
            pre=images[name],
            labels={LABEL: labels[name]},
            bands=BANDS[channels],
            extra=(ExtraBand("dsm", surfaces[name], low, high),) if options.dsm else (),
            crs=options.crs or city.crs,
            split=_split(name, city, judged),
            source_split="train" if name in city.train else "test",
        )
        for name in known
    ]


def _labelled(
    known: list[str], images: Mapping[str, Path], labels: Mapping[str, Path], city: CityFiles, *, eroded: bool
) -> list[str]:
    """The images that have labels; those of the test may lack them altogether, as in the participants' release."""
    lacking = [name for name in known if name not in labels]
    tests = [name for name in known if name in city.test]
    if lacking == tests and len(lacking) < len(known):
        if lacking:
            warnings.warn(
                f"the {len(lacking)} test images have no labels and are left out: the complete labels are in a file of "
                "their own",
                DataWarning,
                stacklevel=4,
            )
        return [name for name in known if name in labels]
    if lacking:
        advice = "leave --eroded out" if eroded else "add the label files"
        raise DataError(f"{images[lacking[0]]} has no label ({len(lacking)} such images): {advice}")
    return known


def _split(name: str, city: CityFiles, judged: frozenset[str]) -> Split:
    if name in city.test:
        return "test"
    return "validation" if name in judged else "train"


def _matching(files: Sequence[Path], pattern: str, *, labels: bool, eroded: bool = False) -> dict[str, Path]:
    """Files by the name of their image; of several the one in a folder of the complete set.

    Labels of Vaihingen are called as their images are: the folder tells them apart.
    """
    found: dict[str, list[Path]] = {}
    for path in files:
        stem = path.stem.lower()
        if labels and stem.endswith(_ERODED) != eroded:
            continue
        match = re.fullmatch(pattern, stem.removesuffix(_ERODED) if labels else stem)
        named = "label" in stem or _LABEL_FOLDER.search(path.parent.name.lower()) is not None
        if match and named == labels:
            name = "_".join(str(int(part)) for part in match[1].split("_"))
            found.setdefault(name, []).append(path)
    return {name: min(paths, key=_preference) for name, paths in found.items()}


def _preference(path: Path) -> tuple[bool, Path]:
    folder = path.parent.name.lower()
    return not ("all" in folder or "complete" in folder), path


def _channels(options: IsprsOptions) -> Channels:
    channels: Channels = options.channels or ("irrg" if options.city == "vaihingen" else "rgbir")
    if channels not in get_args(Channels):
        raise DataError(
            f"there are no channels {channels!r}: expected one of {', '.join(get_args(Channels))}"
        )
    if options.city == "vaihingen" and channels != "irrg":
        raise DataError(
            f"the images of vaihingen are infrared, red, green, whatever their folder is called, not {channels}: leave "
            "--channels out, or pass irrg"
        )
    return channels


def _example(city: CityFiles, channels: str) -> str:
    name = re.sub(r"\(.*?\)", city.train[0], city.image.replace("{channels}", channels.upper()))
    return f"{name}.tif"
