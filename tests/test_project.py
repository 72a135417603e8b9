"""The files around the code say what the code says."""

import json
import re
import tomllib
from importlib import resources
from pathlib import Path

import yaml

import aftermap
from long_files import LONG_FILES

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_version_is_the_same_everywhere():
    assert str(read("CITATION.cff")["version"]) == aftermap.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest and newest[1] == aftermap.__version__


def test_hooks_run_the_linter_that_is_pinned():
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned and read(".pre-commit-config.yaml")["repos"][0]["rev"] == f"v{pinned[1]}"


def test_the_workflow_tries_every_python_that_is_promised():
    tried = read(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    promised = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text()
    )
    assert tried == promised


def test_what_is_made_in_the_workflow_and_the_check_can_be_made():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    texts = [(ROOT / name).read_text() for name in (".github/workflows/ci.yml", ".ci/run")]
    made = {name for text in texts for name in re.findall(r"\bmake ([a-z]+)", text)}
    assert made == {"lint", "docs", "coverage", "demo", "test"} and made <= targets


def test_every_path_that_the_documents_name_is_there():
    kept = r"(?:src|tests|docs|bench|recipes|examples|findings)/[\w./*{,}-]*[\w*/]"
    named = {
        (file.name, path)
        for file in (
            ROOT / "README.md",
            ROOT / "SECURITY.md",
            ROOT / "CONTRIBUTING.md",
            *sorted((ROOT / "docs").glob("*.md")),
        )
        for quoted in re.findall(r"`([^`\n]+)`", file.read_text())
        for path in re.findall(rf"(?<![\w./-]){kept}", quoted)
    }
    assert len(named) > 30
    assert [
        pair for pair in sorted(named) if not list(ROOT.glob(re.sub(r"{.*}", "*", pair[1]).rstrip("/")))
    ] == []


def test_files_that_begin_first_are_there_and_named_once():
    assert len(set(LONG_FILES)) == len(LONG_FILES)
    assert all((ROOT / "tests" / name).is_file() for name in LONG_FILES)


def test_the_readme_names_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    install = (ROOT / "README.md").read_text().split("## Install")[1].split("## ")[0]
    assert set(extras) - {"all", "docs", "dev"} <= set(re.findall(r"\w+", install))


def test_the_package_holds_what_pages_are_made_of_and_weights_of_the_box_alone():
    package = Path(str(resources.files("aftermap")))
    kinds = (
        "*.html",
        "*.css",
        "*.js",
        "*.typ",
        "*.json",
        "*.xml",
        "*.bin",
        "*.safetensors",
        "*.onnx",
        "*.pt",
        "*.npz",
    )
    files = {path.relative_to(package).as_posix() for kind in kinds for path in package.rglob(kind)}
    pages = ("web/assets/review.html", "products/page/assets/map.html", "products/areas/assets/areas.html")
    assert {*pages, "products/report/report.typ"} <= files
    assert {f"products/report/languages/{code}.json" for code in ("ar", "en", "es", "fr")} <= files
    weights = {name for name in files if name.endswith((".bin", ".safetensors", ".onnx", ".pt", ".npz"))}
    assert weights == {"box/model.safetensors", "box/exported/openvino-int8/model.bin"}
    assert json.loads((package / "box/card.json").read_text())["licence"] == "MIT"
