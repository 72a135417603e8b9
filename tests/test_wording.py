"""Messages name options on the command line and parameters in Python, and count one thing as one."""

import inspect
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

import aftermap
from aftermap.cli.app import main
from aftermap.errors import DataWarning, InputError
from aftermap.wording import counted, in_parameters, naming_parameters

SOURCE = Path(aftermap.__file__).parent


@pytest.mark.parametrize(
    ("said", "in_python"),
    [
        ("x exists: pass --overwrite to replace it", "x exists: pass overwrite=True to replace it"),
        ("so --overwrite leaves it", "so overwrite leaves it"),
        (
            "pass --resume to go on, or --overwrite to begin",
            "pass resume=True to go on, or overwrite=True to begin",
        ),
        ("--bands asks for band 4", "bands asks for band 4"),
        ("pass --bands 1,2,3", "pass bands=(1, 2, 3)"),
        ("--min-area -3 is no area", "min_area_m2=-3 is no area"),
        ("pass --nodata 0, --nodata none if it is ground", 'pass nodata=0, nodata="none" if it is ground'),
        ("pass --crs EPSG:32610 --resolution 0.5", 'pass crs="EPSG:32610" resolution=0.5'),
        ("leave --compile out, or use --backend torch", 'leave compiled out, or use backend="torch"'),
        ("choose another -o", "choose another out"),
        ("split it with 'aftermap data split --by block'", "split it with 'aftermap data split --by block'"),
        ("aftermap search --resume runs/x goes on", "aftermap search --resume runs/x goes on"),
        ("a--b, x-o and -only", "a--b, x-o and -only"),
    ],
)
def test_options_become_parameters(said, in_python):
    assert in_parameters(said) == in_python
    assert in_parameters(in_python) == in_python


@given(st.text())
def test_any_text_can_be_worded(text):
    assert in_parameters(in_parameters(text)) == in_parameters(text)


def test_what_is_raised_and_warned_within_a_call_from_python_names_parameters():
    assert str(InputError("pass --overwrite")) == "pass --overwrite"
    with naming_parameters():
        assert str(InputError("pass --overwrite")) == "pass overwrite=True"
        with pytest.warns(DataWarning, match="pass nodata=0"):
            warnings.warn("pass --nodata 0", DataWarning, stacklevel=1)
    assert str(InputError("pass --overwrite")) == "pass --overwrite"


def test_one_mistake_is_told_in_the_words_of_both_faces(tmp_path, capsys):
    image = np.full((3, 64, 64), 90, np.uint8)
    place = (Affine(1, 0, 367000, 0, -1, 4104000), "EPSG:32615")
    (tmp_path / "out").mkdir()
    with pytest.raises(aftermap.AftermapError) as raised:
        aftermap.map(image, image, tmp_path / "out", grid=place)
    assert str(raised.value).endswith(
        "out exists: pass overwrite=True to replace it, or choose another output folder"
    )
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(SystemExit):
        main(["map", *map(str, files), "-o", str(tmp_path / "out")])
    told = " ".join(capsys.readouterr().err.split())
    assert told.endswith("out exists: pass --overwrite to replace it, or choose another output folder")


def test_every_public_function_is_called_from_python():
    for name in aftermap.__all__:
        found = getattr(aftermap, name)
        if inspect.isfunction(found):
            assert inspect.unwrap(found) is not found, name


def test_every_option_in_a_message_becomes_a_word():
    """No message of the package keeps a dash before a name once it is worded, but in commands to run."""
    looked_at = 0
    for file in SOURCE.rglob("*.py"):
        if "cli" in file.relative_to(SOURCE).parts:
            continue
        for text in re.findall(r'f?"([^"\n]*[^a-z`\-]--[a-z][^"\n]*)"', file.read_text()):
            looked_at += 1
            left = re.sub(r"'aftermap [^']*'?|aftermap [a-z-]+ --\S+|'apprise .*", "", in_parameters(text))
            assert not re.search(r"(?<![\w-])--[a-z]", left), f"{file.name}: {text}"
    assert looked_at > 80


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("scene",), "1 scene"),
        (0, ("scene",), "0 scenes"),
        (1204, ("building",), "1,204 buildings"),
        (1, ("class", "classes"), "1 class"),
        (2, ("scene is", "scenes are"), "2 scenes are"),
    ],
)
def test_one_is_one(number, words, said):
    assert counted(number, *words) == said
