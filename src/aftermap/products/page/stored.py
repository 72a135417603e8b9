"""A page of a map that was written before: its heading and its pictures, which a finished map keeps nowhere else."""

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aftermap.errors import InputError
from aftermap.products.view import Picture

MAX_SIDE_PX = 4096
"""Of the pictures of a page."""
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_SOURCE = re.compile(r"data:image/(?:jpeg|webp|png);base64,[A-Za-z0-9+/=]*")
_DATES = ("pre", "post")
_ODD = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class StoredPage:
    """What a page holds; without tiles and text, plain ground.

    Attributes:
        path: of the page.
        width: of its pictures, in their pixels.
        height: likewise.
        title: its heading.
        warnings: in its banner.
        names: of the pictures, shown on the buttons.
        labels: the same with their dates.
        tiles: of the first picture and of the second.
        data: all that it holds, as it was written.
        around: the text before the data and after it.
    """

    path: Path
    width: int
    height: int
    title: str = ""
    warnings: tuple[str, ...] = ()
    names: tuple[str, str] = ("Before", "After")
    labels: tuple[str, str] = ("Before", "After")
    tiles: tuple[list[dict[str, Any]], list[dict[str, Any]]] = field(default_factory=lambda: ([], []))
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    around: tuple[str, str] = field(default=("", ""), repr=False)

    @property
    def pictures(self) -> tuple[Picture, Picture]:
        """As a view wants them; without pixels of their own."""
        none = np.zeros((0, 0, 3), np.uint8)
        return self._named((none, None), (none, None))

    def decoded(self) -> tuple[Picture, Picture]:
        """Likewise with their pixels.

        Raises:
            InputError: a picture cannot be read.
        """
        both = (np.asarray(self._joined(position)) for position in range(2))
        first, second = ((rgba[..., :3] * (rgba[..., 3:] > 0), rgba[..., 3] > 0) for rgba in both)
        return self._named(first, second)

    def image(self, position: int, ground: str) -> Image.Image:
        """The first picture (0) or the second (1), RGB, with a colour where nothing was seen.

        Raises:
            InputError: the picture cannot be read.
        """
        seen = self._joined(position)
        sheet = Image.new("RGB", seen.size, ground)
        sheet.paste(seen, (0, 0), seen)
        return sheet

    def images(self) -> dict[str, Any]:
        """The pictures as a page's data has them."""
        return {"width": self.width, "height": self.height, **dict(zip(_DATES, self.tiles, strict=True))}

    def _named(self, *pixels: tuple[np.ndarray, np.ndarray | None]) -> tuple[Picture, Picture]:
        first, second = (
            Picture(name, rgb, valid, date=label.removeprefix(name).removeprefix(" · "))
            for name, label, (rgb, valid) in zip(self.names, self.labels, pixels, strict=True)
        )
        return first, second

    def _joined(self, position: int) -> Image.Image:
        """The tiles of a picture as one, RGBA."""
        sheet = Image.new("RGBA", (self.width, self.height))
        try:
            for tile in self.tiles[position]:
                data = base64.b64decode(tile["src"].partition(",")[2], validate=True)
                with Image.open(io.BytesIO(data), formats=("JPEG", "WEBP", "PNG")) as part:
                    sheet.paste(part.convert("RGBA"), (tile["x"], tile["y"]))
        except _ODD as error:
            raise InputError(f"{self.path} is not the page of a map: {error}") from None
        return sheet


def read_page(path: Path) -> StoredPage:
    """Read the page of a map.

    Raises:
        InputError: it is missing, or no page of a map.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = _DATA.search(text)
        if found is None:
            raise ValueError("it holds no data")
        data = json.loads(found[1])
        images = data["images"]
        width, height = int(images["width"]), int(images["height"])
        if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
            raise ValueError(f"its images are of {width} x {height} pixels")
        words = data["words"]
        first, second = ([_tile(tile) for tile in images[date]] for date in _DATES)
        return StoredPage(
            path,
            width,
            height,
            str(data.get("title") or ""),
            tuple(str(warning) for warning in data["warnings"]),
            _two(words["views"]),
            _two(words["labels"]),
            (first, second),
            data,
            (text[: found.start(1)], text[found.end(1) :]),
        )
    except FileNotFoundError:
        raise InputError(f"{path} is missing, and with it the pictures of the map: map again") from None
    except _ODD as error:
        raise InputError(f"{path} is not the page of a map: {error}") from None


def page_or_ground(path: Path, *, width: int, height: int) -> StoredPage:
    """The page of a map; plain ground of this size where there is no such page, or it is none of ours."""
    try:
        return read_page(path)
    except InputError:
        return StoredPage(path, width, height)


def _tile(tile: dict[str, Any]) -> dict[str, Any]:
    source = str(tile["src"])
    if not _SOURCE.fullmatch(source):
        raise ValueError("a picture that is not in the page")
    return {**{name: int(tile[name]) for name in ("x", "y", "width", "height")}, "src": source}


def _two(words: Any) -> tuple[str, str]:
    first, second = words
    return str(first), str(second)
