"""Scores over the steps of random runs against plain counting; classes may be absent from the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.scoring.class_scores import ClassScores, Confusion
from aftermap.scoring.continual import ContinualScores


@st.composite
def runs(draw):
    heads = [draw(st.integers(2, 4)), *draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    absent = draw(st.sets(st.integers(0, sum(heads) - 1), max_size=sum(heads)))
    matrices = []
    for size in [*np.cumsum(heads), sum(heads)]:
        matrix = rng.integers(0, 9, (size, size))
        matrix[[label for label in absent if label < size]] = 0
        matrices.append(matrix)
    return heads, matrices[:-1], matrices[-1]


def iou(matrix, label):
    """Hits over hits, misses and false alarms; None where the truth has no such pixel."""
    hits, truth, predicted = matrix[label, label], sum(matrix[label]), sum(row[label] for row in matrix)
    return None if truth == 0 else hits / (truth + predicted - hits)


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def minus(one, other):
    return None if one is None or other is None else one - other


def same(found, wanted):
    return found == pytest.approx(wanted, abs=1e-12, nan_ok=True)


@given(runs())
@settings(max_examples=80)
def test_a_run_is_what_its_matrices_say(run):
    heads, matrices, joint = run
    names = ["background", *(f"c{n}" for n in range(1, sum(heads)))]
    scores = ContinualScores.of(
        [Confusion.of(m) for m in matrices], names=names, heads=heads, joint=Confusion.of(joint)
    )
    new_of, first = [], 1
    for head in heads:
        stop = first + head - (not new_of)
        new_of.append(range(first, stop))
        first = stop
    old_means, all_means, gaps_of_all = [], [], []
    for step, (found, matrix) in enumerate(zip(scores.steps, matrices, strict=True)):
        old, new = range(1, new_of[step][0]), new_of[step]
        assert same(found.old.iou, mean(iou(matrix, label) for label in old))
        assert same(found.new.iou, mean(iou(matrix, label) for label in new))
        assert same(found.all.iou, mean(iou(matrix, label) for label in [*old, *new]))
        assert same(found.all_with_background.iou, mean(iou(matrix, label) for label in [0, *old, *new]))
        assert same(found.initial.iou, mean(iou(matrix, label) for label in new_of[0]))
        forgotten = []
        for label in old:
            past = [iou(m, label) for m in matrices[:step] if label < len(m)]
            best = max((value for value in past if value is not None), default=None)
            forgotten.append(minus(best, iou(matrix, label)))
            wanted = math.nan if forgotten[-1] is None else forgotten[-1]
            assert same(found.forgetting[names[label]], wanted)
        assert same(found.mean_forgetting, mean(forgotten))
        gaps = [minus(iou(joint, label), iou(matrix, label)) for label in new]
        assert same(found.mean_intransigence, mean(gaps))
        gaps_of_all += gaps
        old_means.append(mean(iou(matrix, label) for label in old))
        all_means.append(mean(iou(matrix, label) for label in [*old, *new]))
    assert same(scores.intransigence, mean(gaps_of_all))
    assert same(scores.average["old"], mean(None if math.isnan(v) else v for v in old_means))
    assert same(scores.average["all"], mean(None if math.isnan(v) else v for v in all_means))


EPSILON = 1.1920929e-07


@given(st.integers(2, 7), st.integers(0, 2**32 - 1), st.sets(st.integers(0, 6)))
@settings(max_examples=80)
def test_the_original_figures_are_those_of_its_formulas(classes, seed, absent):
    matrix = np.random.default_rng(seed).integers(0, 30, (classes, classes))
    matrix[[label for label in absent if label < classes]] = 0
    hits = matrix.diagonal().astype(float)
    alarms, misses = matrix.sum(0) - hits, matrix.sum(1) - hits
    precision, recall = hits / (hits + alarms + EPSILON), hits / (hits + misses + EPSILON)
    f1 = 2 * precision * recall / (precision + recall + EPSILON)
    scores = ClassScores.of(Confusion.of(matrix), compat_macro=True)
    assert scores.macro.precision == pytest.approx(precision.mean(), abs=5e-7)
    assert scores.macro.recall == pytest.approx(recall.mean(), abs=5e-7)
    assert scores.macro.f1 == pytest.approx(f1.mean(), abs=5e-7)
    assert scores.macro.iou == pytest.approx((hits / (hits + alarms + misses + EPSILON)).mean(), abs=5e-7)
    assert scores.f1 == pytest.approx(f1, abs=5e-7)
    if matrix.sum():
        accuracy = hits.sum() / matrix.sum()
        assert scores.micro.f1 == pytest.approx(accuracy, abs=5e-7)
        assert scores.micro.iou == pytest.approx(accuracy / (2 - accuracy), abs=5e-7)
