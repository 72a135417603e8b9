"""A town made up on the spot, struck, mapped, and compared with the truth."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from aftermap.classes import DAMAGE, IGNORE
from aftermap.data.scene import Scene, read_mask
from aftermap.errors import OutputError
from aftermap.files import writing
from aftermap.inference.backends.base import Backend
from aftermap.scoring.objects import BuildingScore
from aftermap.scoring.pixels import Score
from aftermap.synthetic import KINDS
from aftermap.synthetic.write import synthesise
from aftermap.workflows.mapping.damage import map_damage
from aftermap.workflows.mapping.result import MapResult
from aftermap.workflows.mapping.run import Progress
from aftermap.workflows.scoring.score import ScoreReport

UNSEEN = 1_000_000
"""Added to the seed: no recipe trains on towns from here on."""

TOWN_PX = 1536
_MIN_DAMAGED = 0.1
_ATTEMPTS = 20


@dataclass(frozen=True)
class DemoResult:
    """A mapped town.

    Attributes:
        map: the map.
        scene: the town: images, truth and counts of buildings.
        scores: the map against the truth.
    """

    map: MapResult
    scene: Scene
    scores: ScoreReport

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "map": str(self.map.folder / "map.html"),
            "town": self.scene.name,
            "truth": self.scene.polygons,
            "summary": self.map.summary,
            "seconds": round(self.map.seconds, 1),
            "scores": self.scores.as_dict(),
        }


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    model: str | Path = "box",
    size_px: int = TOWN_PX,
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Synthesise a town into `<out>/town`, map it into `<out>/map`, and score the map.

    An earlier demo at `out` is replaced.

    Args:
        out: the folder.
        seed: which town; the same seed gives the same one.
        model: a model folder, or `box`.
        size_px: width and height of the town.
        backend: what runs the network; see `recipes.map_settings.Settings`.
        progress: called as the work goes on.

    Raises:
        OutputError: `out` holds something else, or cannot be written.
        ModelError: the model cannot be used.
    """
    if str(model).startswith("hf://"):  # before a town is made that nothing could map
        from aftermap.artefacts.hub import parse_hub_name

        parse_hub_name(model)
    with writing(out):
        _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        if progress:
            progress("synthesising", 0, size_px**2)
        scene = _struck_town(out / "town", seed, size_px)
        if progress:
            progress("synthesising", size_px**2, size_px**2)
    images = out / "town" / "geotiff"
    result = map_damage(
        images / f"{scene.name}_pre.tif",
        images / f"{scene.name}_post.tif",
        out / "map",
        overwrite=True,
        model=model,
        backend=backend,
        progress=progress,
    )
    return DemoResult(result, scene, _score(result, scene))


def _struck_town(folder: Path, seed: int, size_px: int) -> Scene:
    """The first town from this seed on that has seen damage: some are spared, and would show nothing."""
    for attempt in range(_ATTEMPTS):
        if folder.exists():
            shutil.rmtree(folder)
        kind = KINDS[(seed + attempt) % len(KINDS)]
        manifest = synthesise(
            folder, scenes=1, size_px=size_px, seed=UNSEEN + seed * _ATTEMPTS + attempt, kinds=[kind]
        )
        scene = manifest.scenes[0]
        damaged = sum(scene.polygons.get(level, 0) for level in DAMAGE.names[2:])
        if damaged and damaged >= _MIN_DAMAGED * sum(scene.polygons.values()):
            break
    return scene


def _score(result: MapResult, scene: Scene) -> ScoreReport:
    with rasterio.open(result.folder / "damage.tif", driver="GTiff") as raster:
        damage = raster.read(1)
    building, truth = read_mask(scene, target="building"), read_mask(scene, target="damage")
    damage = np.where(damage == IGNORE, 0, damage).astype(np.uint8)
    pixels, buildings = Score(), BuildingScore()
    for score in (pixels, buildings):
        score.add(damage, damage, building, truth, event=scene.event, scene=scene.name)
    return ScoreReport(pixels.result(bootstrap=0), buildings.result(bootstrap=0), ())


def _clear(out: Path) -> None:
    """Remove the town of an earlier demo; its map is replaced, and what the user put beside it stays."""
    if not out.exists():
        return
    known = {"town", "town.part", "map", "map.work", "map.old"}
    if not out.is_dir() or {path.name for path in out.iterdir()} - known:
        raise OutputError(f"{out} exists and is not a demo: choose another folder with -o")
    for town in (out / "town", out / "town.part"):
        if town.exists():
            shutil.rmtree(town)
