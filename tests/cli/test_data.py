import json

import pytest

from aftermap.cli.app import main
from aftermap.data.scene import Manifest
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
        (("--fractions", "0.7,x,0.1"), "other things than numbers"),
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
    path.write_bytes(path.read_bytes()[:1500])
    assert run(capsys, "check", prepared, "--quick")[0] == 0
    assert run(capsys, "check", prepared)[0] == 1


def test_check_of_an_unprepared_folder_says_what_to_do(source, capsys):
    code, _, error = run(capsys, "check", source)
    assert code == 2
    assert "aftermap data prepare" in " ".join(error.split())


def test_a_backdrop_needs_footprints(tmp_path, capsys):
    code, _, error = run(capsys, "synth", "-o", tmp_path / "s", "--backdrop", tmp_path)
    assert code == 2
    assert "--backdrop is given without --footprints" in " ".join(error.split())


@pytest.mark.parametrize("command", ["prepare", "check", "split", "synth"])
def test_every_command_has_help_with_an_example(capsys, command):
    code, shown, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"aftermap data {command}" in shown.split("Example:")[1]
