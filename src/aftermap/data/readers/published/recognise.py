"""Which dataset a folder holds, told by the names of its files and folders, and why."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.prepare import DatasetKind
from aftermap.data.readers.folder import read_mask_file
from aftermap.data.readers.isprs import IsprsOptions
from aftermap.data.scene import MANIFEST_NAME
from aftermap.errors import DataError

DEEPEST, MOST, PER_FOLDER = 6, 50_000, 400
"""Folders below the source, and files, that are looked at."""

_MASKS_READ = 12
_IMAGE = r"\.(png|webp|jpe?g|tiff?)"
_SAMPLES = r"(metadata\.(csv|jsonl)|dataset_info\.json|[^/]+-of-\d+\.parquet)"
"""By which samples of Hugging Face's datasets are known: image folders, save_to_disk and Parquet."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Something by which a dataset is known: a pattern of paths below the source, and what it is called."""

    what: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Known:
    """A dataset that can be recognised.

    Attributes:
        kind: of `prepare_source`.
        words: of the command that prepares it, before the folder.
        signs: all have to be there.
        options: keywords of its reader.
        after: words of the command behind the folder.
        unless: patterns that speak against it.
        generic: also fits other datasets, and counts only where none else does.
        agrees: looks into files, where names do not tell enough.
    """

    kind: DatasetKind
    words: str
    signs: tuple[Sign, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    after: str = ""
    unless: tuple[str, ...] = ()
    generic: bool = False
    agrees: Callable[[Path, Sequence[str]], bool] | None = None

    def command(self, source: Path) -> str:
        """How the dataset is prepared by hand."""
        return f"aftermap data prepare {self.words} {shlex.quote(str(source))}{self.after}"


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a folder is taken for: with the files that told, in words."""

    known: Known
    why: str


def recognise(source: Path) -> Recognised:
    """What dataset a folder holds.

    Raises:
        DataError: no folder, nothing known, or more than one that it could be; the nearest are named.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: give the unpacked dataset")
    if (source / MANIFEST_NAME).is_file():
        raise DataError(f"{source} is prepared already: it holds {MANIFEST_NAME}")
    paths = list(_listed(source))
    found: list[Recognised] = []
    near: list[tuple[float, str]] = []
    for known in KNOWN:
        told = [(sign, _first(sign.pattern, paths)) for sign in known.signs]
        there = [f"{sign.what} ({path})" for sign, path in told if path is not None]
        lacking = [sign.what for sign, path in told if path is None]
        opposed = any(_first(pattern, paths) for pattern in known.unless)
        if not lacking and not opposed and (known.agrees is None or known.agrees(source, paths)):
            found.append(Recognised(known, "; ".join(there)))
        elif there and not opposed:
            doubt = (
                f", lacks {', '.join(lacking)}" if lacking else ", but its files or its name do not say so"
            )
            near.append(
                (len(there) / len(told), f"'{known.command(source)}' (has {'; '.join(there)}{doubt})")
            )
    special = [one for one in found if not one.known.generic]
    chosen = special or found
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        choices = "; or ".join(f"'{one.known.command(source)}' (has {one.why})" for one in chosen)
        raise DataError(f"{source} could be one of {len(chosen)}: choose {choices}")
    nearest = [text for _, text in sorted(near, key=lambda pair: -pair[0])[:3]]
    if not nearest:
        raise DataError(
            f"{source} holds nothing that is known: see 'aftermap data prepare --help' for the datasets, and 'aftermap "
            "data prepare folder --help' for images with masks of your own"
        )
    raise DataError(f"{source} is not clearly any dataset. Nearest: {'; '.join(nearest)}")


def _listed(source: Path) -> Iterator[str]:
    """Paths below a folder, the shallow ones first; folders end in a slash. Of large folders the first files."""
    level, count = [source], 0
    for _ in range(DEEPEST):
        below: list[Path] = []
        for folder in level:
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                continue
            files = 0
            for path in entries:
                is_folder = path.is_dir()
                files += not is_folder
                if path.name.startswith(".") or (not is_folder and files > PER_FOLDER):
                    continue
                yield path.relative_to(source).as_posix() + "/" * is_folder
                count += 1
                if count >= MOST:
                    return
                if is_folder:
                    below.append(path)
        level = below


def _first(pattern: str, paths: Sequence[str]) -> str | None:
    compiled = re.compile(rf"(?:.*/)?{pattern}", re.IGNORECASE)
    return next((path for path in paths if compiled.fullmatch(path)), None)


def _matching(pattern: str, source: Path, paths: Sequence[str]) -> list[Path]:
    compiled = re.compile(rf"(?:.*/)?{pattern}", re.IGNORECASE)
    return [source / path for path in paths if compiled.fullmatch(path)][:_MASKS_READ]


def _values(files: Sequence[Path]) -> set[int]:
    """Values of some masks; nothing of those that are no masks of numbers."""
    found: set[int] = set()
    for path in files:
        try:
            found |= {int(value) for value in np.unique(read_mask_file(path))}
        except DataError:
            return {-1}
    return found


def _called(word: str) -> Callable[[Path, Sequence[str]], bool]:
    def agrees(source: Path, paths: Sequence[str]) -> bool:
        names = [source.resolve().name, *(path.split("/")[0] for path in paths)]
        return any(re.search(rf"(?<![a-z]){word}(?![a-z])", name.lower()) for name in names)

    return agrees


def _is_rescuenet(source: Path, paths: Sequence[str]) -> bool:
    """By its name, or by the number of pools, which FloodNet does not have."""
    return _called("rescuenet")(source, paths) or 10 in _values(
        _matching(_DRONE_LABEL.pattern, source, paths)
    )


def _has_plain_masks(source: Path, paths: Sequence[str]) -> bool:
    values = _values(_matching(rf"(masks|targets)/[^/]+{_IMAGE}", source, paths))
    return bool(values) and values <= {0, 1, 2, 3, 4, 255} and (values <= {0, 1, 255} or "pre/" in paths)


_DRONE_IMAGE = Sign("photographs in train-org-img", r"(train|val|test)-org-img/[^/]+\.jpg")
_DRONE_LABEL = Sign("labels _lab.png", r"(train|val|test)-label-img/[^/]+_lab\.png")
_PAIR = (
    Sign("an image _pre_disaster", rf"images/[^/]+_pre_disaster{_IMAGE}"),
    Sign("an image _post_disaster", rf"images/[^/]+_post_disaster{_IMAGE}"),
)
_LEVEL = Sign("masks of pairs", rf"masks/[^/]+_post_disaster(_target|_mask|_label)?{_IMAGE}")
_TILES = {"config": CutConfig.model_validate({"by": "building", "size_px": 1024})}


def _release(name: str, *signs: Sign, **more: Any) -> Known:
    return Known("published", "published", signs, {"release": name}, f" --release {name}", **more)


def _change(name: str, before: str, after: str) -> Known:
    return _release(
        name,
        Sign(f"images in {before}/", rf"{before}/[^/]+{_IMAGE}"),
        Sign(f"images in {after}/", rf"{after}/[^/]+{_IMAGE}"),
        Sign("masks in label/", rf"label/[^/]+{_IMAGE}"),
    )


def _isprs(city: Any, pattern: str) -> Known:
    return Known(
        "isprs",
        "isprs",
        (Sign(f"images of {city.capitalize()}", pattern),),
        {"options": IsprsOptions(city=city)},
        f" --city {city}",
    )


KNOWN: tuple[Known, ...] = (
    Known(
        "xbd",
        "xbd",
        (*_PAIR, Sign("JSON labels", r"labels/[^/]+_(pre|post)_disaster\.json")),
        unless=(r"s2_tci/",),
    ),
    Known(
        "xbd",
        "xbd",
        (*_PAIR, Sign("target masks", r"targets/[^/]+_target\.png")),
        unless=(r"labels/[^/]+_disaster\.json",),
    ),
    _release("xbd-s12", Sign("Sentinel-2 images", r"s2_tci/[^/]+_post_disaster_s2_tci\.tif")),
    _release(
        "bright",
        Sign("images before", r"pre-event/[^/]+_pre_disaster\.tif"),
        Sign("images after", r"post-event/[^/]+_post_disaster\.tif"),
        Sign("damage masks", r"target/[^/]+_building_damage\.tif"),
    ),
    _release("ida-bd", *_PAIR, _LEVEL, agrees=_called("ida")),
    _release("ebd", *_PAIR, _LEVEL, agrees=_called("ebd")),
    _release(
        "crasar-u-droids",
        Sign("orthomosaics", r"imagery/UAS/[^/]+\.tif"),
        Sign("annotations", r"building_damage_assessment/[^/]+\.json"),
    ),
    _release(
        "spacenet8",
        Sign("a table of images", r"[^/]+_label_image_mapping\.csv"),
        Sign("images before", r"PRE-event/[^/]+\.tif"),
    ),
    _release("rescuenet", _DRONE_IMAGE, _DRONE_LABEL, agrees=_is_rescuenet),
    _release("floodnet", _DRONE_IMAGE, _DRONE_LABEL, agrees=_called("floodnet")),
    _release(
        "flair",
        Sign("five-band images", r"img/IMG_\d+\.tif"),
        Sign("masks", r"msk/MSK_\d+\.tif"),
    ),
    _change("levir-cd", "A", "B"),
    _change("s2looking", "Image1", "Image2"),
    _change("fotbcd", "before", "after"),
    _release(
        "fotbcd-instances",
        Sign("images before", r"images/[^/]+/before/[^/]+\.png"),
        Sign("COCO outlines", r"annotations/(train|val|test)\.json"),
    ),
    _isprs("potsdam", rf"(top_)?potsdam_\d+_\d+[^/]*{_IMAGE}"),
    _isprs("vaihingen", rf"top_mosaic_09cm_area\d+[^/]*{_IMAGE}"),
    Known("isaid", "isaid", (Sign("coloured masks of objects", r"P\d+_instance_color_RGB\.png"),)),
    Known(
        "agrivision",
        "agrivision",
        (
            Sign("colour images", rf"images/rgb/[^/]+{_IMAGE}"),
            Sign("infrared images", rf"images/nir/[^/]+{_IMAGE}"),
        ),
    ),
    Known("opencities", "opencities", (Sign("a list of images", r"train_metadata\.csv"),), _TILES),
    Known(
        "opencities",
        "opencities",
        (Sign("a catalogue", r"catalog\.json"),),
        _TILES,
        unless=(r"train_metadata\.csv",),
        generic=True,
    ),
    Known(
        "spacenet",
        "spacenet",
        (
            Sign("tiles of SpaceNet", r"(RGB-PanSharpen|Pan-Sharpen|3band)/[^/]+\.tif"),
            Sign("GeoJSON labels", r"geojson/(.*/)?[^/]+\.geojson"),
        ),
        {"config": CutConfig.model_validate({"by": "grid", "size_px": 1024})},
    ),
    Known(
        "photographs",
        "photographs",
        (Sign("photographs", r"JPEGImages/[^/]+\.jpg"), Sign("masks", r"SegmentationClass(Aug)?/[^/]+\.png")),
        {"release": "voc"},
        " --release voc",
    ),
    Known(
        "photographs",
        "photographs",
        (
            Sign("photographs", r"images/training/[^/]+\.jpg"),
            Sign("masks", r"annotations/training/[^/]+\.png"),
        ),
        {"release": "ade20k"},
        " --release ade20k",
    ),
    Known(
        "photographs",
        "photographs",
        (
            Sign("photographs", r"leftImg8bit/.*_leftImg8bit\.png"),
            Sign("masks", r"gtFine/.*_gtFine_labelIds\.png"),
        ),
        {"release": "cityscapes"},
        " --release cityscapes",
    ),
    Known(
        "folder",
        "folder",
        (
            Sign("images", rf"(images|pre)/[^/]+{_IMAGE}"),
            Sign("masks", rf"(masks|targets)/[^/]+{_IMAGE}"),
        ),
        unless=(r"[^/]+_post_disaster[^/]*", _SAMPLES),
        generic=True,
        agrees=_has_plain_masks,
    ),
    Known(
        "class_folder",
        "folder",
        (
            Sign("images", rf"(images(_png)?|img_dir|sat)/.*{_IMAGE}"),
            Sign("masks", rf"(masks(_index|_rgb|_png)?|ann_dir|labels|gt)/.*{_IMAGE}"),
        ),
        after=" --legend NAME",
        generic=True,
        agrees=lambda _, __: False,  # which legend nobody but the user knows
    ),
    Known(
        "folder",
        "folder",
        (Sign("images", rf"images/[^/]+{_IMAGE}"), Sign("a vector file", r"[^/]+\.(geojson|gpkg|shp|fgb)")),
        after=" --footprints FILE",
        unless=(r"geojson/", r"masks/"),
        generic=True,
        agrees=lambda _, __: False,  # nor what a vector file holds
    ),
    Known(
        "folder",
        "folder",
        (Sign("images before", rf"pre/[^/]+{_IMAGE}"), Sign("images after", rf"post/[^/]+{_IMAGE}")),
        unless=(r"(masks|targets)/", _SAMPLES),
        generic=True,
    ),
    Known(
        "folder",
        "folder",
        (Sign("images", rf"[^/]+{_IMAGE}"), Sign("masks beside them", r"[^/]+_(mask|target)\.png")),
        unless=(r"(images|pre|post|targets|masks)/", _SAMPLES),
        generic=True,
    ),
    Known(
        "hugging_face",
        "huggingface",
        (Sign("a table of samples", _SAMPLES),),
        after=" --image COLUMN --mask COLUMN --labels MEANING",
        generic=True,
        agrees=lambda _, __: False,  # what the columns mean nobody but the user knows
    ),
)
"""All that is recognised; those that fit others as well are generic."""
