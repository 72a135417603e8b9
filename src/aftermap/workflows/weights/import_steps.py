"""Checkpoints of MiB and PLOP to model folders: a classifier of several steps becomes one, its classes get names."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.checkpoint import read_checkpoint
from aftermap.artefacts.folder import check_replaceable
from aftermap.artefacts.store import save_model
from aftermap.data.incremental.task_tables import tasks_of
from aftermap.data.legends import Legend
from aftermap.errors import InputError, ModelError
from aftermap.models.build import build_model
from aftermap.models.configs import DeeplabConfig

_HEADS = re.compile(r"cls\.(\d+)\.(weight|bias)")
_STARTS = (("body.", "encoder."), ("head.", "decoder."))


def import_steps(
    file: Path,
    folder: Path,
    *,
    legend: Legend,
    task: str | None = None,
    output_stride: int = 16,
    licence: str | None = None,
    command: str = "",
) -> Card:
    """Write a checkpoint of MiB or PLOP as a model folder.

    Args:
        file: the checkpoint.
        folder: the model folder; an older one there is replaced.
        legend: of the data that it learned from.
        task: whose order its classes have; None for the legend's own.
        output_stride: that it was trained with; no weight tells it.
        licence: of the weights; by default that of the repositories.
        command: how it was made, for the card.

    Returns:
        The card.

    Raises:
        ModelError: no checkpoint of such a network, or one with other classes than the task's.
        InputError: no such task.
        OutputError: `folder` holds something else.
    """
    check_replaceable(folder)
    checkpoint = read_checkpoint(file)
    state = to_ours(checkpoint.state)
    if "head.weight" not in state:
        raise ModelError(
            f"{file} has no classifier cls.0: it is no checkpoint of MiB or PLOP (their ImageNet weights are for "
            "model.encoder_weights of kind deeplab-v3)"
        )
    classes = len(state["head.weight"])
    names = _names(legend, task)
    if classes > len(names):
        raise ModelError(
            f"{file} has {classes} classes, {task or legend.name} has {len(names)}: name its --legend and its --task"
        )
    deep = any(key.startswith("encoder.mod4.block23.") for key in state)
    config = DeeplabConfig.model_validate(
        {
            "encoder_name": "resnet101" if deep else "resnet50",
            "classes": classes,
            "output_stride": output_stride,
            "compat_positive_scale": True,
        }
    )
    with torch.device("meta"):
        wanted = build_model(config).state_dict()
    for what, keys in (
        ("lacks", [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]),
        ("has in excess", [key for key in state if key not in wanted]),
        (
            "has in another shape",
            [k for k, value in state.items() if k in wanted and value.shape != wanted[k].shape],
        ),
    ):
        if keys:
            raise ModelError(
                f"{file} is no DeepLab v3 of MiB or PLOP: it {what} {len(keys)} weights, such as {keys[0]}"
            )
    model = build_model(config)
    model.load_state_dict(model.state_dict() | state)
    order = [legend.names.index(name) for name in names[:classes]]
    shown = Legend(
        name=legend.name
        if len(order) == len(legend.names) and order == sorted(order)
        else f"{legend.name}-{task}",
        names=names[:classes],
        colours=tuple(legend.colours[index] for index in order),
        background=0,
    )
    card = Card(
        name=file.stem,
        model=config,
        dates=1,
        scheme=shown.name,
        legend=shown,
        normalisation=Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        training=TrainingRecord(
            data=f"{legend.name}, by MiB or PLOP; file {file.name}",
            data_licence="that of the data set",
            command=command,
            parent_sha256=checkpoint.sha256,
        ),
        licence=licence or "MIT",
        limits="Weights of another system, which learned from photographs: the ground resolution here means nothing.",
    )
    return save_model(folder, model, card)


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names: the rows of all steps' classifiers one below the other, in the order of the steps."""
    ours: dict[str, Tensor] = {}
    heads: dict[str, dict[int, Tensor]] = {"weight": {}, "bias": {}}
    for key, value in state.items():
        found = _HEADS.fullmatch(key)
        if found:
            heads[found[2]][int(found[1])] = value
            continue
        start, name = next(((old, new) for old, new in _STARTS if key.startswith(old)), ("", ""))
        ours[name + key.removeprefix(start)] = value
    for part, rows in heads.items():
        if rows:
            ours[f"head.{part}"] = torch.cat([rows[step] for step in sorted(rows)])
    return ours


def _names(legend: Legend, task: str | None) -> tuple[str, ...]:
    if task is None:
        return legend.names
    tasks = tasks_of(legend)
    if task not in tasks:
        raise InputError(f"{legend.name} has no task {task!r}: known are {', '.join(tasks)}")
    if legend.background is None:
        raise InputError(
            f"{legend.name} has no background, its models have the channels of the legend from the first step on: leave "
            "--task out"
        )
    return (legend.names[legend.background], *(name for step in tasks[task] for name in step))
