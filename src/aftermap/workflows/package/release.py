"""A version of a map in an agency's layout, as the writers of the agencies get it, and what a layout is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import geopandas
import shapely
from affine import Affine
from rasterio.crs import CRS

from aftermap.geo.grid import Grid
from aftermap.products.vectors import in_degrees
from aftermap.scales import Scale
from aftermap.workflows.mapping.finished import FinishedMap

Agency = Literal["ems", "unosat", "fema", "hdx"]
AGENCIES: tuple[Agency, ...] = get_args(Agency)
STATUS = "Rapid assessment by remote sensing, not validated in the field"


@dataclass(frozen=True)
class Release:
    """A version in the making, as the writers of the agencies get it.

    Attributes:
        map: the finished one.
        frame: its buildings in EPSG:4326, with `grade`, None where nothing can be claimed, and `scale`.
        scale: of the grades.
        stem: of the files, without version.
        version: from 1.
        code: of the activation, disaster or event.
        number: of the area of interest.
        event: what happened, in the agency's words; empty where nobody says.
        organisation: who hands it on.
        licence: of the data that is handed on; empty where nobody says.
    """

    map: FinishedMap
    frame: geopandas.GeoDataFrame
    scale: Scale
    stem: str
    version: int
    code: str
    number: int
    event: str
    organisation: str
    licence: str

    @property
    def is_post_only(self) -> bool:
        """Whether the map rests on the image after alone: nothing is claimed of what is not destroyed."""
        return self.map.one_date == "post-only"

    @property
    def damaged(self) -> frozenset[str]:
        """Classes of the map that are damage."""
        return frozenset(self.map.scheme.names[2:])

    def acquired(self, name: Literal["pre", "post"]) -> str:
        """The day of an image (ISO 8601); empty where it is not known."""
        return str((self.map.provenance["inputs"].get(name) or {}).get("acquired") or "")

    def extent(self, name: Literal["pre", "post"] | None = None) -> shapely.Geometry:
        """The map, or an image of it, in EPSG:4326."""
        grid = self.map.grid
        described = (self.map.provenance["inputs"].get(name) or {}).get("grid") if name else None
        if described and described.get("crs"):
            grid = Grid(
                CRS.from_user_input(described["crs"]),
                Affine(*described["transform"]),
                int(described["width"]),
                int(described["height"]),
            )
        outline = shapely.segmentize(
            shapely.Polygon(grid.corners), max(grid.bounds[2] - grid.bounds[0], 1e-9) / 16
        )
        one = geopandas.GeoDataFrame(geometry=[outline], crs=grid.crs.to_wkt() if grid.crs else None)
        return in_degrees(one)[0]


@dataclass(frozen=True)
class Layout:
    """How an agency hands things on.

    Attributes:
        agency: its name.
        title: to be read.
        scale: of its grades.
        stem: names the files out of code and number.
        code: the one that stands where nobody gives one.
        write: writes the layers into a folder.
        confirmed: what of the layout is known from public documents or packages.
        unconfirmed: what is not.
    """

    agency: Agency
    title: str
    scale: str
    stem: Callable[[str, int], str]
    code: str
    write: Callable[[Release, Path], None]
    confirmed: str
    unconfirmed: str
