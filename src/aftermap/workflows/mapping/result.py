"""A finished map, as a program or a notebook uses it: rasters with their grid, the table, counts, pictures."""

import base64
import html
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import geopandas
import numpy as np
import rasterio
from PIL import Image

from aftermap.errors import InputError
from aftermap.geo.grid import Grid
from aftermap.products.view import Kind
from aftermap.wording import counted

TaskName = Literal["damage", "buildings", "classes", "post-only", "pre-only"]

_PICTURE_PX = 1240
_PICTURE_BYTES = 200_000  # a notebook keeps the picture of every run of its cell


@dataclass(frozen=True)
class MapRaster:
    """A raster of a map.

    Attributes:
        path: the file.
        grid: where its pixels lie.
        names: of its bands.
    """

    path: Path
    grid: Grid
    names: tuple[str, ...]

    @cached_property
    def array(self) -> np.ndarray:
        """Its values as they are stored, uint8 (H, W), or (bands, H, W) where there are several; 255 is not assessed."""
        with rasterio.open(self.path, driver="GTiff") as file:
            values: np.ndarray = file.read()
        return values[0] if len(values) == 1 else values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def rows(self, height: int = 512) -> Iterator[np.ndarray]:
        """The first band as it is stored, in strips (height, W) from top to bottom."""
        with rasterio.open(self.path, driver="GTiff") as file:
            for top in range(0, file.height, height):
                window = rasterio.windows.Window(0, top, file.width, min(height, file.height - top))
                strip: np.ndarray = file.read(1, window=window)
                yield strip

    @classmethod
    def open(cls, path: Path) -> "MapRaster":
        """Read what the file says of itself."""
        with rasterio.open(path, driver="GTiff") as file:
            grid = Grid(file.crs, file.transform, file.width, file.height)
            return cls(path, grid, tuple(name or "" for name in file.descriptions))


@dataclass(frozen=True, repr=False)
class MapResult:
    """A finished map.

    Attributes:
        folder: the output folder. A temporary one, where none was given, lives as long as this result.
        task: what was mapped.
        buildings: the table of buildings, in the grid's reference system; of land cover, of its regions.
        summary: what `summary.json` holds.
        warnings: what the user was warned about.
        seconds: wall time.
        megapixels: size of the mapped grid.
        resumed_rows: rows that an interrupted run had already finished.
        stages: wall seconds by stage; windows are read beside what else is done.
        legend: classes, or grades of confidence, with their colours and amounts.
        kinds: index into the legend of each row of the table, int (n,).
        gate: how many windows an ensemble's gate took as empty (see `inference.gate`); None without one.
    """

    folder: Path
    task: TaskName
    buildings: geopandas.GeoDataFrame
    summary: dict[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    megapixels: float
    resumed_rows: int
    stages: dict[str, float]
    legend: tuple[Kind, ...] = ()
    kinds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    gate: dict[str, Any] | None = None
    kept: TemporaryDirectory[str] | None = None

    def __repr__(self) -> str:
        found = counted(len(self.buildings), "region" if self.task == "classes" else "building")
        warned = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<map of {self.task}: {found}, {self.megapixels:.1f} megapixels{warned}, in {self.folder}>"

    @cached_property
    def rasters(self) -> dict[str, MapRaster]:
        """All rasters by name: `damage` and `probabilities`, `classes` and `building`, or `classes` and `confidence`."""
        return {path.stem: MapRaster.open(path) for path in sorted(self.folder.glob("*.tif"))}

    @property
    def damage(self) -> MapRaster:
        """Classes of damage: 0 background, 1 to 4 from no damage to destroyed, 255 not assessed."""
        return self._raster("damage")

    @property
    def probabilities(self) -> MapRaster:
        """Probabilities of background and damage classes, 254 where they are 1."""
        return self._raster("probabilities")

    @property
    def classes(self) -> MapRaster:
        """Classes of one date: 0 background and 1 building, or those of the model's legend; 255 not assessed."""
        return self._raster("classes")

    @property
    def regions(self) -> geopandas.GeoDataFrame:
        """The regions of a map of classes.

        Raises:
            InputError: this is a map of buildings.
        """
        if self.task != "classes":
            raise InputError(f"this is a map of {self.task}: its table is .buildings")
        return self.buildings

    @property
    def page(self) -> Path:
        """The map as one HTML file."""
        return self.folder / "map.html"

    def plot(self, ax: Any = None) -> Any:
        """Draw the table in the colours of its classes; returns matplotlib axes.

        Args:
            ax: axes to draw on; by default new ones.
        """
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        if ax is None:
            ax = Figure(figsize=(8, 6), layout="constrained").subplots()
        if len(self.buildings):
            colours = [self.legend[kind].colour for kind in self.kinds.tolist()]
            self.buildings.plot(ax=ax, color=colours)
        ax.set_aspect("equal")
        if self.buildings.crs is None and not ax.yaxis_inverted():
            ax.invert_yaxis()  # rows count downwards
        patches = [Patch(color=kind.colour, label=f"{kind.label}  {kind.amount}") for kind in self.legend]
        ax.legend(handles=patches, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return ax

    def explore(self, **options: Any) -> Any:
        """The table on a web map that can be moved about, from `GeoDataFrame.explore`; its tiles come from the network.

        Args:
            options: as `explore` takes them, such as `tiles`.

        Raises:
            InputError: folium is not installed, or the map is in pixels.
        """
        absent = [name for name in ("folium", "mapclassify") if find_spec(name) is None]
        if absent:
            raise InputError(f"explore() needs {' and '.join(absent)}: pip install {' '.join(absent)}")
        if self.buildings.crs is None:
            raise InputError("explore() needs a georeference, and this map is in pixels: open .page instead")
        names = [kind.name for kind in self.legend]
        shown = self.buildings.assign(kind=[names[kind] for kind in self.kinds.tolist()])
        chosen = {"categories": names, "cmap": [kind.colour for kind in self.legend]}
        return shown.explore(column="kind", categorical=True, **(chosen | options))

    def _raster(self, name: str) -> MapRaster:
        if name not in self.rasters:
            raise InputError(f"a map of {self.task} has no {name}: it has {', '.join(self.rasters)}")
        return self.rasters[name]

    def _repr_html_(self) -> str:
        """The picture, the counts and the warnings, for notebooks."""
        picture = base64.b64encode(_reduced(self.folder / "overview.png")).decode("ascii")
        rows = "".join(
            f'<tr><td><span style="color:{kind.colour}">&#9632;</span> {html.escape(kind.label)}</td>'
            f"<td>{html.escape(kind.amount)}</td><td>{kind.percent}</td></tr>"
            for kind in self.legend
        )
        warned = "".join(f"<p>&#9888; {html.escape(warning)}</p>" for warning in self.warnings)
        return (
            f'<div><img src="data:image/webp;base64,{picture}" style="max-width:100%" alt="overview">'
            f"<table><tr><th>{html.escape(self.task)}</th><th>amount</th><th>share</th></tr>{rows}</table>{warned}"
            f"<p>{html.escape(str(self.page))}</p></div>"
        )


def _reduced(path: Path) -> bytes:
    """A picture as WebP of at most 200 kB, 1240 px wide where it was wider."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    picture.thumbnail((_PICTURE_PX, 2 * _PICTURE_PX))
    while True:
        for quality in (85, 65, 45):
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", quality=quality, method=2)
            if buffer.tell() <= _PICTURE_BYTES:
                return buffer.getvalue()
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
