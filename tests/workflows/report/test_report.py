"""The report of a finished map, in every form: read again by other libraries, the same bytes, and nothing that runs."""

import html.parser
import io
import json
import re
import shutil
import zipfile
from dataclasses import replace

import docx
import numpy as np
import pytest
import typst
from PIL import Image

import finished_maps
from aftermap import api
from aftermap.errors import GeoreferenceError, InputError, OutputError
from aftermap.files import read_json, write_json
from aftermap.geo.grid import Grid
from aftermap.products.page.page import write_page
from aftermap.products.page.stored import read_page
from aftermap.products.report.compose import compose
from aftermap.products.report.map_picture import GROUND, lines_of
from aftermap.products.report.typst_pages import page_pictures
from aftermap.products.report.wording import wording
from aftermap.products.summary import summarise
from aftermap.products.view import Picture, damage_view
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.report import run
from aftermap.workflows.report.gather import read_areas
from aftermap.workflows.report.run import facts_of

DAMAGE = ["destroyed", "destroyed", "major-damage", "no-damage", "not-assessed"]
PLACES = [(20, 20), (40, 20), (60, 40), (80, 60), (100, 60)]
NASTY = (
    '#let x = 1; $y$ *b* _i_ <script>alert(1)</script> @ref \\ [c] // & "q" \' \u202eevil \u200fعربي '
    + "W" * 90
)


def finish(folder, grid=finished_maps.UTM, damage=DAMAGE, title="Ville"):
    """A map with its page."""
    frame = finished_maps.table(PLACES[: len(damage)], damage, grid, side_px=6)
    finished_maps.finish(folder, frame, grid)
    rgb = np.full((3, *grid.shape), 90, np.uint8)
    rgb[0, :, : grid.width // 2] = 200
    view = damage_view(
        frame, Picture("Before", rgb), Picture("After", rgb[::-1].copy()), grid, summarise(frame, grid)
    )
    write_page(folder / "map.html", view, grid, title=title)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("report") / "ville")


@pytest.fixture(scope="module")
def english(made):
    return {path.suffix[1:]: path for path in api.report(made)}


class Text(html.parser.HTMLParser):
    """Tags and texts of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def read_html(path):
    page = Text()
    page.feed(path.read_text(encoding="utf-8"))
    return page.tags, " ".join(" ".join(page.texts).split())


def test_the_files_are_named_by_language(made, english):
    assert english["pdf"] == made / "report" / "report-en.pdf" and english["pdf"].read_bytes()[:5] == b"%PDF-"
    assert sorted(english) == ["docx", "html", "pdf"]


def test_the_page_says_what_where_when_and_how_many(english):
    tags, text = read_html(english["html"])
    for said in (
        "Rapid assessment, not validated in the field",
        "3 buildings damaged or destroyed of 4 buildings assessed (75.0 %)",
        "2 of them destroyed",
        "1 building could not be assessed",
        "Image before: date not stated. Image after: 24 May 2011.",
        "about 0.96 km² mapped. Reference system EPSG:32615.",
        "Destroyed Collapsed, burnt out or no longer there 2 50.0 % 7,2",
        "All assessed 4 100.0 % 14,4",
        "Not assessed, by reason: cloud (1).",
        "Scale: Joint Damage Scale.",
        "Joint Damage Scale Destroyed Major damage Minor damage No damage Not assessed Image after the event",
        "Confidence is uncalibrated on this event.",
        "licence MIT",
        "credit and licence of the imagery not stated",
    ):
        assert said in text, said
    assert "script" not in tags and "iframe" not in tags and tags.count("img") == 3
    source = english["html"].read_text()
    assert "default-src 'none'; img-src data:" in source and not re.search(r'(src|href)="(?!data:)', source)


def test_the_document_says_the_same(english):
    document = docx.Document(english["docx"])
    cells = [[cell.text for cell in row.cells] for row in document.tables[1].rows]
    figures = [cell.text for cell in document.tables[0].rows[0].cells]
    assert (
        figures[0].startswith("3  buildings damaged or destroyed of 4")
        and figures[1] == "2  of them destroyed"
    )
    assert cells[1] == ["■ Destroyed", "Collapsed, burnt out or no longer there", "2", "50.0 %", "7,204"]
    assert cells[-1] == ["All assessed", "", "4", "100.0 %", "14,408"]
    assert document.core_properties.title == "Ville" and len(document.inline_shapes) == 3
    assert document.core_properties.created.isoformat()[:19] == "2026-11-30T10:00:00"


def test_the_same_map_gives_the_same_bytes(made, english, tmp_path):
    again = {path.suffix[1:]: path for path in api.report(made, to=tmp_path / "again")}
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in english.items()
    }
    with zipfile.ZipFile(english["docx"]) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(("code", "damaged"), [("fr", "bâtiments endommagés"), ("ar", "مبانٍ متضررة")])
def test_other_languages(made, code, damaged, tmp_path):
    files = api.report(made, language=code, formats=["html", "docx"], to=tmp_path)
    assert damaged in read_html(files[0])[1]
    source = files[0].read_text()
    assert f'<html lang="{code}" dir="{"rtl" if code == "ar" else "ltr"}">' in source
    with zipfile.ZipFile(files[1]) as archive:
        body = archive.read("word/document.xml").decode()
    order = ["b", "bCs", "color", "sz", "szCs", "rtl", "lang"]
    for run_properties in re.findall(r"<w:rPr>(.*?)</w:rPr>", body):
        names = [name for name in re.findall(r"<w:(\w+)", run_properties) if name in order]
        assert names == sorted(names, key=order.index)
    assert all(
        each.startswith("<w:pPr><w:pStyle") for each in re.findall(r"<w:pPr><w:\w+[^>]*><w:bidi/>", body)
    )
    assert ("<w:bidi/>" in body) == ("<w:bidiVisual/>" in body) == ("<w:rtl" in body) == (code == "ar")


@pytest.fixture(scope="module")
def facts(made):
    """What is told of a map with long and hostile words everywhere, and many areas."""
    folder = shutil.copytree(made, made.with_name("nasty"), ignore=shutil.ignore_patterns("report"))
    tree = read_json(folder / "provenance.json")
    tree["model"] |= {"name": NASTY, "limits": NASTY * 4, "training_data": NASTY * 3}
    tree["warnings"] = [NASTY] * 9
    tree["inputs"]["footprints"] = {"name": NASTY}
    write_json(folder / "provenance.json", tree)
    (folder / "areas").mkdir()
    rows = "".join(
        f"{NASTY.replace(chr(34), '')} {n},C{n},{n % 2},{n % 2},{int(n in (1, 3, 5))}\n" for n in range(10)
    )
    rows += "".join(f"{n},,0,0,0\n" for n in range(30))
    (folder / "areas" / "adm2.csv").write_text("name,pcode,buildings,assessed,damaged\n" + rows)
    return folder


@pytest.mark.parametrize("code", ["en", "ar"])
def test_hostile_words_stay_words_and_two_pages_stay_two(facts, code, tmp_path):
    files = api.report(facts, language=code, title=NASTY, organisation=NASTY, credit=NASTY, to=tmp_path)
    tags, text = read_html(files[1])
    assert "script" not in tags and "<script>alert(1)</script>" in text and "\u202e" not in text
    assert "#let x = 1; $y$ *b* _i_" in text
    assert docx.Document(files[2]).core_properties.title.startswith("#let x = 1; $y$ *b* _i_ <script>")
    assert files[0].read_bytes().count(b"/Type/Pages/Count 2/") == 1


def test_both_papers_and_no_font_of_the_system(made, monkeypatch):
    """Arabic is shaped: with joined letters a word is narrower than its letters alone."""
    folders = []
    fonts = typst.Fonts

    def watched(**options):
        folders.append(options)
        return fonts(**options)

    from aftermap.products.report import typst_pages

    typst_pages._fonts.cache_clear()
    monkeypatch.setattr(typst, "Fonts", watched)
    ready = run.composed(made, wording("ar"))
    sizes = []
    for paper in ("a4", "letter"):
        pages = page_pictures(ready.content, ready.pictures, paper=paper, ppi=36)
        assert len(pages) == 2
        with Image.open(io.BytesIO(pages[0])) as page:
            sizes.append(page.size)
    assert sizes == [(298, 421), (306, 396)]
    assert folders[0]["include_system_fonts"] is False and folders[0]["include_embedded_fonts"] is False


def test_the_table_by_areas_has_the_most_damaged_first(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "map", ignore=shutil.ignore_patterns("report"))
    (folder / "areas").mkdir()
    (folder / "areas" / "a.csv").write_text(
        'area_id,name,buildings,assessed,damaged\n1,Nord,1,1,0\n2,"Sud, l\'Est",3,3,3\n3,Ouest,1,0,0\n'
    )
    (folder / "areas" / "0.csv").write_text(
        "area_id,name,buildings,assessed,damaged\nE1_N2,,9,9,9\n"
    )  # has no names
    page = read_html(api.report(folder, formats=["html"])[0])[1]
    assert "By area Area Buildings Damaged Share Sud, l'Est 3 3 100.0 % Nord 1 0 0.0 % Ouest 1 0 –" in page


def test_a_table_by_areas_of_an_earlier_map_of_the_same_buildings_is_refused(made):
    """As after `map --overwrite` with the same footprints and another model: 5 buildings as before, other damage."""
    summary = open_map(made).summary

    def read(folder, rows):
        (folder / "areas").mkdir(parents=True)
        (folder / "areas" / "a.csv").write_text("name,buildings,not_surveyed,damaged\n" + rows)
        return read_areas(folder, summary, "x")

    for name, damaged in (("fewer", 2), ("more", 4)):
        with pytest.raises(
            InputError, match=f"counts {damaged} damaged buildings and the map has 3: it is of an"
        ):
            read(made.with_name(name), f"Nord,5,0,{damaged}\n")
    found = read(
        made.with_name("survey"), "Nord,4,0,2\nSud,1,1,0\n"
    )  # the third stands on ground nobody surveyed
    assert [row.damaged for row in found.rows] == [2, 0]


def test_a_fused_map_is_told_by_its_sources(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "map", ignore=shutil.ignore_patterns("report"))
    tree = read_json(folder / "provenance.json")
    tree |= {"mode": "fused", "sources": [{"name": "box", "weight": 1.0}, {"name": "survey", "weight": 0.5}]}
    write_json(folder / "provenance.json", tree)
    summary = read_json(folder / "summary.json")
    summary["not_assessed"]["reasons"] = {"no source": 1}
    write_json(folder / "summary.json", summary)
    page = read_html(api.report(folder, formats=["html"], language="fr")[0])[1]
    assert "chacune avec son poids : box (1,0), survey (0,5)." in page
    assert "le modèle" not in page.split("Méthode")[1].split("Limites")[0] and "aucune source (1)" in page


@pytest.mark.parametrize(
    ("code", "learnt", "kept", "moved"),
    [
        (
            "en",
            "A model of this event was learnt from 12 answers that people gave",
            "People gave 12 answers on single buildings; those hold there",
            "448 outlines were moved onto their houses in the image before, by about 2.6 m.",
        ),
        ("fr", "appris à partir de 12 réponses", "ont donné 12 réponses", "448 contours ont été déplacés"),
        ("es", "se aprendió de 12 respuestas", "dieron 12 respuestas", "448 contornos se desplazaron"),
        ("ar", "من 12 إجابة", "أعطى أشخاص 12 إجابة", "نُقل 448 محيط"),
    ],
)
def test_answers_and_moved_outlines_are_told(made, tmp_path, code, learnt, kept, moved):
    facts = facts_of(open_map(made), "Ville")
    said = {}
    for better in (True, False):
        provenance = facts.provenance | {
            "footprint_shift": {"moved": 448, "median_px": 4.3},
            "learnt": {"better": better, "answers": {"destroyed": 7, "no-damage": 5}},
        }
        told = replace(facts, provenance=provenance, summary=facts.summary | {"resolution_m": 0.6})
        method = compose(told, wording(code)).sections[0].sentences
        said[better] = " ".join(method)
        assert moved in said[better] and wording(code).say("method_decision") not in said[better]
    assert learnt in said[True] and kept in said[False]


def total(estimate, low, high):
    return {"estimate": estimate, "low": low, "high": high}


def test_totals_and_their_intervals_are_told(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "map", ignore=shutil.ignore_patterns("report"))
    (folder / "totals").mkdir()
    tree = {
        "level": 0.95,
        "sample": {"answers": 120},
        "mapped": {"damaged": 3},
        "totals": {"damaged": total(1234.4, 1100, 1402.6), "destroyed": total(600, 510.4, 700)},
        "confidence": {"calibration": {"method": "temperature"}},
    }
    write_json(folder / "totals" / "totals.json", tree)
    page = read_html(api.report(folder, formats=["html"])[0])[1]
    assert "Estimated from the sample: 1,234 (95 % interval 1,100 to 1,403)" in page
    assert "Totals checked by eye on a sample of 120 buildings; not validated in the field" in page
    assert re.search(r"no longer there 2 50\.0 % [\d,]+ 600 510\u2013700 Major damage", page)
    assert "Confidence was calibrated on this event." in page and "have no interval" not in page
    write_json(folder / "totals" / "totals.json", {**tree, "sample": None, "totals": {}})
    page = read_html(api.report(folder, formats=["html"])[0])[1]
    assert "Rapid assessment, not validated in the field" in page
    write_json(folder / "totals" / "totals.json", {**tree, "mapped": {"damaged": 4}})
    with pytest.raises(InputError, match="is of an earlier map, which counted 4 damaged buildings and not 3"):
        api.report(folder, formats=["html"])
    write_json(folder / "totals" / "totals.json", {"level": 0.95})
    with pytest.raises(InputError, match=r"totals\.json does not hold totals: KeyError\('sample'\)"):
        api.report(folder, formats=["html"])


def test_a_map_in_pixels_has_a_grid_of_pixels_and_no_north(tmp_path):
    grid = Grid.pixels(120, 80)
    page = read_html(api.report(finish(tmp_path / "plain", grid), formats=["html"])[0])[1]
    assert "The images have no georeference: positions are counted in pixels (120 × 80)." in page
    assert "Grid: pixels." in page and "Destroyed Collapsed, burnt out or no longer there 2 50.0 % –" in page
    assert lines_of(grid) == ([0, 25, 50, 75, 100], [0, 25, 50, 75])


@pytest.mark.parametrize("code", ["en", "ar"])
def test_a_geopdf_lies_where_the_map_lies(made, code, tmp_path):
    """Its corners in degrees, and the same bytes again; the band of the legend hangs below the map."""
    (path,) = api.report(made, formats=["geopdf"], language=code, to=tmp_path)
    data = path.read_bytes()
    assert path.name == f"map-{code}.pdf" and data.startswith(b"%PDF-") and data.count(b"/Type /Page ") <= 1
    numbers = [float(each) for each in re.search(rb"/GPTS \[([^]]*)\]", data)[1].split()]
    corners = [(numbers[n + 1], numbers[n]) for n in range(0, 8, 2)]
    grid = finished_maps.UTM
    lons, lats = grid.lonlat(np.array([0.0, 120.0]), np.array([0.0, 0.0]))
    (upper_left,) = [each for each in corners if each == pytest.approx((lons[0], lats[0]), abs=1e-6)]
    (upper_right,) = [each for each in corners if each == pytest.approx((lons[1], lats[1]), abs=1e-6)]
    below = grid.lonlat(np.array([0.0]), np.array([80.0]))[1][0]
    assert min(lat for _, lat in corners) < below and upper_left[0] < upper_right[0]
    assert api.report(made, formats=["geopdf"], language=code, to=tmp_path)[0].read_bytes() == data


def test_a_map_in_pixels_has_no_geopdf(tmp_path):
    folder = finish(tmp_path / "plain", Grid.pixels(120, 80))
    with pytest.raises(GeoreferenceError, match="this is a map in pixels: leave geopdf out"):
        api.report(folder, formats=["geopdf"])


def test_a_map_without_buildings_is_told(tmp_path):
    page = read_html(api.report(finish(tmp_path / "none", damage=[]), formats=["html"])[0])[1]
    assert "– No building was assessed 0 buildings could not be assessed" in page


def test_lines_of_the_grid_are_round():
    assert lines_of(finished_maps.UTM) == (
        [400_000, 400_250, 400_500, 400_750, 401_000],
        [4_099_250, 4_099_500, 4_099_750, 4_100_000],
    )


def test_the_picture_comes_from_the_page(made):
    page = read_page(made / "map.html")
    assert page.title == "Ville" and (page.width, page.height) == (120, 80)
    assert np.abs(np.asarray(page.image(0, GROUND))[40, 20].astype(int) - (200, 90, 90)).max() <= 4
    assert np.abs(np.asarray(page.image(1, GROUND))[40, 20].astype(int) - (90, 90, 200)).max() <= 4


def test_wrong_input_is_one_line(made, tmp_path):
    with pytest.raises(InputError, match="is not a finished map"):
        api.report(tmp_path / "nothing")
    with pytest.raises(
        InputError, match="no report is written as 'odt': expected some of pdf, html, docx, geopdf"
    ):
        api.report(made, formats=["odt"])
    with pytest.raises(InputError, match="no paper is called 'a3'"):
        api.report(made, paper="a3")
    with pytest.raises(OutputError):
        api.report(made, formats=["html"], to=made / "summary.json")
    broken = shutil.copytree(made, tmp_path / "broken")
    (broken / "map.html").write_text("<html></html>")
    with pytest.raises(InputError, match="is not the page of a map: it holds no data"):
        api.report(broken)
    (broken / "map.html").write_text(
        '<script type="application/json" id="data">{"images": {"width": 9999999, "height": 1}}</script>'
    )
    with pytest.raises(InputError, match="its images are of 9999999 x 1 pixels"):
        api.report(broken)
    (broken / "map.html").unlink()
    with pytest.raises(InputError, match="is missing, and with it the pictures of the map"):
        api.report(broken)
    shutil.copy(made / "map.html", broken)
    (broken / "areas").mkdir()
    (broken / "areas" / "a.csv").write_text("name,buildings,damaged\nx,many,1\n")
    with pytest.raises(InputError, match=r"a\.csv cannot be read as a table by areas"):
        api.report(broken)
    tree = json.loads((broken / "summary.json").read_text())
    del tree["classes"]
    (broken / "summary.json").write_text(json.dumps(tree))
    (broken / "areas" / "a.csv").unlink()
    with pytest.raises(InputError, match="cannot be used: KeyError"):
        api.report(broken)


def test_the_words_of_all_languages_find_their_values(made):
    map_ = open_map(made)
    for code in ("en", "fr", "es", "ar"):
        content = compose(run.facts_of(map_, "Ville"), wording(code))
        assert content.numbers[0][0] == "3" and len(content.class_rows) == 5
