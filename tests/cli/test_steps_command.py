"""`aftermap data steps`: tables, JSON, the picture, and what is refused."""

import json

import pytest

from aftermap.cli.app import main
from coloured_cities import make_cities
from labelled_towns import GROUNDS, make_towns


@pytest.fixture(scope="module")
def cities(tmp_path_factory):
    return make_cities(tmp_path_factory.mktemp("steps") / "cities")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["data", "steps", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_json_tells_tiles_pixels_and_what_is_hidden(capsys, cities):
    code, out, _ = run(capsys, cities, "--task", "building, car / tree", "--json")
    tree = json.loads(out)
    first, second = tree["steps"]
    assert code == 0
    assert tree["never_learned"] == ["impervious_surfaces", "low_vegetation", "clutter"]
    assert [step["channels"] for step in tree["steps"]] == [3, 4]
    assert first["pixels"].keys() == {"building", "car"}
    assert first["hidden"]["tree"] == second["pixels"]["tree"] > 0
    assert sum((*first["pixels"].values(), *first["hidden"].values())) == len(first["tiles"]) * 64 * 64


def test_only_the_training_split_is_shown(capsys, cities):
    tree = json.loads(run(capsys, cities, "--task", "offline", "--json")[1])
    assert tree["scenes"] == len(tree["steps"][0]["tiles"]) == 12


def test_the_image_split_gives_every_tile_to_one_step(capsys, cities):
    tree = json.loads(run(capsys, cities, "--task", "6s", "--filter", "image-split", "--json")[1])
    names = [name for step in tree["steps"] for name in step["tiles"]]
    assert len(names) == len(set(names)) == 12


def test_the_table_names_classes_and_the_picture(capsys, cities, tmp_path):
    picture = tmp_path / "steps.png"
    code, out, _ = run(capsys, cities, "--task", "222a", "--rows", 1, "-o", picture)
    assert code == 0
    assert "task 222a: 3 steps, filter overlapped, background added" in out
    assert all(name in out for name in ("low_vegetation", "clutter", "12 of 12"))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_a_task_those_of_the_legend_are_named(capsys, cities):
    code, out, err = run(capsys, cities)
    assert (code, out) == (2, "")
    assert "legend isprs has the tasks offline, 222a, 321, 6s: name one with --task" in " ".join(err.split())


def test_several_datasets_are_shown_as_one(capsys, tmp_path):
    roofs, grounds = make_towns(tmp_path / "roofs"), make_towns(tmp_path / "grounds", legend=GROUNDS)
    words = [roofs, grounds, "--task", "building / road, water", "-o", tmp_path / "steps.png", "--json"]
    code, out, _ = run(capsys, *words)
    first, second = json.loads(out)["steps"]
    assert code == 0
    assert first["tiles"] == [f"roofs-tile_{n}" for n in range(4)]
    assert first["pixels"] == {"building": 4 * 24 * 24}
    assert second["tiles"] == [f"grounds-tile_{n}" for n in range(4)]
    assert second["pixels"] == {"road": 4 * 24 * 24, "water": 4 * 24 * 24}
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--task", "6z"], "has no task '6z'"),
        (["--task", "bilding, car"], "did you mean building"),
        (["--task", "car / car"], "'car' is in steps 0 and 1"),
        (["--task", "6s", "--filter", "disjoint"], "the filter disjoint bars all 12 tiles that hold it"),
        (["--task", "6s", "--rows", "0"], "--rows is 0, expected 1 or more"),
        (["--task", "6s", "-o", "steps.tif"], "ends in .png"),
    ],
)
def test_wrong_tasks_are_one_line_and_exit_2(capsys, cities, arguments, reason):
    code, out, err = run(capsys, cities, *arguments)
    assert (code, out) == (2, "")
    assert reason in err
    assert err.count("\n") == 1
