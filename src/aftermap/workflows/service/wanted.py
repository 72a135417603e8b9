"""What may be asked of a job: uploads by their ids, or addresses, and the options of a map that are safe to offer."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ID_PATTERN = "^[0-9a-f]{32}$"
SOURCE_PATTERN = r"^([0-9a-f]{32}|(https|s3|gs|az)://\S+)$"
CRS_PATTERN = r"^EPSG:\d{4,6}$"

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Source = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=SOURCE_PATTERN)]
"""The id of an upload, or an address where the service takes them."""

Crs = Annotated[str, StringConstraints(pattern=CRS_PATTERN)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class MapWanted(BaseModel):
    """A map of damage between two dates."""

    model_config = ConfigDict(extra="forbid")

    pre: Source
    post: Source
    footprints: Source | None = None
    aoi: Source | None = None
    model: ModelName = "box"
    title: Title = ""
    align: Literal["auto", "local", "off"] = "auto"
    bands: Annotated[list[Annotated[int, Field(ge=1, le=512)]], Field(min_length=1, max_length=16)] | None = (
        None
    )
    stretch: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] | None = None
    crs: Crs | None = None
    resolution: Annotated[float, Field(gt=0, le=1000)] | None = None
    nodata: Literal["declared", "none"] | Annotated[float, Field(ge=-1e12, le=1e12)] | None = None
    min_area_m2: Annotated[float, Field(ge=0, le=1e6)] | None = None
    part_touching: bool | None = None
    keep_outside: bool = False
    features: bool = False
    pre_date: date | None = None
    post_date: date | None = None

    def sources(self) -> dict[str, str]:
        """What was named of uploads and addresses, by what it is for."""
        named = {"pre": self.pre, "post": self.post, "footprints": self.footprints, "aoi": self.aoi}
        return {name: value for name, value in named.items() if value is not None}


class LearnWanted(BaseModel):
    """The event's own model from the answers to a map."""

    model_config = ConfigDict(extra="forbid")

    map: Id
