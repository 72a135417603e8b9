"""One legend for datasets with different classes: order, spelling, colours, backgrounds, and what is refused."""

import pytest

from aftermap.classes import BUILDING, ClassScheme
from aftermap.data.legend_union import union
from aftermap.data.legends import LEGENDS, Legend, legend_of
from aftermap.errors import DataError

BUILDINGS = legend_of(BUILDING)


def legend(name, *names, background=None, colours=None):
    own = colours or [f"#0000{16 + n:02x}" for n in range(len(names))]
    return Legend(name=name, names=names, colours=own, background=background)


def test_one_legend_stays_as_it_is():
    joint = union([LEGENDS["isprs"], LEGENDS["isprs"]])
    assert (joint.legend, joint.datasets) == (LEGENDS["isprs"], ())


def test_classes_of_one_name_are_one_and_backgrounds_too():
    joint = union([BUILDINGS, LEGENDS["loveda"]])
    assert joint.legend.names == (
        "background",
        "building",
        "road",
        "water",
        "barren",
        "forest",
        "agriculture",
    )
    assert joint.legend.background == 0
    assert [one.values for one in joint.datasets] == [(0, 1), (0, 1, 2, 3, 4, 5, 6)]
    assert joint.legend.colours[1] == "#4c9be8"


def test_a_mask_becomes_one_of_the_union_and_unknown_stays_so():
    table = union([LEGENDS["isprs"], BUILDINGS]).datasets[1].table
    assert (table[:2].tolist(), table[2], table[255], table.dtype) == ([6, 1], 255, 255, "uint8")


def test_names_are_equal_whatever_their_case_and_separators():
    joint = union([legend("a", "Low_Vegetation", "road"), legend("b", "water", "low vegetation")])
    assert joint.legend.names == ("Low_Vegetation", "road", "water")
    assert joint.datasets[1].values == (2, 0)


def test_a_colour_that_another_class_has_is_exchanged():
    one = legend("a", "road", colours=["#ff0000"])
    joint = union([one, legend("b", "roof", "road", colours=["#ff0000", "#00ff00"])])
    assert joint.legend.colours[0] == "#ff0000"
    assert joint.legend.colours[1] not in ("#ff0000", "#00ff00")


def test_without_any_background_there_is_none():
    assert union([LEGENDS["isprs"], LEGENDS["dubai-landcover"]]).legend.background is None


def test_classes_of_a_model_follow_last_in_its_spelling():
    model = ClassScheme("m", ("background", "Building", "Road"), ("#000000", "#111111", "#222222"))
    joint = union([legend("a", "other", "road", background=0)], earlier=model)
    assert joint.legend.names == ("other", "Road", "Building")
    assert joint.legend.name == "a+earlier"
    assert joint.datasets[0].values == (0, 1)


def test_a_model_of_known_classes_changes_nothing():
    model = ClassScheme("m", ("background", "building"), ("#000000", "#111111"))
    assert union([LEGENDS["isprs"]], earlier=model).legend == LEGENDS["isprs"]


def test_several_classes_may_get_one_name():
    joint = union([LEGENDS["isprs"]], rename={"low_vegetation": "vegetation", "tree": "vegetation"})
    assert joint.legend.names == ("impervious_surfaces", "building", "vegetation", "car", "clutter")
    assert joint.datasets[0].values == (0, 1, 2, 2, 3, 4)


@pytest.mark.parametrize(
    ("one", "many"),
    [("tree", "trees"), ("box", "boxes"), ("property", "properties"), ("Bare_Soil", "bare soils")],
)
def test_singular_and_plural_are_asked_about(one, many):
    with pytest.raises(DataError, match=f"{one} \\(a\\) and {many} \\(b\\) may be one class or two"):
        union([legend("a", one), legend("b", many)])


def test_what_keeps_its_name_is_a_class_of_its_own():
    legends = [legend("a", "tree"), legend("b", "trees")]
    assert union(legends, rename={"trees": "trees"}).legend.names == ("tree", "trees")
    assert union(legends, rename={"trees": "tree"}).legend.names == ("tree",)


def test_singular_and_plural_of_one_dataset_are_two_classes():
    both = legend("a", "road", "roads")
    assert union([both, legend("b", "roads", "road")]).datasets[1].values == (1, 0)


def test_a_plural_that_the_model_has_learned_is_asked_about():
    model = ClassScheme("m", ("background", "buildings"), ("#000000", "#111111"))
    with pytest.raises(DataError, match=r"building .*buildings .the model. may be one class or two"):
        union([BUILDINGS], earlier=model)


def test_two_spellings_in_one_dataset_are_refused_beside_another():
    with pytest.raises(DataError, match="a has the classes Tree and tree, which elsewhere are one"):
        union([legend("a", "Tree", "tree"), legend("b", "car")])


def test_a_class_that_elsewhere_is_the_background_is_refused():
    with pytest.raises(
        DataError, match="clutter is a class of a and the background of b: give the class another name"
    ):
        union([legend("a", "car", "clutter"), legend("b", "clutter", "road", background=0)])


def test_a_new_name_for_a_class_that_is_not_there_is_refused():
    with pytest.raises(
        DataError, match="rename names the class 'trea', which no dataset has: there are tree"
    ):
        union([legend("a", "tree")], rename={"trea": "wood"})


def test_more_classes_than_a_mask_can_hold_are_refused():
    halves = [
        legend(part, *(f"{part} {n:03d}" for n in range(130)), colours=["#000000"] * 130) for part in "ab"
    ]
    with pytest.raises(
        DataError, match="the datasets have 260 classes together, a mask of 8 bits can hold 255"
    ):
        union(halves)
