"""The onward path of a map of the image after a disaster alone: report, areas, totals, and who refuses it."""

import io

import docx
import pytest
from PIL import Image

import finished_maps
from aftermap import api
from aftermap.errors import InputError
from aftermap.files import read_json
from aftermap.products.page.stored import read_page
from aftermap.products.report.wording import languages, wording
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.report.gather import read_areas
from aftermap.workflows.report.run import composed

DAMAGE = ["destroyed", "destroyed", "not-destroyed", "not-destroyed", "not-assessed"]
PLACES = [(20, 20), (40, 20), (60, 40), (80, 60), (100, 60)]


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    return finished_maps.finish_one_date(tmp_path_factory.mktemp("after") / "ville", PLACES, DAMAGE)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return finished_maps.finish_one_date(
        tmp_path_factory.mktemp("before") / "ville", PLACES, ["not-assessed"] * 5, mode="pre-only"
    )


@pytest.mark.parametrize("code", languages())
def test_a_report_of_the_image_after_alone_says_so_and_names_two_classes(after, code):
    words, ready = wording(code), composed(after, wording(code))
    content = ready.content
    assert [row.name for row in content.class_rows[:-1]] == [
        words.say("class_destroyed"),
        words.say("class_not_destroyed"),
    ]
    assert [row.cells[0] for row in content.class_rows] == ["2", "2", "4"]
    assert [each[0] for each in content.numbers] == ["2", "1"]  # destroyed, not assessed; damaged is not told
    assert content.facts[0][1] == words.say("what_text_post_only")
    assert content.sections[1].sentences[0] == words.say("limit_post_only")
    everything = str(content)
    for key in ("class_no_damage", "class_minor_damage", "class_major_damage", "scale_name"):
        assert words.say(key) not in everything
    assert len(content.pair_captions) == 1 and ready.pictures.before is None
    shown = read_page(after / "map.html").image(0, "#000000")
    assert Image.open(io.BytesIO(ready.pictures.after)).getpixel((5, 5)) == pytest.approx(
        shown.convert("RGB").getpixel((5, 5)), abs=3
    )


def test_it_is_set_as_pdf_html_and_docx_with_one_image(after, tmp_path):
    pdf, page, edited = api.report(after, to=tmp_path)
    assert pdf.read_bytes()[:5] == b"%PDF-"
    assert page.read_text().count("<img") == 2  # the map and the image
    assert len(docx.Document(str(edited)).inline_shapes) == 2


def test_a_map_of_the_image_before_alone_has_no_damage_to_report(before):
    with pytest.raises(InputError, match="where no damage is told: map the image after too"):
        api.report(before)


def test_areas_count_destroyed_and_not_destroyed_and_nothing_between(after, tmp_path):
    (found,) = api.areas(after, grid=2000)
    assert found.totals == {
        "buildings": 5,
        "assessed": 4,
        "not_destroyed": 2,
        "destroyed": 2,
        "not_assessed": 1,
        "not_surveyed": 0,
        "built_m2": pytest.approx(5 * 60.0**2, rel=0.001),
        "destroyed_m2": pytest.approx(2 * 60.0**2, rel=0.001),
        "surveyed_km2": pytest.approx(0.96, abs=0.01),
    }
    (square,) = found.areas.to_dict("records")
    assert (square["destroyed_share"], square["damage_scale"]) == (0.5, "destroyed-or-not")
    assert not {"damaged", "damaged_share", "no_damage", "minor_damage", "major_damage"} & set(found.areas)
    assert "lesser damage is not told" in found.subject.facts[0] and found.subject.facts[1].startswith(
        "Image: after"
    )
    rows = read_areas(
        after, read_json(after / "summary.json"), open_map(after, also=("post-only",)).identity
    ).rows
    assert [(row.damaged, row.share) for row in rows] == [(2, 0.5)]
    headings = composed(after, wording("en")).content.area_headings
    assert "Destroyed" in headings and "Damaged" not in headings


def test_areas_of_the_image_before_count_buildings_alone(before):
    (found,) = api.areas(before, grid=2000)
    assert found.totals["buildings"] == 5 and found.subject.metrics[0].column == "buildings"
    assert not {"destroyed", "damaged", "destroyed_share"} & set(found.areas)
    assert found.subject.facts[0] == "Buildings alone, from the image before: no damage is told."
