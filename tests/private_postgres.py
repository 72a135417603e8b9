"""A PostgreSQL of the tests' own, on a socket in a folder: made, started and ended by them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
QUICK = "-F -c listen_addresses='' -c fsync=off -c synchronous_commit=off -c max_connections=40 -c shared_buffers=16MB"


@contextmanager
def private_postgres() -> Iterator[str]:
    """The address of a fresh cluster; tests skip where PostgreSQL is not installed or may not be run."""
    if PROGRAMS is None or not (PROGRAMS / "initdb").is_file():
        pytest.skip("needs PostgreSQL")
    user: list[str] = []
    # pytest's folders are for their owner alone, and the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="aftermap-postgres-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            if (
                shutil.which("runuser") is None
                or subprocess.run(["id", "postgres"], capture_output=True).returncode
            ):
                pytest.skip("needs the user postgres")
            user = ["runuser", "-u", "postgres", "--"]
            shutil.chown(folder, "postgres")
        cluster = folder / "cluster"
        making = [*user, str(PROGRAMS / "initdb"), "-D", str(cluster), "-U", "aftermap", "-A", "trust", "-N"]
        subprocess.run(making, check=True, capture_output=True, cwd="/")
        control = [*user, str(PROGRAMS / "pg_ctl"), "-D", str(cluster), "-w"]
        starting = [*control, "-o", f"{QUICK} -k {folder}", "-l", str(folder / "log"), "start"]
        subprocess.run(starting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd="/")
        try:
            yield f"postgresql://aftermap@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True, cwd="/")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
