"""What commands on datasets share: options, how they end, the progress bar, and the table of what was prepared."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from aftermap.cli.options import EngineName, Flag, Json, MaybeOut, Workers
from aftermap.cli.output import facts_table, print_json, say
from aftermap.cli.progress import progress_bar
from aftermap.cli.running import numbers, percentiles, whole_numbers

if TYPE_CHECKING:
    from aftermap.data.preparing.cut_config import CutConfig
    from aftermap.data.preparing.prepare import DatasetKind
    from aftermap.data.preparing.tile_grid import Tiling
    from aftermap.data.scene import Manifest

CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")

OUT_HELP = "Folder for images, masks and the manifest; by default the source's name with -prepared, here."
ENGINE_HELP = "processes: of this machine. ray: actors of a Ray cluster whose machines see the same folders."
OVERWRITE_HELP = "Write into a folder that holds other things, and replace tiles that were made otherwise."
STRICT_HELP = "Refuse a dataset of which a single file cannot be used, instead of leaving its scene out."
OFF_PALETTE_HELP = (
    "Label colours of no class: refuse them and say where they are, take the nearest class's, or class 0 (compat, as "
    "the original of MiB-CD)."
)
TOLERANCE_HELP = (
    "Distance in red, green and blue up to which nearest takes a colour for another, 32 by default; unknown beyond "
    "it."
)


@Parameter(name="*")
@dataclass(frozen=True)
class Preparing:
    """Where and how a dataset is prepared, whatever it is."""

    out: Annotated[MaybeOut, Parameter(help=OUT_HELP)] = None
    workers: Annotated[Workers, Parameter(help="How many share the scenes.")] = 1
    engine: Annotated[EngineName, Parameter(help=ENGINE_HELP)] = "processes"
    address: Annotated[str | None, Parameter(help="Of the Ray cluster: auto, or ray://host:10001.")] = None
    overwrite: Annotated[Flag, Parameter(help=OVERWRITE_HELP)] = False
    strict: Annotated[Flag, Parameter(help=STRICT_HELP)] = False
    json: Annotated[Json, Parameter(help="Print the counts as JSON.")] = False

    def prepare(self, kind: "DatasetKind", source: Path, **options: Any) -> None:
        """Prepare a dataset of a kind, and show what came of it."""
        from aftermap import api
        from aftermap.data.preparing.prepare import usual_folder

        out = self.out or usual_folder(source)
        with progress_bar("preparing") as show:
            manifest = api.prepare(
                source,
                out,
                kind=kind,
                workers=self.workers,
                engine=self.engine,
                address=self.address,
                overwrite=self.overwrite,
                strict=self.strict,
                progress=show,
                **options,
            )
        show_prepared(manifest, out, json=self.json)


BY_DEFAULT = Preparing()


@Parameter(name="*")
@dataclass(frozen=True)
class Colours:
    """What becomes of label colours."""

    off_palette: Annotated[Literal["refuse", "nearest", "compat"], Parameter(help=OFF_PALETTE_HELP)] = (
        "refuse"
    )
    colour_tolerance: Annotated[float | None, Parameter(help=TOLERANCE_HELP)] = None

    def keywords(self) -> dict[str, Any]:
        """The same for a reader; without a tolerance it takes the usual one."""
        given = {} if self.colour_tolerance is None else {"tolerance": self.colour_tolerance}
        return {"off_palette": self.off_palette, **given}


AS_LISTED = Colours()

RESOLUTIONS_HELP = (
    "Metres per pixel, one or several as 0.1,0.2: a set of tiles for each; by default each image's own."
)
MASK_HELP = "Pixels whose centre lies in a building, or all that a building touches."
BANDS_HELP = (
    "Red, green and blue among the image's bands, such as 3,2,1; by default the three that there are."
)
STRETCH_HELP = "Percentiles that become 0 and 255, such as 2,98; needed for other than 8-bit images."
JPEG_HELP = "Store tiles as JPEG of this quality (1 to 100) instead of without loss."


@Parameter(name="*")
@dataclass(frozen=True)
class Tiles:
    """How tiles are cut of large images, whatever the images are."""

    resolutions: Annotated[str | None, Parameter(help=RESOLUTIONS_HELP)] = None
    mask: Annotated[Literal["pixel-centre", "all-touched"], Parameter(help=MASK_HELP)] = "pixel-centre"
    bands: Annotated[str | None, Parameter(help=BANDS_HELP)] = None
    stretch: Annotated[str | None, Parameter(help=STRETCH_HELP)] = None
    jpeg_quality: Annotated[int | None, Parameter(help=JPEG_HELP)] = None

    def config(self, **tree: object) -> "CutConfig":
        """What is cut.

        Raises:
            RecipeError: values that do not go together.
        """
        from aftermap.config import build_config
        from aftermap.data.preparing.cut_config import CutConfig

        given = self.resolutions
        resolutions = () if given is None else numbers("--resolutions", given, "0.1,0.2")
        return build_config(
            CutConfig, {"resolutions": resolutions, "mask": self.mask, **tree}, source="options"
        )

    @property
    def band_numbers(self) -> list[int] | None:
        """Those given."""
        return None if self.bands is None else list(whole_numbers("--bands", self.bands, "1,2,3"))

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """Those of the stretch."""
        return percentiles(self.stretch)

    @property
    def quality(self) -> int | None:
        """Of the JPEGs.

        Raises:
            InputError: it is not one from 1 to 100.
        """
        from aftermap.errors import InputError

        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise InputError(
                f"--jpeg-quality {self.jpeg_quality} is out of range: pass a number from 1 to 100"
            )
        return self.jpeg_quality


AS_THEY_ARE = Tiles()


def tiling_of(**tree: object) -> "Tiling":
    """How images of classes are cut, from options.

    Raises:
        RecipeError: values that do not go together.
    """
    from aftermap.config import build_config
    from aftermap.data.preparing.tile_grid import Tiling

    return build_config(Tiling, tree, source="options")


def show_prepared(manifest: "Manifest", out: Path, *, json: bool) -> None:
    """Print the counts of a prepared dataset as a table or as JSON."""
    counts: Counter[str] = Counter()
    for scene in manifest.scenes:
        counts.update(scene.polygons)
    labelled = [scene for scene in manifest.scenes if scene.is_labelled]
    unlabelled = [scene.name for scene in manifest.scenes if not scene.is_labelled]
    pairs = sum(scene.post is not None for scene in manifest.scenes)
    empty = [scene.name for scene in labelled if not any(scene.class_pixels[1:])]
    located = sum(scene.grid is not None for scene in manifest.scenes)
    unpaired = [name for name in manifest.options.get("unpaired", "").split(",") if name]
    left_out = [name for name in manifest.options.get("left_out", "").split(",") if name]
    if json:
        print_json(
            {
                "manifest": out / "manifest.json",
                "scenes": len(manifest.scenes),
                "pairs": pairs,
                "labelled": len(labelled),
                "unlabelled": unlabelled,
                "without_buildings": empty,
                "unpaired": unpaired,
                "left_out": left_out,
                "georeferenced": located,
                "polygons": sum(counts.values()),
                "polygons_by_class": dict(counts),
                "class_pixels": class_pixels(manifest),
                "options": manifest.options,
            }
        )
        return
    table = facts_table()
    table.add_row("scenes", f"{len(manifest.scenes)} ({pairs} pairs)")
    lacking = "" if manifest.legend is not None else f" ({len(empty)} without buildings)"
    table.add_row("labelled", f"{len(labelled)}{lacking}")
    table.add_row("unlabelled", _names(unlabelled))
    if dropped := manifest.options.get("dropped_tiles"):
        table.add_row("left out, mostly unknown", dropped)
    if unpaired:
        table.add_row("left out, no partner", _names(unpaired))
    if left_out:
        table.add_row("left out, cannot be used", _names(left_out))
    table.add_row("georeferenced", str(located))
    if metres := [scene.resolution_m for scene in manifest.scenes if scene.resolution_m is not None]:
        ends = dict.fromkeys(f"{m:.3g}" for m in (min(metres), max(metres)))
        table.add_row("metres per pixel", " to ".join(ends))
    if counts:
        table.add_row("polygons", str(sum(counts.values())))
        order = [*CLASSES, *sorted(counts.keys() - set(CLASSES))]
        damage = CLASSES[:4] if manifest.scheme == "joint-damage-scale" else ()
        for name in order:
            if name in counts or name in damage:
                table.add_row(f"  {name}", str(counts[name]))
    pixels = class_pixels(manifest)
    for name, count in pixels.items():
        table.add_row(f"  {name}", f"{count / max(sum(pixels.values()), 1):.2%} of the known pixels")
    say(table, f"manifest: {out / 'manifest.json'}")


def class_pixels(manifest: "Manifest") -> dict[str, int]:
    """Pixels of each class of a legend; nothing for masks of buildings."""
    if manifest.legend is None:
        return {}
    counts = dict.fromkeys(manifest.legend.names, 0)
    for scene in manifest.scenes:
        for name, count in zip(manifest.legend.names, scene.class_pixels, strict=False):
            counts[name] += count
    return counts


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)}: {shown}" if names else "0"
