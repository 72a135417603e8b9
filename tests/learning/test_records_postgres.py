"""Runs in a real PostgreSQL server, which dies and comes back."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import warnings
from pathlib import Path

import pytest
from pydantic import SecretStr

from aftermap.errors import RecordsError, RecordsWarning
from aftermap.learning.experiments.records import Records
from aftermap.learning.experiments.tracking import RecordsConfig, connect
from aftermap.learning.run import Run

PASSWORD = "open-sesame-4711"


class Server:
    """A PostgreSQL server of this test's own, on a free port of the loopback interface."""

    def __init__(self, binaries: Path, folder: Path, user: str | None) -> None:
        self.binaries, self.folder, self.user = binaries, folder, user
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user:
            shutil.chown(folder, user)
            shutil.chown(secret, user)
        self.run(
            "initdb", "-D", str(folder / "data"), "-U", "keeper", "-A", "scram-sha-256", f"--pwfile={secret}"
        )

    def run(self, program: str, *words: str) -> None:
        command = [str(self.binaries / program), *words]
        if self.user:
            account = pwd.getpwnam(self.user)
            command = [
                "setpriv",
                f"--reuid={account.pw_uid}",
                f"--regid={account.pw_gid}",
                "--clear-groups",
                *command,
            ]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder, timeout=60
        )
        if done.returncode:
            raise OSError(f"{program}: {done.stderr.strip()[-200:]}")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = str(self.folder / "log")
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "30", "-l", log, "-o", options, "start"
        )

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def url(self) -> SecretStr:
        return SecretStr(f"postgresql://keeper:{PASSWORD}@127.0.0.1:{self.port}/postgres")


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("pg8000")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")) or [Path(shutil.which("pg_ctl") or "")]
    if not found[-1].name:
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    if user and not (shutil.which("setpriv") and any(entry.pw_name == user for entry in pwd.getpwall())):
        pytest.skip("PostgreSQL does not run as root, and there is no account for it")
    folder = Path(tempfile.mkdtemp(prefix="aftermap-postgres-"))
    try:
        try:
            server = Server(found[-1].parent, folder, user)
            server.start()
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_run_outlives_the_server_and_is_complete_when_it_is_back(server, tmp_path):
    config = RecordsConfig(uri=server.url())
    run = Run.start(tmp_path / "runs" / "a", "name: a\n", {"seed": 1})
    connection = connect(config, run.folder)
    with Records(connection, run, {"name": "a", "lr": 0.1}) as records:
        records.log(1, {"score": 0.25, "f1_no-damage": 0.5})
        assert connection.worker.wait(10)
        server.stop()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            for step in (2, 3):
                records.log(step, {"score": step / 4})
                assert connection.worker.wait(20)
            records.log(4, {"score": 0.5})
        assert [warning.category for warning in heard] == [RecordsWarning]
        assert PASSWORD not in str(heard[0].message)
        with pytest.raises(RecordsError, match="cannot be used"):
            connect(config, tmp_path / "other")
        server.start()
        records.log(5, {"score": 0.75})
    found = connect(config, run.folder).client.get_run(records.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"name": "a", "lr": "0.1"}
    history = connection.client.get_metric_history(records.run_id, "score")
    assert [(point.step, point.value) for point in history] == [
        (1, 0.25),
        (2, 0.5),
        (3, 0.75),
        (4, 0.5),
        (5, 0.75),
    ]
    found = connection.client.search_runs([connection.experiment_id], "metrics.`best_f1_no-damage` > 0.4")
    assert [run.info.run_id for run in found] == [records.run_id]
    assert PASSWORD not in "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())


def test_a_wrong_password_is_one_line_without_it(server, tmp_path):
    wrong = SecretStr(f"postgresql://keeper:wrong-{PASSWORD}@127.0.0.1:{server.port}/postgres")
    with pytest.raises(RecordsError, match="password authentication failed") as refused:
        connect(RecordsConfig(uri=wrong), tmp_path / "a")
    assert PASSWORD not in str(refused.value)
