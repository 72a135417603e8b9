import json
import os
import time
from pathlib import Path

import pytest

from aftermap.errors import OutputError
from aftermap.files import ResultFolder, folders, work_path, write_json, write_text
from crash_points import crash_points

KIND = {"marker": "mark.json", "ours": ("mark.json", "map.txt", "old.txt"), "parts": "rows"}
PLAN = {"model": "m", "rows": 3}
USERS = {"project.qgz": "mine", "styles/a.qml": "mine too"}


def make(out: Path, *, text: str = "new", plan: dict[str, object] = PLAN, **flags: bool) -> int:
    """A result of three parts; gives how many were there already."""
    with ResultFolder(out, plan, **KIND, **flags) as work:
        there = 0
        for number in range(3):
            part = work.parts / f"{number}.txt"
            there += part.exists()
            if not part.exists():
                write_text(part, f"{text} {number}\n", sync=False)
        (work.result / "map.txt").write_text("".join((work.parts / f"{n}.txt").read_text() for n in range(3)))
        write_json(work.result / "mark.json", {"by": "us"})
        work.publish()
    return there


def put_users_files(out: Path) -> None:
    for name, text in USERS.items():
        write_text(out / name, text, parents=True)


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def published(out: Path, text: str = "new") -> dict[str, str]:
    return {**tree(out), "map.txt": "".join(f"{text} {n}\n" for n in range(3))}


def test_a_result_is_published_with_the_names_of_its_files(tmp_path):
    out = tmp_path / "out"
    make(out)
    assert json.loads((out / "mark.json").read_text()) == {"by": "us", "files": ["map.txt", "mark.json"]}
    assert [p.name for p in tmp_path.iterdir()] == ["out"] and tree(out) == published(out)


@pytest.mark.parametrize("listed", [True, False])
def test_overwriting_takes_what_is_ours_and_nothing_else(tmp_path, listed):
    out = tmp_path / "out"
    make(out, text="old")
    if not listed:  # as a version left it that did not list its files
        write_json(out / "mark.json", {"by": "us"})
        write_text(out / "old.txt", "of ours")
    write_text(out / "map.txt.aux.xml", "what GDAL says of the old map")
    put_users_files(out)
    make(out, overwrite=True)
    assert {k: v for k, v in tree(out).items() if k != "mark.json"} == {
        "map.txt": "new 0\nnew 1\nnew 2\n",
        **USERS,
    }


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("again", ["resume", "overwrite"])
def test_a_kill_at_any_point_leaves_the_old_result_or_one_to_go_on_with(
    tmp_path, monkeypatch, again, exchanges
):
    if not exchanges:
        monkeypatch.setattr(folders, "_exchange_at_once", lambda one, other: False)

    def begin(folder: Path) -> None:
        make(folder / "out", text="old")
        put_users_files(folder / "out")

    walked = 0
    for point in crash_points(lambda folder: make(folder / "out", overwrite=True), begin, tmp_path):
        out = point.folder / "out"
        where = f"point {point.number}: {point.operation}"
        if exchanges:
            assert (out / "map.txt").read_text() in ("old 0\nold 1\nold 2\n", "new 0\nnew 1\nnew 2\n"), where
            assert USERS.items() <= tree(out).items(), where
        make(out, overwrite=True, resume=again == "resume")
        assert tree(out) == published(out) and USERS.items() <= tree(out).items(), where
        assert [p.name for p in point.folder.iterdir()] == ["out"], where
        walked += 1
    assert walked > 25


def test_a_first_run_killed_at_any_point_is_gone_on_with_or_begun_again(tmp_path):
    for again in ("resume", "overwrite"):
        scratch = tmp_path / again
        scratch.mkdir()
        for point in crash_points(lambda folder: make(folder / "out"), lambda folder: None, scratch):
            out = point.folder / "out"
            done = out.exists()
            make(out, resume=again == "resume", overwrite=again == "overwrite" or done)
            assert tree(out) == published(out), f"point {point.number}: {point.operation}"
            assert [p.name for p in point.folder.iterdir()] == ["out"]


def test_beginning_again_over_an_interrupted_run_may_be_killed_too(tmp_path):
    def begin(folder: Path) -> None:
        work = ResultFolder(folder / "out", {"model": "other"}, **KIND)
        write_text(work.parts / "0.txt", "other 0\n")
        work.release()

    for point in crash_points(lambda folder: make(folder / "out", overwrite=True), begin, tmp_path):
        out = point.folder / "out"
        make(
            out,
            overwrite=True,
            resume=(point.folder / "out.work" / "journal.json").exists() and not is_other(point),
        )
        assert tree(out) == published(out), f"point {point.number}: {point.operation}"


def is_other(point) -> bool:
    return json.loads((point.folder / "out.work" / "journal.json").read_text())["options"] == {
        "model": "other"
    }


def test_finished_parts_are_gone_on_with_and_not_thrown_away_unasked(tmp_path):
    out = tmp_path / "out"
    with ResultFolder(out, PLAN, **KIND) as work:
        write_text(work.parts / "0.txt", "new 0\n")
    with pytest.raises(OutputError, match="holds an interrupted run: pass --resume"):
        make(out)
    with pytest.raises(OutputError, match="comes from a run with other model: repeat"):
        make(out, plan={**PLAN, "model": "another"}, resume=True)
    assert make(out, resume=True) == 1 and tree(out) == published(out)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    out = tmp_path / "out"
    put_users_files(out)
    with pytest.raises(OutputError, match="is not a result of aftermap, so --overwrite leaves it"):
        make(out, overwrite=True)
    assert tree(out) == USERS
    work = work_path(tmp_path / "other")
    put_users_files(work)
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="is not an interrupted run: move it away"):
            make(tmp_path / "other", **flags)
    assert tree(work) == USERS


def test_what_the_user_put_into_a_work_folder_stops_us(tmp_path):
    out = tmp_path / "out"
    with ResultFolder(out, PLAN, **KIND) as work:
        write_text(work.path / "notes.txt", "mine")
    with pytest.raises(OutputError, match=r"holds notes\.txt, which is not of the interrupted run"):
        make(out, overwrite=True)
    assert (work_path(out) / "notes.txt").read_text() == "mine"


def test_one_process_writes_at_a_time_and_a_dead_one_does_not_count(tmp_path):
    out = tmp_path / "out"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        work = ResultFolder(out, PLAN, **KIND)
        write_text(work.parts / "0.txt", "new 0\n")
        if os.fork() == 0:  # a worker, which lives longer than its parent
            os.close(write)  # or it would wait for itself
            os.read(read, 1)
            os._exit(0)
        time.sleep(600)
        os._exit(0)
    while not (work_path(out) / "rows" / "0.txt").exists():
        pass
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match=rf"out\.work is being written by process {child}: wait"):
            make(out, **flags)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert make(out, resume=True) == 1
    os.close(write)
    os.close(read)


def test_a_result_that_an_older_version_left_aside_comes_back(tmp_path):
    out = tmp_path / "out"
    make(out, text="old")
    out.rename(tmp_path / "out.old")
    (tmp_path / "out.work" / "result").mkdir(parents=True)
    (tmp_path / "out.work" / "rows").mkdir()
    with pytest.raises(OutputError, match="out exists: pass --overwrite"):
        make(out)
    assert tree(out)["map.txt"] == "old 0\nold 1\nold 2\n"
    make(out, overwrite=True)
    assert tree(out) == published(out)


def test_a_folder_called_old_is_the_users(tmp_path):
    write_text(tmp_path / "out.old" / "mine", "", parents=True)
    make(tmp_path / "out")
    assert (tmp_path / "out.old" / "mine").exists()
