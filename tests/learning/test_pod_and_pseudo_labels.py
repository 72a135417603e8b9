import math

import numpy as np
import pytest
import torch
from worked_incremental import F64, MASK, student_logits, teacher_logits, wave

from aftermap.learning.losses.pod import local_pod, merged_logits, pod_embedding, pod_growth
from aftermap.learning.losses.pseudo_labels import (
    PseudoLabels,
    ThresholdMeter,
    pseudo_label_cross_entropy,
    pseudo_labels,
    uncertainty,
)

STEPS = (0.7, 1.3, 0.9, 0.4)
OLD_MAP = wave(torch.sin, 1, 1.0, STEPS, (2, 3, 4, 4))
NEW_MAP = wave(torch.sin, 1, 1.1, STEPS, (2, 3, 4, 4))
TEACHER = teacher_logits()
CLASSES = 5


def near(value, within: float = 1e-9):
    return pytest.approx(value, abs=within)


def worked_labels() -> PseudoLabels:
    return pseudo_labels(MASK, TEACHER, torch.full((3,), 0.15), classes=CLASSES)


def test_pod_embedding_of_the_worked_example():
    embedding = pod_embedding(OLD_MAP)
    assert embedding.shape == (2, 168)
    assert embedding.sum().item() == near(170.7010110383)
    first = [0.82030756, 0.40898566, 0.22104974, 0.71777051, 0.21587691, 0.41938210]
    assert embedding[0, :6].tolist() == near(first, 1e-8)


def test_distances_of_the_worked_embeddings():
    distance = (pod_embedding(NEW_MAP) - pod_embedding(OLD_MAP)).norm(dim=1)
    assert distance.tolist() == near([0.80750371, 0.80687108], 1e-8)
    assert local_pod([NEW_MAP], [OLD_MAP]).item() == near(0.0080718740)


def test_local_pod_of_features_and_logits_of_the_worked_example():
    loss = local_pod(
        [NEW_MAP],
        [OLD_MAP],
        logits=student_logits(4, 4),
        old_logits=teacher_logits(4, 4),
        growth=pod_growth(CLASSES, 2),
    )
    assert loss.item() == near(0.0258656356)


def test_new_logits_are_added_to_the_background():
    logits = torch.arange(1.0, 6.0).reshape(1, 5, 1, 1)
    assert merged_logits(logits, 3).flatten().tolist() == [1 + 4 + 5, 2, 3]
    assert merged_logits(logits, 5).flatten().tolist() == [1, 2, 3, 4, 5]


def test_growth_is_the_root_of_all_classes_over_new_ones():
    assert pod_growth(21, 1) == near(math.sqrt(21))


def test_local_pod_of_equal_features_has_a_gradient_of_zero():
    features = NEW_MAP.clone().requires_grad_()
    loss = local_pod([features], [NEW_MAP])
    loss.backward()
    assert loss.item() == 0
    assert features.grad.abs().max() == 0


def test_pod_embeds_maps_that_do_not_split_evenly_without_leaving_pixels_out():
    features = torch.zeros(1, 1, 5, 3, dtype=F64)
    features[..., -1, -1] = 2
    embedding = pod_embedding(features, (1, 2, 4))
    # 5 + 3; rows of two columns of parts and columns of two rows; four rows of parts and no more than three columns
    assert embedding.shape == (1, (5 + 3) + (2 * 5 + 2 * 3) + (3 * 5 + 4 * 3))
    assert embedding[0, :8].tolist() == near([0, 0, 0, 0, 4 / 3, 0, 0, 4 / 5])
    assert embedding[0, -1].item() == near(4 / 2)


def test_layers_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="1 new layers and 2 old ones"):
        local_pod([NEW_MAP], [OLD_MAP, OLD_MAP])
    with pytest.raises(ValueError, match="expected one shape"):
        local_pod([NEW_MAP], [OLD_MAP[:, :2]])
    with pytest.raises(ValueError, match="no layers"):
        local_pod([], [])


def test_uncertainty_of_the_worked_example():
    expected = [0.129040, 0.147301, 0.195595, 0.135021, 0.193179, 0.153733]
    expected += [0.126404, 0.172405, 0.179416, 0.155107, 0.192464, 0.134221]
    assert uncertainty(TEACHER, CLASSES).flatten().tolist() == near(expected, 1e-6)
    assert TEACHER.argmax(1).flatten().tolist() == [0, 0, 2, 0, 0, 2, 0, 0, 2, 0, 2, 2]


def test_pseudo_labels_of_the_worked_example():
    labels = worked_labels()
    assert labels.mask.tolist() == [[[0, 3, 4], [0, 255, 255]], [[4, 255, 3], [255, 255, 2]]]
    assert labels.certainty.tolist() == near([0.6666664, 0.3333332], 1e-6)


def test_cross_entropy_with_the_worked_pseudo_labels():
    logits = student_logits()
    found = pseudo_label_cross_entropy(logits, worked_labels(), compat_mean_over_all=True)
    assert found.item() == near(0.5543631656, 1e-7)
    even = pseudo_label_cross_entropy(
        logits, worked_labels(), weigh_by_certainty=False, compat_mean_over_all=True
    )
    assert even.item() == near(1.1059584315)


def test_cross_entropy_is_averaged_over_labelled_pixels():
    # 7 of the 12 pixels have a label
    found = pseudo_label_cross_entropy(student_logits(), worked_labels(), weigh_by_certainty=False)
    assert found.item() == near(1.1059584315 * 12 / 7)


def test_images_without_background_are_learned_from():
    mask = torch.full((1, 2, 3), 4)
    tau = torch.full((3,), 0.15)
    assert pseudo_labels(mask, TEACHER[:1], tau, classes=CLASSES).certainty.tolist() == [1]
    published = pseudo_labels(mask, TEACHER[:1], tau, classes=CLASSES, compat_no_background=True)
    assert published.certainty.tolist() == [0]


def test_nothing_is_learned_where_no_pixel_has_a_label():
    logits = student_logits()
    labels = pseudo_labels(torch.full_like(MASK, 255), TEACHER, torch.ones(3), classes=CLASSES)
    loss = pseudo_label_cross_entropy(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("side", [16, 17])
def test_thresholds_are_the_medians_of_every_class(side):
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(4, 3, side, side, generator=generator, dtype=F64)
    background = torch.rand(4, side, side, generator=generator) < 0.7
    meter = ThresholdMeter(3, CLASSES)
    for image in range(4):  # one by one, as batches come
        meter.add(logits[image : image + 1], background[image : image + 1])
    values, kinds = uncertainty(logits, CLASSES)[background], logits.argmax(1)[background]
    expected = [np.median(values[kinds == c].numpy()) for c in range(3)]
    largest = 1 / (3 * math.log(CLASSES))
    assert meter.tau.tolist() == near(expected, largest / (1 << 14))
    assert meter.counts.sum() == background.sum()


def test_classes_that_were_not_seen_have_the_least_threshold():
    meter = ThresholdMeter(3, CLASSES, least=0.02)
    meter.add(TEACHER, torch.ones_like(MASK, dtype=torch.bool))
    tau = meter.tau.tolist()
    assert tau[1] == near(0.02, 1e-7)  # the worked teacher never sees class 1
    # 0: of 0.126404, 0.129040, 0.135021, 0.147301, 0.155107, 0.172405, 0.193179; 2: 0.134221, 0.153733, 0.179416, ...
    assert tau[0] == near(0.147301, 1e-5)
    assert tau[2] == near(0.179416, 1e-5)


def test_a_sure_teacher_has_the_least_threshold():
    meter = ThresholdMeter(2, 3)
    meter.add(torch.tensor([20.0, 0]).reshape(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert meter.tau.tolist() == near([0.001, 0.001], 1e-8)


def test_an_old_model_of_one_channel_is_refused():
    with pytest.raises(ValueError, match="1 old channels of 3, expected 2 or more"):
        uncertainty(TEACHER[:, :1], 3)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (5, 6), (9, 5), (16, 16)])
def test_pod_of_sides_that_scales_do_not_divide_is_that_of_the_released_code(height, width):
    generator = torch.Generator().manual_seed(height)
    new, old = (torch.randn(2, 3, height, width, generator=generator) for _ in range(2))

    def embedded(x):  # squares of width // scale from the upper left corner, means along both sides
        squares, parts = torch.pow(x, 2), []
        for scale in (1, 2, 4):
            side = width // scale
            for i in range(scale):
                for j in range(scale):
                    part = squares[..., i * side : (i + 1) * side, j * side : (j + 1) * side]
                    parts += [part.mean(dim=3).view(2, -1), part.mean(dim=2).view(2, -1)]
        return torch.cat(parts, dim=1)

    if height < width:
        new, old = new[..., :height, :height], old[..., :height, :height]
        width = height
    expected = 0.01 * torch.linalg.vector_norm(embedded(new) - embedded(old), dim=-1).mean()
    assert local_pod([new], [old], compat_parts=True) == expected
    assert (local_pod([new], [old]) == expected) == (height % 4 == width % 4 == 0)


def released_thresholds(teacher, background, classes, *, mode, base, bins):
    """PLOP's search for medians: its own entropy, its histogram, and a running sum of the bins' numbers."""
    probas = torch.softmax(teacher, dim=1)
    best, kinds = probas.max(dim=1)
    if mode == "entropy":
        factor = 1 / math.log(teacher.shape[1] + 1e-8)
        values = -factor * torch.mean(probas * torch.log(probas + 1e-8), dim=1)
        values = values[background] / torch.log(torch.tensor(classes).float())
    else:
        values = best[background]
    places = torch.clamp((values * bins).long(), max=bins - 1)
    histograms = torch.zeros(classes, bins).long()
    histograms.index_put_(
        (kinds[background], places), torch.LongTensor([1]).expand_as(places), accumulate=True
    )
    thresholds = torch.zeros(classes)
    for c in range(classes):
        if histograms[c].sum() <= 0.0:
            continue
        half, running = histograms[c].sum() / 2, 0.0
        for border in range(bins):
            border = border / bins
            index = int(border * bins)
            if half >= running and half <= running + histograms[c, index]:
                break
            running += border * bins
        thresholds[c] = border + ((half - running) / histograms[c, index].sum()) * (1 / bins)
    for c in range(classes):
        thresholds[c] = max(thresholds[c], base) if mode == "entropy" else min(thresholds[c], base)
    return thresholds[: teacher.shape[1]]


@pytest.mark.parametrize(
    ("mode", "kind", "base", "bins"), [("entropy", "entropy", 0.001, 100), ("p", "median", 0.9, 20)]
)
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_of_the_released_histogram(mode, kind, base, bins, seed):
    generator = torch.Generator().manual_seed(seed)
    teacher = 3 * torch.randn(2, 4, 24, 24, generator=generator)
    background = torch.rand(2, 24, 24, generator=generator) < 0.8
    meter = ThresholdMeter(4, 7, kind=kind, compat_histogram=True)
    meter.add(teacher[:1], background[:1])
    meter.add(teacher[1:], background[1:])
    expected = released_thresholds(teacher, background, 7, mode=mode, base=base, bins=bins)
    assert torch.equal(torch.nan_to_num(meter.tau, nan=-1), torch.nan_to_num(expected, nan=-1))
    right = ThresholdMeter(4, 7, kind=kind)
    right.add(teacher, background)
    assert not torch.allclose(right.tau, meter.tau, atol=1e-3)


def completed(**options):
    return pseudo_labels(MASK, TEACHER, torch.full((3,), 0.15), classes=CLASSES, **options)


def test_naive_pseudo_labels_take_everything():
    background, kinds = MASK < 3, TEACHER.argmax(1)
    labels = completed(kind="naive")
    assert torch.equal(
        labels.mask, torch.where(background, kinds, MASK)
    ) and labels.certainty.tolist() == near([1, 1], 1e-5)


def test_pseudo_labels_above_a_threshold_or_a_classes_median():
    p = torch.softmax(TEACHER, 1).amax(1)
    background, kinds = MASK < 3, TEACHER.argmax(1)
    for threshold in (0.5, 0.7):
        sure = torch.where(p < threshold, 255, kinds)
        assert torch.equal(
            completed(kind="threshold", threshold=threshold).mask, torch.where(background, sure, MASK)
        )
    tau = torch.tensor([0.8, 0.5, 0.6])
    sure = torch.where(p < tau[kinds], 255, kinds)
    found = pseudo_labels(MASK, TEACHER, tau, classes=CLASSES, kind="median").mask
    assert torch.equal(found, torch.where(background, sure, MASK))


def test_a_pixel_counts_as_much_as_the_old_model_is_sure():
    labels = completed(kind="confidence")
    p = torch.softmax(TEACHER, 1).amax(1)
    loss = torch.nn.functional.cross_entropy(
        student_logits(), labels.mask, ignore_index=255, reduction="none"
    )
    expected = (loss * torch.where(MASK < 3, p, 1.0)).mean()
    found = pseudo_label_cross_entropy(
        student_logits(), labels, weigh_by_certainty=False, compat_mean_over_all=True
    )
    assert found.item() == near(expected.item())


@pytest.mark.parametrize("soft", ["certain", "uncertain"])
def test_soft_pseudo_labels_of_the_released_code_and_meant(soft):
    labels, hard = completed(soft=soft), completed()
    background, sure = MASK < 3, hard.mask != 255
    softly = background if soft == "certain" else background & ~sure
    assert torch.equal(labels.softly, softly) and ((labels.mask == 255) >= softly).all()
    logits, p = student_logits(), torch.softmax(TEACHER, 1)
    cut = torch.where(softly, 255, hard.mask)
    loss = torch.nn.functional.cross_entropy(logits, cut, ignore_index=255, reduction="none")
    given = {"teacher_logits": TEACHER, "soft_factor": 0.5, "compat_mean_over_all": True}
    certainty = labels.certainty[:, None, None]
    released = (torch.log_softmax(TEACHER, 1) * torch.softmax(logits[:, :3], 1)).sum(1)
    expected = (certainty * (loss + 0.5 * softly.double() * released)).mean()
    assert pseudo_label_cross_entropy(logits, labels, compat_reversed=True, **given).item() == near(
        expected.item()
    )
    meant = -(p * torch.log_softmax(logits[:, :3], 1)).sum(1)
    expected = (certainty * (loss + 0.5 * softly.double() * meant)).mean()
    assert pseudo_label_cross_entropy(logits, labels, **given).item() == near(expected.item())
