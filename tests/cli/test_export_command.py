"""The export command: what it prints, and how it ends."""

import json

import pytest

from aftermap.cli.app import main
from aftermap.workflows.export import run as export
from backend_models import KINDS, save
from squares import make_dataset


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("places")
    config = KINDS["two dates"].model_copy(
        update={"encoder_name": "resnet10t"}
    )  # which sees major damage here
    return save(root / "model", config), make_dataset(root / "squares")


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main(["export", *(str(word) for word in words)])
    return ended.value.code


def test_an_export_that_passes_prints_its_report_as_json_and_nothing_else(places, tmp_path, capsys):
    model, data = places
    assert run(model, "--to", "onnx", "--tiles", data, "-o", tmp_path / "out", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["folder"], tree["parity"]["passed"]) == (str(tmp_path / "out"), True)
    assert tree["graph"]["inside"] is True and tree["graph"]["files"].keys() == {"model.onnx"}


def test_a_table_shows_every_class_and_where_the_model_is(places, tmp_path, capsys):
    model, data = places
    out = tmp_path / "out"
    assert run(model, "--to", "onnx", "--normalise", "outside", "--tiles", data, "-o", out) == 0
    printed = capsys.readouterr().out
    for name in ("building", "no-damage", "minor-damage", "major-damage", "destroyed"):
        assert name in printed
    assert printed.rstrip().endswith(f": {out / 'model.onnx'}")


def test_beyond_the_budget_it_ends_with_1_says_why_and_writes_nothing(places, tmp_path, capsys):
    model, data = places
    words = ("--budget", "difference_max=0", "--budget", "difference_quantile=0")
    out = tmp_path / "out"
    assert run(model, "--to", "onnx", "--precision", "fp16", "--tiles", data, *words, "-o", out) == 1
    told = capsys.readouterr()
    assert "aftermap: not exported, " in told.err and "where 0 is allowed" in told.err
    assert "no-damage" in told.out  # the report is shown all the same
    assert not list(tmp_path.iterdir())


def test_a_wrong_class_is_named_where_it_ends_with_1(places, tmp_path, capsys, monkeypatch):
    model, data = places
    right = export.graph_module

    def wrong(*arguments, **options):
        made = right(*arguments, **options)
        made.module.model.head.bias.data[3] -= 50  # nothing is major damage any more
        return made

    monkeypatch.setattr(export, "graph_module", wrong)
    assert run(model, "--to", "onnx", "--tiles", data, "--budget", "least_px=1", "-o", tmp_path / "out") == 1
    assert "aftermap: not exported, major-damage fell from F1 " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--budget", "agrement=0.5"), "--budget: unknown key 'agrement': did you mean 'agreement'?"),
        (("--int8", "ranges=wide"), "--int8: ranges: "),
        (("--precision", "int8"), "int8 needs scenes to measure ranges on: pass --calibrate"),
        (("--execution", "bf16"), "bf16 on the processor is for OpenVINO only"),
        (("--tiles", "nowhere"), "nowhere holds no manifest.json"),
    ],
)
def test_a_mistake_is_one_line_and_ends_with_2(places, tmp_path, capsys, words, told):
    assert run(places[0], "--to", "onnx", *words, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
