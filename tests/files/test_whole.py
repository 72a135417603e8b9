import errno
import json
import math
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from aftermap.errors import DataError, InputError, OutputError
from aftermap.files import (
    DiskFullError,
    read_json,
    replacing,
    sha256_of,
    to_plain,
    write_bytes,
    write_json,
    write_text,
    writing,
)


def refusing(code: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_file_appears_when_the_block_ends_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "made" / "table.csv"
    with replacing(path, parents=True) as part:
        part.write_text("a,b\n")
        assert not path.exists() and part.suffix == ".csv" and part.parent == path.parent
    assert path.read_text() == "a,b\n"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


def test_after_an_error_the_older_file_stays(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    path = tmp_path / "a.txt"
    (tmp_path / ".part-a.txt").write_text("half of something long")
    write_text(path, "whole")
    assert path.read_text() == "whole" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_processes_that_write_the_same_file_do_not_share_a_temporary_name(tmp_path):
    with replacing(tmp_path / "a", shared=True) as mine, replacing(tmp_path / "a") as other:
        assert mine != other and str(os.getpid()) in mine.name
        mine.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    assert write_text(tmp_path / "a", "Ä\n").read_bytes() == "Ä\n".encode()
    assert write_bytes(tmp_path / "b", b"\xff").read_bytes() == b"\xff"


def test_checksum_of_the_standard_example(tmp_path):
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, "abc"
    assert sha256_of(write_bytes(tmp_path / "a", b"abc")) == wanted


def test_json_holds_results_and_no_nan(tmp_path):
    @dataclass
    class Score:
        f1: float
        where: Path

    tree = {"score": Score(float("nan"), Path("a/b")), "n": np.arange(3), "x": np.float32(0.5), "s": {2, 1}}
    path = write_json(tmp_path / "a.json", tree)
    assert read_json(path) == {"score": {"f1": None, "where": "a/b"}, "n": [0, 1, 2], "x": 0.5, "s": [1, 2]}
    assert to_plain(math.inf) is None
    with pytest.raises(TypeError, match="object has no place in JSON"):
        write_json(path, {"a": object()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read .*a\.json: No such file"),
        (b"{", r"a\.json is not JSON: "),
        (b"\xff\xfe{", r"a\.json is not JSON: "),
        (b"[" * 100_000, r"a\.json cannot be understood: it is nested too deeply"),
    ],
)
def test_json_that_cannot_be_read_is_an_error_of_the_callers_kind(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "a.json", error=DataError)
    with pytest.raises(InputError):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EROFS, "the file system is read-only: choose another place"),
        (errno.EACCES, "permission denied: choose another place"),
        (errno.ENAMETOOLONG, "the name is too long: choose a shorter one"),
        (errno.EIO, "Input/output error: choose another place"),
    ],
)
def test_a_failed_write_says_why_and_what_to_do(tmp_path, monkeypatch, code, message):
    monkeypatch.setattr(Path, "write_bytes", refusing(code))
    with pytest.raises(OutputError) as caught:
        write_text(tmp_path / "a.txt", "x")
    assert str(caught.value) == f"cannot write {tmp_path / 'a.txt'}: {message}"
    assert not isinstance(caught.value, DiskFullError)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_error_of_its_own(tmp_path, monkeypatch, code):
    path = write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", refusing(code))  # where a file system notices late
    with pytest.raises(DiskFullError, match=r"a\.txt: the disk is full: free some space, then try again"):
        write_text(path, "new")
    with (
        pytest.raises(DiskFullError, match=r"OUT: .* full: free some space, then pass --resume"),
        writing(Path("OUT"), resumable=True),
    ):
        write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    file = write_text(tmp_path / "file", "")
    with pytest.raises(OutputError, match=rf"cannot write {file}/a/b: {file} is a file, expected a folder"):
        write_text(file / "a" / "b", "", parents=True)


def test_a_folder_that_is_not_there_is_named_and_made_where_asked_for(tmp_path):
    path = tmp_path / "no" / "such" / "file"
    with pytest.raises(OutputError, match=rf"there is no folder {path.parent}: make it first, or correct"):
        write_text(path, "x")
    assert write_text(path, "x", parents=True).read_text() == "x"


def test_a_limit_on_the_size_of_files_is_named(tmp_path):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_bytes(tmp_path / "a", b"x" * 2000)
        except OutputError as error:
            os._exit(7 if "larger than a limit here allows" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert list(tmp_path.iterdir()) == []


def test_errors_of_a_library_become_one_line(tmp_path):
    class LibraryError(Exception):
        pass

    with (
        pytest.raises(OutputError, match=r"a: it broke here: choose another place$"),
        replacing(tmp_path / "a", also=(LibraryError,)),
    ):
        raise LibraryError("it broke\n   here")
    with pytest.raises(LibraryError), replacing(tmp_path / "a"):
        raise LibraryError


def test_written_json_reads_as_written(tmp_path):
    tree = {"ä": [1, None, True, "x"], "b": {"c": 0.1}}
    path = write_json(tmp_path / "a", tree)
    assert json.loads(path.read_text()) == tree and path.read_text().endswith("}\n")
