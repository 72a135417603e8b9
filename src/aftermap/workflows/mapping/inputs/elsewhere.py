"""What a map is given by address or out of a catalogue: copied to this machine before anything else begins."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aftermap.files.origins import origin_of
from aftermap.remote.addresses import Address, is_address

if TYPE_CHECKING:
    from aftermap.remote import Online
    from aftermap.workflows.catalogues.picture import CatalogueImage
    from aftermap.workflows.mapping.inputs.memory import Held, Imagery

Progress = Callable[[str, int, int], None]


def pictures_of(given: object) -> "Sequence[CatalogueImage]":
    """The images of a catalogue that something is: an acquisition of `find`, or of a file of pairs; else none."""
    if isinstance(given, (str, Path)) or "aftermap.workflows.catalogues.picture" not in sys.modules:
        return ()
    from aftermap.workflows.catalogues.picture import CatalogueImage

    listed = getattr(given, "images", given)
    if isinstance(listed, tuple) and listed and all(isinstance(each, CatalogueImage) for each in listed):
        return listed
    return ()


class Elsewhere:
    """Turns addresses into paths of copies; paths come back as they are. Nothing is loaded where there is no address.

    Args:
        addresses: that the user wrote.
        online: reads them; by default within the reach of a user, and one budget for all.
    """

    def __init__(self, addresses: Sequence[Address], online: "Online | None" = None) -> None:
        self._addresses, self._online = addresses, online

    @classmethod
    @contextmanager
    def of(cls, *given: object) -> "Iterator[Elsewhere]":
        """For all that a command was given, as long as it reads; what is neither text nor path is no address.

        Raises:
            RemoteError: an address cannot be understood.
            MissingExtraError: there is one, and the extra `catalog` is not installed.
        """
        written = [Address.parse(g) for g in given if isinstance(g, (str, Path)) and is_address(g)]
        # what was read of a host that may be private was named before; where an image lies is the catalogue's word
        written += [Address.parse(picture.item_address) for each in given for picture in pictures_of(each)]
        elsewhere = cls(written)
        try:
            yield elsewhere
        finally:
            if elsewhere._online is not None:
                elsewhere._online.close()

    @property
    def is_asked(self) -> bool:
        """Whether there is an address at all."""
        return bool(self._addresses)

    def image(self, given: "Imagery", aoi: Path | None, progress: Progress | None) -> "Held":
        """An image on this machine, or of a COG the part that an area touches.

        Args:
            given: the address of an image or of a STAC item, or an acquisition of a catalogue, whose tiles come as a
                folder; anything else comes back as it is.
            aoi: vector file with the area.
            progress: told the pixels that were copied.

        Raises:
            RemoteError: it cannot be read.
            DataError: the item has no image.
        """
        if isinstance(given, (str, Path)):
            if not is_address(given):
                return given
            address = Address.parse(given)
            if address.key.lower().endswith(".json"):
                from aftermap.workflows.catalogues.stac import read_item

                return self._pictures([read_item(address, self._reader())], aoi, progress)
            from aftermap.geo.online import fetch_image

            return fetch_image(address, self._reader(), aoi=aoi, progress=progress)
        pictures = pictures_of(given)
        return self._pictures(pictures, aoi, progress) if pictures else cast("Held", given)

    def path(self, given: str | Path, aoi: Path | None) -> Path:
        """An image that was given as a path or an address, on this machine."""
        return Path(cast("str | Path", self.image(given, aoi, None)))

    def mask(self, path: Path | None, aoi: Path | None, progress: Progress | None) -> Path | None:
        """A raster on this machine, likewise."""
        return None if path is None else cast(Path, self.image(path, aoi, progress))

    def vectors(self, path: Path | None) -> Path | None:
        """A vector file on this machine; `ADDRESS:LAYER` is `FILE:LAYER` of its copy.

        Raises:
            RemoteError: it cannot be read.
        """
        if path is None or not is_address(path):
            return path
        from aftermap.geo.online import fetch_vectors
        from aftermap.geo.vectors import FORMATS

        text, _, layer = str(path).rpartition(":")
        if layer and Path(text).suffix.lower() in FORMATS:
            return Path(f"{fetch_vectors(Address.parse(text), self._reader())}:{layer}")
        return fetch_vectors(Address.parse(path), self._reader())

    def _pictures(
        self, pictures: "Sequence[CatalogueImage]", aoi: Path | None, progress: Progress | None
    ) -> Path:
        """Images of a catalogue: a file, or a folder where there are several."""
        from aftermap.geo.online import fetch_image, gather

        copies = []
        for picture in pictures:
            address = Address.parse(picture.address)
            if address.scheme == "file":
                told = picture.told()
                del told["item_address"]  # records name no folders of this machine
                copies.append((address.path, told))
                continue
            path = fetch_image(address, self._reader(), aoi=aoi, progress=progress)
            copies.append((path, {**origin_of(path), **picture.told()}))
        return gather(copies)

    def _reader(self) -> "Online":
        if self._online is None:
            from aftermap.remote import Online

            self._online = Online(named=self._addresses)
        return self._online
