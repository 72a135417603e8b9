"""What a map is given by address: copied to this machine, as far as it is needed, before anything else begins."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, overload

from aftermap.remote.addresses import Address, is_address

if TYPE_CHECKING:
    from aftermap.remote import Online

Progress = Callable[[str, int, int], None]


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
        elsewhere = cls([Address.parse(g) for g in given if isinstance(g, (str, Path)) and is_address(g)])
        try:
            yield elsewhere
        finally:
            if elsewhere._online is not None:
                elsewhere._online.close()

    @property
    def is_asked(self) -> bool:
        """Whether there is an address at all."""
        return bool(self._addresses)

    @overload
    def image(self, path: Path, aoi: Path | None, progress: Progress | None) -> Path: ...
    @overload
    def image(self, path: Path | None, aoi: Path | None, progress: Progress | None) -> Path | None: ...
    def image(self, path: Path | None, aoi: Path | None, progress: Progress | None) -> Path | None:
        """An image on this machine, or of a COG the part that an area touches.

        Raises:
            RemoteError: it cannot be read.
        """
        if path is None or not is_address(path):
            return path
        from aftermap.geo.online import fetch_image

        return fetch_image(Address.parse(path), self._reader(), aoi=aoi, progress=progress)

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

    def _reader(self) -> "Online":
        if self._online is None:
            from aftermap.remote import Online

            self._online = Online(named=self._addresses)
        return self._online
