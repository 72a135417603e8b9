import json

import numpy as np
import pytest
from PIL import Image

from aftermap.cli.app import main
from aftermap.data.scene import Manifest
from made_image_sets import write_labels, write_opencities, write_raster
from made_xbd import box, manifest, scene, write_pair

CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed")
BOXES = [box(1, 1), box(12, 1), box(1, 12), box(20, 20)]


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "storm"
    for number in range(9):
        write_pair(
            root, number, BOXES if number else [], CLASSES if number else [], lon=-85.5 + 0.01 * number
        )
    write_pair(root, 9, [], [], labelled=False)
    return root


def run(capsys, *arguments):
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stopped:
        main(["data", *map(str, arguments)])
    shown = capsys.readouterr()
    return stopped.value.code, shown.out, shown.err


@pytest.fixture
def prepared(source, tmp_path, capsys):
    run(capsys, "prepare", "xbd", source, "-o", tmp_path / "out")
    return tmp_path / "out"


def test_prepare_prints_the_counts(source, tmp_path, capsys):
    code, shown, _ = run(capsys, "prepare", "xbd", source, "-o", tmp_path / "out")
    lines = {
        cells[1].strip(): cells[2].strip()
        for line in shown.splitlines()
        if len(cells := line.split("│")) == 4
    }
    assert code == 0
    assert lines["labelled"] == "9 (1 without buildings)"
    assert lines["unlabelled"] == "1: storm_00000009"
    assert [lines[name] for name in ("polygons", *CLASSES)] == ["32", "8", "8", "8", "8"]


def test_prepare_prints_json_and_nothing_else(source, tmp_path, capsys):
    code, shown, error = run(capsys, "prepare", "xbd", source, "-o", tmp_path / "out", "--json")
    tree = json.loads(shown)
    assert (code, error) == (0, "")
    assert tree["pairs"] == 10
    assert tree["polygons_by_class"] == dict.fromkeys(CLASSES, 8)
    assert tree["unlabelled"] == ["storm_00000009"]


def test_the_result_goes_beside_by_default(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(capsys, "prepare", "xbd", "storm")
    assert (tmp_path / "storm-prepared" / "manifest.json").is_file()


def test_the_unclassified_policy_is_passed_on(source, tmp_path, capsys):
    run(capsys, "prepare", "xbd", source, "-o", tmp_path / "out", "--unclassified", "ignore")
    assert Manifest.load(tmp_path / "out").options["unclassified"] == "ignore"


def test_a_missing_source_is_one_line_and_exit_2(tmp_path, capsys):
    code, shown, error = run(capsys, "prepare", "xbd", tmp_path / "nowhere")
    assert (code, shown) == (2, "")
    assert error.startswith("aftermap: ")
    assert len(error.splitlines()) == 1
    assert "is not a folder" in error


def test_a_foreign_folder_needs_overwrite(source, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("")
    code, _, error = run(capsys, "prepare", "xbd", source, "-o", tmp_path / "out")
    assert code == 2
    assert "--overwrite" in error
    assert run(capsys, "prepare", "xbd", source, "-o", tmp_path / "out", "--overwrite")[0] == 0


def test_split_writes_the_manifest_and_prints_events(prepared, capsys):
    code, shown, _ = run(capsys, "split", prepared, "--by", "block", "--json")
    tree = json.loads(shown)
    assert code == 0
    assert sum(tree["events"]["storm"][name]["scenes"] for name in ("train", "validation", "test")) == 10
    assert sum(tree["events"]["storm"][name]["buildings"] for name in ("train", "validation", "test")) == 32
    assert Manifest.load(prepared).options["split"] == "block"


def test_split_shows_a_table(prepared, capsys):
    _, shown, _ = run(capsys, "split", prepared, "--by", "random", "--fractions", "0.5,0.3,0.2")
    row = next(line for line in shown.splitlines() if "storm" in line and "│" in line)
    assert [cell.split()[0] for cell in row.split("│")[1:-1]] == ["storm", "5", "3", "2"]


def test_split_can_write_another_manifest(prepared, tmp_path, capsys):
    run(capsys, "split", prepared, "--by", "random", "-o", tmp_path / "other" / "new.json")
    other = Manifest.load(tmp_path / "other" / "new.json")
    assert {scene.split for scene in Manifest.load(prepared).scenes} == {"unassigned"}
    assert {scene.split for scene in other.scenes} == {"train", "validation", "test"}
    assert all(scene.damage_mask.is_file() for scene in other.scenes if scene.is_labelled)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fractions", "0.7,x,0.1"), "not a list of numbers"),
        (("--fractions", "0.7,0.7,0.7"), "three shares"),
        (("--hold-out", "strom"), "did you mean 'storm'"),
        (("--by", "event"), "split by block"),
    ],
)
def test_a_split_that_cannot_be_is_one_line_and_exit_2(prepared, capsys, arguments, words):
    code, _, error = run(capsys, "split", prepared, *arguments)
    assert code == 2
    assert words in " ".join(error.split())


def test_check_of_sound_data_exits_0(prepared, capsys):
    run(capsys, "split", prepared, "--by", "block")
    code, shown, _ = run(capsys, "check", prepared)
    assert code == 0
    assert "10 scenes: 0 errors" in shown


def test_check_exits_1_on_errors_and_prints_json(prepared, capsys):
    Manifest.load(prepared).scenes[2].post.unlink()
    code, shown, error = run(capsys, "check", prepared, "--json")
    tree = json.loads(shown)
    assert (code, error) == (1, "")
    assert tree["errors"] == 1
    assert tree["findings"][0] | {"message": ""} == {
        "severity": "error",
        "code": "missing-image",
        "scene": "storm_00000002",
        "message": "",
    }


def test_the_table_lists_the_first_findings_of_a_kind_and_json_all(tmp_path, capsys):
    manifest([scene(f"s{i:02d}", grid=None) for i in range(15)]).save(tmp_path)
    code, shown, _ = run(capsys, "check", tmp_path)
    assert code == 1
    assert sum("missing-image" in line for line in shown.splitlines()) == 21
    assert "and 10 more" in shown
    _, shown, _ = run(capsys, "check", tmp_path, "--json")
    codes = [finding["code"] for finding in json.loads(shown)["findings"]]
    assert codes.count("missing-image") == 30


def test_a_quick_check_reads_no_pixels(prepared, capsys):
    path = Manifest.load(prepared).scenes[2].post
    data = bytearray(path.read_bytes())
    data[1000:1040] = bytes(40)
    path.write_bytes(data)
    assert run(capsys, "check", prepared, "--quick")[0] == 0
    assert run(capsys, "check", prepared)[0] == 1


def test_check_of_an_unprepared_folder_says_what_to_do(source, capsys):
    code, _, error = run(capsys, "check", source)
    assert code == 2
    assert "aftermap data prepare" in " ".join(error.split())


def test_a_backdrop_needs_known_buildings(tmp_path, capsys):
    photo = np.random.default_rng(1).integers(60, 200, (96, 96, 3), dtype=np.uint8)
    (tmp_path / "photos" / "images").mkdir(parents=True)
    Image.fromarray(photo).save(tmp_path / "photos" / "images" / "town.png")
    words = ("synth", "-o", tmp_path / "s", "--scenes", "2", "--size", "96")
    code, _, error = run(capsys, *words, "--backdrop", tmp_path / "photos")
    assert code == 2
    assert "pass --footprints, or put a folder 'masks' beside the images" in " ".join(error.split())
    mask = np.zeros((96, 96), np.uint8)
    mask[20:50, 30:70] = 255
    (tmp_path / "photos" / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "photos" / "masks" / "town.png")
    assert run(capsys, *words, "--backdrop", tmp_path / "photos")[0] == 0
    pre = np.asarray(Image.open(next((tmp_path / "s" / "images").glob("*_pre_disaster.png"))))
    assert (pre == photo).all()
    code, _, error = run(capsys, *words, "--footprints", tmp_path / "photos")
    assert code == 2 and "--footprints is given without --backdrop" in " ".join(error.split())


def test_folds_make_one_of_them_the_validation_split(prepared, tmp_path, capsys):
    places = [scene(f"s{i:02d}", event=f"e{i // 2}", col=2 * i) for i in range(14)]
    manifest(places).save(tmp_path / "m.json")
    code, shown, _ = run(capsys, "split", tmp_path / "m.json", "--folds", "7", "--fold", "3", "--json")
    tree = json.loads(shown)
    validated = [event for event, table in tree["events"].items() if table["validation"]["scenes"]]
    assert code == 0
    assert len(validated) == 1
    assert tree["events"][validated[0]]["validation"]["scenes"] == 2
    assert tree["options"]["split_fold"] == "3 of 7"


def test_the_leaking_folds_are_seven_by_default(tmp_path, capsys):
    manifest([scene(f"s{i:02d}", col=i) for i in range(14)]).save(tmp_path / "m.json")
    code, _, _ = run(capsys, "split", tmp_path / "m.json", "--fold", "1", "--compat-leak")
    chosen = [s.name for s in Manifest.load(tmp_path / "m.json").scenes if s.split == "validation"]
    assert (code, chosen) == (0, ["s00", "s12"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--folds", "7"), "--folds is given without --fold"),
        (("--fold", "0"), "--fold is given without --folds"),
        (("--folds", "2", "--fold", "2"), "fold 2 of 2, expected"),
        (("--folds", "2", "--fold", "0", "--by", "block"), "--by does not go with folds"),
        (("--folds", "2", "--fold", "0", "--seed", "0"), "--seed does not go with folds"),
        (("--by", "block", "--group-zoom", "19"), "split by group"),
        (("--folds", "5", "--fold", "0"), "1 separate groups of scenes cannot be dealt out to 5 folds"),
    ],
)
def test_folds_that_cannot_be_are_one_line_and_exit_2(prepared, capsys, arguments, words):
    code, shown, error = run(capsys, "split", prepared, *arguments)
    assert (code, shown) == (2, "")
    assert words in " ".join(error.split())


def test_open_cities_are_cut_at_several_resolutions(tmp_path, capsys):
    root = write_opencities(tmp_path / "s")
    code, shown, _ = run(
        capsys, "prepare", "opencities", root, "-o", tmp_path / "out", "--crop", "grid", "--size", "100",
        "--resolutions", "0.1,0.2", "--tier", "1", "--json",
    )  # fmt: skip
    tree = json.loads(shown)
    assert (code, tree["scenes"], tree["labelled"]) == (0, 10, 10)


def test_spacenet_tiles_stay_whole(tmp_path, capsys):
    write_raster(tmp_path / "s" / "3band" / "3band_img1.tif", dtype="uint16")
    write_labels(tmp_path / "s" / "geojson" / "Geo_img1.geojson", [(9, 9, 40, 40)])
    code, shown, _ = run(capsys, "prepare", "spacenet", tmp_path / "s", "-o", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(shown)["polygons_by_class"] == {"building": 1}
    assert Manifest.load(tmp_path / "out").scenes[0].width == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stretch", "98,2"), "is not a pair of percentiles"),
        (("--resolutions", "fine"), "is not a list of numbers"),
        (("--jpeg-quality", "0"), "pass a number from 1 to 100"),
        (("--size", "4"), "size_px"),
        (("--resolutions", "0.000003"), "give metres per pixel"),
    ],
)
def test_wrong_options_of_a_reader_are_one_line_and_exit_2(tmp_path, capsys, arguments, words):
    root = write_opencities(tmp_path / "s", images={"train_tier_1/acc/a1": [(9, 9, 20, 20)]})
    code, shown, error = run(capsys, "prepare", "opencities", root, "-o", tmp_path / "out", *arguments)
    assert (code, shown) == (2, "")
    assert words in " ".join(error.split())
    assert "Traceback" not in error


@pytest.mark.parametrize("kind", ["xbd", "folder", "opencities", "spacenet"])
def test_every_reader_has_help_with_an_example(capsys, kind):
    code, shown, _ = run(capsys, "prepare", kind, "--help")
    assert code == 0
    assert f"aftermap data prepare {kind}" in " ".join(shown.split())


@pytest.mark.parametrize("command", ["prepare", "check", "split", "synth"])
def test_every_command_has_help_with_an_example(capsys, command):
    code, shown, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"aftermap data {command}" in shown.split("Example:")[1]
