import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aftermap.artefacts.checkpoint import read_checkpoint
from aftermap.errors import ModelError

WEIGHTS = OrderedDict(
    [("conv.weight", torch.arange(6.0).reshape(2, 3)), ("bn.num_batches_tracked", torch.tensor(7))]
)


class Evil:
    def __reduce__(self):
        return os.system, ("touch {}",)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    """Writes a file as torch did from 1.6 on, or before."""

    def write(tree, name="checkpoint_best"):
        torch.save(tree, tmp_path / name, _use_new_zipfile_serialization=request.param)
        return tmp_path / name

    return write


def test_epoch_and_numpy_score_are_read_beside_the_weights(save):
    found = read_checkpoint(save({"epoch": 12, "state_dict": WEIGHTS, "best_score": np.float64(0.8125)}))
    assert (found.epoch, found.best_score, found.ignored, found.prefixed) == (12, 0.8125, (), False)
    assert torch.equal(found.state["conv.weight"], WEIGHTS["conv.weight"])
    assert int(found.state["bn.num_batches_tracked"]) == 7


def test_a_score_of_an_old_numpy_is_read(save):
    path = save({"epoch": 1, "state_dict": WEIGHTS, "best_score": np.float64(0.5)}, "new")
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(path.with_name("old"), "w") as target:
            for entry in source.namelist():
                target.writestr(entry, source.read(entry).replace(new, old))
    else:
        path.with_name("old").write_bytes(path.read_bytes().replace(new, old))
    assert read_checkpoint(path.with_name("old")).best_score == 0.5


def test_the_prefix_of_data_parallel_training_is_taken_off(save):
    found = read_checkpoint(save({"state_dict": {f"module.{k}": v for k, v in WEIGHTS.items()}}))
    assert found.prefixed and list(found.state) == list(WEIGHTS)


def test_a_key_with_and_without_prefix_is_refused(save):
    with pytest.raises(ModelError, match=r"holds conv\.weight twice"):
        read_checkpoint(save({**WEIGHTS, "module.conv.weight": torch.zeros(1)}))


def test_what_apex_and_the_optimizer_left_is_reported_and_ignored(save):
    amp = {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 12}}
    found = read_checkpoint(save({"model": WEIGHTS, "optimizer": {"state": {}}, "amp": amp, "epoch": 3}))
    assert found.ignored == ("optimizer", "amp") and found.epoch == 3 and list(found.state) == list(WEIGHTS)


def test_entries_of_the_weights_that_are_no_tensors_are_reported(save):
    assert read_checkpoint(save({"state_dict": {**WEIGHTS, "note": "x"}})).ignored == ("state_dict.note",)


def test_bare_weights_take_score_and_epochs_from_metadata_json(save):
    path = save(dict(WEIGHTS), "model.pth")
    (path.parent / "metadata.json").write_text(json.dumps({"best_score": 0.75, "trained_epochs": 40}))
    found = read_checkpoint(path)
    assert (found.best_score, found.epoch) == (0.75, 40)


def test_safetensors_are_read(tmp_path):
    save_file(dict(WEIGHTS), tmp_path / "w")
    found = read_checkpoint(tmp_path / "w")
    assert found.format == "safetensors" and torch.equal(found.state["conv.weight"], WEIGHTS["conv.weight"])


@pytest.mark.parametrize("place", ["best_score", "state_dict"])
def test_a_malicious_pickle_is_refused_by_the_name_of_what_it_wants_to_run(
    save, place, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tree = {"epoch": 1, "state_dict": dict(WEIGHTS), "best_score": 0.5}
    tree[place] = Evil() if place == "best_score" else {**WEIGHTS, "x": Evil()}
    path = save(tree)
    with pytest.raises(ModelError, match=r"asks for (posix|nt|os)\.system, which weights never need"):
        read_checkpoint(path)
    assert not (tmp_path / "{}").exists()


def test_a_pickled_model_object_is_refused_by_its_class(save):
    with pytest.raises(ModelError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        read_checkpoint(save({"state_dict": torch.nn.Linear(1, 1)}))


def test_other_numpy_types_are_refused_without_advice_to_load_them(save):
    with pytest.raises(ModelError, match="no checkpoint of weights: Can only build Tensor"):
        read_checkpoint(save({"state_dict": WEIGHTS, "best_score": np.float32(0.5)}))


def test_a_plain_pickle_is_not_run_either(tmp_path):
    (tmp_path / "plain").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ModelError, match=r"asks for (posix|nt|os)\.system"):
        read_checkpoint(tmp_path / "plain")


@pytest.mark.filterwarnings("error")
def test_a_pickle_of_a_later_protocol_is_refused_without_a_remark_of_torch(tmp_path):
    (tmp_path / "plain").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=4))
    with pytest.raises(ModelError, match="damaged, or no checkpoint"):
        read_checkpoint(tmp_path / "plain")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99])
def test_a_file_cut_short_is_refused_in_one_line(save, share):
    path = save({"state_dict": {"w": torch.zeros(4000)}, "epoch": 1})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError, match=r"empty|cut short|damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_safetensors_file_cut_short_is_refused(tmp_path):
    save_file(dict(WEIGHTS), tmp_path / "w")
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:-4])
    with pytest.raises(ModelError, match="cut short or damaged"):
        read_checkpoint(tmp_path / "w")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"state_dict": {}, "epoch": 1}, "holds no weights: its entries are state_dict, epoch"),
        ({"epoch": 1, "best_score": 0.1}, "holds no weights: its entries are epoch, best_score"),
        (torch.zeros(3), "holds a Tensor, expected a dictionary of weights"),
    ],
)
def test_a_file_without_weights_says_what_it_holds(save, tree, message):
    with pytest.raises(ModelError, match=message):
        read_checkpoint(save(tree))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html><html>", "not a checkpoint: it starts with '<!DOCTYPE html>"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not a checkpoint"),
        (pickle.dumps({"a": 1}, protocol=2), "no checkpoint"),
        (struct.pack("<Q", 10**12) + b"{", "cut short or damaged"),
    ],
)
def test_other_files_are_not_taken_for_checkpoints(tmp_path, data, message):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_checkpoint(tmp_path / "f")


def test_an_archive_of_checkpoints_is_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights.zip", "w") as archive:
        archive.writestr("weights/res34_loc_0_1_best", b"x")
    with pytest.raises(ModelError, match=r"archive of 1 file \(res34_loc_0_1_best\): unpack it"):
        read_checkpoint(tmp_path / "weights.zip")


def test_a_script_module_is_not_run(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(tmp_path / "s"))
    with pytest.raises(ModelError, match="TorchScript program"):
        read_checkpoint(tmp_path / "s")


def test_a_folder_and_nothing_at_all_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="is a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(ModelError, match=r"cannot read checkpoint .*: No such file"):
        read_checkpoint(tmp_path / "none")


def test_an_archive_of_a_later_zip_is_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    data = bytearray((tmp_path / "a.pth").read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 6] = 101  # version needed to extract: 10.1
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(ModelError, match="is cut short or damaged"):
        read_checkpoint(tmp_path / "a.pth")
