"""What commands on datasets share: options, how they end, the progress bar, and the table of what was prepared."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from aftermap.cli.progress import progress
from aftermap.cli.running import numbers

if TYPE_CHECKING:
    from aftermap.data.preparing.cut_config import CutConfig
    from aftermap.data.preparing.dataset import Dataset, Progress
    from aftermap.data.preparing.tile_grid import Tiling
    from aftermap.data.scene import Manifest

CLASSES = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")
JsonFlag = Annotated[bool, Parameter(name="--json", negative="")]
Out = Annotated[Path | None, Parameter(name=["-o", "--out"])]
Switch = Parameter(negative="")
Workers = Annotated[int, Parameter(validator=Number(gte=1))]

OUT_HELP = "Folder for images, masks and the manifest; by default the source's name with -prepared, here."
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

    out: Annotated[Path | None, Parameter(name=["-o", "--out"], help=OUT_HELP)] = None
    workers: Annotated[int, Parameter(help="Processes.", validator=Number(gte=1))] = 1
    overwrite: Annotated[bool, Parameter(help=OVERWRITE_HELP, negative="")] = False
    strict: Annotated[bool, Parameter(help=STRICT_HELP, negative="")] = False
    json: Annotated[bool, Parameter(name="--json", help="Print the counts as JSON.", negative="")] = False

    def save(self, dataset: "Dataset", source: Path) -> None:
        """Prepare a dataset that was found, and show what came of it."""
        from aftermap.data.preparing.prepare import prepare

        out = self.out if self.out is not None else Path(f"{source.resolve().name}-prepared")
        with progress_bar("preparing") as report:
            manifest = prepare(
                dataset,
                out,
                workers=self.workers,
                overwrite=self.overwrite,
                strict=self.strict,
                progress=report,
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

    @property
    def tolerance(self) -> float:
        """That given, or the usual one."""
        from aftermap.data.readers.colours import TOLERANCE

        return TOLERANCE if self.colour_tolerance is None else self.colour_tolerance


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
        if self.bands is None:
            return None
        return [int(number) for number in numbers("--bands", self.bands, "1,2,3")]

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


@contextmanager
def progress_bar(title: str) -> "Iterator[Progress]":
    """Progress on standard error, as a function of finished and all."""
    with progress() as show:
        yield lambda done, total: show(title, done, total)


def tiling_of(**tree: object) -> "Tiling":
    """How images of classes are cut, from options.

    Raises:
        RecipeError: values that do not go together.
    """
    from aftermap.config import build_config
    from aftermap.data.preparing.tile_grid import Tiling

    return build_config(Tiling, tree, source="options")


def percentiles(text: str | None) -> tuple[float, float] | None:
    """Two percentiles of `--stretch`.

    Raises:
        InputError: other than two rising numbers from 0 to 100.
    """
    from aftermap.errors import InputError

    if text is None:
        return None
    pair = numbers("--stretch", text, "2,98")
    if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= 100:
        raise InputError(f"--stretch {text} is not two rising percentiles: pass some such as 2,98")
    return pair[0], pair[1]


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
                "manifest": str(out / "manifest.json"),
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
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", show_header=False)
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
    console = Console()
    console.print(table)
    console.print(f"manifest: {out / 'manifest.json'}", markup=False, soft_wrap=True)


def class_pixels(manifest: "Manifest") -> dict[str, int]:
    """Pixels of each class of a legend; nothing for masks of buildings."""
    if manifest.legend is None:
        return {}
    counts = dict.fromkeys(manifest.legend.names, 0)
    for scene in manifest.scenes:
        for name, count in zip(manifest.legend.names, scene.class_pixels, strict=False):
            counts[name] += count
    return counts


def print_json(value: object) -> None:
    """Print a tree as JSON."""
    import json

    print(json.dumps(value, indent=1))


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)}: {shown}" if names else "0"
