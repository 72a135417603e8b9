import json
import os

import pytest

from aftermap.artefacts.store import load_model
from aftermap.errors import OutputError
from aftermap.files import choices
from aftermap.inference.backends import cache
from aftermap.inference.backends.converted import convert
from aftermap.models.configs import CustomConfig
from backend_models import KINDS, save


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "model.xml").write_text("graph")
        (folder / "model.bin").write_bytes(b"weights")


def test_a_graph_is_made_once(folder):
    make = Maker()
    paths = [cache.kept_graph("key", "model.xml", make) for _ in range(3)]
    assert make.calls == 1 and paths == [folder / "graphs" / "key" / "model.xml"] * 3


@pytest.mark.parametrize("harm", ["short", "missing", "contents"])
def test_a_graph_that_is_not_whole_is_made_again(folder, harm):
    make = Maker()
    entry = cache.kept_graph("key", "model.xml", make).parent
    match harm:
        case "short":
            (entry / "model.bin").write_bytes(b"wei")
        case "missing":
            (entry / "model.bin").unlink()
        case "contents":
            (entry / "contents.json").write_text("{")
    assert cache.kept_graph("key", "model.xml", make).read_text() == "graph"
    assert make.calls == 2 and (entry / "model.bin").read_bytes() == b"weights"


def test_nothing_is_left_of_a_graph_that_could_not_be_made(folder):
    def fails(folder):
        (folder / "model.xml").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.kept_graph("key", "model.xml", fails)
    assert list((folder / "graphs").iterdir()) == []


def test_another_program_that_was_quicker_is_taken(folder):
    def late(part):
        Maker()(part)
        cache.kept_graph("key", "model.xml", Maker())

    assert cache.kept_graph("key", "model.xml", late).read_text() == "graph"
    assert [path.name for path in (folder / "graphs").iterdir()] == ["key"]


def test_the_graphs_used_longest_ago_go_first(folder, monkeypatch):
    monkeypatch.setattr(cache, "MOST_GRAPHS", 2)
    for age, key in ((300, "a"), (200, "b"), (100, "c")):
        entry = cache.kept_graph(key, "model.xml", Maker()).parent
        os.utime(entry, (1e9 - age, 1e9 - age))
    cache.kept_graph("b", "model.xml", Maker())  # used again
    cache.kept_graph("d", "model.xml", Maker())
    assert sorted(path.name for path in (folder / "graphs").iterdir()) == ["b", "d"]


def test_the_users_cache_is_used_where_no_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("AFTERMAP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "aftermap"


def test_without_a_folder_that_can_be_written_a_temporary_one_serves(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path / "file" / "cache"))
    path = cache.kept_graph("of this program", "model.xml", Maker())
    assert path.is_file() and not path.is_relative_to(tmp_path)
    choices.remember("choice", {"runtime": "torch"})
    assert choices.recall("choice") == {"runtime": "torch"}


def test_a_full_disk_is_one_line(folder, monkeypatch):
    def full(part):
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*key: the disk is full"):
        cache.kept_graph("key", "model.xml", full)


def test_facts_that_cannot_be_read_are_forgotten(folder):
    choices.remember("choice", {"runtime": "torch"})
    (folder / "choices" / "choice.json").write_text("[1")
    assert choices.recall("choice") is None and choices.recall("another") is None
    (folder / "choices" / "choice.json").write_text(json.dumps([1]))
    assert choices.recall("choice") is None


def test_a_model_is_converted_once_and_other_weights_again(folder, tmp_path):
    one, other = (load_model(save(tmp_path / str(seed), KINDS["one date"], seed)) for seed in (0, 1))
    first = convert(one, "openvino")
    written = first.path.stat().st_mtime_ns
    assert convert(one, "openvino").path == first.path and first.path.stat().st_mtime_ns == written
    assert convert(other, "openvino").path != first.path
    assert first.path.is_relative_to(folder) and first.sha256 == one.sha256


def test_models_of_the_users_own_code_are_not_kept(folder, tmp_path):
    from colour_town import save_colour_model

    loaded = load_model(save_colour_model(tmp_path / "colours"))
    assert isinstance(loaded.card.model, CustomConfig)
    assert not convert(loaded, "openvino").path.is_relative_to(folder)
