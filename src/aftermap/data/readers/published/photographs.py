"""Where single-date releases have their images and masks: RescueNet and FloodNet of drones, FLAIR of aeroplanes.

What each layout was taken from, and what could not be confirmed, stands with its release in `releases.RELEASES`.
"""

import re
from pathlib import Path

from aftermap.data.preparing.dataset import SourceScene
from aftermap.data.readers.class_labels import LABEL
from aftermap.data.readers.published.release import SPLITS, Found, folders_named, split_of
from aftermap.errors import DataError

FLAIR_BANDS = ("red", "green", "blue", "nir", "elevation")
_DOMAIN = re.compile(r"D\d{3}_\d{4}")


def find_drone_photographs(source: Path) -> Found:
    """Images in `{train,val,test}-org-img/`, labels of the same stem with `_lab` in `{...}-label-img/`.

    The two may lie beside each other or below different folders. All are one event, the source.

    Raises:
        DataError: images without label.
    """
    scenes: list[SourceScene] = []
    for subset in ("train", "val", "test"):
        labels = {
            path.stem.removesuffix("_lab"): path
            for folder in folders_named(source, f"{subset}-label-img")
            for path in sorted(folder.glob("*.png"))
        }
        split, published = SPLITS[subset]
        for folder in folders_named(source, f"{subset}-org-img"):
            for image in sorted(folder.glob("*.jpg")):
                label = labels.get(image.stem)
                if label is None:
                    raise DataError(f"{image} has no label {image.stem}_lab.png in {subset}-label-img")
                scenes.append(
                    SourceScene(
                        name=image.stem,
                        event=source.resolve().name,
                        pre=image,
                        labels={LABEL: label},
                        split=split,
                        source_split=published,
                    )
                )
    return Found(tuple(scenes))


def find_flair(source: Path) -> Found:
    """Five-band `img/IMG_n.tif` with `msk/MSK_n.tif`, numbered through all domains; each domain is an event.

    Images below a folder whose name says `test` are the test set; there may be no masks for them.
    """
    masks = {path.stem.removeprefix("MSK_"): path for path in source.glob("**/msk/MSK_*.tif")}
    scenes: list[SourceScene] = []
    for image in sorted(source.glob("**/img/IMG_*.tif")):
        number = image.stem.removeprefix("IMG_")
        folders = image.relative_to(source).parts[:-1]
        domain = next((part for part in folders if _DOMAIN.fullmatch(part)), source.resolve().name)
        told = next((word for part in (source.name, *folders) for word in _words(part) if word in SPLITS), "")
        split, published = split_of(told)
        mask = masks.get(number)
        scenes.append(
            SourceScene(
                name=image.stem,
                event=domain,
                pre=image,
                labels={} if mask is None else {LABEL: mask},
                bands=FLAIR_BANDS,
                split=split,
                source_split=published,
            )
        )
    return Found(tuple(scenes))


def _words(name: str) -> list[str]:
    return re.split(r"[_\-. ]", name.lower())
