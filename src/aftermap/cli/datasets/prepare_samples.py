"""`aftermap data prepare huggingface` and `torchgeo`: samples of other libraries."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from aftermap.cli.datasets.dataset_output import BY_DEFAULT, Preparing
from aftermap.cli.options import Several
from aftermap.cli.running import numbers, percentiles

if TYPE_CHECKING:
    from aftermap.data.readers.samples.columns import Columns
    from aftermap.data.readers.samples.dataset import Meaning

_IMAGE = "Entry with the image of the first date, or with both dates stacked (2, C, H, W)."
_AFTER = "Entry with the image of the second date."
_MASK = "Entry with the mask; samples without it are without labels."
_LABELS = "What masks hold: buildings (0, and --foreground) or damage (0 to 4); 255 is unknown."
_CLASSES = "Names of the classes in the order of their numbers, such as background,changed; 'background' may stand first."
_LEGEND = (
    "Masks hold the classes of a legend that comes along, or of a YAML or JSON file of names and colours."
)
_FIRST = "Number of the first class in masks; lower numbers are unknown."
_BANDS = "Names of the images' bands in their order, such as red,green,blue,nir; - leaves a band out."
_RANGE = "Values that become 0 and 255, such as 0,1; by default images hold whole numbers from 0 to 255."
_STRETCH = "Percentiles of each image that become 0 and 255, such as 2,98."
_LICENCE = "Licence of the data, in words: goes into the manifest, and from there into the cards of models."


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """Which entries of samples are read, and what they mean."""

    image: Annotated[str | None, Parameter(help=_IMAGE)] = None
    after: Annotated[str | None, Parameter(help=_AFTER)] = None
    mask: Annotated[str, Parameter(help=_MASK)] = "mask"
    labels: Annotated[Literal["building", "damage"] | None, Parameter(help=_LABELS)] = None
    classes: Annotated[str | None, Parameter(help=_CLASSES)] = None
    legend: Annotated[str | None, Parameter(help=_LEGEND)] = None
    foreground: Annotated[int, Parameter(help="With --labels building: number of a building.")] = 1
    first_value: Annotated[int | None, Parameter(help=_FIRST)] = None
    bands: Annotated[str | None, Parameter(help=_BANDS)] = None
    range: Annotated[str | None, Parameter(help=_RANGE)] = None
    stretch: Annotated[str | None, Parameter(help=_STRETCH)] = None
    event: Annotated[str | None, Parameter(help="Name of the event; by default the source's.")] = None
    licence: Annotated[str | None, Parameter(help=_LICENCE)] = None

    def meaning(self) -> "Meaning":
        """What masks hold.

        Raises:
            InputError: nothing or too much was said.
        """
        from aftermap.data.legends import legend_named, read_legend
        from aftermap.data.readers.samples.dataset import Meaning
        from aftermap.errors import InputError

        if self.classes is not None and self.legend is not None:
            raise InputError("--classes and --legend both name the classes: leave one out")
        if self.labels is None and self.foreground != 1:
            raise InputError("--foreground is for --labels building: leave it out")
        legend = None if self.legend is None else read_legend(self.legend)
        if self.classes is not None:
            legend = legend_named([name.strip() for name in self.classes.split(",")])
        return Meaning(legend, self.labels, self.foreground, self.first_value)

    def columns(self) -> "Columns | None":
        """Which entries are read; None where nothing was said of them.

        Raises:
            InputError: options that contradict each other.
        """
        from aftermap.data.readers.samples.columns import Columns
        from aftermap.errors import InputError

        limits = None if self.range is None else numbers("--range", self.range, "0,1")
        if limits is not None and len(limits) != 2:
            raise InputError(f"--range {self.range} is not two numbers: pass for example 0,1")
        columns = Columns(
            self.image or "image",
            self.after,
            self.mask,
            None if self.bands is None else tuple(name.strip() for name in self.bands.split(",")),
            None if limits is None else (limits[0], limits[1]),
            percentiles(self.stretch),
        )
        return columns if self.image is not None or columns != Columns() else None


AS_NAMED = Reading()


def huggingface(
    source: Path,
    *,
    name_column: str | None = None,
    event_column: str | None = None,
    reading: Reading = AS_NAMED,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare samples as Hugging Face's datasets keeps them on disk; the library itself is not needed.

    Reads folders of save_to_disk, Parquet files with image and mask columns, and folders of images with metadata.csv or
    metadata.jsonl (file_name, mask_file_name). The publisher's sets are kept. Nothing is fetched.

    Example: aftermap data prepare huggingface ~/roofs --image image --mask label --labels building -o roofs-prepared

    Example: aftermap data prepare huggingface ~/pairs --image before --after after --classes background,changed

    Args:
        source: The folder, or a Parquet file.
        name_column: Column with a name for each scene; by default they are counted.
        event_column: Column with the event of each sample.
        reading: Which columns are read, and what they mean.
        preparing: Where and how the dataset is prepared.
    """
    preparing.prepare(
        "hugging_face",
        source,
        meaning=reading.meaning(),
        columns=reading.columns(),
        name_column=name_column,
        event_column=event_column,
        event=reading.event,
        licence=reading.licence,
    )


def torchgeo(
    source: Path,
    *,
    dataset: str,
    splits: str | None = None,
    set: Several = None,
    tile_px: int | None = None,
    reading: Reading = AS_NAMED,
    preparing: Preparing = BY_DEFAULT,
) -> None:
    """Prepare the samples of a dataset of torchgeo, or of a class of your own that gives samples by number.

    Samples hold image (C, H, W), or both dates (2, C, H, W), or image1 and image2, and mask. torchgeo has to be
    installed; it reads what lies in SOURCE and fetches nothing.

    Example: aftermap data prepare torchgeo ~/LEVIR-CD --dataset LEVIRCD --splits train,val,test --legend building-change

    Example: aftermap data prepare torchgeo ~/field --dataset mine:Field --set season=dry --classes background,flooded

    Args:
        source: The folder with the data.
        dataset: Name of a class in torchgeo.datasets, or module:Name of yours.
        splits: Values of the class's argument 'split', each a set of its own.
        set: A further argument of the class, name=value; may be given several times.
        tile_px: Side of the tiles that large rasters, which torchgeo asks by place, are cut into.
        reading: Which entries are read, and what they mean.
        preparing: Where and how the dataset is prepared.
    """
    preparing.prepare(
        "torchgeo",
        source,
        dataset=dataset,
        meaning=reading.meaning(),
        columns=reading.columns(),
        splits=() if splits is None else tuple(name.strip() for name in splits.split(",")),
        arguments=dict(_argument(word) for word in set or ()),
        tile_px=tile_px,
        event=reading.event,
        licence=reading.licence,
    )


def _argument(word: str) -> tuple[str, Any]:
    """Name and value of an argument, the value as YAML reads it."""
    from aftermap.config import load_yaml
    from aftermap.errors import InputError

    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise InputError(f"--set {word} is not name=value")
    try:
        return name, load_yaml(value)
    except Exception:
        raise InputError(f"--set {word}: the value is not understood") from None
