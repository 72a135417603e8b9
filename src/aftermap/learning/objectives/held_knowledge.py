"""What holds a model to that of the step before: terms of its logits and features, and what moving a weight costs."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from aftermap.classes import IGNORE
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental_terms import (
    BinaryDistillation,
    DistillationTerm,
    ExcludedDistillation,
    FeatureMse,
    FeatureTerm,
    LocalPod,
    RegulariserConfig,
)
from aftermap.learning.losses.incremental import (
    feature_consistency,
    icarl_distillation,
    knowledge_distillation,
    unbiased_distillation,
)
from aftermap.learning.losses.neighbourhood import excluded_distillation
from aftermap.learning.losses.pixel import widened
from aftermap.learning.losses.pod import Pooling, local_pod, pod_growth
from aftermap.learning.published_regularisers import PublishedEWC, PublishedPI, PublishedRW
from aftermap.learning.regularisers import EWC, PI, RW, Regulariser
from aftermap.models.embedding import Outputs
from aftermap.models.networks.dense import DenseModel


def of_old_logits(
    config: DistillationTerm | None, ours: Outputs, told: Outputs, mask: Tensor
) -> dict[str, Tensor]:
    """The term of the old model's logits by name, weighted; none where the method has none."""
    if config is None or not config.weight:
        return {}
    old = told.logits.shape[1]
    if isinstance(config, BinaryDistillation):
        value = old * icarl_distillation(ours.logits, told.logits)
    elif isinstance(config, ExcludedDistillation) and old == ours.logits.shape[1]:  # no class is new
        value = old * knowledge_distillation(ours.logits, told.logits, where=mask != IGNORE)
    elif isinstance(config, ExcludedDistillation):
        value = excluded_distillation(
            ours.logits, told.logits, mask, new=config.new, compat_published=config.compat_published
        )
    else:
        where = (mask < old) | (mask == IGNORE) if config.where == "not-new" else None
        plain = config.loss == "knowledge-distillation"
        distil = knowledge_distillation if plain else unbiased_distillation
        value = distil(ours.logits, told.logits, alpha=config.alpha, where=where)
    return {config.loss: config.weight * value}


def of_old_features(
    config: FeatureTerm | None, ours: Outputs, told: Outputs, mask: Tensor, heads: Sequence[int]
) -> dict[str, Tensor]:
    """The term of the old model's features by name, weighted; `heads` are the channels that each step added."""
    if config is None or not config.weight:
        return {}
    if isinstance(config, FeatureMse):
        return {config.loss: config.weight * feature_consistency(ours.stages[-1], told.stages[-1])}
    return {config.loss: config.weight * _local_pod(config, ours, told, mask, heads)}


def _local_pod(config: LocalPod, ours: Outputs, told: Outputs, mask: Tensor, heads: Sequence[int]) -> Tensor:
    assert ours.features is not None and told.features is not None
    size = (ours.features.shape[-2], ours.features.shape[-1])
    # at the size of the features, as the published network has them before it enlarges them
    logits, old_logits = (adaptive_avg_pool2d(widened(o.logits), size) for o in (ours, told))
    new, old = (
        [widened(m) for m in (*o.stages[-config.stages :], o.features) if m is not None] for o in (ours, told)
    )
    where = None
    if config.masked is not None:
        where = mask < (told.logits.shape[1] if heads[-1] else 1)
        if config.masked == "old":
            where = where & (told.logits.argmax(dim=1) > 0)
        where = ~where if config.compat_mask else where
    return local_pod(
        new,
        old,
        factor=config.features,
        logits=logits,
        old_logits=old_logits,
        logits_factor=config.logits,
        growth=pod_growth(sum(heads), heads[-1] or sum(heads)) if config.grows else 1.0,
        pooling=Pooling(config.pooling, config.scales, config.before, config.distance, config.compat_parts),
        added=config.added,
        where=where,
    )


def regulariser_of(
    config: RegulariserConfig, teacher: DenseModel | None, carried: Mapping[str, Tensor], step: int
) -> Regulariser:
    """The regulariser of a step, with what the step before measured.

    Raises:
        RecipeError: that is not what it needs.
    """
    measure = "score:" if config.kind == "pi" else "fisher:"
    if step and not any(name.startswith(measure) for name in carried):
        raise RecipeError(
            f"step {step} has a regulariser of kind {config.kind} and step {step - 1} measured nothing for it: train "
            "every step with the same regulariser"
        )
    old = dict(teacher.named_parameters()) if step and teacher is not None else None
    state = carried if step else None
    published = config.compat_published
    if config.kind == "ewc":
        return (PublishedEWC if published else EWC)(state, old, alpha=config.alpha)
    if config.kind == "pi":
        return (PublishedPI if published else PI)(state, old)
    return (PublishedRW if published else RW)(state, old, alpha=config.alpha, interval=config.interval)
