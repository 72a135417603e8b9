"""Predictions of a whole dataset as PNGs: in the xView2 competition's naming, ready for `aftermap score`, or classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from aftermap.artefacts.ensemble import is_ensemble
from aftermap.classes import BUILDING, DAMAGE, ClassScheme
from aftermap.data.mask_png import encode_mask
from aftermap.data.scene import Scene, read_images, read_mask, scenes_of
from aftermap.errors import InputError, ModelError
from aftermap.files import write_bytes, write_json
from aftermap.heap import keeping
from aftermap.inference.ensemble import RunningKeywords, opened
from aftermap.inference.parity import read_dates
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.stitching import predict_classes
from aftermap.inference.tiling import predict_scene
from aftermap.products.figures.painting import painted
from aftermap.workflows.scoring.by_workers import by_workers, named_model, refuse_failed, scenes_by_name
from aftermap.workflows.scoring.evaluate import class_file, decide, describe_classes
from aftermap.worklist.job import Do, Job
from aftermap.worklist.run import Engine, check_engine

if TYPE_CHECKING:
    from aftermap.inference.dice_maps import DiceMaps

COLOURED = "coloured"
"""Below the folder of the predictions, where a scorer does not look."""

_ENDING = re.compile(r"(_(pre|post)_disaster|_part1)(\.png)*$")
_NUMBERED = re.compile(r"(?P<split>test|hold|train|tier\d)_(pre_|post_)?(?P<number>\d+)")


class PredictOptions(RunningKeywords, total=False):
    """Keywords of `predict_dataset`."""

    split: str
    targets: str | Path | None
    coloured: bool
    dice: bool
    overwrite: bool
    workers: int
    engine: Engine
    address: str | None
    on_scene: Callable[[Scene], None] | None


def predict_dataset(
    model: str | Path | AnyPredictor,
    data: Path,
    out: Path,
    *,
    split: str = "all",
    targets: str | Path | None = None,
    coloured: bool = False,
    dice: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    engine: Engine = "processes",
    address: str | None = None,
    on_scene: Callable[[Scene], None] | None = None,
    **running: Unpack[RunningKeywords],
) -> int:
    """Predict scenes of a prepared dataset; see `predict_scenes`.

    Args:
        model: a model or ensemble folder, an exported model, `box`, or one that is open.
        data: a prepared dataset.
        out: folder for the predictions; those that are there are kept, so that an interrupted run goes on.
        split: which scenes: `train`, `validation`, `test`, `unassigned` or `all`.
        targets: folder for the truth in the same naming.
        coloured: write the classes in their colours too, into the folder `coloured` below `out`.
        dice: write what the Dice head of a `fpn-efficientnet` says too, into the folder `dice` below `out`.
        overwrite: predict again what is there.
        workers: how many, each with the model.
        engine: processes of this machine, or actors of Ray on machines that see the same folders.
        address: of the Ray cluster.
        on_scene: called with each scene.
        running: how a model that is not open yet is run; see `aftermap.inference.ensemble.Options`.

    Returns:
        How many scenes were predicted now.
    """
    scenes = scenes_of(data, split)
    heads = _dice_maps(model, running.get("device", "cpu")) if dice else None

    def done(scene: Scene) -> None:
        if heads is not None:
            file = out / "dice" / f"{scene.name}.png"
            if overwrite or not file.exists():
                _write(file, heads.of(read_images(scene, dates=1)[0]))
        if on_scene is not None:
            on_scene(scene)

    check_engine(engine, address)
    if workers > 1 or engine == "ray":
        return _predict_by_workers(
            model,
            data,
            scenes,
            out,
            workers=workers,
            engine=engine,
            address=address,
            targets=None if targets is None else Path(targets),
            coloured=coloured,
            overwrite=overwrite,
            on_scene=done,
            running=running,
        )
    return predict_scenes(
        opened(model, **running),
        scenes,
        out,
        targets=None if targets is None else Path(targets),
        coloured=coloured,
        overwrite=overwrite,
        on_scene=done,
    )


def _dice_maps(model: str | Path | AnyPredictor, device: str) -> "DiceMaps":
    """What the Dice head of a model folder says.

    Raises:
        ModelError: the model has none.
    """
    from aftermap.artefacts.store import load_model
    from aftermap.inference.dice_maps import DiceMaps

    if isinstance(model, AnyPredictor) or is_ensemble(model) or not Path(model).is_dir():
        raise ModelError(f"{model} has no Dice head that can be asked: pass the folder of one model")
    return DiceMaps(load_model(model, to_run=True), device)


@keeping()  # every scene wants the same arrays again
def predict_scenes(
    predictor: AnyPredictor,
    scenes: Sequence[Scene],
    folder: Path,
    *,
    targets: Path | None = None,
    coloured: bool = False,
    overwrite: bool = False,
    on_scene: Callable[[Scene], None] | None = None,
) -> int:
    """Write `<scene>_localization_prediction.png` and, for damage models, `<scene>_damage_prediction.png`.

    Names are those of the competition (see `competition_name`): the official scorer takes the folder as it is. A
    scene whose files exist is passed over, so that an interrupted run goes on where it stopped.

    A model with a legend writes `<scene>_classes_prediction.png`, the index of the likeliest class, and `classes.json`.

    Args:
        predictor: the model.
        scenes: what to predict, with or without labels.
        folder: where the predictions go.
        targets: where the truth of labelled scenes goes in the same naming (`..._target.png`); None writes none.
        coloured: write `coloured/<file>` in the colours of the classes too.
        overwrite: predict again what is there.
        on_scene: called after every scene.

    Returns:
        How many scenes were predicted.

    Raises:
        OutputError: a folder cannot be written.
        InputError: targets are wanted of a model with a legend.
    """
    if predictor.card.legend is not None:
        return _predict_classes(predictor, scenes, folder, targets, coloured, overwrite, on_scene)
    count, decision = 0, Decision.of(predictor.card)
    for scene in scenes:
        last = folder / competition_name(scene, "localization", "prediction")
        if overwrite or not last.exists():
            probabilities = predict_scene(predictor, read_images(scene, dates=predictor.dates))
            building, damage = decide(probabilities, decision)
            if damage is not None:
                _write(folder / competition_name(scene, "damage", "prediction"), damage * building)
            if coloured:
                shown, task = (building, "localization") if damage is None else (damage * building, "damage")
                name = competition_name(scene, task, "prediction")
                _write_coloured(folder / COLOURED / name, shown, BUILDING if damage is None else DAMAGE)
            _write(last, building)
            count += 1
        if targets is not None and scene.is_labelled:
            _write(
                targets / competition_name(scene, "localization", "target"),
                read_mask(scene, target="building"),
            )
            if scene.damage_mask is not None:
                _write(
                    targets / competition_name(scene, "damage", "target"), read_mask(scene, target="damage")
                )
        if on_scene is not None:
            on_scene(scene)
    return count


def competition_name(scene: Scene, task: str, role: str) -> str:
    """File name of a mask as the competition's scorer wants it.

    `guatemala-volcano_00000001` becomes `guatemala-volcano_00000001_damage_prediction.png`, and scenes named like the
    competition's images, `test_pre_00000` or `test_pre_00000_part1`, become `test_damage_00000_prediction.png`. Names
    of the later release, `<event>_<number>_pre_disaster`, lose their ending.
    """
    name = _ENDING.sub("", scene.name)
    numbered = _NUMBERED.fullmatch(name)
    if numbered:
        return f"{numbered['split']}_{task}_{numbered['number']}_{role}.png"
    return f"{name}_{task}_{role}.png"


def _predict_classes(
    predictor: AnyPredictor,
    scenes: Sequence[Scene],
    folder: Path,
    targets: Path | None,
    coloured: bool,
    overwrite: bool,
    on_scene: Callable[[Scene], None] | None,
) -> int:
    """The same for a model with a legend."""
    if targets is not None:
        raise InputError(
            f"the truth of {predictor.card.name}'s classes has no competition's naming: leave --targets out; 'aftermap "
            "evaluate' scores them"
        )
    count = 0
    for scene in scenes:
        path = class_file(folder, scene)
        if overwrite or not path.exists():
            classes = predict_classes(predictor, read_dates(scene, predictor))
            _write(path, classes)
            if coloured:
                _write_coloured(folder / COLOURED / path.name, classes, predictor.card.classes)
            count += 1
        if on_scene is not None:
            on_scene(scene)
    if scenes:
        write_json(folder / "classes.json", describe_classes(predictor.card))
    return count


def _write_coloured(path: Path, mask: np.ndarray, scheme: ClassScheme) -> None:
    _write(path, painted(mask, scheme)[..., ::-1])


def _write(path: Path, mask: np.ndarray) -> None:
    write_bytes(path, encode_mask(mask), parents=True, sync=False)


@dataclass(frozen=True)
class PredictWork:
    """Predicting scenes of a dataset; arguments as those of `predict_scenes`."""

    model: str
    data: Path
    out: Path
    targets: Path | None
    coloured: bool
    overwrite: bool
    running: Mapping[str, Any]

    def start(self) -> Do:
        """Open the model and the dataset's list."""
        predictor, scenes = opened(self.model, **self.running), scenes_by_name(self.data)

        def do(job: Job) -> Mapping[str, Any]:
            made = predict_scenes(
                predictor,
                [scenes[job.name]],
                self.out,
                targets=self.targets,
                coloured=self.coloured,
                overwrite=self.overwrite,
            )
            return {"made": made}

        return do


def _predict_by_workers(
    model: str | Path | AnyPredictor,
    data: Path,
    scenes: Sequence[Scene],
    out: Path,
    *,
    workers: int,
    engine: Engine,
    address: str | None,
    targets: Path | None,
    coloured: bool,
    overwrite: bool,
    on_scene: Callable[[Scene], None] | None,
    running: RunningKeywords,
) -> int:
    """`predict.predict_dataset` with several processes.

    Returns:
        How many scenes were predicted now.

    Raises:
        InputError: the model is open, or scenes could not be predicted; the others are.
    """
    work = PredictWork(
        named_model(model),
        data.absolute(),
        out.absolute(),
        targets and targets.absolute(),
        coloured,
        overwrite,
        dict(running),
    )
    ended = by_workers(work, scenes, workers, on_scene, engine=engine, address=address)
    refuse_failed(ended, "predicted; the others are")
    return sum(outcome.facts["made"] for outcome in ended)
