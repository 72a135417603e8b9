import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from aftermap.cli.app import main
from aftermap.errors import InputError, OutputError
from aftermap.geo.grid import Window
from aftermap.inference.ensemble import Options, open_predictor
from aftermap.inference.predictor import AnyPredictor
from aftermap.synthetic.write import synthesise
from aftermap.workflows.many import run
from aftermap.workflows.many.merge import merge
from aftermap.workflows.many.pairs import Pair, in_blocks
from aftermap.workflows.many.parts import FolderParts
from aftermap.workflows.many.run import ManyResult, map_many
from aftermap.workflows.many.scene import SceneWork, job_of
from aftermap.workflows.mapping.damage import map_damage
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.images import open_images
from aftermap.worklist.job import Outcome

SIZE, STEP = 160, 112
OPTIONS: dict[str, Any] = {"align": "off", "backend": "auto", "window_px": 128, "formats": ()}


@pytest.fixture(scope="module", autouse=True)
def exported_box() -> Iterator[None]:
    """The box as users run it, which needs no torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AFTERMAP_BACKEND", raising=False)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six overlapping scenes of a town, two rows of three, and their list."""
    place = tmp_path_factory.mktemp("scenes")
    synthesise(place / "town", scenes=1, size_px=384, seed=11, kinds=["earthquake"])
    rows = ["name,pre,post,post_date"]
    for date in ("pre", "post"):
        with rasterio.open(next((place / "town" / "geotiff").glob(f"*_{date}.tif"))) as town:
            for number in range(6):
                col, row = number % 3 * STEP, number // 3 * STEP
                profile = town.profile | {"width": SIZE, "height": SIZE}
                profile["transform"] = town.transform @ Affine.translation(col, row)
                with rasterio.open(place / f"s{number}_{date}.tif", "w", **profile) as scene:
                    scene.write(town.read(window=((row, row + SIZE), (col, col + SIZE))))
    rows += [f"s{number},s{number}_pre.tif,s{number}_post.tif,2024-02-03" for number in range(6)]
    (place / "pairs.csv").write_text("\n".join(rows) + "\n")
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> ManyResult:
    """All six and a broken seventh, of a run whose worker was killed in its first scene, and itself after the second."""
    (folder / "broken.tif").write_bytes(b"II*\0 no image at all")
    text = (folder / "pairs.csv").read_text()
    (folder / "seven.csv").write_text(text + "bad,broken.tif,s0_post.tif,\n")
    log, parts = folder / "out.work" / "jobs.log", folder / "out.work" / "parts"
    words = [
        "--workers",
        "1",
        "--align",
        "off",
        "--window",
        "128",
        "--format",
        "none",
    ]
    command = [sys.executable, "-m", "aftermap.cli.app", "map-many", "seven.csv", "-o", "out", *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src")}
    killed = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    begun = waited(
        lambda: log.exists() and re.search(r"s0: attempt 1, worker 1 \(process (\d+)\)", log.read_text())
    )
    os.kill(int(begun[1]), signal.SIGKILL)
    waited(lambda: len(list(parts.glob("*.zip"))) >= 2)
    killed.kill()
    killed.wait()
    assert not (folder / "out").exists()
    return map_many(folder / "seven.csv", folder / "out", workers=1, squares_m=50, resume=True, **OPTIONS)


def waited(look: Callable[[], Any]) -> Any:
    """What a look finds, once it does."""
    end = time.monotonic() + 300
    while not (seen := look()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return seen


def parts_of(folder: Path) -> list[Path]:
    """The scenes that are kept, as one of them failed."""
    return sorted((folder / "out.work" / "parts").glob("*.zip"))


def identities(out: Path) -> list[tuple[str, str]]:
    frame = open_map(out).buildings
    return list(zip(frame["building_id"], frame.geometry.to_wkt(), strict=True))


def test_killed_workers_and_a_killed_command_lose_nothing_and_double_nothing(found, folder):
    assert found.reused >= 2
    assert "s0: its worker process died (killed by SIGKILL" in (folder / "out" / "jobs.log").read_text()
    ids = identities(folder / "out")
    assert (
        len(ids)
        == len({name for name, _ in ids})
        == len({shape for _, shape in ids})
        == found.summary["buildings"]
    )
    made = [json.loads(zipfile.ZipFile(path).read("summary.json"))["buildings"] for path in parts_of(folder)]
    assert len(made) == 6 and sum(made) == len(ids) + found.merged.doubles + found.merged.joined


def test_a_broken_scene_is_told_and_the_map_is_made_of_the_rest(found, folder):
    (failed,) = found.failed
    assert (failed.name, failed.cause, failed.attempts) == ("bad", "input", 1)
    assert "broken.tif" in failed.reason
    assert open_map(folder / "out").provenance["failed_scenes"] == ["bad"]
    with (folder / "out" / "jobs.csv").open() as file:
        states = {row["name"]: row["state"] for row in csv.DictReader(file)}
    assert states == {**{f"s{number}": "done" for number in range(6)}, "bad": "failed"}
    assert json.loads(json.dumps(found.as_dict()))["failed"] == 1


@pytest.fixture(scope="module")
def box() -> AnyPredictor:
    return open_predictor("box", Options(backend="auto"))


def test_a_scene_is_mapped_as_a_map_of_its_own_would_be(found, folder, box):
    options = {key: value for key, value in OPTIONS.items() if key != "formats"} | {"model": box}
    alone = map_damage(folder / "s0_pre.tif", folder / "s0_post.tif", folder / "alone", **options)
    with rasterio.open(folder / "out" / "damage.tif") as file:
        whole = file.read(1)
        assert whole.shape == (STEP + SIZE, 2 * STEP + SIZE)
    # the corner that lies farther from the scene's other edges than half of an overlap
    inner = STEP - 8
    np.testing.assert_array_equal(whole[:inner, :inner], alone.damage.array[:inner, :inner])


def test_areas_and_dates_come_along(found, folder):
    assert (folder / "out" / "areas" / "squares-50.csv").is_file() or list(
        (folder / "out" / "areas").glob("*.csv")
    )
    assert open_map(folder / "out").provenance["inputs"]["post"]["acquired"] == "2024-02-03"


def test_a_map_with_scenes_that_failed_says_how_to_go_on(found, folder):
    with pytest.raises(
        OutputError, match=r"out is a map whose scenes are kept in .*out\.work: pass --resume"
    ):
        map_many(folder / "pairs.csv", folder / "out", **OPTIONS)


def test_a_corrected_list_maps_only_what_is_missing(found, folder):
    before = identities(folder / "out")
    again = map_many(folder / "pairs.csv", folder / "out", workers=1, resume=True, **OPTIONS)
    assert (again.reused, len(again.failed)) == (6, 0)
    assert identities(folder / "out") == before
    assert not (folder / "out.work").exists()
    with (folder / "out" / "jobs.csv").open() as file:  # of scenes that earlier runs finished, all is known
        rows = list(csv.DictReader(file))
    assert all(row["attempts"] >= "1" and float(row["seconds"]) > 0 for row in rows)
    assert [row["megapixels"] for row in rows] == ["0.026"] * 6
    assert (
        sum(int(row["buildings"]) for row in rows) == len(before) + again.merged.doubles + again.merged.joined
    )


def test_a_map_that_is_complete_is_not_made_again_and_one_of_others_is_refused(found, folder, monkeypatch):
    monkeypatch.setattr(run, "run_jobs", None)
    again = map_many(folder / "pairs.csv", folder / "out", resume=True, **OPTIONS)
    assert again.was_complete and (again.reused, again.folder) == (6, str(folder / "out"))
    with pytest.raises(InputError, match="was complete before, and was not opened"):
        _ = again.buildings
    with pytest.raises(OutputError, match="is a finished map of other scenes, images or options"):
        map_many(folder / "seven.csv", folder / "out", resume=True, **OPTIONS)


def test_the_images_of_a_merged_map_are_found_for_a_review(found, folder):
    places = []
    for date in ("pre", "post"):
        tiles = folder / f"tiles-{date}"
        tiles.mkdir()
        places.append(tiles)
        for number in range(6):
            (tiles / f"s{number}_{date}.tif").symlink_to(folder / f"s{number}_{date}.tif")
    images = open_images(open_map(folder / "out"), *places)
    shown, _ = images.read(Window(0, 0, SIZE, SIZE), SIZE)
    with rasterio.open(folder / "s0_pre.tif") as file:
        np.testing.assert_array_equal(shown, file.read([1, 2, 3]).transpose(1, 2, 0))
    images.close()


def test_an_output_that_exists_and_options_that_no_scene_can_use_are_refused_before_any_work(found, folder):
    with pytest.raises(OutputError, match="exists: pass --overwrite"):
        map_many(folder / "pairs.csv", folder / "out", **OPTIONS)
    with pytest.raises(InputError, match="there is no format 'dxf'"):
        map_many(folder / "pairs.csv", folder / "new", formats=["dxf"])
    with pytest.raises(InputError, match="windows of 3 px are too small"):
        map_many(folder / "pairs.csv", folder / "new", window_px=3)
    assert not (folder / "new").exists()


def test_a_list_of_which_nothing_can_be_mapped_makes_no_map(folder, monkeypatch):
    lost = Outcome("s0", "failed", reason="it is no image", cause="input")
    monkeypatch.setattr(run, "run_jobs", lambda work, jobs, **rest: [lost])
    (folder / "one.csv").write_text("name,pre,post\ns0,s0_pre.tif,s0_post.tif\n")
    nothing = map_many(folder / "one.csv", folder / "none", **OPTIONS)
    assert (nothing.folder, nothing.failed) == (None, (lost,))
    assert "it is no image" in Path(nothing.work).read_text() and not (folder / "none").exists()
    with pytest.raises(InputError, match="no scene could be mapped: it is no image"):
        _ = nothing.buildings


def test_the_command_says_what_failed_and_exits_with_1(folder, monkeypatch, capsys):
    lost = Outcome("s0", "failed", reason="it is no image", cause="input")
    monkeypatch.setattr(run, "run_jobs", lambda work, jobs, **rest: [lost])
    (folder / "one.csv").write_text("name,pre,post\ns0,s0_pre.tif,s0_post.tif\n")
    with pytest.raises(SystemExit) as ended:
        main(["map-many", str(folder / "one.csv"), "-o", str(folder / "told"), "--format", "none"])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "0 of 1 scene mapped" in told and "it is no image" in told


def test_a_scene_in_blocks_of_rows_is_the_scene(folder, tmp_path, box, monkeypatch):
    pair = Pair(
        "town", *(str(next((folder / "town" / "geotiff").glob(f"*_{date}.tif"))) for date in ("pre", "post"))
    )
    blocks = in_blocks([pair], 0.08)
    assert [(each.name, each.block) for each in blocks] == [("town-1of2", (0, 2)), ("town-2of2", (1, 2))]
    assert in_blocks([pair], 0.2) == [pair]
    options = {key: value for key, value in OPTIONS.items() if key not in ("formats", "align")}
    parts = FolderParts(tmp_path / "parts")
    monkeypatch.setattr("aftermap.inference.ensemble.open_predictor", lambda *asked: box)
    do = SceneWork(parts, tmp_path / "scratch", "box", "off", options).start()
    part, *halves = (parts.fetch(do(job_of(each, {}))["part"], tmp_path) for each in (pair, *blocks))
    tables = {}
    for name, files in {"whole": [part], "halves": halves}.items():
        (tmp_path / name).mkdir()
        found = merge({file.stem: file for file in files}, tmp_path / name, tmp_path / "small", title=name)
        tables[name] = found.buildings.geometry
        assert found.grid.shape == (384, 384)
    rasters = [rasterio.open(tmp_path / name / "damage.tif").read(1) for name in tables]
    assert (rasters[0] == rasters[1]).mean() > 0.99
    # windows of 128 px lie elsewhere in the second block, so a building more or less may be found
    assert 0 < len(tables["whole"]) - 2 < len(tables["halves"]) < len(tables["whole"]) + 2
    shapes = tables["halves"].to_numpy()
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    apart = first < second
    shared = shapely.area(shapely.intersection(shapes[first[apart]], shapes[second[apart]]))
    assert (
        shared < 0.2 * np.minimum(shapely.area(shapes[first[apart]]), shapely.area(shapes[second[apart]]))
    ).all()
    whole, halves = tables.values()
    found, again = (of.intersects(other.union_all()) for of, other in ((whole, halves), (halves, whole)))
    assert (~found).sum() + (~again).sum() <= 1
    apart = whole[found].union_all().symmetric_difference(halves[again].union_all())
    assert apart.area < 0.02 * sum(whole.area)
