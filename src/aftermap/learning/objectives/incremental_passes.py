"""Forward passes of a step that adds classes: who has to see which images, and what is kept of it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.configs.incremental_terms import LocalPod
from aftermap.models.embedding import Features, Outputs, forward_all


@dataclass(frozen=True, slots=True)
class Needs:
    """What the terms of a step look at; nothing else is computed.

    Attributes:
        turned: the student sees turned images.
        features: of the student.
        stages: the student's encoder maps, of images as they are.
        teacher: the teacher sees images as they are.
        teacher_turned: the teacher sees turned images.
        teacher_features: of the teacher.
        one_pass: the student sees images and turned images as one batch.
    """

    turned: bool
    features: Features
    stages: bool
    teacher: bool
    teacher_turned: bool
    teacher_features: Features
    one_pass: bool

    @classmethod
    def of(cls, config: IncrementalConfig, step: int) -> "Needs":
        """What the terms look at in step `step` of a task, counted from 0."""
        old = step > 0
        contrastive = config.contrastive
        agrees = contrastive is not None and contrastive.factor > 0
        agrees_old = old and contrastive is not None and contrastive.factor_old > 0
        original = contrastive is not None and contrastive.teacher_view == "original"
        kind: Features = "none" if contrastive is None else contrastive.features
        compared = old and config.features is not None and config.features.weight > 0
        pod = compared and isinstance(config.features, LocalPod)
        distils = config.distillation is not None and config.distillation.weight > 0
        asked = old and (distils or config.pseudo_labels is not None or compared)
        return cls(
            turned=agrees or agrees_old or (contrastive is not None and contrastive.supervise_transformed),
            features=kind if agrees or agrees_old else "trunk" if pod else "none",
            stages=compared,
            teacher=asked or (agrees_old and original),
            teacher_turned=agrees_old and not original,
            teacher_features=kind if agrees_old else "trunk" if pod else "none",
            one_pass=contrastive is None or not contrastive.compat_two_passes,
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model gave; None for images that it was not shown.

    Attributes:
        plain: of images as they are.
        turned: of turned images.
    """

    plain: Outputs | None
    turned: Outputs | None


def ask_student(model: nn.Module, image: Tensor, turned: Tensor | None, needs: Needs) -> Seen:
    """Run the student on images (B, T, C, H, W), and on turned ones of the same shape where they are given."""
    if turned is None:
        return Seen(forward_all(model, image, features=needs.features, stages=needs.stages), None)
    if not needs.one_pass:
        first = forward_all(model, image, features=needs.features, stages=needs.stages)
        return Seen(first, forward_all(model, turned, features=needs.features))
    both = forward_all(model, torch.cat([image, turned]), features=needs.features, stages=needs.stages)
    return _parted(both, len(image))


@torch.no_grad()
def ask_teacher(teacher: nn.Module, image: Tensor, turned: Tensor | None, needs: Needs) -> Seen:
    """Run the teacher on what the terms need of it; no gradient flows into what it says."""
    features, stages = needs.teacher_features, needs.stages
    if not needs.teacher_turned or turned is None:
        return Seen(forward_all(teacher, image, features=features, stages=stages), None)
    if not needs.teacher:
        return Seen(None, forward_all(teacher, turned, features=features))
    both = forward_all(teacher, torch.cat([image, turned]), features=features, stages=stages)
    return _parted(both, len(image))


def _parted(both: Outputs, samples: int) -> Seen:
    """One pass over images and turned images, taken apart; encoder maps are those of the images as they are."""
    features = both.features
    # maps of two dates are one batch, all pre before all post: (T, 2B) rows
    stages = tuple(m.reshape(-1, 2 * samples, *m.shape[1:])[:, :samples].flatten(0, 1) for m in both.stages)
    return Seen(
        Outputs(both.logits[:samples], None if features is None else features[:samples], stages),
        Outputs(both.logits[samples:], None if features is None else features[samples:]),
    )
