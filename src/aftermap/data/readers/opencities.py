"""Reader of the Open Cities AI Challenge: large drone images with footprints, listed in a CSV or a STAC catalogue."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from aftermap.config import is_path
from aftermap.data.file_content import read_bytes
from aftermap.data.preparing.cut_config import CutConfig
from aftermap.data.preparing.dataset import Dataset, SourceScene
from aftermap.data.preparing.footprint_tiles import (
    FOOTPRINTS,
    FootprintScenes,
    footprint_dataset,
    measure_percentiles,
    require_files,
)
from aftermap.errors import DataError, shown
from aftermap.files import read_json

CSV_NAME, CATALOGUE_NAME = "train_metadata.csv", "catalog.json"
_TIER = re.compile(r"train_tier_(\d)")
_SUFFIXES = (".tif", ".tiff")
_EXPECTED = f"expected {CSV_NAME}, or {CATALOGUE_NAME} in it or in one of its folders"


def opencities_dataset(
    source: Path,
    config: CutConfig,
    *,
    tiers: Sequence[int] = (),
    areas: Sequence[str] = (),
    bands: Sequence[int] | None = None,
    stretch: tuple[float, float] | None = None,
    jpeg_quality: int | None = None,
) -> Dataset:
    """Images of the challenge to cut into tiles with masks; every image is an event, so that folds keep it whole.

    Args:
        source: the folder with `train_metadata.csv`, or a STAC catalogue; or one of these files.
        config: what is cut of each image, and how.
        tiers: 1 and 2 for the training tiers; all of them, and the test images, by default.
        areas: three-letter names such as `acc`; all by default.
        bands: red, green and blue among the images' bands; by default images need to have these three alone.
        stretch: percentiles that become 0 and 255; needed for other than 8-bit images.
        jpeg_quality: store tiles as JPEG of this quality instead of without loss.

    Raises:
        DataError: no listing, missing files, or nothing that is asked for in it.
    """
    listing, found = find_images(source)
    chosen = [
        image
        for image in found
        if (not tiers or _tier(image.pre) in tiers) and (not areas or _area(image) in areas)
    ]
    if not chosen:
        kinds = Counter(f"{_area(image)} of tier {_tier(image.pre) or '?'}" for image in found)
        shown = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())[:6])
        raise DataError(
            f"no image of those asked for in {listing}, it lists {shown or 'none'}: change --tier or --area"
        )
    require_files(chosen, listing)
    percentiles = "" if stretch is None else f"{stretch[0]:g},{stretch[1]:g}"
    make = FootprintScenes(config, partial(measure_percentiles, percentiles=stretch), bands, jpeg_quality)
    return footprint_dataset(
        chosen,
        make,
        kind="opencities",
        options={"stretch": percentiles},
        notes={"source": str(source.resolve())},
    )


def find_images(source: Path) -> tuple[Path, list[SourceScene]]:
    """The listing that was found, and its images in the order of their names; files are not looked at.

    Names are those of the image files, with their area in front where two would be the same.

    Raises:
        DataError: no listing, or one that cannot be understood.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist: {_EXPECTED}")
    candidates = [source] if source.is_file() else [source / CSV_NAME, source / CATALOGUE_NAME]
    listing = next((path for path in candidates if path.is_file()), None)
    if listing is not None:
        images = read_csv(listing) if listing.suffix.lower() == ".csv" else read_stac(listing)
    else:
        listing = source
        catalogues = sorted(source.glob(f"*/{CATALOGUE_NAME}"))
        if not catalogues:
            inside = ", ".join(sorted(path.name for path in source.iterdir())[:6]) or "nothing"
            raise DataError(f"{source} holds {inside}: {_EXPECTED}")
        images = [image for catalogue in catalogues for image in read_stac(catalogue)]
    counts = Counter(image.name for image in images)
    named = [
        replace(image, name=f"{_area(image)}-{image.name}", event=f"{_area(image)}-{image.event}")
        if counts[image.name] > 1
        else image
        for image in images
    ]
    if twice := [name for name, count in Counter(image.name for image in named).items() if count > 1]:
        raise DataError(f"{listing} lists image {twice[0]} more than once ({len(twice)} such images)")
    return listing, sorted(named, key=lambda image: image.name)


def read_csv(path: Path) -> list[SourceScene]:
    """Images of the competition's CSV: columns `img_uri` and `label_uri`, relative to its folder.

    Raises:
        DataError: unreadable, or without these columns or any row.
    """
    try:
        rows = list(csv.DictReader(read_bytes(path).decode("utf-8-sig").splitlines()))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV that can be read: {error}") from None
    if not rows:
        raise DataError(f"{path} lists no images, expected rows with img_uri and label_uri")
    if lacking := {"img_uri", "label_uri"} - rows[0].keys():
        columns = ", ".join(str(name) for name in rows[0])
        raise DataError(f"{path} has columns {columns}, expected {' and '.join(sorted(lacking))} as well")
    images = []
    for row in rows:
        image, label = (str(row[key] or "").strip() for key in ("img_uri", "label_uri"))
        if not image:
            raise DataError(f"{path} has a row without img_uri")
        file = _local(path.parent, image, path)
        images.append(_image(file, _local(path.parent, label, path) if label else None))
    return images


def read_stac(path: Path) -> list[SourceScene]:
    """Images of a static STAC catalogue: items with assets `image` and `labels`, or label items that name their source.

    Links are followed relative to the file that holds them.

    Raises:
        DataError: a file of it is missing or no STAC, or names remote files.
    """
    items: dict[Path, Path] = {}
    labels: dict[Path, Path] = {}
    pending, seen = [path.resolve()], set[Path]()
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        tree = _read_stac_file(file)
        listed = tree.get("links")
        links = [
            link
            for link in (listed if isinstance(listed, list) else [])
            if isinstance(link, dict) and isinstance(link.get("href"), str)
        ]
        if tree.get("type") != "Feature":
            pending += [
                _local(file.parent, k["href"], file) for k in links if k.get("rel") in ("child", "item")
            ]
            continue
        image, label = _assets(tree, file)
        if image is not None:
            items[file] = image
        if label is not None:
            sources = [_local(file.parent, k["href"], file) for k in links if k.get("rel") == "source"]
            labels.update(dict.fromkeys([file] if image is not None else sources, label))
    if not items:
        raise DataError(
            f"{path} leads to no item with an asset 'image': expected the catalogue of Open Cities"
        )
    return [_image(image, labels.get(item)) for item, image in items.items()]


def _assets(item: dict[str, Any], file: Path) -> tuple[Path | None, Path | None]:
    """Image and label file of an item."""
    image = label = None
    assets = item.get("assets")
    for key, asset in (assets if isinstance(assets, dict) else {}).items():
        href = str(asset.get("href", "")) if isinstance(asset, dict) else ""
        if href.lower().endswith(_SUFFIXES) and (key == "image" or image is None):
            image = _local(file.parent, href, file)
        elif href.lower().endswith((".geojson", ".gpkg", ".fgb")):
            label = _local(file.parent, href, file)
    return image, label


def _image(image: Path, label: Path | None) -> SourceScene:
    tier = _tier(image)
    split = "train" if tier else "test" if "test" in image.parts else None
    labels = {} if label is None else {FOOTPRINTS: label}
    return SourceScene(image.stem, image.stem, image, labels=labels, source_split=split)


def _tier(image: Path) -> int | None:
    match = next((match for part in image.parts if (match := _TIER.fullmatch(part))), None)
    return int(match[1]) if match else None


def _area(image: SourceScene) -> str:
    """Name of the city: images lie in area/image/image.tif."""
    folder = image.pre.parent
    return folder.parent.name if folder.name == image.pre.stem else folder.name


def _local(folder: Path, href: str, listing: Path) -> Path:
    if "://" in href:
        raise DataError(f"{listing} names the remote file {href}: fetch the dataset with relative links")
    try:
        if is_path(href):
            return (folder / href).resolve()
    except (OSError, ValueError, RuntimeError):
        pass
    raise DataError(f"{listing} names {shown(href)}, which is no path")


def _read_stac_file(path: Path) -> dict[str, Any]:
    tree = read_json(path, error=DataError)
    if not isinstance(tree, dict):
        raise DataError(
            f"{path} holds a {type(tree).__name__}, expected a STAC catalogue, collection or item"
        )
    return tree
