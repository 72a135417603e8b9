"""README and docs show commands that exist, and that do on a tiny world what they say."""

import shlex
import shutil
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from document_commands import Shown, how, shown_commands

import finished_maps
from aftermap.cli.app import app, main

COMMANDS = shown_commands()


def first_of_each_kind(commands: list[Shown]) -> list[Shown]:
    kinds: dict[tuple[str, ...], Shown] = {}
    for command in commands:
        if how(command)[0] is not None:
            kinds.setdefault(command.kind, command)
    first = ("data", "train")  # whatever the order of the pages: data, then models of it
    return sorted(
        kinds.values(), key=lambda c: first.index(c.words[0]) if c.words[0] in first else len(first)
    )


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def paint_land_cover(folder: Path, legend: Path) -> None:
    """Ten images with a house, a road and a lake each, and a legend for their masks of numbers."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(10):
        mask = np.zeros((64, 64), np.uint8)
        mask[10 + number : 25, 8:30], mask[40:46], mask[50:60, 35:60] = 1, 2, 3
        image = random.normal(60 * mask[..., None], 10, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"town{number}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"town{number}.png"), mask)
    legend.write_text(
        "name: town\nnames: [other, building, road, water]\nbackground: 0\n"
        "colours: ['#000000', '#ff0000', '#888888', '#0000ff']\n"
    )


def write_districts(folder: Path) -> None:
    """A district with a P-code around the finished map, its people, and its squares of the ground."""
    grid = finished_maps.UTM
    geopandas.GeoDataFrame(
        {"ADM3_PCODE": ["XX0101"], "ADM3_EN": ["All"], "sector": ["1"]},
        geometry=[shapely.box(*grid.bounds)],
        crs=grid.crs,
    ).to_file(folder / "admin.gpkg", layer="adm3")
    with rasterio.open(
        folder / "population.tif", "w", driver="GTiff", width=120, height=80, count=1, dtype="float32",
        crs=grid.crs, transform=grid.transform,
    ) as file:  # fmt: skip
        file.write(np.ones((80, 120), np.float32), 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory, request):
    """Every file that the pages name, tiny: what their commands are run on."""
    root = tmp_path_factory.mktemp("world")
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    patch.chdir(root)
    assert call("data", "synth", "-o", "made", "--scenes", "6", "--size", "128", "--json") == 0
    assert call("data", "split", "made", "--by", "random", "--fractions", "0.5,0.25,0.25", "--json") == 0
    shutil.copytree("made", "event-prepared")
    for kind in ("images", "labels"):  # four scenes of a storm that the pages speak of
        (root / "home" / "xBD" / kind).mkdir(parents=True)
        for file in Path("made", kind).iterdir():
            event, number, rest = file.name.split("_", 2)
            name = "hurricane-harvey" if int(number) < 4 else event
            target = root / "home" / "xBD" / kind / f"{name}_{number}_{rest}"
            target.write_bytes(file.read_bytes().replace(event.encode(), name.encode()))
    dates = {date: sorted(Path("made/geotiff").glob(f"*_{date}.tif"))[0] for date in ("pre", "post")}
    for name, date in {"before": "pre", "after": "post"}.items():
        Path(name).mkdir()
        shutil.copy(dates[date], f"{name}/tile.tif")
        shutil.copy(dates[date], f"{name}.tif")
        shutil.copy(dates[date], f"{date}.tif")
        Path("images", date).mkdir(parents=True)
        shutil.copy(dates[date], f"images/{date}/scene.tif")
    for name in ("image", "drone", "aerial"):
        shutil.copy(dates["pre"], f"{name}.tif")
    Path("tiles").mkdir()
    shutil.copy(dates["pre"], "tiles/a.tif")
    paint_land_cover(Path("imagery"), Path("legend.yaml"))
    finished_maps.finish(
        root / "joplin", finished_maps.table([(10, 10), (30, 20)], ["destroyed", "no-damage"])
    )
    write_districts(root)
    outlines = geopandas.read_file("made/footprints.gpkg")
    outlines.to_file("buildings.gpkg")
    outlines.to_file("osm.gpkg")
    for name in ("osm", "buildings", "town"):
        outlines.to_crs(4326).to_file(f"{name}.geojson")
    return root


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_that_a_page_shows_is_understood(command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = [w.replace("RECIPE", "recipes/damage.yaml") for w in command.words if w != "--trust"]
    words = words[: words.index("|")] if "|" in words else words
    app.parse_args(words, exit_on_error=False, print_error=False)
    how(command)


@pytest.mark.parametrize("command", first_of_each_kind(COMMANDS), ids=str)
def test_a_command_that_a_page_shows_does_what_it_says(command, world, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setenv("HOME", str(world / "home"))
    extra, _ = how(command)
    words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in command.words]
    out = Path(words[words.index("-o") + 1]) if "-o" in words else None
    if out is not None and out.is_dir():
        shutil.rmtree(out)
    assert call(*words, *shlex.split(extra or "")) == 0
    assert out is None or out.exists()
