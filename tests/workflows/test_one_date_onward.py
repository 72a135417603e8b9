"""The onward path of a map of the image after a disaster alone: report, areas, totals, and who refuses it."""

import io
import zipfile

import docx
import geopandas
import numpy as np
import openpyxl
import pandas
import pytest
import rasterio
from PIL import Image
from shapely import Point

import finished_maps
from aftermap import api
from aftermap.classes import DESTROYED_OR_NOT
from aftermap.errors import InputError
from aftermap.files import read_json
from aftermap.products.cog import class_colormap
from aftermap.products.page.stored import read_page
from aftermap.products.report.wording import languages, wording
from aftermap.products.vectors import PROBABILITIES
from aftermap.workflows.areas.run import count_areas
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.package.collection import write_collection
from aftermap.workflows.report.gather import read_areas
from aftermap.workflows.report.run import composed
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.review.exchange import import_answers
from aftermap.workflows.review.said import make_answer
from aftermap.workflows.totals.run import estimate_totals
from aftermap.workflows.totals.sampling import Sample, sample_of

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
    (found,) = count_areas(before, grid=2000)
    assert found.totals["buildings"] == 5 and found.subject.metrics[0].column == "buildings"
    assert not {"destroyed", "damaged", "destroyed_share"} & set(found.areas)
    assert found.subject.facts[0] == "Buildings alone, from the image before: no damage is told."


def reviewed(folder, size, said):
    """A post-only map of 40 buildings with a sample of which `said` answers each building by its id; its ids."""
    places = [(8 + 10 * (n % 10), 10 + 15 * (n // 10)) for n in range(40)]
    damage = ["destroyed" if n % 4 == 0 else "not-destroyed" for n in range(40)]
    shares = [0.6 + 0.01 * n if n % 4 == 0 else 0.4 - 0.01 * n for n in range(40)]
    finished_maps.finish_one_date(folder, places, damage, shares=shares)
    sample = sample_of(open_map(folder, also=("post-only",)), size)
    Journal(folder).add(
        Answer(building_id=name, verdict=said(int(name[1:]) - 1), reviewer="ana", origin="sample")
        for name in sample.drawn
    )
    return sample


def test_totals_estimate_the_destroyed_by_stratum_and_nothing_lesser(tmp_path):
    def said(n):  # three of four that the map calls destroyed are; of the others every ninth
        return "destroyed" if (n % 16 != 0 if n % 4 == 0 else n % 9 == 0) else "not-destroyed"

    sample = reviewed(tmp_path / "map", 24, said)
    assert {each.name.partition(",")[0] for each in sample.strata} == {"destroyed", "not-destroyed"}
    assert Sample.load(tmp_path / "map").probabilities == pytest.approx(sample.probabilities, abs=1e-4)
    found = api.totals(tmp_path / "map")
    assert list(found.table["kind"]) == ["destroyed", "not-destroyed", "buildings", "not-a-building"]
    rows, expected = sample.order, 0.0
    for part, size in enumerate(sample.sizes):  # what was found in each stratum, times what it stands for
        mine = [sample.ids[row] for row in rows if sample.stratum[row] == part]
        expected += size / len(mine) * sum(said(int(name[1:]) - 1) == "destroyed" for name in mine)
    destroyed = found.totals["destroyed"]
    assert destroyed.estimate == pytest.approx(expected)
    assert destroyed.low < expected < destroyed.high and destroyed.mapped == 10
    assert found.totals["not-destroyed"].estimate == pytest.approx(40 - expected)
    assert "lesser damage is not told" in " ".join(found.words) and found.words[0].startswith("about ")
    sets = (tmp_path / "map" / "totals" / "confidence.csv").read_text()
    assert "no-damage" not in sets and "not-destroyed or destroyed" in sets
    content = composed(tmp_path / "map", wording("en")).content
    assert content.estimate.startswith(f"Estimated from the sample: {round(expected)} (")
    (areas,) = count_areas(tmp_path / "map", grid=5000)
    assert areas.areas["destroyed_estimate"].iloc[0] == pytest.approx(expected, abs=0.05)
    assert "damaged_estimate" not in areas.areas
    map_, answers = open_map(tmp_path / "map", also=("post-only",)), Journal(tmp_path / "map").answers()
    with pytest.raises(InputError, match="has no total of minor-damage: it tells destroyed from not"):
        estimate_totals(map_, answers, {"target": 0.1, "kind": "minor-damage"})
    assert estimate_totals(map_, answers, {"target": 0.1}).further.kind == "destroyed"


def test_a_degree_that_somebody_knows_counts_as_not_destroyed(tmp_path):
    degrees = ("no-damage", "minor-damage", "major-damage", "not-a-building")
    reviewed(tmp_path / "map", 40, lambda n: "destroyed" if n < 7 else degrees[n % 4])
    map_ = open_map(tmp_path / "map", also=("post-only",))
    found = estimate_totals(map_, Journal(tmp_path / "map").answers(), {}).totals
    phantoms = sum(n % 4 == 3 for n in range(7, 40))
    assert {name: total.estimate for name, total in found.items()} == pytest.approx(
        {
            "destroyed": 7,
            "not-destroyed": 33 - phantoms,
            "buildings": 40 - phantoms,
            "not-a-building": phantoms,
        }
    )


def test_totals_of_the_image_before_are_refused(before):
    with pytest.raises(InputError, match="no damage is told: map the image after too"):
        api.totals(before)


def test_not_destroyed_is_an_answer_where_one_image_was_shown_and_nowhere_else(tmp_path):
    table = tmp_path / "answers.csv"
    table.write_text("building_id,verdict\nb1,not-destroyed\nb2,destroyed\n")
    finished_maps.finish_one_date(tmp_path / "one", PLACES, DAMAGE)
    taken = import_answers(open_map(tmp_path / "one", also=("post-only",)), table, reviewer="ana")
    assert (taken.answers, taken.left_out) == (2, [])
    finished_maps.finish(tmp_path / "two", finished_maps.table(PLACES[:2], ["destroyed", "no-damage"]))
    two = open_map(tmp_path / "two")
    assert import_answers(two, table, reviewer="ana").answers == 1
    with pytest.raises(InputError, match="is an answer on a map of the image after alone"):
        make_answer(two, "ana", {"building_id": "b1", "verdict": "not-destroyed"}, str, lambda name: {})


def test_agencies_get_destroyed_and_no_grade_for_what_one_image_does_not_tell(tmp_path):
    folder = finished_maps.finish_one_date(tmp_path / "ville", PLACES, DAMAGE)
    ems = api.agency_package(folder, "ems")
    assert dict(ems.counts) == {
        "Destroyed": 2,
        "Not Applicable": 1,
        "not destroyed: no grade from one image": 2,
    }
    built = geopandas.read_file(next(ems.folder.glob("*builtUpA*.shp")))
    assert built["damage_gra"].fillna("").tolist() == ["Destroyed"] * 2 + [""] * 2 + ["Not Applicable"]
    assert len(geopandas.read_file(next(ems.folder.glob("*imageFootprintA*.shp")))) == 1
    summary = next(ems.folder.glob("*summaryTable*.csv")).read_text()
    assert "No visible damage" not in summary and "Possibly damaged" not in summary
    assert "not destroyed,2," in summary
    readme = (ems.folder / "README.txt").read_text()
    assert (
        "only Destroyed is claimed" in readme
        and "Image before" not in readme
        and "All four grades" not in readme
    )
    lineage = read_json(ems.folder / "lineage.json")
    assert lineage["mode"] == "post-only" and lineage["scale"]["made_from"] == "destroyed-or-not"
    assert lineage["scale"]["claims"] == {"destroyed": "Destroyed", "not-assessed": "Not Applicable"}
    unosat = api.agency_package(folder, "unosat")
    cells = pandas.read_csv(next(unosat.folder.glob("*cells*.csv")))
    assert cells[["Buildings", "Destroyed", "Not_Destroyed", "Not_Assessed"]].sum().tolist() == [5, 2, 2, 1]
    assert not {"Damaged", "Severe", "Moderate"} & set(cells)
    assert set(cells["Damage_In_Cell"]) <= {"Yes", "Not told"}
    fema = pandas.read_csv(next(api.agency_package(folder, "fema").folder.glob("FEMA*.csv")))
    assert fema["Damage_Level"].tolist() == ["Destroyed"] * 2
    hdx = pandas.read_csv(next(api.agency_package(folder, "hdx").folder.glob("*damage_v1.csv")), skiprows=[1])
    assert hdx["damage"].tolist() == DAMAGE and set(hdx["scale"]) == {"destroyed-or-not"}
    assert not api.agency_package(folder, "ems").is_new


def test_formats_and_collections_say_what_one_image_told(tmp_path, before):
    folder = finished_maps.finish_one_date(tmp_path / "ville", PLACES, DAMAGE)
    kmz, table, book, item = api.package(folder, ["kmz", "csv", "xlsx", "stac"])
    assert set(pandas.read_csv(table)["damage_scale"]) == {"destroyed-or-not"}
    with zipfile.ZipFile(kmz) as archive:
        kml = archive.read("doc.kml").decode()
    assert "not destroyed (2)</name>" in kml and "minor" not in kml and "the image after alone" in kml
    cells = [cell.value for row in openpyxl.load_workbook(book)["Summary"].iter_rows() for cell in row]
    assert {"not-destroyed", "destroyed"} <= set(cells) and not {"minor-damage", "damaged in all"} & set(
        cells
    )
    told = read_json(item)
    assert told["properties"]["aftermap:scale"] == "destroyed-or-not"
    assert told["properties"]["aftermap:mode"] == "post-only"
    assert [each["name"] for each in told["assets"]["destroyed.tif"]["classification:classes"]] == [
        "background",
        "not-destroyed",
        "destroyed",
    ]
    (kmz,) = api.package(before, ["kmz"], to=tmp_path / "before")
    with zipfile.ZipFile(kmz) as archive:
        assert "destroyed" not in archive.read("doc.kml").decode()
    with pytest.raises(InputError, match="no damage is told"):
        api.agency_package(before, "ems")
    (collection, *_) = write_collection([folder], tmp_path / "all")
    assert read_json(collection)["description"].startswith(
        "Destroyed or not, from the image after alone, of 5"
    )


def pair(folder, damage):
    return finished_maps.finish(folder, finished_maps.table(PLACES, damage, side_px=6), page=True)


def test_a_map_of_the_image_after_alone_is_fused_as_destroyed_or_not(tmp_path):
    first = finished_maps.finish_one_date(tmp_path / "first", PLACES, DAMAGE)
    second = pair(
        tmp_path / "second", ["destroyed", "no-damage", "minor-damage", "destroyed", "major-damage"]
    )
    points = tmp_path / "points.geojson"
    grades = ["N", "D"]
    places = [Point(*finished_maps.UTM.lonlat(x, y)) for x, y in (PLACES[1], PLACES[0])]
    geopandas.GeoDataFrame({"damage": grades}, geometry=places, crs="EPSG:4326").to_file(points)
    found = api.fuse(
        [first, second, points],
        tmp_path / "fused",
        column="damage",
        mapping={"N": "undamaged", "D": "damaged"},
    )
    frame = found.buildings
    assert frame["damage"].tolist() == [
        "destroyed",
        "not-destroyed",
        "not-destroyed",
        "not-destroyed",
        "not-destroyed",
    ]
    # the mean of 0.9 and 0.8, of 0.9, 0.01 and 0.2 / 3, of 0.1 and 0.1, of 0.1 and 0.8, and 0.1 of the second alone
    assert frame["p_destroyed"].tolist() == pytest.approx([0.85, 0.3256, 0.1, 0.45, 0.1], abs=1e-3)
    assert frame["sources"].tolist() == [2, 3, 2, 2, 1]  # "damaged" may be destroyed or not: it says nothing
    assert "p_minor" not in frame and set(frame["says_2"]) == {"destroyed", "not-destroyed"}
    opened = open_map(tmp_path / "fused", also=("post-only",))
    assert opened.one_date == "post-only" and opened.summary["classes"]["destroyed"]["buildings"] == 1
    with rasterio.open(opened.raster) as raster:
        assert [raster.read(1)[y, x] for x, y in PLACES] == [2, 1, 1, 1, 1]
    assert composed(tmp_path / "fused", wording("en")).content.numbers[0][0] == "1"


def test_evidence_of_one_image_alone_never_calls_a_building_undamaged(tmp_path):
    damage = ["minor-damage", "not-assessed", "no-damage", "not-assessed", "not-assessed"]
    first = pair(tmp_path / "first", damage)
    second = finished_maps.finish_one_date(tmp_path / "second", PLACES, DAMAGE)
    frame = api.fuse([first, second], tmp_path / "fused").buildings
    assert frame["damage"].tolist() == [
        "destroyed",
        "destroyed",
        "no-damage",
        "not-assessed",
        "not-assessed",
    ]
    assert frame["reason"].tolist()[3:] == ["only that it is not destroyed is known", "no source"]
    # 0.9 of the first not destroyed, 0.1 of the second, whose rest is split as the first splits it: 0.2, 0.6, 0.1 of 0.9
    assert frame.loc[0, list(PROBABILITIES)].tolist() == pytest.approx(
        np.sqrt(np.array([0.2, 0.6, 0.1, 0.1]) * [0.2 / 9, 0.6 / 9, 0.1 / 9, 0.9])
        / np.sqrt(np.array([0.2, 0.6, 0.1, 0.1]) * [0.2 / 9, 0.6 / 9, 0.1 / 9, 0.9]).sum(),
        abs=1e-3,
    )


def test_damaged_or_not_and_the_raster_of_one_image_are_no_source_for_destroyed(tmp_path, after):
    told = tmp_path / "told.geojson"
    place = Point(*finished_maps.UTM.lonlat(*PLACES[0]))
    geopandas.GeoDataFrame({"p_damaged": [0.9]}, geometry=[place], crs="EPSG:4326").to_file(told)
    with pytest.raises(InputError, match="told tells damaged from not, and the first map destroyed from not"):
        api.fuse([after, told], tmp_path / "out")
    raster = tmp_path / "destroyed.tif"
    profile = {"width": 120, "height": 80, "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(
        raster, "w", "GTiff", crs="EPSG:32615", transform=finished_maps.UTM.transform, **profile
    ) as file:
        file.write(np.ones((80, 120), np.uint8), 1)
        file.write_colormap(1, class_colormap(DESTROYED_OR_NOT))
        file.set_band_description(1, "damage")
    with pytest.raises(
        InputError, match="is the raster of a map of the image after alone: pass the map's folder"
    ):
        api.fuse([pair(tmp_path / "pair", ["no-damage"] * 5), raster], tmp_path / "out")
    assert not (tmp_path / "out").exists()
