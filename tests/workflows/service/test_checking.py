"""Uploads are looked at by a process of their own."""

import signal

import pytest

from aftermap.errors import InputError
from aftermap.workflows.service import checking
from aftermap.workflows.service.checking import check_apart
from aftermap.workflows.service.uploads import TooLargeError, check_file
from reviewed_map import make_map


def test_it_says_what_is_said_here_and_refuses_likewise(tmp_path):
    make_map(tmp_path)
    image = tmp_path / "before.tif"
    assert check_apart(image, "image", 10**6) == check_file(image, "image", 10**6)
    with pytest.raises(TooLargeError, match="36,864 pixels"):
        check_apart(image, "image", 100)


def test_a_file_that_ends_whoever_looks_at_it_is_refused(tmp_path, monkeypatch):
    """The interpreter is one that dies as a library's fault would make it."""
    dying = tmp_path / "python"
    dying.write_text(f"#!/bin/sh\nkill -{signal.SIGSEGV} $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(checking.sys, "executable", str(dying))
    with pytest.raises(InputError, match=r"a\.tif cannot be read: what looked at it ended \(-11\)"):
        check_apart(tmp_path / "a.tif", "image", 100)
    slow = "#!/bin/sh\nexec sleep 30\n"
    dying.write_text(slow)
    monkeypatch.setattr(checking, "SECONDS", 0.2)
    with pytest.raises(InputError, match="to look at"):
        check_apart(tmp_path / "a.tif", "image", 100)
