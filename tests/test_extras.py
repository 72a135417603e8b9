"""A command whose extra is not installed says so in one line before any work, in a process that cannot import it."""

import subprocess

import pytest

from aftermap.errors import MissingExtraError
from aftermap.extras import MODULES, extra_of, install_command, lacking, needs
from forked_python import forked_python
from light_process import light_process

COMMANDS = {
    "train": ["train", "localization.yaml", "-o", "run"],
    "train, resumed": ["train", "--resume", "run"],
    "run": ["run", "xview2/plan.yaml", "-o", "run"],
    "search": ["search", "localization.yaml", "--space", "search/small.yaml", "-o", "run"],
    "search, range test": ["search", "localization.yaml", "--range-test", "-o", "run"],
    "adapt": ["adapt", "box", "prepared", "--event", "here", "-o", "run"],
    "meta-train": ["meta-train", "metadamagenet/maml.yaml", "-o", "run"],
    "pretrain": ["pretrain", "prepared", "-o", "run"],
    "export --to openvino": ["export", "box", "--to", "openvino", "-o", "run"],
    "export --to onnx": ["export", "box", "--to", "onnx", "-o", "run"],
    "export --precision int8": ["export", "box", "--to", "openvino", "--precision", "int8", "-o", "run"],
    "bench reference:xview2-resnet34-damage": ["bench", "reference:xview2-resnet34-damage", "-o", "run"],
    "bench box+torch": ["bench", "box+torch", "-o", "run"],
    "runs": ["runs"],
    "runs compare": ["runs", "compare", "a", "b"],
    "runs plot": ["runs", "plot", "a", "-o", "run"],
    "runs export": ["runs", "export", "-o", "run"],
    "runs import": ["runs", "import", "a"],
    "runs ui": ["runs", "ui"],
    "weights import": ["weights", "import", "file", "--as", "xview2-resnet34-damage", "-o", "run"],
    "weights import, changeos": ["weights", "import", "file", "--as", "changeos", "-o", "run"],
    "weights pull": ["weights", "pull", "hf://owner/name", "-o", "run"],
    "weights push": ["weights", "push", "model", "hf://owner/name"],
}

MISSING = [
    ("train", "train", "train"),
    ("train, resumed", "train", "train"),
    ("run", "train", "train"),
    ("search", "train,search", "train,search"),
    ("search", "search", "search"),
    ("search, range test", "train,search", "train"),
    ("adapt", "train", "train"),
    ("meta-train", "train", "train"),
    ("pretrain", "train", "train"),
    ("export --to openvino", "train,onnx,export", "train"),
    ("export --to onnx", "train,onnx,export", "train,onnx,export"),
    ("export --to onnx", "export", "export"),
    ("export --precision int8", "export", "export"),
    ("bench reference:xview2-resnet34-damage", "train", "train"),
    ("bench box+torch", "train", "train"),
    ("runs", "track", "track"),
    ("runs compare", "track", "track"),
    ("runs plot", "track", "track"),
    ("runs export", "track", "track"),
    ("runs import", "track", "track"),
    ("runs ui", "track", "track"),
    ("weights import", "train", "train"),
    ("weights import, changeos", "changeos", "changeos"),
    ("weights pull", "hub", "hub"),
    ("weights push", "hub", "hub"),
]


def without(extras, *words, cwd):
    """The command's end where the modules of some extras, separated by commas, cannot be found."""
    modules = tuple(module for extra in extras.split(",") for module in MODULES[extra])
    return light_process("bare").command(*words, cwd=cwd, absent=modules)


@pytest.mark.parametrize(("command", "absent", "asked"), MISSING)
def test_a_missing_extra_is_told_in_one_line_before_any_work(command, absent, asked, tmp_path):
    done = without(absent, *COMMANDS[command], cwd=tmp_path)
    subject = command.partition(",")[0]
    line = f"aftermap {subject} needs more than the core of aftermap: pip install 'aftermap[{asked}]'"
    assert (done.code, done.err, done.out) == (2, f"aftermap: {line}\n", "")
    assert list(tmp_path.iterdir()) == []


def test_what_is_installed_is_not_asked_for(monkeypatch):
    known = {"torch": True, "apprise": False}
    monkeypatch.setitem(MODULES, "train", ("torch",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if known[name] else None)
    assert lacking("train", "notify") == ("notify",)
    needs("anything", "train")
    with pytest.raises(
        MissingExtraError, match=r"^a message needs more .*: pip install 'aftermap\[notify\]'$"
    ):
        needs("a message", "train", "notify")


def test_an_extra_is_missing_where_its_modules_cannot_be_looked_for(monkeypatch):
    def broken(name):
        raise ValueError(f"{name}.__spec__ is None")

    monkeypatch.setattr("importlib.util.find_spec", broken)
    assert lacking("hub") == ("hub",)


def test_a_module_is_of_the_extra_that_brings_it():
    assert extra_of("torch.nn.functional") == "train"
    assert extra_of("mlflow") == "track"
    assert extra_of("numpy") is None and extra_of(None) is None


def test_what_no_command_foresaw_is_one_line_too(tmp_path):
    """A module of an extra that is imported on the way: the line names the extra, whatever the command is."""
    code = "from aftermap.cli import app\ndef odd(): import apprise\napp.app.command(odd)\napp.main(['odd'])"
    front = f"import sys\nsys.modules['apprise'] = None\n{code}"
    done = subprocess.run([forked_python(), "-c", front], capture_output=True, text=True, timeout=60)
    line = "aftermap: this needs more than the core of aftermap: pip install 'aftermap[notify]'\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_several_extras_are_installed_by_one_command():
    assert install_command("train", "search") == "pip install 'aftermap[train,search]'"
