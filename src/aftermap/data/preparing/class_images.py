"""Datasets of images with the classes of a legend: cut into tiles, or kept whole, as one prepared dataset."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from aftermap.data.legends import Legend
from aftermap.data.preparing.class_tiles import ClassImage, CutImage, ImageCutter, ReadMask, Tiling
from aftermap.data.preparing.journal import IMAGES, JOURNAL_NAME, MASKS, Journal, claim, keep_splits
from aftermap.data.preparing.prepare import Progress
from aftermap.data.readers.class_labels import BOUNDARY_PX
from aftermap.data.scene import MANIFEST_NAME, Manifest, Scene
from aftermap.errors import DataError, DataWarning, OutputError, ReadingError

_NAMED = 5


def prepare_classes(
    images: Sequence[ClassImage],
    out: Path,
    legend: Legend,
    read: ReadMask,
    *,
    kind: str,
    tiling: Tiling,
    options: Mapping[str, str],
    notes: Mapping[str, str] | None = None,
    stretch: tuple[float, float] | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Prepare labelled images; started again after an interruption, it goes on with the image where it stopped.

    Args:
        images: with unique names.
        out: folder for `masks/`, `images/` where pixels are written, and the manifest.
        legend: of the masks.
        read: reads the mask of an image.
        kind: name of the reader.
        tiling: how images are cut.
        options: choices of the reader that change masks or tiles.
        notes: further entries for the manifest's options.
        stretch: percentiles that become 0 and 255; by default 8-bit images stay as they are.
        workers: processes.
        overwrite: prepare again into a folder that was prepared otherwise; its tiles are removed.
        progress: called with the number of finished images and of all.

    Raises:
        DataError: images that cannot be used; the others stay finished.
        OutputError: `out` cannot be used.
    """
    _check_names(images)
    whole = {
        **options,
        "tiling": tiling.model_dump_json(exclude_defaults=True),
        "stretch": "" if stretch is None else f"{stretch[0]:g},{stretch[1]:g}",
        "legend": legend.model_dump_json(exclude_defaults=True),
    }
    earlier = claim(out, [], kind=kind, overwrite=overwrite)
    _refuse_source(images, out)
    journal = Journal(out / JOURNAL_NAME, {"kind": kind, "scheme": legend.name, **whole})
    journal.load(earlier)
    if not journal.scenes:
        _clear(out, overwrite=overwrite)
    known = _by_image(journal.scenes)
    out = out.resolve()
    (out / IMAGES).mkdir(exist_ok=True)
    cutter = _Task(ImageCutter(out, read, len(legend.names), tiling, stretch))
    problems: list[DataError] = []
    cuts: dict[str, CutImage] = {}
    with journal:
        pending = [(image, known.get(image.name, {})) for image in images]
        for number, (image, outcome) in enumerate(
            zip(images, _map(cutter, pending, workers), strict=True), 1
        ):
            if isinstance(outcome, DataError):
                problems.append(outcome)
            else:
                cuts[image.name] = outcome
                for scene in outcome.scenes:
                    journal.add(scene)
            if progress is not None:
                progress(number, len(images))
    if not any((out / IMAGES).iterdir()):
        (out / IMAGES).rmdir()
    if problems:
        kept = "" if journal.abandon() else ", finished images are kept"
        rest = f" (and {len(problems) - 1} more images like it)" if len(problems) > 1 else ""
        remedy = "" if isinstance(problems[0], ReadingError) else ": mend or remove the files and run again"
        raise DataError(f"{problems[0]}{rest}{remedy}{kept}")
    scenes = sorted((scene for cut in cuts.values() for scene in cut.scenes), key=lambda scene: scene.name)
    if not scenes:
        journal.abandon()
        raise DataError(f"none of the {len(images)} images gives a tile with known classes")
    more = {**(notes or {}), **_counts(cuts, legend)}
    manifest = Manifest(
        kind=kind, scheme=legend.name, legend=legend, options={**whole, **more}, scenes=scenes
    )
    if all(image.split == "unassigned" for image in images) or _was_split(earlier):
        manifest = keep_splits(manifest, earlier)
    try:
        manifest.save(out)
        journal.path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {out / MANIFEST_NAME}: {error.strerror or error}") from None
    return Manifest.load(out)


def deal_validation(images: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """Which of the groups of training images are for validation: a share of them, drawn by the seed.

    Args:
        images: names of the groups.
        share: from 0 to less than 1; above 0 at least one group is taken.
        seed: 0 or more.

    Raises:
        DataError: a share that leaves nothing to train on, or a single group.
    """
    names = sorted(set(images))
    if not 0 <= share < 1:
        raise DataError(
            f"--validation {share:g} is no share of the training images: pass one from 0 to below 1"
        )
    count = max(1, round(share * len(names))) if share else 0
    if count and count >= len(names):
        raise DataError(
            f"{len(names)} training images cannot give {share:.0%} for validation: pass --validation 0, and split "
            "the tiles afterwards with 'aftermap data split --by block'"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return frozenset(names[number] for number in order[:count])


class _Task:
    """The cutter with its errors as results; picklable."""

    def __init__(self, cutter: ImageCutter) -> None:
        self.cutter = cutter

    def __call__(self, item: tuple[ClassImage, Mapping[str, Scene]]) -> CutImage | DataError:
        try:
            return self.cutter(*item)
        except DataError as error:
            return error


def _map(
    task: _Task, items: Sequence[tuple[ClassImage, Mapping[str, Scene]]], workers: int
) -> Iterator[CutImage | DataError]:
    if workers <= 1:
        yield from map(task, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, items)


def _by_image(scenes: Mapping[str, Scene]) -> dict[str, dict[str, Scene]]:
    found: dict[str, dict[str, Scene]] = {}
    for scene in scenes.values():
        image = scene.name if scene.tile is None else scene.tile.source
        found.setdefault(image, {})[scene.name] = scene
    return found


def _check_names(images: Sequence[ClassImage]) -> None:
    seen: dict[str, ClassImage] = {}
    for image in images:
        if image.name in seen:
            raise DataError(
                f"{seen[image.name].image} and {image.image} would both be called {image.name}: rename one of them"
            )
        seen[image.name] = image


def _refuse_source(images: Sequence[ClassImage], out: Path) -> None:
    """Refuse to write among the files that are read."""
    folders = {path.parent.resolve() for image in images for path in image.files}
    if folders & {(out / name).resolve() for name in (IMAGES, MASKS)}:
        raise OutputError(f"{out} is the source itself, whose files could be replaced: choose another -o")


def _was_split(earlier: Manifest | None) -> bool:
    """Whether `aftermap data split` has dealt out the scenes of an earlier preparation in its own way."""
    return earlier is not None and bool({"split_fractions", "split_fold"} & earlier.options.keys())


def _counts(cuts: Mapping[str, CutImage], legend: Legend) -> dict[str, str]:
    """Notes on tiles that were left out and on colours that no class has, which are warned of.

    Warned of is also that numbers seem to count from 1 where the legend counts from 0, with 0 for boundaries.
    """
    notes = {}
    wide = [cut.first_is_wide for cut in cuts.values() if cut.first_is_wide is not None]
    if wide and not any(wide):
        warnings.warn(
            f"masks of numbers hold 0, which is {legend.names[0]}, nowhere wider than {BOUNDARY_PX - 1} px: if they "
            "count from 1, with 0 for boundaries, pass --first-value 1",
            DataWarning,
            stacklevel=3,
        )
    if dropped := sum(cut.dropped for cut in cuts.values()):
        notes["dropped_tiles"] = str(dropped)
    off = {name: cut.off_palette for name, cut in cuts.items() if cut.off_palette}
    if off:
        worst = sorted(off, key=lambda name: -off[name])[:_NAMED]
        shown = ", ".join(f"{name} {off[name]}" for name in worst) + (", ..." if len(off) > _NAMED else "")
        warnings.warn(
            f"{sum(off.values())} pixels in {len(off)} label files have colours that legend {legend.name} does not "
            f"list: {shown}",
            DataWarning,
            stacklevel=3,
        )
        notes["off_palette_pixels"] = str(sum(off.values()))
    return notes


def _clear(out: Path, *, overwrite: bool) -> None:
    """Remove tiles that were made otherwise; nothing but files of the names that tiles have."""
    ours = (out / MANIFEST_NAME).is_file() or (out / JOURNAL_NAME).is_file()
    kinds = ((IMAGES, "*.tif"), (MASKS, "*_classes.png"))
    old = [path for folder, pattern in kinds for path in (out / folder).glob(pattern)] if ours else []
    if not old:
        return
    if not overwrite:
        raise OutputError(
            f"{out} holds tiles or data that were prepared otherwise: choose another -o, or pass --overwrite"
        )
    for path in (*old, out / MANIFEST_NAME):
        path.unlink(missing_ok=True)
