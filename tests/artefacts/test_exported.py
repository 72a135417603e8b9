"""Exported files: the card travels with the graph, and nothing that was changed or lies outside is read."""

import json
import shutil

import onnx
import onnxruntime
import openvino
import pytest

from aftermap.artefacts import exported
from aftermap.artefacts.exported import (
    ExportedCard,
    Graph,
    Source,
    describe_exported,
    is_exported,
    load_exported,
    load_exported_card,
    seal,
)
from aftermap.artefacts.graphs.graph_modules import graph_module
from aftermap.artefacts.graphs.onnx_file import external_tensor, read_metadata, write_metadata
from aftermap.artefacts.graphs.write import save_openvino, to_onnx, to_openvino
from aftermap.errors import ModelError
from aftermap.inference.ensemble import open_predictor
from aftermap.models.configs import UnetConfig
from backend_models import KINDS, export, save

TINY = UnetConfig(encoder_name="test_resnet", encoder_depth=2, decoder_channels=(8, 8))
GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One folder per format, sealed."""
    root = tmp_path_factory.mktemp("exported")
    source = save(root / "m", TINY, licence='"quoted" <b> & é')
    for name in GRAPHS:
        exportable = graph_module(source, inside=True, graph_format=name)
        (root / name).mkdir()
        path = root / name / GRAPHS[name]
        if name == "onnx":
            to_onnx(exportable.module, path)
        else:
            save_openvino(to_openvino(exportable.module), path)
        seal(root / name, exportable.card)
    return root


@pytest.fixture(params=list(GRAPHS))
def folder(made, tmp_path, request):
    return shutil.copytree(made / request.param, tmp_path / request.param)


@pytest.fixture
def onnx_folder(made, tmp_path):
    return shutil.copytree(made / "onnx", tmp_path / "onnx")


@pytest.fixture
def openvino_folder(made, tmp_path):
    return shutil.copytree(made / "openvino", tmp_path / "openvino")


def graph_of(folder):
    return folder / GRAPHS[folder.name]


def edit_card(folder, change):
    file = folder / "exported.json"
    tree = json.loads(file.read_text())
    change(tree)
    file.write_text(json.dumps(tree))


def test_a_folder_comes_back_with_its_card_and_its_graph(folder, made):
    loaded = load_exported(folder)
    assert is_exported(folder) and not is_exported(made / "m")
    assert loaded.path == graph_of(folder)
    assert loaded.card.licence == '"quoted" <b> & é'
    assert loaded.card.graph.source.sha256 == open_predictor(made / "m").sha256
    files = [path for path in folder.iterdir() if path.stem == "model"]
    assert loaded.card.graph.bytes == sum(path.stat().st_size for path in files)
    assert set(loaded.card.graph.files) == {path.name for path in files}


def test_a_bare_graph_file_is_a_model_with_the_same_card(folder, tmp_path):
    bare = tmp_path / f"renamed{graph_of(folder).suffix}"
    shutil.copy(graph_of(folder), bare)
    if bare.suffix == ".xml":
        shutil.copy(folder / "model.bin", tmp_path / "model.bin")
        bare = bare.rename(tmp_path / "model.xml")
    assert is_exported(bare)
    inside, beside = load_exported(bare).card, load_exported(folder).card
    written = {"graph": inside.graph.model_copy(update={"files": {}, "bytes": 0})}
    assert inside.model_copy(update=written) == beside.model_copy(
        update={"graph": beside.graph.model_copy(update={"files": {}, "bytes": 0})}
    )


def test_runtimes_read_the_same_card_from_their_own_metadata(made):
    session = onnxruntime.InferenceSession(made / "onnx" / "model.onnx")
    model = openvino.Core().read_model(made / "openvino" / "model.xml")
    texts = session.get_modelmeta().custom_metadata_map["aftermap"], model.get_rt_info("aftermap").astype(str)
    for text in texts:
        assert ExportedCard.model_validate_json(text).licence == '"quoted" <b> & é'


def test_sealing_again_replaces_the_card_in_the_file(folder):
    card = load_exported_card(folder)
    once = graph_of(folder).stat().st_size
    for limits in ("x" * 40, "y" * 20):
        seal(folder, card.model_copy(update={"limits": limits}))
    assert load_exported(folder).card.limits == "y" * 20
    assert "x" * 40 not in graph_of(folder).read_bytes().decode(errors="replace")
    assert graph_of(folder).stat().st_size - once == 20


def test_an_altered_graph_is_refused(folder):
    path = graph_of(folder) if folder.name == "onnx" else folder / "model.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=rf"{path.name} was altered or cut short: its SHA-256 is"):
        load_exported(folder)
    with pytest.raises(ModelError, match="was altered"):
        load_exported(graph_of(folder))  # the card beside it counts for the file too


def test_a_graph_that_was_cut_short_is_refused(folder):
    path = graph_of(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ModelError, match="cut short"):
        load_exported(folder)
    (folder / "exported.json").unlink()
    with pytest.raises(ModelError, match=r"cannot be read: it is cut short or no"):
        load_exported(path)


def test_weights_of_a_bare_openvino_file_are_checked_by_the_card_inside(openvino_folder):
    (openvino_folder / "exported.json").unlink()
    assert load_exported(openvino_folder / "model.xml").card.name == "m"
    (openvino_folder / "model.bin").write_bytes(b"0" * 64)
    with pytest.raises(ModelError, match=r"model\.bin was altered"):
        load_exported(openvino_folder / "model.xml")


@pytest.mark.parametrize(
    ("kept", "missing"), [("openvino", "model.bin"), ("openvino", "model.xml"), ("onnx", "model.onnx")]
)
def test_a_missing_file_is_named(made, tmp_path, kept, missing):
    folder = shutil.copytree(made / kept, tmp_path / kept)
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=rf"is incomplete: {missing} is missing"):
        load_exported(folder)


def with_external_weights(source, target):
    model = onnx.load(source)
    onnx.save(model, target, save_as_external_data=True, location="weights.data", size_threshold=0)
    return target


def test_weights_outside_of_the_file_are_refused_before_a_runtime_sees_it(onnx_folder, tmp_path):
    path = with_external_weights(onnx_folder / "model.onnx", tmp_path / "outside.onnx")
    assert external_tensor(path) == "weights.data" and external_tensor(onnx_folder / "model.onnx") is None
    with pytest.raises(ModelError, match=r"keeps weights outside of itself, in 'weights\.data'"):
        load_exported(path)
    with_external_weights(onnx_folder / "model.onnx", onnx_folder / "model.onnx")
    with pytest.raises(ModelError, match="keeps weights outside"):
        seal(onnx_folder, load_exported_card(onnx_folder))


def hidden(where):
    """A model whose only outside tensor is where a quick look does not go."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    node = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
    if where == "in a branch":
        branch = onnx.helper.make_graph([node], "b", [], [])
        node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    if where == "in a sparse tensor":
        sparse = onnx.SparseTensorProto(values=tensor, dims=[1])
        graph = onnx.helper.make_graph([], "g", [], [], sparse_initializer=[sparse])
    else:
        graph = onnx.helper.make_graph([] if where == "in a function" else [node], "g", [], [])
    model = onnx.helper.make_model(graph)
    if where == "in a function":
        model.functions.append(onnx.helper.make_function("d", "f", [], ["y"], [node], []))
    return model.SerializeToString()


@pytest.mark.parametrize("where", ["in a node", "in a branch", "in a sparse tensor", "in a function"])
def test_weights_outside_are_found_wherever_they_hide(where, tmp_path):
    (tmp_path / "m.onnx").write_bytes(hidden(where))
    assert external_tensor(tmp_path / "m.onnx") == "../secret"


def test_metadata_are_read_and_written_as_the_package_onnx_does(onnx_folder):
    path = onnx_folder / "model.onnx"
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"author": "somebody", "aftermap": "old"})
    onnx.save(model, path)
    assert read_metadata(path) == {"author": "somebody", "aftermap": "old"}
    write_metadata(path, "aftermap", "new " * 100)
    changed = onnx.load(path)
    assert {p.key: p.value for p in changed.metadata_props} == {
        "author": "somebody",
        "aftermap": "new " * 100,
    }
    assert changed.graph == model.graph
    assert [file.name for file in onnx_folder.glob("*.part")] == []


def test_a_file_that_somebody_else_made_is_refused(onnx_folder, openvino_folder, tmp_path):
    model = onnx.load(onnx_folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    read = openvino.Core().read_model(openvino_folder / "model.xml")
    openvino.save_model(
        openvino.Model(read.outputs, read.get_parameters(), "theirs"), tmp_path / "theirs.xml"
    )
    for name in ("theirs.onnx", "theirs.xml"):
        with pytest.raises(ModelError, match=r"was not exported by aftermap: it holds no card"):
            load_exported(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.onnx", b""),
        ("a.onnx", b"<html></html>" * 9),
        ("a.xml", b"<html/>"),
        ("a.xml", b'<!DOCTYPE net [<!ENTITY a "aaaa">]><net>&a;</net>'),
        ("a.xml", b'<!-- ' + b"-" * 5000 + b' --><!DOCTYPE net [<!ENTITY a "a">]><net>&a;</net>'),
    ],
)  # fmt: skip
def test_a_file_that_is_no_graph_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be read: it is (empty|cut short|no)"):
        load_exported(tmp_path / name)


def test_a_model_larger_than_a_graph_may_be_is_refused(folder, monkeypatch):
    monkeypatch.setattr(exported, "MOST_BYTES", 1000)
    with pytest.raises(ModelError, match="GiB are read"):
        load_exported(folder)
    with pytest.raises(ModelError, match="GiB are read"):
        seal(folder, load_exported_card(folder))


def test_a_card_of_a_later_format_asks_for_an_update(folder):
    edit_card(folder, lambda tree: tree.update(format=2, news=[]))
    with pytest.raises(
        ModelError, match=r"a card of format 2, this aftermap reads format 1: update aftermap"
    ):
        load_exported(folder)


def test_a_card_that_is_no_text_is_refused(folder):
    (folder / "exported.json").write_bytes(b"\xff\xfe\x00{")
    for name in (folder, graph_of(folder)):
        with pytest.raises(ModelError, match=r"the card in .*exported\.json cannot be understood"):
            load_exported(name)


def test_a_card_that_leads_out_of_its_folder_is_refused(folder):
    edit_card(folder, lambda tree: tree["graph"].update(file="../" + tree["graph"]["file"]))
    with pytest.raises(ModelError, match="files must be plain names"):
        load_exported(folder)


def test_a_folder_without_checksums_is_refused(folder):
    edit_card(folder, lambda tree: tree["graph"].update(files={}))
    with pytest.raises(ModelError, match="names no checksums"):
        load_exported(folder)


def test_no_file_and_no_exported_folder_are_refused(made, tmp_path):
    with pytest.raises(ModelError, match=r"is incomplete: no\.onnx is missing"):
        load_exported(tmp_path / "no.onnx")
    with pytest.raises(ModelError, match=r"is not an exported model: it has no exported\.json"):
        load_exported(made / "m")


def test_the_readme_says_what_goes_in_and_how_near_it_is_to_the_original():
    graph = Graph(
        format="onnx",
        file="model.onnx",
        inside=False,
        multiple=32,
        parameters=1234567,
        gmacs=12.34,
        bytes=5_000_000,
        source=Source(name="big", version="3", sha256="ab" * 32),
        parity={
            "scenes": 4,
            "on": "real",
            "reason": "largest difference 0.1",
            "classes": {
                "destroyed": {"f1_original": 0.5, "f1_exported": 0.4875, "f1_against_original": None}
            },
        },
    )
    card = ExportedCard(
        name="big",
        dates=2,
        scheme="joint-damage-scale",
        licence="MIT",
        training={"data": "d", "data_licence": "l"},
        graph=graph,
    )
    text = describe_exported(card)
    assert "- Input `images` (batch, 2, 3, height, width) float32, normalised by the caller" in text
    assert "multiples of 32" in text and "- Normalise by mean 127.5, 127.5, 127.5" in text
    assert "- Parameters: 1,234,567; 12.3 G multiply-accumulates per 1024 px" in text
    assert "Compared with the original on 4 scenes (real), arithmetic f32: largest difference 0.1." in text
    assert "| destroyed | 0.5000 | 0.4875 |  |" in text


def test_a_card_beside_the_graph_that_tells_how_to_read_it_otherwise_is_refused(tmp_path):
    folder = export(save(tmp_path / "model", KINDS["one date"]), tmp_path / "out", "onnx")
    tree = json.loads((folder / "exported.json").read_text())
    (folder / "exported.json").write_text(json.dumps(tree | {"temperature": 3.0}))
    with pytest.raises(ModelError, match="describes another graph than the card inside it"):
        load_exported(folder)
    (folder / "exported.json").write_text(json.dumps(tree | {"building_threshold": 0.3}))
    assert load_exported(folder).card.building_threshold == 0.3
