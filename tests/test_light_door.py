"""What maps, scores, checks and synthesises runs where nothing is installed that trains, and loads little."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import rasterio

from aftermap.extras import MODULES
from light_process import light_process

EXTRAS = sorted({module for modules in MODULES.values() for module in modules} | {"torchvision"})

TOLD = (
    "import re, sys\n"
    "from pathlib import Path\n"
    "{work}\n"
    "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())\n"
    "print('LOADED', *sys.modules)\n"
    "print('PEAK', int(peak[1]) // 1024)\n"
)
MAP_IMPORTS = (
    "import aftermap.cli.app, aftermap.cli.map, aftermap.workflows.mapping.damage\n"
    "from aftermap.inference.ensemble import Options, open_predictor\n"
    "import aftermap.inference.backends.openvino"
)
HEAVY = {*EXTRAS, "optuna", "mlflow", "sklearn"} - {"pyarrow"}
"""pandas imports pyarrow by itself where it is installed."""


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "AFTERMAP_BACKEND"}


def run(*command, cwd):
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT
    )


def bare(*words, cwd, code=0):
    """What the command prints in a process that can import no extra: its errors where it is to end with a code."""
    done = light_process("bare").command(*words, cwd=cwd, absent=tuple(EXTRAS))
    assert done.code == code, done.err[-2000:]
    return done.err if code else done.out


def loaded(work, cwd):
    """Top-level modules that a program has loaded, and its peak memory in MB."""
    modules, peak = all_loaded(work, cwd)
    return {name.partition(".")[0] for name in modules}, peak


def all_loaded(work, cwd):
    """All modules that a program has loaded, and its peak memory in MB."""
    done = run("-c", TOLD.format(work=work), cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    modules = re.search(r"^LOADED (.*)$", done.stdout, flags=re.MULTILINE)[1].split()
    return set(modules), int(re.search(r"^PEAK (\d+)$", done.stdout, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A dataset of two small scenes, made by the command where no extra can be imported."""
    folder = tmp_path_factory.mktemp("bare")
    told = bare("data", "synth", "-o", "town", "--scenes", "2", "--size", "96", "--json", cwd=folder)
    assert json.loads(told)
    return folder


def pair(town):
    return [next((town / "town" / "geotiff").glob(f"*_00000000_{date}.tif")) for date in ("pre", "post")]


def test_a_map_without_extras_is_the_map_with_them(town):
    bare("map", *pair(town), "-o", "bare-map", cwd=town)
    whole = light_process().command("map", *pair(town), "-o", "whole-map", cwd=town)
    assert whole.code == 0 and "backend exported/openvino-int8: it came with the model\n" in whole.err
    for name in ("damage.tif", "probabilities.tif"):
        with (
            rasterio.open(town / "bare-map" / name) as mine,
            rasterio.open(town / "whole-map" / name) as theirs,
        ):
            assert np.array_equal(mine.read(), theirs.read())
    made = {path.name for path in (town / "bare-map").iterdir()}
    assert {"overview.png", "map.html", "buildings.gpkg"} <= made


def test_a_map_that_is_refused_says_its_reason_alone(town):
    told = bare("map", *pair(town), "--bands", "7,8,9", "-o", "refused", cwd=town, code=2)
    assert told.startswith("aftermap: ") and told.count("\n") == 1
    (town / "cut.geojson").write_text("{")
    told = bare("map", *pair(town), "--aoi", "cut.geojson", "-o", "refused", cwd=town, code=2)
    assert told.startswith("aftermap: ") and told.count("\n") == 1


def test_buildings_of_one_image_are_mapped_without_extras(town):
    bare("map", pair(town)[1], "--task", "buildings", "-o", "buildings", cwd=town)
    assert (town / "buildings" / "buildings.gpkg").is_file()


def test_a_model_that_only_pytorch_runs_is_refused_in_one_line(town):
    told = bare("map", *pair(town), "--backend", "torch", "-o", "refused", cwd=town, code=2)
    assert told.splitlines()[-1] == (
        "aftermap: box with --backend torch needs more than the core of aftermap: pip install 'aftermap[train]'"
    )
    assert not (town / "refused").exists()


def test_a_graph_is_timed_without_pytorch(tmp_path):
    work = (
        "from aftermap.workflows.bench import run, report, worker\n"
        "from aftermap.workflows.bench.job import Job\n"
        "from aftermap.workflows.bench.subjects import Model\n"
        "job = Job(model='box', backend='auto', size_px=64, threads=1)\n"
        "model = Model(job)\n"
        "assert model.start()['execution']['backend'] == 'openvino'\n"
        "assert len(model.visit(calls=2, untimed=1)['network_seconds']) == 2"
    )
    modules, _ = loaded(work, tmp_path)
    assert not modules & (HEAVY - {"matplotlib"})


def test_scores_are_counted_without_extras(town):
    bare(
        "predict",
        "box",
        "town",
        "--split",
        "all",
        "--backend",
        "auto",
        "-o",
        "found",
        "--targets",
        "truth",
        cwd=town,
    )
    told = json.loads(bare("score", "found", "truth", "-o", "score", "--bootstrap", "0", "--json", cwd=town))
    assert 0 <= told["score"] <= 1
    assert {"score.json", "score.png"} <= {path.name for path in (town / "score").iterdir()}


def test_data_is_checked_without_extras(town):
    assert "scenes" in bare("data", "check", "town", cwd=town)


def test_models_are_listed_without_extras(town):
    assert "siamese-unet-resnet18" in bare("models", cwd=town)
    assert json.loads(bare("models", "--json", cwd=town))


@pytest.fixture(scope="module")
def light(town):
    """All modules that a map of two dates has loaded, and its peak memory in MB."""
    words = ["map", *map(str, pair(town)), "-o", "light"]
    work = f"import contextlib\nfrom aftermap.cli.app import main\nwith contextlib.suppress(SystemExit): main({words})"
    return all_loaded(work, town)


def test_a_map_loads_nothing_that_trains_and_little_memory(town, light):
    modules, peak = {name.partition(".")[0] for name in light[0]}, light[1]
    assert (town / "light" / "damage.tif").is_file()
    assert modules & {*HEAVY, "matplotlib", "scipy", "openvino_telemetry"} == set()
    assert {"openvino", "rasterio", "geopandas"} <= modules
    assert peak < 650  # 455 when this was written; 1,100 with PyTorch


def test_a_map_of_two_dates_loads_no_other_way_of_mapping(town, light):
    modules, _ = light
    assert (town / "light" / "map.html").is_file() and "aftermap.workflows.mapping.damage" in modules
    others = {
        *(
            "aftermap.workflows.mapping.buildings",
            "aftermap.workflows.mapping.classes",
            "aftermap.data.scene",
        ),
        *("aftermap.data.readers.xbd", "aftermap.geo.vectors", "aftermap.workflows.mapping.inputs.known"),
        *("PIL.TiffImagePlugin", "PIL.PcdImagePlugin"),  # of the forty that Pillow loads to save one picture
    }
    assert modules & others == set()


def test_what_a_map_needs_is_imported_without_a_figure(town):
    modules, peak = loaded(MAP_IMPORTS, town)
    assert modules & {*HEAVY, "matplotlib", "scipy"} == set() and "openvino" in modules
    assert peak < 280  # 229 when this was written; 910 with PyTorch


def test_a_card_is_read_by_almost_nothing(town):
    modules, peak = loaded(
        "from aftermap.artefacts.ensemble import read_card\nassert read_card('box').dates == 2", town
    )
    assert (
        modules & {*HEAVY, "matplotlib", "rasterio", "geopandas", "cv2", "openvino", "scipy", "numpy"}
        == set()
    )
    assert peak < 60


RECIPES_REFUSED = {
    "train nosuch.yaml": "there is no recipe nosuch.yaml: ",
    "train localization.yaml data.manifests=[nix]": "nix holds no manifest.json: ",
    "train localization.yaml data.manifests=[town] init_from=nix": "no model at nix: ",
    "train localization.yaml data.manifests=[town] optimiser.lr=3": "unknown key 'optimiser': did you mean 'optimizer'?",
    "train kd/student-damage.yaml data.manifests=[town] objective.teachers.main.model=nix": "no model at nix: ",
    "train localization.yaml data.manifests=[town] steps=-5": "steps: Input should be greater than or equal to 1",
    "train adapt-event.yaml data=[nix]": "nix holds no manifest.json: ",
    "train incremental/small.yaml data.manifests=[nix] task=6s": "nix holds no manifest.json: ",
    "train self-training.yaml pool.manifest=[nix]": "unknown key 'pool.manifest': did you mean 'manifests'?",
    "run xview2/plan.yaml data.manifests=[nix]": "nix holds no manifest.json: ",
    "run xview2/plan.yaml data.manifests=[town] seedz=[0]": "unknown key 'seedz': did you mean 'seeds'?",
    "run xview2/plan.yaml data.manifests=[town] each.steppes=3": "unknown key 'steppes': did you mean 'steps'?",
    "adapt box town --event synthetic-wind --steps 0": "steps",
    "adapt box nix --event e": "nix holds no manifest.json: ",
    "meta-train metadamagenet/maml.yaml data.manifests=[nix]": "nix holds no manifest.json: ",
    "search localization.yaml --space small.yaml data.manifests=[nix]": "no recipe small.yaml: did you mean search/",
    "search localization.yaml --space search/small.yaml data.manifests=[nix]": "nix holds no manifest.json: ",
    "search localization.yaml --space search/small.yaml data.manifets=[nix]": "unknown key 'data.manifets': did you",
    "search localization.yaml --range-test data.manifests=[nix]": "nix holds no manifest.json: ",
}


def test_a_wrong_recipe_is_refused_before_anything_that_trains_is_loaded(town):
    for words, expected in RECIPES_REFUSED.items():
        done = light_process().command(*words.split(), cwd=town)
        assert (done.code, done.err.count("\n")) == (2, 1) and expected in done.err, f"{words}: {done.err}"
        assert {*HEAVY, "matplotlib"} & done.modules <= {"optuna", "filelock"}
    assert not (town / "runs").exists()
