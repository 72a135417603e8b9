"""Reader of the photographs that class-incremental methods are compared on: Pascal VOC 2012, ADE20K and Cityscapes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from aftermap.data.legends import ADE, CITYSCAPES, VOC, Legend
from aftermap.data.preparing.class_dataset import class_dataset
from aftermap.data.preparing.dataset import Dataset, SourceScene
from aftermap.data.preparing.tile_grid import Tiling
from aftermap.data.readers.class_labels import LABEL, LabelReader, Official, deal_validation
from aftermap.data.scene import Split
from aftermap.errors import DataError
from aftermap.wording import counted

Release = Literal["voc", "ade20k", "cityscapes"]
LEGENDS: dict[Release, Legend] = {"voc": VOC, "ade20k": ADE, "cityscapes": CITYSCAPES}

_Found = tuple[str, str, str, Path, Path]
"""Official set (`train` or `val`), event and name of an image, the image, its labels."""


def photographs_dataset(
    source: Path,
    *,
    release: Release,
    augmented: bool = True,
    val_is: Official = "test",
    validation: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """The images of a release, whole, with masks of its classes.

    Args:
        source: the unpacked release: of VOC the folder with `JPEGImages`, of ADE20K that with `annotations`, of
            Cityscapes that with `leftImg8bit`; or one that holds it.
        release: which.
        augmented: of VOC: train on the labels of `SegmentationClassAug` and the list `train_aug.txt`, where they are.
        val_is: what the official validation set is used as; labels of the test sets are not published.
        validation: with `test`, the share of the training images that are for validation.
        seed: of the choice of these.

    Raises:
        DataError: files are missing.
    """
    found = list(_found(source, release, augmented=augmented))
    missing = [path for *_, image, label in found for path in (image, label) if not path.is_file()]
    if missing:
        raise DataError(f"{source} lacks {counted(len(missing), 'file')} of {release}, such as {missing[0]}")
    if not found:
        raise DataError(f"{source} holds no images of {release}: {_EXPECTED[release]}")
    share = validation if val_is == "test" else 0.0
    training = [name for subset, _, name, *_ in found if subset == "train"]
    judged = deal_validation(training, share, seed) if training else frozenset[str]()
    scenes = []
    for subset, event, name, image, label in found:
        split: Split = val_is if subset == "val" else "validation" if name in judged else "train"
        scenes.append(
            SourceScene(
                name=name,
                event=event,
                pre=image,
                labels={LABEL: label},
                split=split,
                source_split="hold" if subset == "val" else "train",
            )
        )
    legend = LEGENDS[release]
    return class_dataset(
        scenes,
        legend,
        LabelReader(legend).of,
        kind="photographs",
        tiling=Tiling(),
        options={"release": release, "augmented": str(augmented and release == "voc")},
        notes={
            "source": str(source.resolve()),
            "split": "official",
            "split_val_is": val_is,
            "split_validation": f"{share:g}",
            "split_seed": str(seed),
        },
    )


_EXPECTED: dict[Release, str] = {
    "voc": "expected JPEGImages/, SegmentationClass/ (or SegmentationClassAug/) and lists of train and val in "
    "ImageSets/Segmentation/ or splits/",
    "ade20k": "expected images/training, images/validation, annotations/training and annotations/validation",
    "cityscapes": "expected leftImg8bit/train/CITY/*_leftImg8bit.png and gtFine/train/CITY/*_gtFine_labelIds.png",
}


def _found(source: Path, release: Release, *, augmented: bool) -> Iterator[_Found]:
    if release == "voc":
        return _voc(source, augmented)
    return _ade(source) if release == "ade20k" else _cityscapes(source)


def _voc(source: Path, augmented: bool) -> Iterator[_Found]:
    root = _folder_with(source, "JPEGImages", "voc")
    more = augmented and (root / "SegmentationClassAug").is_dir()
    for subset in ("train", "val"):
        own = more and subset == "train"
        names = ["train_aug"] if own else []
        lists = [
            root / place / f"{name}.txt"
            for name in (*names, subset)
            for place in ("splits", "ImageSets/Segmentation")
        ]
        listed = next((path for path in lists if path.is_file()), None)
        if listed is None:
            raise DataError(f"{root} has no list {lists[-1].name} of images: {_EXPECTED['voc']}")
        masks = root / ("SegmentationClassAug" if own else "SegmentationClass")
        if not masks.is_dir():  # MiB's copy has one folder for both
            masks = root / "SegmentationClassAug"
        for line in listed.read_text().splitlines():
            if line.strip():
                # a name, or the paths of image and labels
                name = Path(line.split()[0]).stem
                yield subset, "voc", name, root / "JPEGImages" / f"{name}.jpg", masks / f"{name}.png"


def _ade(source: Path) -> Iterator[_Found]:
    root = _folder_with(source, "annotations", "ade20k")
    for subset, folder in (("train", "training"), ("val", "validation")):
        for image in sorted((root / "images" / folder).glob("*.jpg")):
            yield subset, "ade20k", image.stem, image, root / "annotations" / folder / f"{image.stem}.png"


def _cityscapes(source: Path) -> Iterator[_Found]:
    root = _folder_with(source, "leftImg8bit", "cityscapes")
    for subset in ("train", "val"):
        for image in sorted((root / "leftImg8bit" / subset).glob("*/*_leftImg8bit.png")):
            name, city = image.stem.removesuffix("_leftImg8bit"), image.parent.name
            yield subset, city, name, image, root / "gtFine" / subset / city / f"{name}_gtFine_labelIds.png"


def _folder_with(source: Path, inside: str, release: Release) -> Path:
    """The folder itself, or the one below it, that holds a folder of a name."""
    if not source.is_dir():
        raise DataError(f"{source} is not a folder: {_EXPECTED[release]}")
    if (source / inside).is_dir():
        return source
    below = sorted(path.parent for path in [*source.glob(f"*/{inside}"), *source.glob(f"*/*/{inside}")])
    if not below:
        raise DataError(f"{source} holds no {inside}: {_EXPECTED[release]}")
    return below[0]
