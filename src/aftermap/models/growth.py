"""Models that grow: more classes in the head of any dense model, everything learned so far kept.

A grown model is an ordinary model of its kind with more classes: the rows of its classifier are those of the old one,
then the new ones.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from aftermap.errors import ModelError
from aftermap.models.build import build_model, without_weights
from aftermap.models.configs import AnyModelConfig, CustomConfig
from aftermap.models.configs.growth import Initialisation
from aftermap.models.networks.dense import DenseModel


def grow(
    model: DenseModel,
    config: AnyModelConfig,
    *,
    heads: Sequence[int],
    added: int,
    initialisation: Initialisation = "background-rebias",
) -> tuple[DenseModel, AnyModelConfig]:
    """The same model with more classes; the old one is not touched.

    Args:
        model: what was learned so far; channel 0 is the background.
        config: what it was built from.
        heads: channels that each step so far added, the background in the first.
        added: classes to add, 1 or more.
        initialisation: how their rows start; `random` draws from torch's global generator.

    Returns:
        The grown model, in the mode and on the device of the old one, and its configuration.

    Raises:
        ModelError: the kind of model has a fixed number of classes, one logit only, or no classifier that can grow.
        ValueError: `heads` are not those of the model, or nothing is added.
    """
    if added < 1 or not heads or min(heads) < 1 or sum(heads) != model.classes:
        raise ValueError(
            f"heads {list(heads)} of a model with {model.classes} channels cannot grow by {added}"
        )
    if model.classes == 1:
        raise ModelError(
            f"a {_kind(config)} with one logit has no background channel to grow from: start from a model with "
            "classes: 2 (background, building)"
        )
    grown_config = with_classes(config, model.classes + added)
    grown = build_model(without_weights(grown_config))
    _adopt(grown, model)
    old, new = model.state_dict(), grown.state_dict()
    rows = _class_rows(old, new, model.classes, model.classes + added, kind=_kind(config))
    if initialisation != "random":
        _check_biases(old, rows, kind=_kind(config))
    source = sum(heads[:-1]) if initialisation == "previous-head" else 0
    with torch.no_grad():
        for name, weight in new.items():
            if name not in rows:
                weight.copy_(old[name])
                continue
            weight[: model.classes].copy_(old[name])
            if initialisation == "random":
                continue
            share = math.log(added + 1) if weight.ndim == 1 else 0.0
            weight[model.classes :] = old[name][source] - share
            if initialisation == "background-rebias":
                weight[0] -= share
    return grown, grown_config


def reorder(model: DenseModel, config: AnyModelConfig, order: Sequence[int]) -> DenseModel:
    """A copy of a model with its classes in another order.

    Args:
        model: not touched.
        config: what it was built from; stays the configuration of the copy.
        order: for each channel of the copy the channel of `model` that it is.

    Raises:
        ModelError: as `grow`.
        ValueError: `order` does not name every channel once.
    """
    if sorted(order) != list(range(model.classes)):
        raise ValueError(f"order {list(order)} does not name each of {model.classes} channels once")
    rows = class_rows(model, config)
    changed = copy.deepcopy(model)
    state = changed.state_dict()
    with torch.no_grad():
        for name in rows:
            state[name].copy_(state[name][list(order)])
    return changed


def aligned(
    model: DenseModel, rows: Sequence[str], *, old: int, to: Literal["all", "old", "background"]
) -> DenseModel:
    """A copy whose rows of new classes are as long as rows of old ones are on average.

    Args:
        model: not touched.
        rows: names of its weights with one row per class, see `class_rows`; those with one number per class stay.
        old: channels before the step, the background included.
        to: which old rows give the length.

    Source: Zhao et al. 2020, in the form of PLOP's released code.
    """
    changed = copy.deepcopy(model)
    align(changed, rows, old=old, to=to)
    return changed


def align(
    model: DenseModel, rows: Sequence[str], *, old: int, to: Literal["all", "old", "background"]
) -> None:
    """The same with the model itself."""
    state = model.state_dict()
    taken = {"all": slice(old), "old": slice(1, old), "background": slice(1)}[to]
    with torch.no_grad():
        for name in rows:
            weight = state[name]
            if weight.ndim > 1 and old < len(weight):
                lengths = weight.flatten(1).norm(dim=1)
                weight[old:] *= lengths[taken].mean() / lengths[old:].mean()


def class_rows(model: DenseModel, config: AnyModelConfig) -> tuple[str, ...]:
    """Names of the weights with one row per class, found by comparing with a model of one class more.

    Raises:
        ModelError: as `grow`.
    """
    wider = blank(config, model.classes + 1).state_dict()
    return _class_rows(model.state_dict(), wider, model.classes, model.classes + 1, kind=_kind(config))


def blank(config: AnyModelConfig, classes: int) -> DenseModel:
    """A model to look at and not to use: its weights have no values where that can be.

    Raises:
        ModelError: as `with_classes`.
    """
    config = without_weights(with_classes(config, classes))
    try:
        with torch.device("meta"):
            return build_model(config)
    except (NotImplementedError, RuntimeError):  # what computes something from its weights while it is built
        with torch.random.fork_rng():
            return build_model(config)


def with_classes(config: AnyModelConfig, classes: int) -> AnyModelConfig:
    """The configuration with another number of classes; a custom one's argument `classes` follows.

    Raises:
        ModelError: models of this kind have a fixed number of classes.
    """
    values = {name: getattr(config, name) for name in type(config).model_fields} | {"classes": classes}
    if isinstance(config, CustomConfig) and "classes" in config.arguments:
        values["arguments"] = config.arguments | {"classes": classes}
    try:
        return type(config).model_validate(values)
    except ValidationError:
        raise ModelError(
            f"models of kind {_kind(config)} have {config.classes} classes, always: take another kind to get {classes}"
        ) from None


def _class_rows(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], classes: int, more: int, *, kind: str
) -> tuple[str, ...]:
    strange = sorted(old.keys() ^ new.keys())
    if strange:
        raise ModelError(
            f"a {kind} with {more} classes has other weights than one with {classes} ({strange[0]}): it cannot grow"
        )
    rows = tuple(name for name in old if old[name].shape != new[name].shape)
    if not rows:
        raise ModelError(
            f"a {kind} has the same weights for {classes} and for {more} classes, so it cannot grow: it must be built "
            "with the number of classes (custom: arguments.classes)"
        )
    for name in rows:
        found, wanted = tuple(old[name].shape), tuple(new[name].shape)
        if found[:1] != (classes,) or wanted[:1] != (more,) or found[1:] != wanted[1:]:
            raise ModelError(
                f"a {kind} cannot grow: {name} is {found} for {classes} classes and {wanted} for {more}, expected one "
                "row per class"
            )
    return rows


def _check_biases(old: Mapping[str, Tensor], rows: Sequence[str], *, kind: str) -> None:
    """Refuse a classifier without a bias: it cannot say that a class is less likely than the background."""
    biased = {name.rpartition(".")[0] for name in rows if old[name].ndim == 1}
    bare = [name for name in rows if name.rpartition(".")[0] not in biased]
    if bare:
        raise ModelError(
            f"a {kind} cannot start new classes from the background: {bare[0]} comes without a bias"
        )


def _adopt(grown: DenseModel, model: DenseModel) -> None:
    """Device, number format, mode and frozen parameters of the old model."""
    some = next(model.parameters())
    grown.to(device=some.device, dtype=some.dtype)
    training = {name: module.training for name, module in model.named_modules()}
    for name, module in grown.named_modules():
        module.training = training.get(name, model.training)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    for name, weight in grown.named_parameters():
        weight.requires_grad_(name not in frozen)


def _kind(config: AnyModelConfig) -> str:
    return config.target if isinstance(config, CustomConfig) else config.kind
