import os
from pathlib import Path

import pytest

from aftermap.errors import OutputError
from aftermap.files import folders, remove_stale, replacing_folder
from crash_points import crash_points

OURS = ("card.json", "graph*")


def older(tmp_path: Path) -> Path:
    """A result of ours into which a user has put things."""
    folder = tmp_path / "out"
    (folder / "project" / "styles").mkdir(parents=True)
    for name in (
        "card.json",
        "graph-old",
        "card.json.aux.xml",
        "notes.txt",
        "project/a.qgz",
        "project/styles/b.qml",
    ):
        (folder / name).write_text(f"old {name}")
    (folder / "project" / "link").symlink_to("a.qgz")
    return folder


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


NEW = {
    "card.json": "new card.json",
    "notes.txt": "old notes.txt",
    "project/a.qgz": "old project/a.qgz",
    "project/link": "old project/a.qgz",
    "project/styles/b.qml": "old project/styles/b.qml",
}


@pytest.mark.parametrize("system", ["exchanges", "renames only", "does not link"])
def test_what_is_ours_is_replaced_and_what_is_the_users_stays(tmp_path, monkeypatch, system):
    if system == "renames only":
        monkeypatch.setattr(folders, "_exchange_at_once", lambda one, other: False)
    if system == "does not link":
        monkeypatch.setattr(os, "link", lambda *a, **k: (_ for _ in ()).throw(PermissionError(1, "no")))
    folder = older(tmp_path)
    with replacing_folder(folder, ours=OURS) as part:
        (part / "card.json").write_text("new card.json")
        assert tree(folder)["card.json"] == "old card.json"
    assert tree(folder) == NEW and (folder / "project" / "link").is_symlink()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_after_an_error_the_older_folder_stays(tmp_path):
    folder = older(tmp_path)
    before = tree(folder)
    with pytest.raises(ZeroDivisionError), replacing_folder(folder, ours=OURS) as part:
        (part / "card.json").write_text("new")
        raise ZeroDivisionError
    assert tree(folder) == before and [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("aside", "making"), [(".part-old-out", ".part-out"), ("out.old", "out.part")])
def test_what_a_killed_process_moved_aside_comes_back(tmp_path, aside, making):
    folder = older(tmp_path)
    folder.rename(tmp_path / aside)
    (tmp_path / making).mkdir()
    (tmp_path / making / "half").write_text("")
    with replacing_folder(folder, ours=OURS) as part:
        (part / "card.json").write_text("new card.json")
    assert tree(folder) == NEW and {p.name for p in tmp_path.iterdir()} <= {"out", "out.part"}


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_kill_at_any_point_leaves_the_old_folder_or_the_new_one(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(folders, "_exchange_at_once", lambda one, other: False)

    def replace(place: Path) -> None:
        with replacing_folder(place / "out", ours=OURS) as part:
            (part / "card.json").write_text("new card.json")

    walked = 0
    for point in crash_points(replace, older, tmp_path):
        where = f"point {point.number}: {point.operation}"
        if exchanges:
            cards = tree(point.folder / "out")
            assert cards["card.json"] in ("old card.json", "new card.json"), where
            assert (
                cards.items() >= {name: text for name, text in NEW.items() if name != "card.json"}.items()
            ), where
        replace(point.folder)
        assert tree(point.folder / "out") == NEW, where
        assert [path.name for path in point.folder.iterdir()] == ["out"], where
        walked += 1
    assert walked > 10


def test_folders_of_the_user_with_names_like_ours_stay(tmp_path):
    (tmp_path / "out.old").mkdir()
    (tmp_path / "out.old" / "mine").write_text("")
    with replacing_folder(tmp_path / "out", ours=OURS) as part:
        (part / "card.json").write_text("new")
    assert tree(tmp_path) == {"out/card.json": "new", "out.old/mine": ""}


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    real = older(tmp_path / "disk")
    link = tmp_path / "link"
    link.symlink_to(real)
    with replacing_folder(link, ours=OURS) as part:
        (part / "card.json").write_text("new card.json")
    assert link.is_symlink() and tree(real) == NEW


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"file is a file, expected a folder"),
        replacing_folder(tmp_path / "file" / "out", ours=OURS),
    ):
        pass


def test_what_a_killed_process_left_half_made_goes(tmp_path):
    (tmp_path / ".part-model").mkdir()
    (tmp_path / ".part-model" / "weights").write_text("half")
    (tmp_path / ".part-card.json").write_text("half")
    (tmp_path / "notes.txt").write_text("the user's")
    remove_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
