"""What is wrong with one scene by itself: its files, sizes, reference systems, pixels and labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.band_files import read_file, size_of
from aftermap.data.checking.image_facts import ImageFacts, hash_bits, image_facts
from aftermap.data.legends import Legend
from aftermap.data.mask_png import count_values, read_plain
from aftermap.data.readers.folder import grid_mismatch, read_grid
from aftermap.data.scene import RGB, Scene
from aftermap.errors import DataError, RasterError
from aftermap.wording import counted

Severity = Literal["error", "warning", "info"]
Note = Callable[[Severity, str, str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: `error` spoils training or scores, `warning` deserves a look, `info` is good to know.
        code: short name of the kind of finding.
        scene: name of the scene, or None where it is about the whole dataset.
        message: what was found, what was expected, what to do.
    """

    severity: Severity
    code: str
    scene: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What the examination of one scene brought to light.

    Attributes:
        findings: in the order of the checks.
        hash: bits of a difference hash of the first image, or None where it is flat, unreadable or not read.
        empty: whether its labels hold no building; None where there are none, or they were not read.
    """

    findings: list[Finding] = field(default_factory=list)
    hash: np.ndarray | None = None
    empty: bool | None = None


def examine(
    scene: Scene, *, deep: bool, unclassified: str | None = None, legend: Legend | None = None
) -> Examined:
    """Examine one scene.

    Args:
        scene: with absolute paths.
        deep: decode all pixels and compare checksums; otherwise only headers are read.
        unclassified: how un-classified buildings were drawn, where that is known.
        legend: of the masks of classes.
    """
    findings: list[Finding] = []

    def note(severity: Severity, code: str, message: str) -> None:
        findings.append(Finding(severity, code, scene.name, message))

    readable: dict[str, Path] = {}
    for role, path in files_of(scene).items():
        if not path.is_file():
            kind = "mask" if role.endswith("_mask") else "image"
            note("error", f"missing-{kind}", f"{path} is not there: restore it, or prepare the data again")
            continue
        try:
            _, height, width, _ = size_of(path)
        except DataError as error:
            note("error", "unreadable", str(error))
            continue
        readable[role] = path
        if role == "pre":
            _note_bands(note, scene)
        if (height, width) != (scene.height, scene.width):
            expected = f"the scene is {scene.width} x {scene.height}"
            note("error", "size-mismatch", f"{path} has {width} x {height} pixels, {expected}")
    if {"pre", "post"} <= readable.keys():
        _note_grids(note, readable["pre"], readable["post"])
        if scene.checksums.get("pre", "pre") == scene.checksums.get("post", "post"):
            note("error", "same-dates", "pre and post are the same image: replace one of them")
    if not deep:
        empty = not any(scene.class_pixels[1:]) if scene.is_labelled and scene.class_pixels else None
        return Examined(findings, None, None if scene.class_mask is not None else empty)
    first = None
    for role in [role for role in readable if not role.endswith("_mask")]:
        masks = [readable[role] for role in readable if role.endswith("_mask")]
        examined = _note_pixels(note, readable[role], masks, hashed=role == "pre")
        if examined is None:
            continue
        content, facts = examined
        if role == "pre":
            first = hash_bits(facts)
        if role in scene.checksums and content != scene.checksums[role]:
            note(
                "warning",
                "changed-image",
                f"{readable[role]} has changed since the data was prepared: prepare it again",
            )
    empties = []
    for role in [role for role in readable if role.endswith("_mask")]:
        try:
            plain = read_plain(readable[role])
            mask = read_file(readable[role]).array if plain is None else plain[None]
        except DataError as error:
            note("error", "unreadable", str(error))
            continue
        if len(mask) != 1 or mask.dtype != np.uint8:
            note("error", "unreadable", f"{readable[role]} is not a readable single-band 8-bit mask")
            continue
        values = set(np.flatnonzero(count_values(mask[0])).tolist())
        problem = _label_problem(values, role, readable[role], unclassified, legend)
        if problem:
            note("error", "label-values", problem)
        elif values == {IGNORE}:
            note("warning", "unknown-mask", f"{readable[role]} is unknown ({IGNORE}) everywhere")
        elif role != "class_mask":
            empties.append(values <= {0})
    return Examined(findings, first, all(empties) if empties else None)


def _note_grids(note: Note, pre: Path, post: Path) -> None:
    """Note where two georeferenced images do not lie on one grid."""
    try:
        problem = grid_mismatch(read_grid(pre), read_grid(post, grey=True))
    except DataError as error:
        note("error", "unreadable", str(error))
        return
    if problem:
        note("error", "crs-mismatch", f"{pre} and {post.name} {problem}: warp one to the other")


def hash_distances(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """How many bits differ between each hash of `first` (N) and each of `second` (M): (N, M)."""
    a, b = (np.where(np.stack(list(bits)), 1.0, -1.0).astype(np.float32) for bits in (first, second))
    distances: np.ndarray = ((a.shape[1] - a @ b.T) / 2).round().astype(int)
    return distances


def files_of(scene: Scene) -> dict[str, Path]:
    """Images, masks and layers of a scene by their role."""
    roles = ("pre", "post", "building_mask", "damage_mask", "class_mask")
    return {role: path for role in roles if (path := getattr(scene, role)) is not None} | scene.layers


def _note_bands(note: Note, scene: Scene) -> None:
    """Note an image that does not have the bands of its scene; those of a plain one are left to its reader."""
    if scene.bands == RGB and not scene.layers:
        return
    for path, expected in ((scene.pre, len(scene.bands)), *((path, 1) for path in scene.layers.values())):
        if path.is_file():
            count, _, _, kind = size_of(path)
            if count != expected or kind != "uint8":
                message = f"{path} has {counted(count, 'band')} of {kind}, expected {expected} of 8 bits"
                note("error", "bands", f"{message}: prepare the data again")


def _note_pixels(
    note: Note, path: Path, masks: Sequence[Path], *, hashed: bool
) -> tuple[str, ImageFacts] | None:
    """Note what of an image is no ground, and pixels that are stored turned.

    Returns:
        its SHA-256 and its facts, or None where it cannot be read.
    """
    try:
        content, facts = image_facts(path, masks, hashed=hashed)
    except (DataError, RasterError) as error:
        note("error", "unreadable", str(error))
        return None
    if facts.hidden == 1:
        note(
            "error",
            "no-ground",
            f"{path} shows no ground anywhere: remove its scene, and prepare the data again",
        )
    elif facts.guessed:
        value = facts.nodata
        declare = "" if value is None else f"declare it with 'gdal_edit.py -a_nodata {value:g}', or "
        note(
            "warning",
            "undeclared-rest",
            f"{facts.guessed:.1%} of {path} is {facts.colours} {facts.place} and looks like missing ground, but is "
            f"taught as it is labelled: {declare}label it {IGNORE}",
        )
    elif facts.hidden:
        note(
            "info",
            "no-ground",
            f"{facts.hidden:.1%} of {path} is no ground by its own word, and unknown to its labels",
        )
    if facts.turned is not None:
        note(
            "error",
            "turned-mask",
            f"{masks[facts.turned]} lies on the turned view of {path} (EXIF orientation {facts.orientation}), expected "
            "it on the stored pixels: turn the image for good, such as with 'mogrify -auto-orient', and prepare the data "
            "again",
        )
    elif facts.orientation != 1:
        note(
            "warning",
            "turned",
            f"{path} is to be shown turned (EXIF orientation {facts.orientation}): it is used as stored, and its masks "
            "have to lie on the stored pixels",
        )
    return content, facts


def _label_problem(
    values: set[int], role: str, path: Path, unclassified: str | None, legend: Legend | None
) -> str | None:
    if role == "class_mask":
        if legend is None:
            return f"{path} is a mask of classes, but the manifest has no legend: prepare the data again"
        highest = len(legend.names) - 1
    else:
        highest = 1 if role == "building_mask" else len(DAMAGE) - 1
    wrong = sorted(values - {*range(highest + 1), IGNORE})
    if wrong:
        return f"{path} holds the value {wrong[0]}, expected 0 to {highest}, or {IGNORE} for unknown"
    legitimate = role == "class_mask" or (role == "damage_mask" and unclassified == "ignore")
    if values == {0, IGNORE} and not legitimate:
        return (
            f"{path} holds {IGNORE} where 1 was expected: {IGNORE} means unknown here, so that nothing would be learned; "
            "write 1 on buildings, or prepare the masks with 'aftermap data prepare folder'"
        )
    return None
