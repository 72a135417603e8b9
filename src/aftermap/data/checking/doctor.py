"""The data doctor: everything about a prepared dataset that spoils training or scores, with what to do about it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from aftermap.classes import SCHEMES
from aftermap.data.checking.examine import Examined, Finding, Severity, examine, hash_distances
from aftermap.data.checking.overlap import ground, same_ground, same_images
from aftermap.data.checking.releases import release_findings, withheld
from aftermap.data.checking.splits import SPLITS
from aftermap.data.masks import DAMAGE_NAMES
from aftermap.data.scene import Manifest, Scene, Split
from aftermap.errors import DataError
from aftermap.heap import keeping
from aftermap.wording import counted

KNOWN_COUNTS = {"train": 2799, "tier3": 6369, "test": 933, "hold": 933}
"""Pairs in the splits of xBD (Gupta et al. 2019; xView2 competition)."""

NEAR_DUPLICATE_BITS = 12
"""Images whose 256-bit hashes differ by at most this many bits look alike."""

_TWO_DATES = ("xbd", "synthetic")  # readers whose scenes are always pairs
_LEAK = 0.01  # share of ground in common from which an overlap across splits is an error


@dataclass(frozen=True, slots=True)
class Report:
    """Findings about a dataset, errors first."""

    scenes: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """What must be mended before training."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """What deserves a look."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    def to_json(self) -> str:
        """The report as JSON: scenes, counts of errors and warnings, findings."""
        tree = {
            "scenes": self.scenes,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(tree, indent=1)


def check(
    manifest: Manifest,
    *,
    deep: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Examine a dataset.

    Args:
        manifest: as loaded, with absolute paths.
        deep: decode all images and masks. Without it only existence, headers, partners, counts and leaks that the
            manifest itself shows are examined, which takes seconds for thousands of scenes.
        workers: processes.
        progress: called with the number of examined scenes and of all.
    """
    scenes = manifest.scenes
    examined: list[Examined] = []
    for number, result in enumerate(_examine_all(manifest, deep=deep, workers=workers), 1):
        examined.append(result)
        if progress is not None:
            progress(number, len(scenes))
    findings = [finding for result in examined for finding in result.findings]
    findings += _partners(manifest)
    findings += _duplicates(scenes)
    findings += _look_alikes(scenes, examined)
    findings += _shared_ground(scenes)
    findings += _events(manifest)
    findings += _labels(scenes, examined, by_pairs=manifest.kind in _TWO_DATES)
    findings += _balance(manifest)
    findings += _counts(manifest)
    findings += release_findings(manifest)
    order = {"error": 0, "warning": 1, "info": 2}
    return Report(len(scenes), tuple(sorted(findings, key=lambda finding: order[finding.severity])))


def _examine_all(manifest: Manifest, *, deep: bool, workers: int) -> Iterator[Examined]:
    task = partial(
        examine, deep=deep, unclassified=manifest.options.get("unclassified"), legend=manifest.legend
    )
    if workers <= 1:
        with keeping():  # the next image wants as much memory as the last
            yield from map(task, manifest.scenes)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, manifest.scenes, chunksize=8)


def _partners(manifest: Manifest) -> list[Finding]:
    advice = "add the other date, or remove this image, and prepare the data again"
    unpaired = [name for name in manifest.options.get("unpaired", "").split(",") if name]
    unpaired = [name for name in unpaired if not withheld(manifest, name)]
    found = [
        Finding("error", "missing-partner", None, f"{name} has no partner: {advice}") for name in unpaired
    ]
    single = [scene for scene in manifest.scenes if scene.post is None]
    if single and (manifest.kind in _TWO_DATES or len(single) < len(manifest.scenes)):
        found += [
            Finding("error", "missing-partner", s.name, f"{s.pre.name} has no post image: {advice}")
            for s in single
        ]
    return found


def _duplicates(scenes: Sequence[Scene]) -> list[Finding]:
    found = []
    for pair in same_images(scenes):
        first, second = scenes[pair.first], scenes[pair.second]
        message = f"has the same image as {first.name}"
        if _crosses(first, second):
            message += f" ({second.split} and {first.split}): split the data again, or remove one of them"
            found.append(Finding("error", "duplicate-across-splits", second.name, message))
        else:
            found.append(Finding("warning", "duplicate", second.name, f"{message}: remove one of them"))
    return found


def _look_alikes(scenes: Sequence[Scene], examined: Sequence[Examined]) -> list[Finding]:
    exact = {(pair.first, pair.second) for pair in same_images(scenes)}
    by_split: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for index, (scene, result) in enumerate(zip(scenes, examined, strict=True)):
        if scene.split in by_split and result.hash is not None:
            by_split[scene.split].append(index)
    found = []
    for position, split in enumerate(SPLITS):
        for other in SPLITS[position + 1 :]:
            mine, theirs = by_split[split], by_split[other]
            if not mine or not theirs:
                continue
            hashes = ([h for i in part if (h := examined[i].hash) is not None] for part in (mine, theirs))
            for row, col in zip(*np.nonzero(hash_distances(*hashes) <= NEAR_DUPLICATE_BITS), strict=True):
                i, j = mine[row], theirs[col]
                if (min(i, j), max(i, j)) not in exact:
                    message = f"looks like {scenes[i].name} ({other} and {split}): compare them by eye"
                    found.append(Finding("warning", "near-duplicate", scenes[j].name, message))
    return found


def _shared_ground(scenes: Sequence[Scene]) -> list[Finding]:
    found = []
    placed = []
    for scene in scenes:
        try:
            ground(scene)
        except DataError as error:
            found.append(Finding("error", "georeference", scene.name, f"{error}: prepare the data again"))
            scene = scene.model_copy(update={"grid": None})
        placed.append(scene)
    for pair in same_ground(placed):
        first, second = scenes[pair.first], scenes[pair.second]
        if _crosses(first, second):
            message = (
                f"shares {pair.share:.1%} of its ground with {first.name} ({second.split} and {first.split}): "
                "split the data again with 'aftermap data split'"
            )
            found.append(
                Finding("error" if pair.share > _LEAK else "warning", "shared-ground", second.name, message)
            )
    return found


def _events(manifest: Manifest) -> list[Finding]:
    """Events in several splits: an error where the split promised otherwise."""
    found = []
    by, held = manifest.options.get("split"), manifest.options.get("split_hold_out", "").split(",")
    splits: dict[str, set[str]] = {}
    for scene in manifest.scenes:
        splits.setdefault(scene.event, set()).add(scene.split)
    present = {event: names - {"unassigned"} for event, names in sorted(splits.items())}
    for event in held:
        if event in present and present[event] != {"test"}:
            message = (
                f"{event} was held out, but is in {', '.join(sorted(present[event]))}: split the data again"
            )
            found.append(Finding("error", "event-leakage", None, message))
    across = [event for event, names in present.items() if len(names) > 1 and event not in held]
    if across:
        where = f"events in more than one split: {len(across)} ({_names(across)})"
        if by == "event":
            message = f"{where}, but the data was split by event: split it again"
            found.append(Finding("error", "event-leakage", None, message))
        elif by in ("block", "source"):
            message = f"{where}, as intended by --by {by}: scores say nothing about unseen events"
            found.append(Finding("info", "event-across-splits", None, message))
        else:
            message = f"{where}: scores will be too good; split by event or by block"
            found.append(Finding("warning", "event-leakage", None, message))
    unassigned = sum(scene.split == "unassigned" for scene in manifest.scenes)
    if unassigned:
        message = f"{counted(unassigned, 'scene is', 'scenes are')} in no split: run 'aftermap data split'"
        found.append(Finding("warning", "unassigned", None, message))
    return found


def _labels(scenes: Sequence[Scene], examined: Sequence[Examined], *, by_pairs: bool) -> list[Finding]:
    found = []
    unlabelled = [scene.name for scene in scenes if not scene.is_labelled]
    if unlabelled:
        message = f"scenes without labels: {len(unlabelled)} ({_names(unlabelled)})"
        found.append(
            Finding("error" if len(unlabelled) == len(scenes) else "info", "unlabelled", None, message)
        )
    for scene in scenes if by_pairs else ():
        if scene.is_labelled and None in (scene.building_mask, scene.damage_mask):
            lacking = "second" if scene.damage_mask is None else "first"
            message = f"has no labels of its {lacking} date: add them, or remove the scene, and prepare the data again"
            found.append(Finding("warning", "missing-label", scene.name, message))
    known = [
        (scene, result.empty)
        for scene, result in zip(scenes, examined, strict=True)
        if result.empty is not None
    ]
    empty = [scene.name for scene, nothing in known if nothing]
    if empty:
        share = len(empty) / len(known)
        message = f"{len(empty)} of {len(known)} labelled scenes hold no building: {_names(empty)}"
        severity: Severity = "error" if share == 1 else "warning" if share > 0.5 else "info"
        found.append(Finding(severity, "empty-mask", None, message))
    return found


def _balance(manifest: Manifest) -> list[Finding]:
    """Shares of the classes, and classes that a split lacks."""
    if manifest.legend is not None:
        return _class_shares(manifest)
    names = SCHEMES[manifest.scheme].names[1:] if manifest.scheme in SCHEMES else ()
    counts: dict[str, Counter[str]] = {}
    polygons = any(scene.polygons for scene in manifest.scenes)
    for scene in manifest.scenes:
        mine = counts.setdefault(scene.split, Counter())
        if polygons:
            mine.update({name: scene.polygons.get(name, 0) for name in names})
        elif len(scene.class_pixels) > len(names):
            mine.update(dict(zip(names, scene.class_pixels[1:], strict=False)))
    whole = sum(counts.values(), Counter[str]())
    total = whole.total()
    if not total:
        return []
    shares = ", ".join(f"{name} {whole[name]} ({whole[name] / total:.2%})" for name in names)
    unit = "buildings" if polygons else "building pixels"
    found = [Finding("info", "class-balance", None, f"{total} {unit}: {shares}")]
    for name in names:
        if whole[name] == 0 and name in DAMAGE_NAMES:
            found.append(Finding("warning", "class-missing", None, f"no {unit} of class {name} anywhere"))
            continue
        for split in SPLITS:
            if split in counts and whole[name] and not counts[split][name]:
                message = f"no {unit} of class {name} in {split}, {whole[name]} elsewhere: try another split or seed"
                found.append(Finding("warning", "class-missing", None, message))
    return found


def _class_shares(manifest: Manifest) -> list[Finding]:
    """Shares of a legend's classes among the known pixels, and classes that a split lacks."""
    names = manifest.class_scheme.names
    counts = {scene.split: np.zeros(len(names), np.int64) for scene in manifest.scenes}
    for scene in manifest.scenes:
        if len(scene.class_pixels) == len(names):
            counts[scene.split] += scene.class_pixels
    whole = np.sum(list(counts.values()), axis=0)
    total = int(whole.sum())
    if not total:
        return []
    shares = ", ".join(f"{name} {count / total:.2%}" for name, count in zip(names, whole, strict=True))
    found = [Finding("info", "class-balance", None, f"{total} known pixels: {shares}")]
    for index, name in enumerate(names):
        if not whole[index]:
            message = f"no pixels of class {name} anywhere: a step cannot learn it"
            found.append(Finding("warning", "class-missing", None, message))
            continue
        for split in SPLITS:
            if split in counts and counts[split].any() and not counts[split][index]:
                message = f"no pixels of class {name} in {split}, {whole[index]} elsewhere: try another split or seed"
                found.append(Finding("warning", "class-missing", None, message))
    return found


def _counts(manifest: Manifest) -> list[Finding]:
    """Compare the official splits of xBD with their known sizes."""
    if manifest.kind != "xbd":
        return []
    present = Counter(scene.source_split for scene in manifest.scenes if scene.source_split)
    return [
        Finding(
            "warning",
            "split-count",
            None,
            f"{split} holds {present[split]} pairs, xBD has {known}: scores do not compare with published ones",
        )
        for split, known in KNOWN_COUNTS.items()
        if present[split] not in (0, known)
    ]


def _crosses(first: Scene, second: Scene) -> bool:
    return first.split != second.split and "unassigned" not in (first.split, second.split)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
