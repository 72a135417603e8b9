"""A preparation that dies before any of its file operations goes on to the same dataset."""

from pathlib import Path

from crash_points import crash_points
from made_xbd import box, write_pair
from prepared_datasets import prepare_xbd


def begin(folder: Path) -> None:
    for number in range(2):
        write_pair(folder / "xbd", number, [box(4, 4)], ["destroyed"])
    (folder / "out").mkdir()


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_preparation_killed_at_any_point_goes_on_to_the_same_files(tmp_path):
    (tmp_path / "whole").mkdir()
    begin(tmp_path / "whole")
    prepare_xbd(tmp_path / "whole" / "xbd", tmp_path / "whole" / "out")
    expected = contents(tmp_path / "whole" / "out")
    (tmp_path / "walk").mkdir()
    walked = 0
    for point in crash_points(
        lambda folder: prepare_xbd(folder / "xbd", folder / "out"), begin, tmp_path / "walk"
    ):
        where = f"point {point.number}: {point.operation}"
        prepare_xbd(point.folder / "xbd", point.folder / "out")
        assert contents(point.folder / "out").keys() == expected.keys(), where
        masks = {name: data for name, data in contents(point.folder / "out").items() if name.endswith(".png")}
        assert masks.items() <= expected.items(), where
        walked += 1
    assert walked > 15
