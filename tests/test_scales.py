"""The cross-walk between scales of damage: values by hand, and what is refused."""

import math
import re
from pathlib import Path

import pytest

from aftermap.classes import DAMAGE, NOT_ASSESSED
from aftermap.errors import InputError
from aftermap.scales import SCALES, from_scale, one_scale, scale_named, to_scale

CLASSES = DAMAGE.names[1:]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "scales.md"


def claims(scale):
    return [to_scale(name, scale) for name in (*CLASSES, NOT_ASSESSED)]


def test_from_above_fema_knows_destroyed_and_affected_only():
    assert claims("fema") == [None, "Affected", "Affected", "Destroyed", None]


def test_copernicus_grades_all_four_and_minor_damage_is_a_doubt():
    expected = ["No visible damage", "Possibly damaged", "Damaged", "Destroyed", "Not Applicable"]
    assert claims("ems") == expected


def test_of_a_share_of_the_structure_only_its_loss_is_claimed():
    assert claims("dins") == [None, None, None, "Destroyed (>50%)", None]


def test_unosat_classes():
    assert claims("unosat") == ["No Visible Damage", "Moderate Damage", "Severe Damage", "Destroyed", None]


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        ("Destroyed", "ems", {"destroyed"}),
        ("DAMAGED", "cems", {"minor-damage", "major-damage"}),
        ("possibly damaged", "copernicus-ems-grading", {"no-damage", "minor-damage"}),
        ("Not Applicable", "ems", None),
        ("Affected", "fema", {"minor-damage", "major-damage"}),
        ("Affected (>0-10%)", "dins", {"no-damage", "minor-damage"}),
        ("E. Destroyed (>50%)", "dins", {"destroyed"}),
        ("Major (25-50%)", "dins", {"major-damage"}),
        ("Inaccessible", "dins", None),
        (1, "unosat", {"destroyed"}),
        (2.0, "unosat", {"major-damage"}),
        ("3", "unosat", {"minor-damage"}),
        (11, "unosat", {"no-damage", "minor-damage"}),
        ("un-classified", "xbd", None),
        (None, "fema", None),
        (math.nan, "unosat", None),
        ("  ", "ems", None),
    ],
)
def test_what_a_grade_can_mean(value, scale, expected):
    assert from_scale(value, scale) == expected


@pytest.mark.parametrize("scale", sorted(SCALES))
@pytest.mark.parametrize("damage", CLASSES)
def test_what_is_claimed_can_mean_what_it_was_made_of(damage, scale):
    claimed = to_scale(damage, scale)
    assert claimed is None or damage in from_scale(claimed, scale)


@pytest.mark.parametrize("value", ["collapsed", "5", 7, "Damaged"])
def test_an_unknown_grade_is_no_guess(value):
    with pytest.raises(InputError, match="is no grade of CAL FIRE damage inspection"):
        from_scale(value, "dins")


@pytest.mark.parametrize("name", ["EMS-98", "ems98", "European Macroseismic Scale"])
def test_ems_98_is_refused_with_the_reason(name):
    with pytest.raises(InputError, match="a view from above shows roofs and cannot tell them apart"):
        to_scale("destroyed", name)


def test_an_unknown_scale_and_class_are_named():
    with pytest.raises(
        InputError, match="no scale of damage is called 'mercalli': expected one of joint-damage"
    ):
        scale_named("mercalli")
    with pytest.raises(InputError, match="'ruined' is no class of a map"):
        to_scale("ruined", "fema")


def test_two_scales_in_one_file_are_refused():
    assert one_scale(["fema-pda", None, "FEMA"], "a.gpkg").name == "fema-pda"
    assert one_scale([None, ""], "a.gpkg") is None
    with pytest.raises(InputError, match=r"a\.gpkg mixes scales of damage \(fema-pda, unosat\)"):
        one_scale(["fema-pda", "unosat"], "a.gpkg")


def test_the_page_says_what_the_cross_walk_does():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
    ]
    head = next(row for row in rows if row[0] == "our class")
    for damage in (*CLASSES, NOT_ASSESSED):
        row = next(row for row in rows if row[0] == damage)
        for scale, cell in zip(head[1:], row[1:], strict=True):
            assert cell == (to_scale(damage, scale.strip("`")) or "–")
    means, scale = {}, ""
    for row in rows:
        scale = row[0].strip("`") or scale
        if (
            scale in SCALES
            and len(row) == 3
            and row[1]
            and row[2]
            and not row[1].startswith(("FEMA", "Gupta"))
        ):
            grade = re.sub(r" \(\d+\)$", "", row[1])
            means[scale, grade] = row[2]
    for name in ("fema-pda", "copernicus-ems-grading", "cal-fire-dins", "unosat"):
        for grade in SCALES[name].grades:
            written = ", ".join(c for c in CLASSES if c in (grade.means or ())) or "says nothing"
            assert means[name, grade.name] == written
