"""What is tried: for every kind of file a way to make valid ones, and the readers that may see a stranger's."""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import seeds
from mutations import mutated
from test_read_vectors import GRID

from aftermap.artefacts.checkpoint import read_checkpoint
from aftermap.artefacts.exported import load_exported
from aftermap.artefacts.store import load_model
from aftermap.data.band_files import read_file
from aftermap.data.geotransform import read_geotransforms
from aftermap.data.legends import read_legend
from aftermap.data.preparing.dataset import SourceScene
from aftermap.data.readers.opencities import find_images
from aftermap.data.readers.xbd import POST_LABEL, PRE_LABEL, read_labels
from aftermap.data.scene import Manifest, has_labels, read_bands, read_images, read_mask
from aftermap.data.soft_labels import read_soft
from aftermap.errors import AftermapError
from aftermap.geo.grid import Window
from aftermap.geo.raster import RasterSource
from aftermap.geo.vectors import read_area_of_interest, read_buildings
from aftermap.inference.ensemble import open_predictor
from aftermap.workflows.kinds import read_recipe
from aftermap.workflows.scoring.mask_files import find_masks, read_masks, scene_events

Files = dict[str, bytes]
_READ_PX = 128

LONGEST = 4096
"""Characters of a message: a path may fill most of them."""


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        make: writes valid files, one folder per case.
        readers: what reads a case; each either ends well or with an `AftermapError`.
        tries: of one round of the test suite.
        mend: what somebody would set right after changing a file, such as its checksum elsewhere.
    """

    make: Callable[[Path], None]
    readers: tuple[Callable[[Path], object], ...]
    tries: int
    mend: Callable[[Files], None] = lambda files: None

    def change(self, files: Files, chance: random.Random) -> Files:
        """A case with one of its files changed, sometimes more."""
        changed = dict(files)
        for name in chance.sample(sorted(files), k=min(len(files), chance.choice((1, 1, 1, 2)))):
            changed[name] = mutated(name, files[name], chance)
        if chance.random() < 0.05:
            del changed[chance.choice(sorted(files))]
        if chance.random() < 0.7:
            self.mend(changed)
        return changed


def each(reads: Sequence[Callable[[], object]]) -> None:
    """Read all of it, as far as it can be read.

    Raises:
        AftermapError: the last refusal.
    """
    refusal = None
    for read in reads:
        try:
            read()
        except AftermapError as error:
            refusal = error
            check_line(error)
    if refusal is not None:
        raise refusal


def check_line(error: AftermapError) -> None:
    """Whether a refusal is one line that somebody can read."""
    assert 10 < len(str(error)) < LONGEST and "\n" not in str(error), repr(str(error)[:LONGEST])


def _one(folder: Path, *names: str) -> Path:
    """The file of a case that is read, whether or not it is there still."""
    found = sorted(path for path in folder.rglob("*") if path.stem in names and path.suffix not in SIDECARS)
    return found[0] if found else folder / names[0]


SIDECARS = (".jgw", ".dbf", ".shx", ".prj", ".cpg")


def read_raster(folder: Path) -> None:
    """As a map does: onto its own grid, a part of it."""
    source = RasterSource.open(_one(folder, "image"))
    grid = source.grid
    part = Window(0, 0, min(grid.height, _READ_PX), min(grid.width, _READ_PX))
    source.read(grid.crop(part))


def read_whole(folder: Path) -> None:
    """As a dataset does."""
    path = _one(folder, "image")
    if path.suffix not in (".zip", ".vrt"):
        read_file(path)


def read_footprints(folder: Path) -> None:
    """As `--footprints`."""
    read_buildings(_one(folder, "f"), grid=GRID)


def read_area(folder: Path) -> None:
    """As `--aoi`."""
    read_area_of_interest(_one(folder, "f"), grid=GRID)


def read_xbd(folder: Path) -> None:
    """Labels of both dates, or a file of geotransforms."""
    if (folder / "geotransforms.json").is_file():
        read_geotransforms(folder / "geotransforms.json")
        return
    labels = {PRE_LABEL: folder / "pre.json", POST_LABEL: folder / "post.json"}
    scene = SourceScene("a", "storm", folder / "pre.png", folder / "post.png", labels=labels)
    read_labels(scene, height=seeds.SIZE, width=seeds.SIZE)


def read_dataset(folder: Path) -> None:
    """A manifest, and all that it names; one file that cannot be read keeps no other from being read."""
    reads: list[Callable[[], object]] = []
    for scene in Manifest.load(folder).scenes:
        dates = 1 if scene.post is None else 2
        reads += [partial(read_images, scene, dates=dates), partial(read_bands, scene, scene.bands)]
        reads.append(partial(read_soft, scene))
        reads += [
            partial(read_mask, scene, target=target)
            for target in ("building", "damage", "classes")
            if has_labels(scene, target)
        ]
    each(reads)


def open_model(folder: Path) -> None:
    """A model folder, or an ensemble."""
    if (folder / "ensemble.json").is_file():
        open_predictor(folder)
    else:
        load_model(folder)


def mend_models(files: Files) -> None:
    """Checksums of weights in the cards beside them, and of members in the ensemble's."""
    for name in sorted(files):
        place, slash, file = name.rpartition("/")
        weights = place + slash + "model.safetensors"
        if file == "card.json" and weights in files:
            with suppress(ValueError, TypeError, KeyError):
                card = json.loads(files[name])
                card["weights"]["sha256"] = hashlib.sha256(files[weights]).hexdigest()
                files[name] = json.dumps(card).encode()
    with suppress(ValueError, TypeError, KeyError):
        card = json.loads(files["ensemble.json"])
        for member in card["members"]:
            member["sha256"] = hashlib.sha256(files[f"{member['folder']}/model.safetensors"]).hexdigest()
        files["ensemble.json"] = json.dumps(card).encode()


def mend_exported(files: Files) -> None:
    """Checksums of the graph in the card beside it."""
    with suppress(ValueError, TypeError, KeyError):
        card = json.loads(files["exported.json"])
        known = {name: hashlib.sha256(files[name]).hexdigest() for name in card["graph"]["files"]}
        card["graph"]["files"] = known
        files["exported.json"] = json.dumps(card).encode()


def read_scored(folder: Path) -> None:
    """What `score` reads of a folder of predictions and one of targets."""
    targets = find_masks(folder / "target", "target")
    reads = [partial(scene_events, folder / name, targets) for name in ("events.json", "events.csv")]
    reads += [
        partial(read_masks, files, role)
        for role in ("prediction", "target")
        for files in find_masks(folder / role, role).values()
    ]
    each(reads)


TARGETS = {
    "rasters": Target(seeds.rasters, (read_raster, read_whole), 400),
    "vectors": Target(seeds.vectors, (read_footprints, read_area), 300),
    "xbd": Target(seeds.xbd, (read_xbd,), 400),
    "manifest": Target(seeds.manifests, (read_dataset,), 300),
    "legends": Target(seeds.legends, (lambda folder: read_legend(folder / "legend.yaml"),), 200),
    "recipes": Target(seeds.recipes, (lambda folder: read_recipe(folder / "recipe.yaml"),), 200),
    "models": Target(seeds.models, (open_model,), 60, mend_models),
    "exported": Target(seeds.exported, (load_exported,), 200, mend_exported),
    "checkpoints": Target(
        seeds.checkpoints, (lambda folder: read_checkpoint(_one(folder, "checkpoint")),), 300
    ),
    "catalogues": Target(seeds.catalogues, (find_images,), 200),
    "masks": Target(seeds.masks, (read_scored,), 300),
}
