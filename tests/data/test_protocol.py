"""The protocol of class-incremental learning: tables, counts, lookups, refusals, hash."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.data.incremental.protocol import Protocol, describe, protocol_for
from aftermap.data.incremental.task_tables import TASKS, tasks_of
from aftermap.data.legends import LEGENDS, Legend
from aftermap.errors import RecipeError

ISPRS, ISAID, AGRI, DAMAGE = (LEGENDS[n] for n in ("isprs", "isaid", "agrivision", "joint-damage-scale"))
MASK = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
_ = 255

# Section 22.4: task, step, training mask, validation mask, test mask of the original.
PUBLISHED = [
    ("6s", 0, [0, 1, 0, 0, 0, 0], [_, 1, _, _, _, _], [0, 1, 0, 0, 0, 0]),
    ("6s", 1, [0, 0, 0, 2, 0, 0], [_, _, _, 2, _, _], [0, 1, 0, 2, 0, 0]),
    ("6s", 2, [3, 0, 0, 0, 0, 0], [3, _, _, _, _, _], [3, 1, 0, 2, 0, 0]),
    ("6s", 3, [0, 0, 4, 0, 0, 0], [_, _, 4, _, _, _], [3, 1, 4, 2, 0, 0]),
    ("6s", 4, [0, 0, 0, 0, 5, 0], [_, _, _, _, 5, _], [3, 1, 4, 2, 5, 0]),
    ("6s", 5, [0, 0, 0, 0, 0, 6], [_, _, _, _, _, 6], [3, 1, 4, 2, 5, 6]),
    ("222a", 0, [1, 0, 2, 0, 0, 0], [1, _, 2, _, _, _], [1, 0, 2, 0, 0, 0]),
    ("222a", 1, [0, 3, 0, 4, 0, 0], [_, 3, _, 4, _, _], [1, 3, 2, 4, 0, 0]),
    ("222a", 2, [0, 0, 0, 0, 5, 6], [_, _, _, _, 5, 6], [1, 3, 2, 4, 5, 6]),
    ("321", 0, [0, 1, 0, 2, 0, 3], [_, 1, _, 2, _, 3], [0, 1, 0, 2, 0, 3]),
    ("321", 1, [4, 0, 5, 0, 0, 0], [4, _, 5, _, _, _], [4, 1, 5, 2, 0, 3]),
    ("321", 2, [0, 0, 0, 0, 6, 0], [_, _, _, _, 6, _], [4, 1, 5, 2, 6, 3]),
]


@pytest.mark.parametrize(("task", "step", "train", "validation", "test"), PUBLISHED)
def test_published_masks_come_out_under_compat(task, step, train, validation, test):
    protocol = protocol_for(ISPRS, task, future="background", compat_new_only=True)
    masks = [protocol.lookup(step, stage)[MASK].ravel().tolist() for stage in ("train", "validation", "test")]
    assert masks == [train, validation, test]


@pytest.mark.parametrize(
    ("step", "expected"), [(0, [1, _, 2, _, _, _]), (1, [1, 3, 2, 4, _, _]), (2, [1, 3, 2, 4, 5, 6])]
)
@pytest.mark.parametrize("stage", ["validation", "test"])
def test_all_seen_classes_are_validated_and_later_ones_are_unknown(step, expected, stage):
    assert protocol_for(ISPRS, "222a").lookup(step, stage)[MASK].ravel().tolist() == expected


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_later_classes_are_background_where_asked(stage):
    lookup = protocol_for(ISPRS, "222a", future="background").lookup(1, stage)
    assert lookup[MASK].ravel().tolist() == [1, 3, 2, 4, 0, 0]


def test_own_background_stays_background_at_every_stage():
    protocol = protocol_for(ISAID, "4s")
    labels = np.array([0, 3, 7, 1, 10])
    found = {stage: protocol.lookup(1, stage)[labels].tolist() for stage in ("train", "validation", "test")}
    assert found == {"train": [0, 0, 7, 0, 0], "validation": [0, 1, 7, _, _], "test": [0, 1, 7, _, _]}


def test_validation_of_new_classes_alone_keeps_the_own_background():
    lookup = protocol_for(ISAID, "4s", compat_new_only=True).lookup(1, "validation")
    assert lookup[[0, 3, 7, 1]].tolist() == [0, _, 7, _]


@pytest.mark.parametrize("stage", ["train", "validation", "test", "replay"])
def test_unknown_stays_unknown(stage):
    lookup = protocol_for(ISPRS, "6s").lookup(2, stage)
    assert (lookup[[6, 100, 255]] == _).all()


@pytest.mark.parametrize(("stage", "expected"), [("train", 0), ("validation", _), ("test", 0)])
def test_unknown_becomes_background_under_compat(stage, expected):
    protocol = protocol_for(AGRI, "6-2", compat_ignored_is_background=True)
    assert protocol.lookup(0, stage)[_] == expected


def test_classes_of_no_step_are_background_and_not_later_ones():
    protocol = protocol_for(ISPRS, [["building"], ["tree"]])
    assert protocol.lookup(0, "validation")[MASK].ravel().tolist() == [0, 1, 0, _, 0, 0]


def test_remembered_tiles_tell_their_own_step_alone():
    lookup = protocol_for(ISPRS, "222a").lookup(1, "replay")
    assert lookup[MASK].ravel().tolist() == [_, 3, _, 4, _, _]


@pytest.mark.parametrize(
    ("legend", "task", "heads"),
    [
        (ISPRS, "offline", [7]),
        (ISPRS, "6s", [2, 1, 1, 1, 1, 1]),
        (ISPRS, "222a", [3, 2, 2]),
        (ISPRS, "321", [4, 2, 1]),
        (ISAID, "offline", [16]),
        (ISAID, "4s", [7, 4, 3, 2]),
        (AGRI, "offline", [9]),
        (AGRI, "6-2", [7, 2]),
        (DAMAGE, "2-2", [3, 2]),
    ],
)
def test_heads_are_those_published(legend, task, heads):
    protocol = protocol_for(legend, task)
    assert protocol.heads(len(heads) - 1) == heads
    assert [protocol.old_classes(t) for t in range(len(heads))] == [sum(heads[:t]) for t in range(len(heads))]
    assert [protocol.new_classes(t) for t in range(len(heads))] == heads


@pytest.mark.parametrize(
    ("legend", "task", "steps"),
    [
        (ISPRS, "6s", ((1,), (3,), (0,), (2,), (4,), (5,))),
        (ISPRS, "222a", ((0, 2), (1, 3), (4, 5))),
        (ISPRS, "321", ((1, 3, 5), (0, 2), (4,))),
        (AGRI, "6-2", ((1, 2, 3, 4, 5, 8), (6, 7))),
        (ISAID, "4s", ((3, 4, 5, 6, 11, 13), (7, 8, 9, 12), (1, 2, 15), (10, 14))),
        (DAMAGE, "2-2", ((1, 4), (2, 3))),
    ],
)
def test_steps_are_those_published(legend, task, steps):
    assert protocol_for(legend, task).steps == steps


@pytest.mark.parametrize(("name", "task"), [(name, task) for name in TASKS for task in TASKS[name]])
def test_every_task_of_the_tables_ends_with_the_classes_of_offline(name, task):
    protocols = [protocol_for(LEGENDS[name], which) for which in (task, "offline")]
    ends = [set(protocol.seen(len(protocol.steps) - 1)) for protocol in protocols]
    assert ends[0] == ends[1]


def test_every_legend_has_the_task_offline():
    assert list(tasks_of(Legend(name="own", names=("a", "b"), colours=("#000000", "#ffffff")))) == ["offline"]


def test_own_background_in_the_first_step_is_counted_once():
    with_background = protocol_for(ISAID, [["background", "ship"], ["plane"]])
    assert with_background == protocol_for(ISAID, [["ship"], ["plane"]])
    assert with_background.heads(1) == [2, 1]


def test_classes_are_given_by_name_index_or_text():
    expected = protocol_for(ISPRS, [["building", "car"], ["low_vegetation"]])
    assert protocol_for(ISPRS, [[1, "4"], [2]]) == expected
    assert protocol_for(ISPRS, " Building , car / Low-Vegetation") == expected


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("222", "has no task '222': did you mean 222a"),
        ("zz", "has no task 'zz': known are offline, 222a, 321, 6s"),
        ("bilding, car / tree", "no class 'bilding': did you mean building"),
        ("building, car / tree, car", "'car' is in steps 0 and 1"),
        ("building, car, car / tree", "'car' is twice in step 0"),
        ("building / / tree", "step 1 has no class"),
        ([["building"], [6]], "names class 6, the classes are 0 to 5"),
        ([["building"], [-1]], "names class -1"),
        ([], "at least 1 item"),
    ],
)
def test_tasks_that_cannot_be_are_refused_in_one_line(task, reason):
    with pytest.raises(RecipeError) as caught:
        protocol_for(ISPRS, task)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("ship / background, plane", "step 1 names 'background', the dataset's own background"),
        ("background / plane", "step 0 has no class but the background"),
    ],
)
def test_own_background_is_refused_where_it_is_new(task, reason):
    with pytest.raises(RecipeError, match=reason):
        protocol_for(ISAID, task)


def test_a_class_called_background_that_is_none_is_refused():
    legend = Legend(name="own", names=("background", "a"), colours=("#000000", "#ffffff"))
    with pytest.raises(RecipeError, match="make it the background of the legend"):
        protocol_for(legend, "offline")


def test_unknown_options_name_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'filter'"):
        protocol_for(ISPRS, "6s", filtr="disjoint")


@pytest.mark.parametrize("step", [-1, 6])
def test_steps_beyond_the_task_are_refused(step):
    with pytest.raises(RecipeError, match="has the steps 0 to 5"):
        protocol_for(ISPRS, "6s").lookup(step, "train")


def test_channels_are_named_and_coloured_in_their_order():
    legend = protocol_for(ISPRS, "6s").legend(2, ISPRS)
    assert legend.names == ("background", "building", "tree", "impervious_surfaces")
    assert legend.colours == ("#000000", "#0000af", "#00ff00", "#ffffff")
    assert (legend.name, legend.background) == ("isprs-6s-2", 0)


def test_own_background_keeps_its_colour():
    own = LEGENDS["loveda"]
    assert protocol_for(own, "3s").legend(0, own).colours == ("#ffffff", "#ff0000", "#ffff00")


def test_a_legend_of_other_classes_is_refused():
    with pytest.raises(RecipeError, match="legend isaid has the classes"):
        protocol_for(ISPRS, "6s").legend(0, ISAID)


def test_equal_protocols_have_equal_hashes_and_others_do_not():
    one, same = protocol_for(ISPRS, "6s"), protocol_for(ISPRS, TASKS["isprs"]["6s"], name="6s")
    others = [
        protocol_for(ISPRS, "6s", seed=1),
        protocol_for(ISPRS, "6s", compat_new_only=True),
        protocol_for(ISPRS, "321"),
    ]
    assert one.sha256 == same.sha256
    assert len({one.sha256, *(other.sha256 for other in others)}) == 4


def test_the_hash_does_not_change_between_versions():
    assert protocol_for(ISPRS, "6s").sha256 == (
        "4fe65ec7635e3b7ffe73fd346d7264221d191c45f9b3c29dc0e59ce91b06b18f"
    )


def test_a_protocol_survives_json():
    protocol = protocol_for(ISAID, "4s", filter="disjoint", seed=3)
    assert Protocol.model_validate(json.loads(protocol.model_dump_json())) == protocol


def test_a_description_names_steps_channels_and_what_is_never_learned():
    assert describe(protocol_for(ISPRS, "building, tree / car", compat_new_only=True)) == [
        "task custom: 2 steps, filter overlapped, background added",
        "step 0: building 1, tree 2",
        "step 1: car 3",
        "never learned, background: impervious_surfaces, low_vegetation, clutter",
        "as the original: compat_new_only",
    ]


@st.composite
def protocols(draw):
    count = draw(st.integers(2, 9))
    own = draw(st.one_of(st.none(), st.integers(0, count - 1)))
    labels = draw(st.permutations([label for label in range(count) if label != own]))
    labels = labels[: draw(st.integers(1, len(labels)))]
    cuts = sorted(draw(st.sets(st.integers(1, len(labels) - 1)))) if len(labels) > 1 else []
    steps = tuple(tuple(labels[a:b]) for a, b in zip([0, *cuts], [*cuts, len(labels)], strict=True))
    return Protocol(
        task="drawn",
        classes=tuple(f"c{n}" for n in range(count)),
        background=own,
        steps=steps,
        future=draw(st.sampled_from(["ignore", "background"])),
    )


@given(protocols())
@settings(max_examples=60)
def test_each_step_adds_its_classes_behind_those_before(protocol):
    for step, labels in enumerate(protocol.steps):
        assert protocol.channels(step) == 1 + sum(map(len, protocol.steps[: step + 1]))
        names = protocol.channel_names(step)
        assert names[-len(labels) :] == protocol.names(labels)
        if step:
            assert names[: protocol.channels(step - 1)] == protocol.channel_names(step - 1)


@given(protocols(), st.sampled_from(["train", "validation", "test", "replay"]))
@settings(max_examples=60)
def test_lookups_of_all_stages_agree_on_every_class_they_know(protocol, stage):
    last = protocol.lookup(len(protocol.steps) - 1, "test").astype(int)
    for step in range(len(protocol.steps)):
        lookup = protocol.lookup(step, stage).astype(int)
        known = (lookup > 0) & (lookup < 255)
        assert (lookup[known] == last[known]).all()
        assert set(lookup[known]) <= set(range(1, protocol.channels(step)))


@given(protocols())
@settings(max_examples=60)
def test_a_mask_in_channel_order_is_left_as_it_is(protocol):
    last = len(protocol.steps) - 1
    again = Protocol(
        task="again",
        classes=protocol.channel_names(last),
        background=0,
        steps=tuple(
            tuple(range(max(1, protocol.old_classes(t)), protocol.channels(t))) for t in range(last + 1)
        ),
    )
    once = protocol.lookup(last, "test")
    assert (again.lookup(last, "test")[once] == once).all()


def test_a_task_in_brackets_as_in_a_recipe_is_the_same_as_text() -> None:
    written = protocol_for(LEGENDS["isprs"], "building / tree, car")
    assert protocol_for(LEGENDS["isprs"], "[[building], ['tree', \"car\"]]").steps == written.steps
    assert written.steps == ((1,), (3, 4))
