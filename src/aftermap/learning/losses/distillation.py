"""Losses of a student against a teacher: class probabilities and encoder features, pure functions of tensors.

A single logit z of "building" is the two classes (0, z), so that every function takes it as it takes K logits. Nothing
flows into a teacher. `weights` (B, H, W), 0 where a pixel takes no part, makes every mean over pixels a weighted one;
None weighs all pixels alike. Each `compat_...` argument brings back one property of the published system.

Source of the published forms: Bai et al. 2022 (GeoInformatica), its code (`train_student.py`,
`train_student_building.py`); logits after Li and Hoiem 2016 (learning without forgetting), features after Jung et al.
2016 (less-forgetting learning).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from aftermap.learning.configs.distillation_terms import Classes, Direction
from aftermap.learning.losses.pixel import widened

_LEAST = 1e-6
# a teacher may say a plain 0, whose logarithm no divergence survives
_LEAST_LOG = -100.0


def class_log_probabilities(logits: Tensor, temperature: float = 1.0, classes: Classes = "all") -> Tensor:
    """Logarithm of the softmax of logits / temperature, over the classes, background and building, or degrees.

    Args:
        logits: (B, K, H, W); K = 1 is one logit of building, else class 0 is the background.
        temperature: > 0.
        classes: `building` adds the probabilities of the classes 1 to K - 1; `damage` is of these among themselves.

    Returns:
        (B, K, H, W); (B, 2, H, W) where K is 1 or `classes` is building; (B, K - 1, H, W) where it is damage.
    """
    softened = widened(logits) / temperature
    if classes == "damage":
        return torch.log_softmax(softened[:, 1:], dim=1)
    if logits.shape[1] == 1:
        return torch.cat([F.logsigmoid(-softened), F.logsigmoid(softened)], dim=1)
    log_p = torch.log_softmax(softened, dim=1)
    if classes == "building":
        return five_to_two(log_p)
    return log_p


def five_to_two(log_values: Tensor) -> Tensor:
    """Logarithms of the background's value and of the sum of all others, (B, 2, H, W) of (B, K, H, W).

    Sums in logarithms keep the digits that 1 - p(background) loses.
    """
    return torch.cat([log_values[:, :1], torch.logsumexp(log_values[:, 1:], dim=1, keepdim=True)], dim=1)


def soft_targets(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor | None = None,
    *,
    temperature: float = 1.0,
    direction: Direction = "forward",
    classes: Classes = "all",
    compat_class_mean: bool = False,
    compat_floor: float = 0.0,
) -> Tensor:
    """Kullback-Leibler divergence of the softened class probabilities, averaged over pixels.

    Args:
        student: logits (B, K, H, W), or (B, 1, H, W) of building.
        teacher: logits of the same pixels; log-probabilities are logits too.
        weights: (B, H, W).
        temperature: > 0; larger values flatten both distributions.
        direction: `forward` KL(teacher || student), which wants every class that the teacher thinks possible;
            `reverse` KL(student || teacher), which wants none that it thinks impossible; `both` their mean.
        classes: see `class_log_probabilities`; with `building` the numbers of classes may differ.
        compat_class_mean: divide by the number of classes.
        compat_floor: add this to probabilities before the logarithm (1e-9 for localization in the original).

    Returns:
        Scalar, scaled by temperature**2 so that its gradient does not shrink with it.

    Raises:
        ValueError: the shapes do not go together.

    Source: Hinton et al. 2015, section 2.
    """
    log_s, log_t = _log_pair(student, teacher, temperature, classes)
    p_s, p_t = log_s.exp(), log_t.exp()
    gap = _floored(log_t, compat_floor) - _floored(log_s, compat_floor)
    forward, reverse = (p_t * gap).sum(dim=1), -(p_s * gap).sum(dim=1)
    divergence = {"forward": forward, "reverse": reverse, "both": (forward + reverse) / 2}[direction]
    share = log_s.shape[1] if compat_class_mean else 1
    return _mean(divergence, weights) * temperature**2 / share


def true_class(
    student: Tensor,
    target: Tensor,
    weights: Tensor,
    *,
    teacher: Tensor | None = None,
    temperature: float = 1.0,
    classes: Classes = "all",
    compat_class_mean: bool = False,
    compat_broadcast: bool = False,
    compat_channel_masks: bool = False,
    compat_floor: float = 0.0,
) -> Tensor:
    """Cross-entropy with the labels, each pixel weighed by how sure the teacher is of its true class.

    That is all a student hears of its teacher in the published system: nothing of the other classes, less where the
    teacher is wrong. Without a teacher it is the cross-entropy of the softened logits. Unlike `soft_targets` it is
    not scaled by the temperature.

    Args:
        student: logits (B, K, H, W), or (B, 1, H, W) of building.
        target: class indices (B, H, W), any value where `weights` is 0.
        weights: (B, H, W), 0 where the class is unknown.
        teacher: logits as the student's.
        temperature: > 0.
        classes: `building` compares p(building) alone.
        compat_class_mean: divide by the number of classes, as a mean over the elements of a one-hot target does.
        compat_broadcast: compare every map of the batch with every target of it; two classes only.
        compat_channel_masks: compare map c of the batch with channel c of the five one-hot channels of every target,
            as if each of them, the background's too, were the mask of buildings; two classes only.
        compat_floor: add this to the student's probabilities before the logarithm (1e-9 in the original).

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes do not go together, or the batch is neither 5 nor 1 with `compat_channel_masks`.
    """
    if teacher is None:
        log_s, log_t = class_log_probabilities(student, temperature, classes), None
    else:
        log_s, log_t = _log_pair(student, teacher, temperature, classes)
    count = log_s.shape[1]
    known = weights > 0
    index = torch.where(known, target, torch.zeros_like(target))
    if count == 2:
        index = (index > 0).to(index.dtype)
    if index.shape != (len(log_s), *log_s.shape[2:]):
        raise ValueError(f"targets {tuple(target.shape)} do not fit logits {tuple(student.shape)}")
    crossed = compat_broadcast or compat_channel_masks
    if crossed and count != 2:
        raise ValueError(f"the compat forms across the batch compare p(building), found {count} classes")
    if compat_channel_masks:
        if len(index) not in (1, 5):
            raise ValueError(
                f"compat_channel_masks pairs a batch with five channels: found {len(index)}, expected 5 or 1"
            )
        kinds = torch.arange(5, device=target.device)[None, :, None, None]
        choice = (torch.where(known, target, torch.zeros_like(target))[:, None] == kinds).to(torch.int64)
    elif compat_broadcast:
        choice = index[:, None].expand(-1, len(index), -1, -1)
    else:
        choice = index[:, None]
    loss = -_floored(_chosen(log_s, choice, across=crossed), compat_floor)
    if log_t is not None:
        loss = loss * _chosen(log_t, choice, across=crossed).exp()
    mean = _mean(loss, weights[:, None].expand_as(loss))
    return mean / count if compat_class_mean else mean


def feature_mse(student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared difference of features.

    Args:
        student: features (B, C, h, w).
        teacher: features of as many channels; brought to the student's size.
        weights: (B, H, W) of any size; averaged over the pixels of each feature.

    Returns:
        Scalar that depends on the size of neither batch, image nor channels.

    Raises:
        ValueError: the numbers of channels differ.

    Source: Romero et al. 2015 (FitNets), equation 3; Jung et al. 2016, equation 4.
    """
    student, teacher = _features(student, teacher)
    return _mean((student - teacher).square().mean(dim=1), _weights_like(weights, student))


def batch_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Feature loss of the published system: a norm over the batch, averaged over channels and positions.

    It grows with the square root of the batch.

    Args:
        student: features (B, C, h, w).
        teacher: features of as many channels.

    Returns:
        Scalar.
    """
    student, teacher = _features(student, teacher)
    distance: Tensor = torch.linalg.vector_norm(student - teacher, dim=0)
    return distance.mean()


def normalised_feature_mse(student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared distance of feature vectors brought to length 1, 2 - 2 cos of their angle; arguments as `feature_mse`.

    Returns:
        Scalar in 0..4; the size of features, which a narrower student need not share, does not count.
    """
    student, teacher = _features(student, teacher)
    gap = F.normalize(student, dim=1, eps=_LEAST) - F.normalize(teacher, dim=1, eps=_LEAST)
    return _mean(gap.square().sum(dim=1), _weights_like(weights, student))


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of attention maps, the mean square over the channels brought to length 1 per image.

    Args:
        student: features (B, C, h, w).
        teacher: features of any width; their map is brought to the student's size.

    Returns:
        Scalar in 0..2, mean over the batch.

    Source: Zagoruyko and Komodakis 2017, equations 1 and 2 with p = 2, squared.
    """
    _same_batch(student, teacher)
    maps = widened(student).square().mean(dim=1, keepdim=True)
    wanted = resized(widened(teacher.detach()).square().mean(dim=1, keepdim=True), maps)
    gap = F.normalize(maps.flatten(1), dim=1) - F.normalize(wanted.flatten(1), dim=1)
    return gap.square().sum(dim=1).mean()


def resized(features: Tensor, like: Tensor) -> Tensor:
    """Features (B, C, H, W) on the grid of `like` (B, C', h, w): averaged where it is coarser, else interpolated."""
    size = (like.shape[-2], like.shape[-1])
    if features.shape[-2:] == size:
        return features
    if size[0] <= features.shape[-2] and size[1] <= features.shape[-1]:
        return F.adaptive_avg_pool2d(features, size)
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def _log_pair(
    student: Tensor, teacher: Tensor, temperature: float, classes: Classes
) -> tuple[Tensor, Tensor]:
    log_s = class_log_probabilities(student, temperature, classes)
    log_t = class_log_probabilities(teacher.detach(), temperature, classes).clamp(min=_LEAST_LOG)
    if log_s.shape != log_t.shape:
        raise ValueError(
            f"student logits {tuple(student.shape)} and teacher logits {tuple(teacher.shape)} are not of the same "
            "classes and pixels: compare p(building) with classes: building, or choose another teacher"
        )
    return log_s, log_t


def _floored(log_p: Tensor, floor: float) -> Tensor:
    return torch.log(floor + log_p.exp()) if floor else log_p


def _chosen(log_p: Tensor, choice: Tensor, *, across: bool) -> Tensor:
    """Entry of log_p (B, K, H, W) at the class `choice` (B, N, H, W) says.

    Column n of the choice looks at sample n of the batch (or the only one) if `across`, else at its own.
    """
    pairs = log_p[None] if across else log_p[:, None]
    pairs = pairs.expand(*choice.shape[:2], -1, -1, -1)  # (B, N, K, H, W)
    return pairs.gather(2, choice[:, :, None])[:, :, 0]


def _features(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    _same_batch(student, teacher)
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"student features have {student.shape[1]} channels, the teacher's {teacher.shape[1]}: adapt them first"
        )
    student = widened(student)
    return student, resized(widened(teacher.detach()), student)


def _same_batch(student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 4 or teacher.ndim != 4 or len(student) != len(teacher):
        raise ValueError(
            f"student features {tuple(student.shape)} and teacher features {tuple(teacher.shape)}, "
            "expected (B, C, h, w) of the same batch"
        )


def _weights_like(weights: Tensor | None, features: Tensor) -> Tensor | None:
    return None if weights is None else resized(weights[:, None].to(features.dtype), features)[:, 0]


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean()
    weights = weights.to(values.dtype)
    # not by a product alone: what does not count may be infinite
    total = torch.where(weights > 0, values * weights, 0.0).sum()
    return total / weights.sum().clamp(min=_LEAST)
