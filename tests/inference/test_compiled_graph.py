"""A small graph is compiled once on a computer; what was kept gives the same answers, and is checked."""

from pathlib import Path

import numpy as np
import pytest

from aftermap.inference.backends import openvino as backend
from aftermap.inference.backends.base import Execution
from aftermap.inference.backends.runtimes import open_exported

BOX = Path(backend.__file__).parents[2] / "box" / "exported" / "openvino-int8"


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """The folder where graphs are kept, and the devices that something was compiled for."""
    monkeypatch.setenv("AFTERMAP_CACHE", str(tmp_path))
    calls, whole = [], backend.openvino.Core.compile_model

    def counted(core, model, device, settings):
        calls.append(device)
        return whole(core, model, device, settings)

    monkeypatch.setattr(backend.openvino.Core, "compile_model", counted)
    return tmp_path / "graphs", calls


def logits(threads=1):
    network = open_exported(BOX, Execution(threads=threads))
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 3, 96, 64), np.uint8)
    return network(network.prepare(images)).copy()


def test_what_was_kept_gives_the_same_bits(compiled):
    folder, calls = compiled
    first = logits()
    assert calls == ["CPU"] and len(list(folder.glob("*/compiled.blob"))) == 1
    assert np.array_equal(logits(), first) and calls == ["CPU"]


def test_other_settings_are_compiled_apart(compiled):
    folder, calls = compiled
    logits(threads=1), logits(threads=2)
    assert len(calls) == 2 and len(list(folder.glob("*/compiled.blob"))) == 2


def test_one_that_has_changed_on_the_disk_is_not_believed(compiled):
    folder, calls = compiled
    first = logits()
    (blob,) = folder.glob("*/compiled.blob")
    stored = bytearray(blob.read_bytes())
    stored[len(stored) // 2] ^= 1
    blob.write_bytes(stored)
    assert np.array_equal(logits(), first) and len(calls) == 2


def test_a_large_graph_is_not_kept(compiled, monkeypatch):
    folder, calls = compiled
    monkeypatch.setattr(backend, "_LARGEST_KEPT_BYTES", 1000)
    logits(), logits()
    assert len(calls) == 2 and not folder.exists()


def test_the_answer_of_what_is_kept_is_compared_once(compiled, monkeypatch):
    asked, whole = [], backend.OpenvinoNetwork.__call__

    def counted(network, images):
        asked.append(images.shape)
        return whole(network, images)

    monkeypatch.setattr(backend.OpenvinoNetwork, "__call__", counted)
    open_exported(BOX, Execution(threads=1)), open_exported(BOX, Execution(threads=1))
    assert len(asked) == 1
    open_exported(BOX, Execution(threads=2))
    assert len(asked) == 2
    monkeypatch.setattr(backend, "_LARGEST_KEPT_BYTES", 1000)
    open_exported(BOX, Execution(threads=1)), open_exported(BOX, Execution(threads=1))
    assert len(asked) == 4
