import os
from pathlib import Path

import pytest

from aftermap.files.whole import unsynced, write_bytes


def test_nothing_waits_for_the_disk_where_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    with unsynced():
        write_bytes(tmp_path / "a", b"1")
        with unsynced(False):  # who is called within may not turn it on again
            write_bytes(tmp_path / "b", b"2")
    assert not waited and (tmp_path / "b").read_bytes() == b"2"
    with unsynced(False):
        write_bytes(tmp_path / "c", b"3")
    assert len(waited) == 2  # the file, and its folder
