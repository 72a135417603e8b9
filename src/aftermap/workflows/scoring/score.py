"""Scores folders of predicted masks against folders of target masks, one pair at a time."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from aftermap.errors import DataError, DataWarning
from aftermap.files import write_json
from aftermap.scoring.building_maps import BuildingMapScore, BuildingMapScores
from aftermap.scoring.objects import BuildingScore, BuildingScores
from aftermap.scoring.pixels import PixelScores, Score
from aftermap.workflows.scoring.mask_files import (
    UNKNOWN_EVENT,
    MaskFiles,
    find_masks,
    read_masks,
    scene_events,
    size_text,
)


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """Scores of a folder of predictions.

    Attributes:
        pixels: the official score and its companions.
        buildings: scores per building; the buildings are connected components of the target masks.
        notes: what the reader of the numbers should know about the files.
        building_map: scores of the building map, where nothing but buildings was predicted.
    """

    pixels: PixelScores
    buildings: BuildingScores
    notes: tuple[str, ...]
    building_map: BuildingMapScores | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the official figures at the top level."""
        building_map = {} if self.building_map is None else {"building_map": self.building_map.as_dict()}
        return {
            **self.pixels.as_dict(),
            "buildings": self.buildings.as_dict(),
            **building_map,
            "notes": list(self.notes),
        }


class ScoreOptions(TypedDict, total=False):
    """Keywords of `score_folders`."""

    events: str | Path | None
    bootstrap: int
    seed: int
    iou: float
    progress: Callable[[int, int], None] | None


def score_folders(
    prediction: Path,
    target: Path,
    *,
    events: str | Path | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    iou: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreReport:
    """Score every target against its prediction; one pair is in memory at a time.

    Args:
        prediction: folder of single-band masks, 0 to 4, named as the competition does
            (`test_damage_00000_prediction.png` and `test_localization_00000_prediction.png`), by event
            (`<event>_<id>_damage_prediction.png`), as xBD does (`<event>_<id>_post_disaster.png`), or as the
            targets are.
        target: folder of the same; 255 marks unknown pixels.
        events: CSV (scene, event) or JSON object that says which event a scene belongs to. Without it the
            event is taken from names such as `<event>_<id>`.
        bootstrap: resamples of the scenes for 95 % intervals.
        seed: of the bootstrap.
        iou: overlap above which a predicted and a target outline are the same building.
        progress: called with (pairs done, pairs) after each pair.

    Raises:
        DataError: no targets, missing predictions, or a file that is no mask of the target's size.

    Warns:
        DataWarning: predictions without a target, or of one kind only; targets without damage.
    """
    targets = find_masks(target, "target")
    predictions = find_masks(prediction, "prediction")
    notes = _compare(predictions, targets, prediction, target)
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    event_of = scene_events(None if events is None else Path(events), targets)
    pixels, buildings, building_map = Score(), BuildingScore(iou=iou), BuildingMapScore(iou=iou)
    only_buildings = not any(files.damage for files in predictions.values())
    for number, (scene, files) in enumerate(targets.items(), 1):
        truth = read_masks(files, "target")
        guess = read_masks(predictions[scene], "prediction")
        if guess[0].shape != truth[0].shape:
            raise DataError(
                f"{predictions[scene].first} is {size_text(guess[0])} px, but its target {files.first.name} is "
                f"{size_text(truth[0])}: predict at the size of the target"
            )
        pixels.add(*guess, *truth, event=event_of[scene], scene=scene)
        buildings.add(*guess, *truth, event=event_of[scene], scene=scene)
        if only_buildings:
            building_map.add(guess[0], truth[0], event=event_of[scene], scene=scene)
        if progress is not None:
            progress(number, len(targets))
    pixel_scores = pixels.result(bootstrap=bootstrap, seed=seed)
    building_scores = buildings.result(bootstrap=bootstrap, seed=seed)
    map_scores = building_map.result(bootstrap=bootstrap, seed=seed) if only_buildings else None
    if set(event_of.values()) == {UNKNOWN_EVENT}:
        pixel_scores, building_scores = replace(pixel_scores, events={}), replace(building_scores, events={})
        map_scores = None if map_scores is None else replace(map_scores, events={})
    return ScoreReport(pixel_scores, building_scores, tuple(notes), map_scores)


def write_report(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write `score.json` and `score.png` into a folder, replacing older ones; returns the files.

    Args:
        report: `ScoreReport.as_dict()`.
        folder: made where it does not exist.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    text, picture = folder / "score.json", folder / "score.png"
    from aftermap.products.figures.scorecard import write_scorecard

    write_json(text, report, parents=True)
    write_scorecard(report, picture)
    return [text, picture]


def _compare(
    predictions: dict[str, MaskFiles], targets: dict[str, MaskFiles], prediction: Path, target: Path
) -> list[str]:
    """What is scored although something is left out; targets without a prediction are refused."""
    has_damage = any(files.damage for files in predictions.values())
    missing = [
        scene
        for scene, files in targets.items()
        if scene not in predictions or (has_damage and files.damage and not predictions[scene].damage)
    ]
    if missing:
        kind = " damage" if missing[0] in predictions else ""
        raise DataError(
            f"{len(missing)} of {len(targets)} targets have no{kind} prediction in {prediction}, the first is "
            f"{missing[0]} ({targets[missing[0]].first.name}): predict all, or score a smaller folder"
        )
    notes = []
    extra = [scene for scene in predictions if scene not in targets]
    if extra:
        notes.append(
            f"{len(extra)} predictions have no target in {target} and are left out, the first is {extra[0]}"
        )
    unlabelled = [scene for scene, files in targets.items() if files.damage is None]
    if not has_damage:
        notes.append(f"{prediction} holds no damage masks: only localization is scored")
    elif unlabelled:
        notes.append(
            f"{len(unlabelled)} of {len(targets)} targets have no damage mask and are scored for localization "
            f"only, the first is {unlabelled[0]}"
        )
    localized = [any(files.localization for files in masks.values()) for masks in (targets, predictions)]
    if localized == [True, False]:
        notes.append(f"{prediction} holds no localization masks: buildings are taken from the damage masks")
    return notes
