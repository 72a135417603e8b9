"""The pictures of a page that was written before, taken out of it as they are: a finished map keeps no other images."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftermap.products.view import Picture

_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_SOURCE = re.compile(r"data:image/(?:webp|png);base64,[A-Za-z0-9+/=]*")
_DATES = ("pre", "post")
_MOST_PX = 20_000


@dataclass(frozen=True)
class StoredPictures:
    """Two pictures as a page holds them.

    Attributes:
        width: of the pictures, in their pixels.
        height: likewise.
        tiles: of the first and the second.
        names: of the pictures, shown on the buttons.
        labels: the same with their dates.
        warnings: of the map, that its page shows.
    """

    width: int
    height: int
    tiles: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ((), ())  # type: ignore[assignment]
    names: tuple[str, str] = ("Before", "After")
    labels: tuple[str, str] = ("Before", "After")
    warnings: tuple[str, ...] = ()

    @property
    def pictures(self) -> tuple[Picture, Picture]:
        """As a view wants them; without pixels of their own."""
        none = np.zeros((0, 0, 3), np.uint8)
        first, second = (
            Picture(name, none, date=label.removeprefix(name).removeprefix(" · "))
            for name, label in zip(self.names, self.labels, strict=True)
        )
        return first, second

    def images(self) -> dict[str, Any]:
        """As a page's data has them."""
        return {"width": self.width, "height": self.height, **dict(zip(_DATES, self.tiles, strict=True))}


def stored_pictures(page: Path, *, width: int, height: int) -> StoredPictures:
    """The pictures of `map.html`; plain ground where there is no such page, or it is none of ours.

    Args:
        page: that was written by `write_page`.
        width: of the grid, for a page without pictures.
        height: likewise.
    """
    try:
        found = _DATA.search(page.read_text(encoding="utf-8"))
        data = json.loads(found[1]) if found else None
        images, words = data["images"], data["words"]  # type: ignore[index]
        first, second = ([_tile(tile) for tile in images[date]] for date in _DATES)
        across, down = int(images["width"]), int(images["height"])
        if not (0 < across <= _MOST_PX and 0 < down <= _MOST_PX):
            raise ValueError("a size that no page has")
        return StoredPictures(
            across,
            down,
            (first, second),
            _two(words["views"]),
            _two(words["labels"]),
            tuple(str(warning) for warning in data["warnings"]),  # type: ignore[index]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return StoredPictures(width, height, ([], []))


def _tile(tile: dict[str, Any]) -> dict[str, Any]:
    source = str(tile["src"])
    if not _SOURCE.fullmatch(source):
        raise ValueError("a picture that is not in the page")
    return {**{name: int(tile[name]) for name in ("x", "y", "width", "height")}, "src": source}


def _two(words: Any) -> tuple[str, str]:
    first, second = words
    return str(first), str(second)
