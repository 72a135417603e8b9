import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

import mapped_scenes as scenes
from aftermap.errors import OutputError
from aftermap.files import write_json
from aftermap.remote import Address, Online
from aftermap.workflows.many import lease
from aftermap.workflows.many.bucket import BucketDestination, BucketParts

EVENT = Address.parse("s3://maps/event")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A bucket in memory, for every way there."""
    from obstore.store import MemoryStore

    held = MemoryStore()
    monkeypatch.setattr(Online, "_store", lambda self, place: held)
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))
    return held


def names() -> list[str]:
    return sorted(stat.address.key for stat in Online().list(Address.parse("s3://maps/event")))


def a_map(folder: Path, *also: str) -> None:
    """Files as a map has them."""
    write_json(folder / "provenance.json", {"scale": "joint-damage-scale"})
    for name in also:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)


def test_the_first_of_two_parts_stays(tmp_path):
    parts = BucketParts(EVENT.join("parts"))
    for number, expected in ((1, True), (2, False)):
        file = tmp_path / f"{number}.zip"
        file.write_bytes(bytes([number]) * 12_000_000)
        assert parts.keep("a-0", file) is expected
    assert parts.names() == {"a-0"}
    assert parts.fetch("a-0", tmp_path / "here").read_bytes()[:1] == b"\x01"


def test_a_worker_gets_the_address_and_no_connection():
    import pickle

    parts = BucketParts(EVENT.join("parts"))
    assert parts.names() == set()
    assert len(pickle.dumps(parts)) < 500
    assert pickle.loads(pickle.dumps(parts)) == parts


def test_the_map_is_put_with_its_report_last_and_the_parts_go(tmp_path):
    with BucketDestination(EVENT, resume=False, overwrite=False) as target:
        file = scenes.write_part(tmp_path, "a", scenes.grid_at(0, 0), scenes.table([]))
        target.kept.keep("a-0", file)
        a_map(target.result, "damage.tif", "areas/h3-9.csv")
        put = []
        target._online.write = lambda address, data, **rest: (
            put.append(address.name) or Online.write(target._online, address, data, **rest)
        )
        assert target.finish(keep=False) == "s3://maps/event"
    assert put[-1] == "provenance.json"
    assert names() == ["event/areas/h3-9.csv", "event/damage.tif", "event/provenance.json"]
    assert json.loads(Online().read(EVENT.join("provenance.json")))["files"] == [
        *("areas/h3-9.csv", "damage.tif", "provenance.json")
    ]


def test_what_an_older_map_had_and_the_new_one_has_not_is_deleted_and_the_users_files_stay():
    for also in (("old.csv",), ("new.csv",)):
        with BucketDestination(EVENT, resume=False, overwrite=True) as target:
            a_map(target.result, *also)
            target.finish(keep=False)
        Online().write(EVENT.join("notes.txt"), b"mine")
    assert names() == ["event/new.csv", "event/notes.txt", "event/provenance.json"]


def test_a_map_or_an_interrupted_run_in_the_way_is_refused(tmp_path):
    Online().write(EVENT.join("parts", "a-0.zip"), b"part")
    with pytest.raises(OutputError, match="holds an interrupted run: pass --resume"):
        BucketDestination(EVENT, resume=False, overwrite=False)
    with BucketDestination(EVENT, resume=True, overwrite=False) as target:
        assert target.kept.names() == {"a-0"}
        a_map(target.result)
        target.finish(keep=False)
    for resume in (False, True):
        with pytest.raises(OutputError, match="exists: pass --overwrite"):
            BucketDestination(EVENT, resume=resume, overwrite=False)


def held_by(process: int, machine: str | None = None) -> None:
    told = {"machine": machine or socket.gethostname(), "process": process, "number": "another"}
    Online().write(EVENT.join(lease.NAME), json.dumps(told).encode())


def opened(**rest: bool) -> BucketDestination:
    return BucketDestination(EVENT, **{"resume": True, "overwrite": False, **rest})


def test_a_second_command_is_refused_while_the_first_lives_and_let_in_when_it_is_done():
    with opened():
        with pytest.raises(OutputError, match=rf"is being written by process {os.getpid()} of .*--take-over"):
            opened()
        assert "event/lease.json" in names()
    assert names() == []
    with opened():
        pass


def test_a_command_that_died_is_followed_at_once_on_its_machine_and_later_or_when_told_elsewhere(monkeypatch):
    gone = subprocess.Popen(["true"])
    gone.wait()
    held_by(gone.pid)
    with opened():
        pass
    held_by(gone.pid, "elsewhere")
    with pytest.raises(OutputError, match=f"by process {gone.pid} of elsewhere, which gave a sign . s ago"):
        opened()
    with opened(take_over=True):
        pass
    held_by(1, "elsewhere")
    monkeypatch.setattr(lease, "LASTS_SECONDS", 0.0)  # its last sign is that old
    with opened():
        pass
    assert names() == []


def test_who_was_taken_over_leaves_map_and_lease_to_the_other():
    with opened() as target:
        a_map(target.result)
        held_by(1, "elsewhere")
        with pytest.raises(OutputError, match="was taken over by process 1 of elsewhere"):
            target.finish(keep=False)
    assert names() == ["event/lease.json"]


def test_signs_are_given_while_a_command_works(monkeypatch):
    monkeypatch.setattr(lease, "_EVERY_SECONDS", 0.01)
    with opened():
        Online().delete(EVENT.join(lease.NAME))
        end = time.monotonic() + 30
        while not names():
            assert time.monotonic() < end


@pytest.mark.parametrize("address", ["https://host/event", "s3://maps", "file:///tmp/event"])
def test_addresses_that_cannot_be_an_output_are_refused(address):
    with pytest.raises(OutputError, match="cannot be an output"):
        BucketDestination(Address.parse(address), resume=False, overwrite=False)
