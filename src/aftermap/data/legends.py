"""Legends: the classes of a dataset, how its label files write them, and the colours in which they are drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from aftermap.classes import BUILDING, DAMAGE, IGNORE, ClassScheme
from aftermap.config import Config, build_config, explain, load_yaml
from aftermap.data.photograph_classes import ADE as _ADE_NAMES
from aftermap.data.photograph_classes import CITYSCAPES as _CITYSCAPES_CLASSES
from aftermap.data.photograph_classes import VOC as _VOC_NAMES
from aftermap.data.photograph_classes import index_colour
from aftermap.data.published_classes import BRIGHT as _BRIGHT_CLASSES
from aftermap.data.published_classes import CHANGE as _CHANGE_CLASSES
from aftermap.data.published_classes import CHANGE_KINDS as _CHANGE_KIND_CLASSES
from aftermap.data.published_classes import FLAIR as _FLAIR_CLASSES
from aftermap.data.published_classes import FLOODNET as _FLOODNET_CLASSES
from aftermap.data.published_classes import FOTBCD as _FOTBCD_CLASSES
from aftermap.data.published_classes import RESCUENET as _RESCUENET_CLASSES
from aftermap.data.published_classes import SPACENET8 as _SPACENET8_CLASSES
from aftermap.errors import DataError, RecipeError

Colour = Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]
"""`#rrggbb`, lower case."""
Byte = Annotated[int, Field(ge=0, le=255)]


class Legend(Config):
    """The classes of masks.

    Attributes:
        name: identifies it in manifests and model cards.
        names: class names; the index is the mask value.
        colours: in which the classes are drawn.
        background: index of the class that means "nothing of these"; None where every class is a real one.
        label_colours: colours of the classes in coloured label files; None where they are `colours`.
        label_values: what index masks hold for each class; None where it is the index.
        ignored: values of index masks that mean that the class is unknown, beside 255.
        ignored_colours: colours of coloured label files that mean so.
    """

    name: Annotated[str, Field(min_length=1)]
    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=IGNORE)]
    colours: tuple[Colour, ...]
    background: Annotated[int, Field(ge=0)] | None = None
    label_colours: tuple[Colour, ...] | None = None
    label_values: tuple[Byte, ...] | None = None
    ignored: tuple[Byte, ...] = ()
    ignored_colours: tuple[Colour, ...] = ()

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        count = len(self.names)
        for key in ("colours", "label_colours", "label_values"):
            values = getattr(self, key)
            if values is not None and len(values) != count:
                raise ValueError(f"{key} has {len(values)} values, there are {count} names")
        if len(set(self.names)) != count:
            raise ValueError(f"names hold one twice: {', '.join(self.names)}")
        if self.background is not None and self.background >= count:
            raise ValueError(f"background is {self.background}, the last of {count} classes is {count - 1}")
        palette = [*(self.label_colours or self.colours), *self.ignored_colours]
        twice = sorted({colour for colour in palette if palette.count(colour) > 1})
        if self.label_colours is not None and twice:
            raise ValueError(f"label colours hold one twice: {', '.join(twice)}")
        values = [*(self.label_values or ()), *(self.ignored if self.label_values else ())]
        if len(set(values)) != len(values):
            raise ValueError(f"label values and ignored hold one twice: {', '.join(map(str, values))}")
        return self

    @property
    def scheme(self) -> ClassScheme:
        """The classes as the rest of the system knows them."""
        return ClassScheme(self.name, self.names, self.colours, self.background)

    @property
    def label_palette(self) -> dict[tuple[int, int, int], int]:
        """Mask value of each colour (red, green, blue) of coloured label files."""
        palette = {rgb(c): index for index, c in enumerate(self.label_colours or self.colours)}
        return palette | {rgb(colour): IGNORE for colour in self.ignored_colours}


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as red, green and blue from 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def hexadecimal(red: int, green: int, blue: int) -> str:
    """A colour as `#rrggbb`."""
    return f"#{red:02x}{green:02x}{blue:02x}"


def legend_of(scheme: ClassScheme) -> Legend:
    """The legend of a class scheme."""
    return Legend(name=scheme.name, names=scheme.names, colours=scheme.colours, background=scheme.background)


def legend_named(names: Sequence[str], name: str = "own") -> Legend:
    """A legend of class names alone, in the order of their numbers; `background`, or `unchanged`, may stand first.

    Raises:
        DataError: no names, or one twice.
    """
    try:
        return Legend(
            name=name,
            names=tuple(names),
            colours=tuple(hexadecimal(*index_colour(number)) for number in range(len(names))),
            background=0 if names and names[0] in _NOTHING else None,
        )
    except ValidationError as error:
        raise DataError(explain(error, Legend, f"classes {', '.join(names)} make no legend")) from None


_NOTHING = ("background", "unchanged")


def read_legend(name: str | Path) -> Legend:
    """A legend by its name, or from a YAML or JSON file with the keys of `Legend`.

    Raises:
        DataError: no such legend, or a file that describes none.
    """
    if str(name) in LEGENDS:
        return LEGENDS[str(name)]
    path = Path(name)
    if not path.is_file():
        raise DataError(
            f"there is no legend and no file {name}: known legends are {', '.join(LEGENDS)}; a file of your own "
            "lists names and colours"
        )
    try:
        tree: Any = load_yaml(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).splitlines()[:4])
        raise DataError(f"{path} describes no legend (names, colours, background, ...): {reason}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path} describes no legend: expected the keys names, colours, background, ...")
    try:
        return build_config(Legend, {"name": path.stem} | tree, source=f"{path} describes no legend")
    except RecipeError as error:
        raise DataError(str(error)) from None


def _table(name: str, *classes: tuple[str, tuple[int, int, int]], **options: Any) -> Legend:
    names, colours = zip(*classes, strict=True)
    return Legend(name=name, names=names, colours=tuple(hexadecimal(*c) for c in colours), **options)


ISPRS = _table(
    "isprs",
    ("impervious_surfaces", (255, 255, 255)),
    ("building", (0, 0, 175)),
    ("low_vegetation", (0, 175, 255)),
    ("tree", (0, 255, 0)),
    ("car", (255, 175, 0)),
    ("clutter", (175, 0, 0)),
    label_colours=("#ffffff", "#0000ff", "#00ffff", "#00ff00", "#ffff00", "#ff0000"),
    ignored_colours=("#000000",),
)
"""ISPRS Potsdam and Vaihingen: six real classes, no background; black is the eroded boundary."""

ISAID = _table(
    "isaid",
    ("background", (0, 0, 0)),
    ("ship", (0, 0, 63)),
    ("storage_tank", (0, 191, 127)),
    ("baseball_diamond", (0, 63, 0)),
    ("tennis_court", (0, 63, 127)),
    ("basketball_court", (0, 63, 191)),
    ("ground_track_field", (0, 63, 255)),
    ("bridge", (0, 127, 63)),
    ("large_vehicle", (0, 127, 127)),
    ("small_vehicle", (0, 0, 127)),
    ("helicopter", (0, 0, 191)),
    ("swimming_pool", (0, 0, 255)),
    ("roundabout", (0, 63, 63)),
    ("soccer_ball_field", (0, 127, 191)),
    ("plane", (0, 127, 255)),
    ("harbor", (0, 100, 155)),
    background=0,
)
"""iSAID (Zamir et al. 2019)."""

AGRIVISION = _table(
    "agrivision",
    ("background", (0, 0, 0)),
    ("double_plant", (23, 190, 207)),
    ("drydown", (32, 119, 180)),
    ("endrow", (148, 103, 189)),
    ("nutrient_deficiency", (43, 160, 44)),
    ("planter_skip", (127, 127, 127)),
    ("water", (214, 39, 40)),
    ("waterway", (140, 86, 75)),
    ("weed_cluster", (255, 127, 14)),
    background=0,
)
"""Agriculture-Vision (Chiu et al. 2020) without its tenth class, storm damage."""

LOVEDA = _table(
    "loveda",
    ("background", (255, 255, 255)),
    ("building", (255, 0, 0)),
    ("road", (255, 255, 0)),
    ("water", (0, 0, 255)),
    ("barren", (159, 129, 183)),
    ("forest", (0, 255, 0)),
    ("agriculture", (255, 195, 128)),
    background=0,
    label_values=(1, 2, 3, 4, 5, 6, 7),
    ignored=(0,),
)
"""LoveDA (Wang et al. 2021). Its index masks count from 1, with 0 for no data."""

ZURICH_SUMMER = _table(
    "zurich-summer",
    ("roads", (235, 130, 60)),
    ("buildings", (100, 100, 100)),
    ("trees", (0, 125, 0)),
    ("grass", (0, 255, 0)),
    ("bare_soil", (150, 80, 0)),
    ("water", (0, 0, 150)),
    ("railways", (255, 255, 0)),
    ("swimming_pools", (150, 150, 255)),
    label_colours=(
        "#000000",
        "#646464",
        "#007d00",
        "#00ff00",
        "#965000",
        "#000096",
        "#ffff00",
        "#9696ff",
    ),
    ignored_colours=("#ffffff",),
)
"""Zurich Summer (Volpi and Ferrari 2015); white is unlabelled. Its roads are black, and drawn in another colour here."""

DUBAI = _table(
    "dubai-landcover",
    ("building", (60, 16, 152)),
    ("land", (132, 41, 246)),
    ("road", (110, 193, 228)),
    ("vegetation", (254, 221, 58)),
    ("water", (226, 169, 41)),
    label_values=(1, 2, 3, 4, 5),
    ignored=(0,),
    ignored_colours=("#9b9b9b", "#000000"),
)
"""Semantic segmentation of aerial imagery, Dubai (Humans in the Loop and MBRSC): five classes. What its label files call
unlabeled (0, grey) is unknown, and so is black, which no class has."""

VOC = _table("voc", *((name, index_colour(n)) for n, name in enumerate(_VOC_NAMES)), background=0)
"""Pascal VOC 2012 (Everingham et al.); 255, the rim of objects, is unknown."""

ADE = _table("ade20k", *((name, index_colour(n)) for n, name in enumerate(_ADE_NAMES)), background=0)
"""ADE20K as of the scene parsing challenge of 2016 (Zhou et al.); 0 is what no class has. Colours are VOC's."""

_IDS = tuple(number for number, *_ in _CITYSCAPES_CLASSES.values())
CITYSCAPES = _table(
    "cityscapes",
    *((name, (red, green, blue)) for name, (_, red, green, blue) in _CITYSCAPES_CLASSES.items()),
    label_values=_IDS,
    ignored=tuple(sorted(set(range(34)) - set(_IDS))),
)
"""Cityscapes (Cordts et al. 2016): the nineteen classes that are scored, all others unknown."""

RESCUENET = _table("rescuenet", *_RESCUENET_CLASSES.items(), background=0)
"""RescueNet (Rahnemoonfar et al. 2023), drone photographs after Hurricane Michael."""

FLOODNET = _table("floodnet", *_FLOODNET_CLASSES.items(), background=0)
"""FloodNet (Rahnemoonfar et al. 2021), drone photographs after Hurricane Harvey."""

FLAIR = _table("flair", *_FLAIR_CLASSES.items(), label_values=tuple(range(1, 20)))
"""FLAIR #1 (Garioud et al. 2022): all nineteen classes, counted from 1. The challenge scores the first twelve."""

BRIGHT = _table("bright", *_BRIGHT_CLASSES.items(), background=0)
"""BRIGHT (Chen et al. 2025): three levels of damage."""

BUILDING_CHANGE = _table("building-change", *_CHANGE_CLASSES.items(), background=0)
"""Whether a building was built, torn down or altered between two dates: LEVIR-CD, S2Looking, FOTBCD."""

CHANGE_KINDS = _table("building-change-kinds", *_CHANGE_KIND_CLASSES.items(), background=0)
"""What became of buildings: S2Looking's two masks."""

FOTBCD_KINDS = _table("fotbcd-kinds", *_FOTBCD_CLASSES.items(), background=0)
"""FOTBCD-Instances: buildings that stayed, were torn down, or are new."""

SPACENET8 = _table("spacenet8", *_SPACENET8_CLASSES.items(), background=0)
"""SpaceNet 8 (Hänsch et al. 2022): buildings and roads, flooded or not."""

LEGENDS = {
    legend.name: legend
    for legend in (
        ISPRS,
        ISAID,
        AGRIVISION,
        LOVEDA,
        ZURICH_SUMMER,
        DUBAI,
        VOC,
        ADE,
        CITYSCAPES,
        RESCUENET,
        FLOODNET,
        FLAIR,
        BRIGHT,
        BUILDING_CHANGE,
        CHANGE_KINDS,
        FOTBCD_KINDS,
        SPACENET8,
        legend_of(BUILDING),
        legend_of(DAMAGE),
    )
}
"""The legends that come along, by name."""
