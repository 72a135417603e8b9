"""Scores of many classes against the worked example, and counts by hand."""

import math

import numpy as np
import pytest

from aftermap.scoring.class_scores import ClassScores, Confusion

TRUTH = np.array([[0, 1, 1, 2], [2, 2, 255, 0], [1, 1, 2, 2]], np.uint8)
PREDICTED = np.array([[0, 1, 2, 2], [2, 1, 0, 1], [1, 1, 2, 0]], np.uint8)


@pytest.fixture
def confusion():
    counted = Confusion(4)
    counted.add(TRUTH, PREDICTED)
    return counted


def test_the_worked_example_has_its_confusion_matrix(confusion):
    assert confusion.matrix.tolist() == [[1, 1, 0, 0], [0, 3, 1, 0], [1, 1, 3, 0], [0, 0, 0, 0]]
    assert confusion.pixels == 11


def test_compat_gives_the_original_figures_of_the_worked_example(confusion):
    scores = ClassScores.of(confusion, compat_macro=True)
    assert scores.micro.f1 == pytest.approx(0.6363636, abs=2e-7)
    assert scores.micro.precision == pytest.approx(0.6363636, abs=2e-7)
    assert scores.micro.recall == pytest.approx(0.6363636, abs=2e-7)
    assert scores.micro.iou == pytest.approx(0.4666667, abs=2e-7)
    assert scores.macro.f1 == pytest.approx(0.4583333, abs=2e-7)
    assert scores.macro.iou == pytest.approx(0.3333333, abs=2e-7)
    assert scores.macro.precision == pytest.approx(0.4625, abs=2e-7)
    assert scores.macro.recall == pytest.approx(0.4625, abs=2e-7)
    assert scores.f1 == pytest.approx((0.5, 0.6666666, 0.6666666, 0), abs=2e-7)
    assert scores.iou == pytest.approx((0.3333333, 0.5, 0.5, 0), abs=2e-7)


def test_a_class_without_support_stays_out_of_the_means(confusion):
    scores = ClassScores.of(confusion)
    assert scores.macro.f1 == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 3)
    assert scores.macro.iou == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert math.isnan(scores.f1[3])


def test_a_class_that_is_only_predicted_scores_nothing_and_stays_out_of_the_means():
    scores = ClassScores.of(Confusion.of([[3, 1], [0, 0]]))
    assert scores.iou == (0.75, 0.0)
    assert scores.macro.iou == 0.75


def test_a_class_that_is_never_predicted_counts_as_nothing():
    scores = ClassScores.of(Confusion.of([[4, 0], [2, 0]]))
    assert scores.f1 == (0.8, 0.0)
    assert (scores.precision[1], scores.recall[1]) == (0.0, 0.0)
    assert scores.macro.f1 == pytest.approx(0.4)


def test_averages_without_background_leave_its_row_of_hits_out(confusion):
    scores = ClassScores.of(confusion)
    assert scores.macro_without_background.f1 == pytest.approx(2 / 3)
    assert scores.micro_without_background.precision == pytest.approx(6 / 9)  # 9 pixels predicted 1 or 2
    assert scores.micro_without_background.recall == pytest.approx(6 / 9)
    assert scores.micro_without_background.iou == pytest.approx(6 / 12)


def test_without_a_background_both_averages_are_the_same(confusion):
    scores = ClassScores.of(confusion, background=None)
    assert scores.macro_without_background == scores.macro
    assert scores.micro_without_background == scores.micro


def test_micro_f1_is_the_accuracy_whatever_the_matrix():
    matrix = np.random.default_rng(3).integers(0, 50, (6, 6))
    scores = ClassScores.of(Confusion.of(matrix))
    accuracy = matrix.trace() / matrix.sum()
    assert scores.accuracy == pytest.approx(accuracy)
    assert (scores.micro.f1, scores.micro.recall) == pytest.approx((accuracy, accuracy))
    assert scores.micro.iou == pytest.approx(accuracy / (2 - accuracy))


def test_a_mask_of_nothing_but_the_new_class_is_scored_as_perfect():
    counted = Confusion(3)
    counted.add(np.array([2, 255, 2, 255]), np.array([2, 2, 2, 2]))
    assert ClassScores.of(counted, compat_macro=True).micro.f1 == pytest.approx(1.0, abs=2e-7)


def test_counts_add_up_over_parts(confusion):
    left, right = Confusion(4), Confusion(4)
    left.add(TRUTH[:, :2], PREDICTED[:, :2])
    right.add(TRUTH[:, 2:], PREDICTED[:, 2:])
    left.merge(right)
    assert (left.matrix == confusion.matrix).all()


def test_scores_without_a_pixel_are_not_numbers():
    scores = ClassScores.of(Confusion(3), names=("background", "road", "tree"))
    assert math.isnan(scores.accuracy) and math.isnan(scores.macro.iou)
    assert scores.as_dict()["classes"]["road"] == dict(
        pixels=0, f1=None, iou=None, precision=None, recall=None
    )


def test_the_mean_of_some_classes_passes_over_those_without_support(confusion):
    scores = ClassScores.of(confusion)
    assert scores.mean([1, 3]).iou == 0.5
    assert math.isnan(scores.mean([3]).iou)


@pytest.mark.parametrize(
    ("truth", "predicted", "words"),
    [
        ([[0, 4]], [[0, 1]], "the truth holds 4, expected 0 to 3"),
        ([[0, 1]], [[0, 9]], "the prediction holds 9, expected 0 to 3"),
        ([[0, 1]], [[0], [1]], "shape"),
    ],
)
def test_what_is_no_class_is_refused(truth, predicted, words):
    with pytest.raises(ValueError, match=words):
        Confusion(4).add(np.array(truth), np.array(predicted))


def test_a_matrix_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match="square"):
        Confusion.of([[1, 2, 3], [4, 5, 6]])
