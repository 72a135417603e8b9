"""The container: its recipe holds what it says, and its entry does what the competition's did.

No engine is at hand in the tests. AFTERMAP_CONTAINER=1 runs the steps of the Dockerfile in a folder instead, which
installs everything anew and takes minutes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def steps():
    """Instructions and what they are given, lines that go on joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_it_runs_as_nobody_in_particular_and_is_made_of_what_lies_here():
    found = steps()
    bases = [what.split()[0] for step, what in found if step == "FROM"]
    assert all(":" in base and not base.endswith(":latest") for base in bases)
    assert [what for step, what in found if step == "USER"] == ["10001:10001"]
    assert not [step for step, _ in found if step == "ADD"]
    for step, what in found:
        if step == "COPY" and "--from" not in what:
            assert all((ROOT / name).exists() for name in what.split()[:-1]), what
    assert json.loads(dict(found)["CMD"])[0] == "serve"


def test_the_team_keeps_its_data_and_its_password_to_itself():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    assert services["server"]["ports"] == ["127.0.0.1:8765:8765"] and "ports" not in services["database"]
    for name in ("server", "worker"):
        assert services[name]["cap_drop"] == ["ALL"] and services[name]["read_only"]
    assert "aftermap:${AFTERMAP_PASSWORD}" in services["worker"]["environment"]["AFTERMAP_DATABASE"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.png", "b.png", "c.png", "d.png"], ["predict-pair", "a.png", "b.png", "c.png", "d.png"]),
        (["serve", "/data", "--host", "0.0.0.0"], ["serve", "/data", "--host", "0.0.0.0"]),
        (["map", "a.png", "b.png"], ["map", "a.png", "b.png"]),
        (["map", "a b.png", "$(x).png", "-o"], ["map", "a b.png", "$(x).png", "-o"]),
        ([], []),
    ],
)
def test_four_pictures_are_a_pair_and_anything_else_a_command(tmp_path, given, expected):
    stub = tmp_path / "aftermap"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "docker/entry.sh"), *given], env={"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.split("\n")[:-1] == (expected or [""])


def test_a_pair_becomes_the_two_masks_of_the_competition(tmp_path, monkeypatch):
    from aftermap.cli.app import main

    monkeypatch.delenv("AFTERMAP_BACKEND")
    random = np.random.default_rng(0)
    for name in ("pre", "post"):
        pixels = np.full((64, 96, 3), 90, np.uint8)
        pixels[20:44, 30:60] = random.integers(150, 250, (24, 30, 1))
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    names = [str(tmp_path / f"{name}.png") for name in ("pre", "post", "loc", "dmg")]
    with pytest.raises(SystemExit) as ended:
        main(["predict-pair", *names])
    assert ended.value.code == 0
    masks = [np.array(Image.open(path)) for path in names[2:]]
    assert all(mask.shape == (64, 96) and mask.dtype == np.uint8 for mask in masks)
    assert set(np.unique(masks[0])) <= {0, 1} and set(np.unique(masks[1])) <= {0, 1, 2, 3, 4}
    assert np.array_equal(masks[1] > 0, masks[0] > 0)


@pytest.mark.parametrize("odd", ["size", "absent", "name", "same", "its own image"])
def test_what_is_no_pair_is_told_in_one_line(tmp_path, capsys, odd):
    from aftermap.cli.app import main

    for name, side in (("pre", 64), ("post", 32 if odd == "size" else 64)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    names = [str(tmp_path / name) for name in ("pre.png", "post.png", "loc.png", "dmg.png")]
    if odd == "absent":
        names[0] += "x"
    names[3] = {"name": names[3] + ".txt", "same": names[2], "its own image": names[0]}.get(odd, names[3])
    with pytest.raises(SystemExit) as ended:
        main(["predict-pair", *names])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.count("\n") == 1 and "Traceback" not in told
    assert not (tmp_path / "loc.png").exists()
    assert Image.open(tmp_path / "pre.png").mode == "RGB"


@pytest.mark.skipif(
    not os.environ.get("AFTERMAP_CONTAINER"), reason="AFTERMAP_CONTAINER=1 installs everything anew"
)
def test_its_steps_make_a_service_in_a_fresh_folder(tmp_path):
    """COPY and RUN of the first stage, with the folder in place of /; then the entry."""
    work = tmp_path / "build"
    work.mkdir()
    for step, what in steps():
        if step == "COPY" and "--from" not in what:
            *names, target = what.split()
            for name in names:
                place = work / target / Path(name).name if target == "./" else work / target
                (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, place)
        if step == "RUN" and "useradd" not in what:
            line = what.replace("/opt/aftermap", str(tmp_path / "opt")).replace(
                "python -m", f"{sys.executable} -m"
            )
            subprocess.run(["/bin/sh", "-euc", line], cwd=work, check=True)
        if step == "FROM" and "AS build" not in what:
            break
    environment = {"PATH": f"{tmp_path}/opt/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    entry = ["/bin/sh", str(ROOT / "docker/entry.sh")]
    for words in (["--version"], ["serve", "token", "create", "ana", "--data", str(tmp_path / "data")]):
        subprocess.run([*entry, *words], env=environment, check=True, cwd=tmp_path)
    for name in ("pre", "post"):
        Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / f"{name}.png")
    pair = ["pre.png", "post.png", "loc.png", "dmg.png"]
    subprocess.run([*entry, *pair], env=environment, check=True, cwd=tmp_path)
    assert np.array(Image.open(tmp_path / "dmg.png")).shape == (64, 64)
