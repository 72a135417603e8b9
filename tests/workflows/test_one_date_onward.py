"""The onward path of a map of the image after a disaster alone: report, areas, totals, and who refuses it."""

import io

import docx
import pytest
from PIL import Image

import finished_maps
from aftermap import api
from aftermap.errors import InputError
from aftermap.products.page.stored import read_page
from aftermap.products.report.wording import languages, wording
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
