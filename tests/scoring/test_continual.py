"""Old, new and all classes over the steps, forgetting and intransigence, all counted by hand."""

import json
import math

import pytest

from aftermap.scoring.class_scores import Confusion
from aftermap.scoring.continual import ContinualScores
from aftermap.scoring.continual_tables import class_table, compare, comparison_table, step_table

NAMES = ("background", "building", "road", "water")
HEADS = (2, 1, 1)

# Ten pixels of background, ten of every class. IoU of a class = hits / (10 + pixels predicted wrongly as it).
STEPS = [
    [[8, 2], [0, 10]],  # building 10/12
    [[10, 0, 0], [4, 6, 0], [0, 0, 10]],  # building 6/10, road 10/10
    [[10, 0, 0, 0], [0, 8, 0, 2], [0, 0, 5, 5], [0, 0, 0, 10]],  # 8/10, 5/10, water 10/17
]
JOINT = [[10, 0, 0, 0], [0, 9, 0, 1], [0, 0, 10, 0], [0, 0, 0, 10]]  # 9/10, 10/10, 10/11


def measured(steps=STEPS, joint=JOINT):
    confusions = [Confusion.of(matrix) for matrix in steps]
    bound = None if joint is None else Confusion.of(joint)
    return ContinualScores.of(confusions, names=NAMES, heads=HEADS, joint=bound)


def test_old_new_and_all_classes_are_parted_at_every_step():
    run = measured()
    assert [step.new.iou for step in run.steps] == pytest.approx([10 / 12, 1.0, 10 / 17])
    assert math.isnan(run.steps[0].old.iou)
    assert run.steps[1].old.iou == pytest.approx(0.6)
    assert run.steps[2].old.iou == pytest.approx((0.8 + 0.5) / 2)
    assert run.steps[2].all.iou == pytest.approx((0.8 + 0.5 + 10 / 17) / 3)
    assert run.steps[2].all_with_background.iou == pytest.approx((1 + 0.8 + 0.5 + 10 / 17) / 4)


def test_f1_of_the_groups_comes_with_the_iou():
    last = measured().final
    assert last.old.f1 == pytest.approx((16 / 18 + 10 / 15) / 2)
    assert last.new.f1 == pytest.approx(20 / 27)


def test_the_first_step_is_told_from_all_later_ones():
    last = measured().final
    assert last.initial.iou == pytest.approx(0.8)
    assert last.added.iou == pytest.approx((0.5 + 10 / 17) / 2)
    assert last.learned == ("water",)


def test_forgetting_is_the_best_past_iou_minus_the_one_now():
    run = measured()
    assert math.isnan(run.steps[0].mean_forgetting)
    assert run.steps[1].forgetting == pytest.approx({"building": 10 / 12 - 0.6})
    assert run.final.forgetting == pytest.approx({"building": 10 / 12 - 0.8, "road": 0.5})
    assert run.forgetting == pytest.approx((10 / 12 - 0.8 + 0.5) / 2)


def test_forgetting_is_negative_where_a_class_became_better():
    better = [STEPS[0], [[10, 0, 0], [0, 10, 0], [0, 0, 10]]]
    assert measured(better).final.forgetting["building"] == pytest.approx(10 / 12 - 1)


def test_intransigence_is_what_joint_training_does_better_on_new_classes():
    run = measured()
    assert run.steps[0].intransigence == pytest.approx({"building": 0.9 - 10 / 12})
    assert run.steps[1].mean_intransigence == pytest.approx(0.0)
    assert run.steps[2].mean_intransigence == pytest.approx(10 / 11 - 10 / 17)
    assert run.intransigence == pytest.approx(((0.9 - 10 / 12) + 0 + (10 / 11 - 10 / 17)) / 3)


def test_without_a_joint_model_intransigence_is_not_known():
    run = measured(joint=None)
    assert run.final.intransigence == {}
    assert math.isnan(run.intransigence)


def test_averages_over_the_steps_leave_out_what_a_step_does_not_have():
    average = measured().average
    assert average["old"] == pytest.approx((0.6 + 0.65) / 2)
    assert average["all"] == pytest.approx((10 / 12 + 0.8 + (1.3 + 10 / 17) / 3) / 3)
    assert average["micro_f1"] == pytest.approx((18 / 20 + 26 / 30 + 33 / 40) / 3)


def test_a_class_that_the_test_set_lacks_takes_no_part():
    steps = [STEPS[0], [[10, 0, 0], [4, 6, 0], [0, 0, 0]]]
    run = measured(steps)
    assert run.final.all.iou == pytest.approx(0.6)
    assert math.isnan(run.final.new.iou)
    assert run.final.intransigence["road"] != run.final.intransigence["road"]


def test_the_iou_of_a_class_begins_where_it_was_learned():
    run = measured()
    assert run.iou("road") == pytest.approx([math.nan, 1.0, 0.5], nan_ok=True)
    assert [run.learned_at(name) for name in NAMES] == [0, 0, 1, 2]


def test_a_run_comes_back_from_its_json():
    run = measured()
    assert ContinualScores.from_dict(json.loads(json.dumps(run.as_dict()))).as_dict() == run.as_dict()


def test_json_that_is_no_run_is_refused():
    with pytest.raises(ValueError, match="no scores of an incremental run"):
        ContinualScores.from_dict({"steps": [{}], "joint": None})


@pytest.mark.parametrize(
    ("steps", "heads", "words"),
    [
        (STEPS[:1], (2, 1), "do not make the 4 channels"),
        ([STEPS[1]], HEADS, "after step 0 has 3 classes, expected 2"),
        ([], HEADS, "0 confusion matrices, expected 1 to 3"),
    ],
)
def test_matrices_that_do_not_fit_the_steps_are_refused(steps, heads, words):
    with pytest.raises(ValueError, match=words):
        ContinualScores.of([Confusion.of(m) for m in steps], names=NAMES, heads=heads)


def test_the_table_of_steps_has_a_row_per_step_and_the_means():
    lines = step_table(measured()).splitlines()
    assert lines[2] == "| 0 | building |  | 0.833 | 0.833 | 0.817 | 0.909 | 0.900 |  | 0.067 |"
    assert lines[4].startswith("| 2 | water | 0.650 | 0.588 | 0.629 |")
    assert lines[5].startswith("| mean |  | 0.625 |")


def test_the_table_of_classes_names_what_was_forgotten():
    lines = class_table(measured()).splitlines()
    assert lines[0] == "| class | step 0 | step 1 | step 2 | forgotten | joint |"
    assert lines[4] == "| road |  | 1.000 | 0.500 | 0.500 | 1.000 |"


def test_a_run_that_is_still_on_lists_only_the_classes_learned_so_far():
    table = class_table(measured(STEPS[:2], joint=None))
    assert "| road |" in table and "| water |" not in table


FORGETFUL = [*STEPS[:2], [[10, 0, 0, 0], [10, 0, 0, 0], [10, 0, 0, 0], [0, 0, 0, 10]]]


def joint_run(order=(0, 3, 1, 2)):
    names = [NAMES[index] for index in order]
    matrix = [[JOINT[row][col] for col in order] for row in order]
    return ContinualScores.of([Confusion.of(matrix)], names=names, heads=[4])


def test_a_comparison_has_mean_and_deviation_over_the_seeds():
    compared = compare({"MiB": [measured(), measured(FORGETFUL)], "fine-tuning": [measured(FORGETFUL)]})
    spread = compared.rows["MiB"]["old"]
    assert (spread.mean, spread.deviation) == pytest.approx((0.325, 0.65 / math.sqrt(2)))
    assert compared.rows["fine-tuning"]["forgetting"].mean == pytest.approx((10 / 12 + 1) / 2)
    assert compared.seeds == {"MiB": 2, "fine-tuning": 1}


def test_joint_training_is_compared_by_name_whatever_its_order():
    compared = compare({"MiB": [measured(joint=None)]}, joint=[joint_run()])
    bound = compared.rows["joint training"]
    assert bound["old"].mean == pytest.approx((0.9 + 1.0) / 2)
    assert bound["new"].mean == pytest.approx(10 / 11)
    assert compared.rows["MiB"]["intransigence"].mean == pytest.approx(measured().intransigence)


def test_the_comparison_is_a_markdown_table():
    lines = comparison_table(
        compare({"MiB": [measured(), measured(FORGETFUL)]}, joint=[joint_run()])
    ).splitlines()
    assert lines[0].startswith("| method | seeds | IoU old | IoU new | IoU all | IoU with background |")
    assert lines[2].startswith("| MiB | 2 | 0.325 ± 0.460 |")
    assert lines[3].startswith("| joint training | 1 | 0.950 | 0.909 |")
    assert len({line.count("|") for line in lines}) == 1


def test_a_gain_that_rounds_to_zero_has_no_sign():
    barely_better = [
        [[8000, 2000], [0, 10000]],
        [[8001, 1999, 0], [0, 10000, 0], [0, 0, 10000]],
    ]
    run = measured(barely_better, joint=None)
    assert -0.0005 < run.final.forgetting["building"] < 0
    assert step_table(run).splitlines()[3].endswith("| 0.000 |")
    assert "-0.000" not in step_table(run) + class_table(run)


def test_runs_of_another_order_are_not_compared():
    other = ContinualScores.of(
        [Confusion.of(matrix) for matrix in STEPS],
        names=("background", "road", "building", "water"),
        heads=HEADS,
    )
    with pytest.raises(ValueError, match="road -> building -> water, expected building -> road -> water"):
        compare({"a": [measured()], "b": [other]})


def test_an_unfinished_run_is_not_compared():
    with pytest.raises(ValueError, match="has 2 of 3 steps"):
        compare({"MiB": [measured(STEPS[:2])]})
