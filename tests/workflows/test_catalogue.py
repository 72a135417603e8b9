"""The list of architectures: published counts and arithmetic, and what is the same in every entry."""

import json

import pytest
import torch

from aftermap.artefacts.store import load_card, load_model
from aftermap.cli.app import main
from aftermap.config import build_config
from aftermap.models.build import build_model
from aftermap.models.configs import CustomConfig, SmpConfig, UnetConfig
from aftermap.models.networks.dense import DenseModel, count_parameters
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.run import train
from aftermap.workflows.weights.catalogue import COUNTS, listed_models
from aftermap.workflows.weights.counting import count_listed, measure
from squares import make_dataset

# features, localization, damage, GMACs of one image, GMACs of a pair, where the originals state them
PUBLISHED_NUMBERS = {
    "xview2-resnet34": (25_728_112, 25_728_161, 25_728_597, 184.7, 369.8),
    "xview2-seresnext50": (34_559_728, 34_559_761, 34_560_053, 188.1, 376.4),
    "xview2-dpn92": (47_408_735, 47_408_768, 47_409_060, 284.6, 569.5),
    "xview2-senet154": (124_874_656, 124_874_705, 124_875_141, 597.1, 1194.6),
    "kd-student": (29_734_064, 29_734_081, 29_734_229, 127.2, 254.5),
    "metadamagenet-efficientunet-b0": (6_884_876, 6_884_925, 6_885_361, None, None),
    "metadamagenet-efficientunet-b0-scse": (6_903_860, 6_903_909, 6_904_345, None, None),
    "metadamagenet-efficientunet-wide-se-b0": (10_020_176, 10_020_225, 10_020_661, None, None),
    "metadamagenet-efficientunet-b4": (20_573_144, 20_573_193, 20_573_629, None, None),
    "metadamagenet-efficientunet-b4-scse": (20_592_128, 20_592_177, 20_592_613, None, None),
    "metadamagenet-segformer-b0": (3_714_144, 3_714_401, 3_846_501, None, None),
}


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """What the command prints."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(["models", "--json"])
    return {entry["name"]: entry for entry in json.loads(out.getvalue())}


def test_the_file_of_counts_is_what_counting_finds():
    kept, found = json.loads(COUNTS.read_text()), count_listed()
    assert set(kept) - {"changeos-swin-t"} == set(found) - {"changeos-swin-t"}
    assert {name: kept[name] for name in found} == found


@pytest.mark.parametrize("name", PUBLISHED_NUMBERS)
def test_published_architectures_have_the_published_numbers(entries, name):
    *sizes, image, pair = PUBLISHED_NUMBERS[name]
    assert list(entries[name]["parameters"].values()) == sizes
    if image is not None:
        assert entries[name]["gmacs"]["localization"] == pytest.approx(image, abs=0.051)
        assert entries[name]["gmacs"]["damage"] == pytest.approx(pair, abs=0.051)


def test_every_architecture_is_listed_once_with_the_same_fields(entries):
    names = [listed.name for listed in listed_models()]
    assert len(names) == len(set(names)) == len(entries)
    for entry in entries.values():
        assert {"name", "kind", "dates", "classes", "parameters", "gmacs", "description"} <= entry.keys()
        assert list(entry["parameters"]) == ["features", "localization", "damage"]
        for use, dates in (("localization", 1), ("damage", 2)):
            there = [entry[field][use] is not None for field in ("parameters", "gmacs", "classes")] + [
                dates in entry["dates"]
            ]
            assert all(there) or not any(there)
        whole = [n for n in list(entry["parameters"].values())[1:] if n is not None]
        assert whole and whole[0] > entry["parameters"]["features"] > 0


def test_the_box_our_own_and_general_architectures_are_there(entries):
    assert next(iter(entries)) == "box" and entries["box"]["parameters"]["localization"] is None
    kinds = {entry["kind"] for entry in entries.values()}
    assert {"siamese-unet", "segformer", "xview2-unet", "smp"} <= kinds
    assert entries["siamese-unet-resnet18"]["parameters"]["localization"] == 14_328_098
    general = {name.split("-")[0] for name, entry in entries.items() if entry["kind"] == "smp"}
    assert {"unetplusplus", "fpn", "deeplabv3plus", "upernet", "segformer", "dpt"} <= general


def test_the_table_shows_millions(capsys, monkeypatch, entries):
    monkeypatch.setattr(
        "aftermap.workflows.weights.catalogue.catalogue", lambda: [entries["xview2-resnet34"], entries["box"]]
    )
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        main(["models"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "xview2-resnet34" in line)
    assert not stopped.value.code and "25.73" in row and "184.7" in row and "369.8" in row


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_narrow_terminal_never_cuts_names_or_numbers(width, capsys, monkeypatch, entries):
    names = ["metadamagenet-efficientunet-wide-se-b0", "dpt-vit-small"]
    monkeypatch.setattr(
        "aftermap.workflows.weights.catalogue.catalogue", lambda: [entries[name] for name in names]
    )
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        main(["models"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == names and "971.3" in lines[-1]
    assert max(map(len, lines)) <= width and "\u2026" not in "".join(lines)


class OneConvolution(DenseModel):
    dates, classes, stride = 1, 4, 1

    def __init__(self):
        super().__init__()
        self.stem, self.norm = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 4)

    def forward_features(self, image):
        return self.norm(self.stem(image[:, 0]))

    def forward_head(self, features, size):
        return self.head(features.movedim(1, -1)).movedim(-1, 1)


def test_arithmetic_is_counted_by_hand():
    measured = measure(CustomConfig(target=f"{__name__}:OneConvolution", classes=4), size_px=32)
    # a 3x3 convolution from 3 to 8 channels and an 8 x 4 matrix, at each of 32 x 32 pixels
    assert measured.gmacs == pytest.approx((3 * 8 * 9 + 8 * 4) * 32 * 32 / 1e9)
    assert (measured.features, measured.total) == (3 * 8 * 9 + 16, 3 * 8 * 9 + 16 + 36)


@pytest.mark.parametrize(
    "config",
    [UnetConfig(encoder_name="resnet10t"), SmpConfig(architecture="fpn", encoder_name="resnet10t", dates=2)],
)
def test_measuring_agrees_with_a_model_that_runs(config):
    from torch.utils.flop_counter import FlopCounterMode

    model = build_model(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, model.dates, 3, 64, 64))
    measured = measure(config, size_px=64)
    assert measured.total == count_parameters(model)
    assert measured.gmacs == pytest.approx(counter.get_total_flops() / 2e9)


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "smp", "architecture": "upernet", "encoder_name": "convnext_atto", "dates": 2, "classes": 5},
        {"kind": "segformer", "dates": 2, "classes": 5},
    ],
    ids=lambda model: model["kind"],
)
def test_another_architecture_is_one_line_of_a_recipe_away(model, tmp_path):
    data = make_dataset(tmp_path / "squares")
    tree = {
        "name": "tiny",
        "task": "damage",
        "data": {"manifests": [str(data)]},
        "model": model,
        "sampling": {"crop_px": 64, "batch_size": 2},
        "augment": None,
        "precision": "no",
        "steps": 2,
        "evaluate_every": 2,
    }
    trained = train(build_config(TrainRecipe, tree), tmp_path / "run")
    card = load_card(trained.model)
    assert card.model.kind == model["kind"] and card.weights.parameters == count_parameters(
        load_model(trained.model).model
    )
