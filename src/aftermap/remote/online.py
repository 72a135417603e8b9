"""One way to every place: web servers, buckets and files, within one reach and one budget."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftermap.errors import AbsentError, MissingExtraError, RemoteError
from aftermap.extras import install_command
from aftermap.files import replacing
from aftermap.remote.addresses import Address
from aftermap.remote.local import write_file
from aftermap.remote.reach import Budget, Reach, amount, host_name
from aftermap.remote.stat import Stat, stat_of_answer, stat_of_object, unpacked

if TYPE_CHECKING:
    from aftermap.remote.web import Answer, Web

_MOST_BYTES = 64 << 20
_GAP = 64 << 10
_CHUNK = 8 << 20

AnyAddress = str | os.PathLike[str] | Address


class Online:
    """Reads and writes files that lie elsewhere; see the room's description. May be shared between threads.

    Args:
        reach: what may be asked; by default all that a user at the command line may name.
        named: addresses that the user wrote, whose hosts may lie in a private network where the reach says `named`.
        budget: of bytes read, shared by all requests; by default AFTERMAP_ONLINE_BUDGET, else 20 GB.
        timeout_s: of connecting, and of each wait for an answer or for more of it.
        slowest: bytes per second below which a web server's answer is given up.
        tries: how often a request is made that failed in a way which may pass.

    Raises:
        MissingExtraError: the extra `catalog` is not installed.
    """

    def __init__(
        self,
        reach: Reach | None = None,
        *,
        named: Iterable[AnyAddress] = (),
        budget: Budget | None = None,
        timeout_s: float = 30.0,
        slowest: float = 10_000,
        tries: int = 4,
    ) -> None:
        if not all(find_spec(name) for name in ("httpcore", "obstore")):
            raise MissingExtraError(
                f"reading online needs more than the core of aftermap: {install_command('catalog')}"
            )
        self.reach, self.budget = reach or Reach(), budget or Budget()
        self.timeout_s, self._slowest, self._tries = timeout_s, slowest, tries
        self._named = frozenset(host_name(place) for place in map(Address.parse, named) if place.is_web)
        self._stores: dict[tuple[str, str], Any] = {}
        self._web: Web | None = None
        self._lock = threading.Lock()

    def stat(self, address: AnyAddress) -> Stat:
        """Size and version of a file.

        Raises:
            AbsentError: there is none.
            RemoteError: it cannot be reached, or may not be.
        """
        place = self._checked(address)
        if place.is_web:
            stat: Stat = self._fetch(place, lambda answer: stat_of_answer(answer, place), 0, 1)
            return stat
        from obstore import head

        from aftermap.remote.buckets import explained

        with explained(place):
            return stat_of_object(head(self._store(place), place.key), place)

    def read(self, address: AnyAddress, *, most_bytes: int = _MOST_BYTES) -> bytes:
        """All of a file.

        Raises:
            RemoteError: as for `stat`, or it is larger than `most_bytes`.
        """
        place = self._checked(address)
        if place.is_web:

            def take(answer: "Answer") -> bytes:
                _refuse_large(place, int(answer.headers.get("content-length", 0)), most_bytes)
                sent = self._taken(answer.chunks, place, most_bytes)
                return unpacked(sent, answer.headers.get("content-encoding", ""), place, most_bytes)

            data: bytes = self._web_of(place).fetch(place, take)
            return data
        from obstore import get

        from aftermap.remote.buckets import explained

        with explained(place):
            found = get(self._store(place), place.key)
            _refuse_large(place, found.meta["size"], most_bytes)
            self.budget.require(found.meta["size"], place.shown)
            return self._taken((bytes(chunk) for chunk in found), place, most_bytes)

    def read_range(self, address: AnyAddress, start: int, length: int) -> bytes:
        """Some bytes of a file; fewer where it ends before.

        Raises:
            RemoteError: as for `stat`, or its server does not send parts of files.
        """
        place = self._checked(address)
        if length <= 0:
            return b""
        if place.is_web:

            def take(answer: "Answer") -> bytes:
                if answer.status == 416:
                    return b""
                expected = min(length, stat_of_answer(answer, place).size - start)
                data = self._taken(answer.chunks, place, length)
                if len(data) != expected:
                    raise RemoteError(
                        f"cannot read {place.shown}: its server sent {len(data)} of {expected} bytes"
                    )
                return data

            part: bytes = self._fetch(place, take, start, length)
            return part
        from obstore import get_range

        from aftermap.remote.buckets import explained

        self.budget.spend(length)
        with explained(place):
            return bytes(get_range(self._store(place), place.key, start=start, length=length))

    def read_ranges(self, address: AnyAddress, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several parts of a file, as (start, length); those that lie close are asked for at once.

        Raises:
            RemoteError: as for `read_range`.
        """
        spans: list[tuple[int, int]] = []
        for start, length in sorted(ranges):
            if spans and start <= spans[-1][1] + _GAP and start + length - spans[-1][0] <= _CHUNK:
                spans[-1] = (spans[-1][0], max(spans[-1][1], start + length))
            else:
                spans.append((start, start + length))
        held = {span: self.read_range(address, span[0], span[1] - span[0]) for span in spans}
        parts = []
        for start, length in ranges:
            span = next(each for each in spans if each[0] <= start and start + length <= each[1])
            parts.append(held[span][start - span[0] : start - span[0] + length])
        return parts

    def list(self, prefix: AnyAddress) -> Iterator[Stat]:
        """The files below an address of a bucket or a folder, in no order that is promised.

        Raises:
            RemoteError: it cannot be listed; web servers cannot.
        """
        place = self._checked(prefix)
        if place.is_web:
            raise RemoteError(
                f"cannot list {place.shown}: web servers do not tell what they hold; name the files"
            )
        from obstore import list as list_objects

        from aftermap.remote.buckets import explained

        with explained(place, "list"):
            for batch in list_objects(self._store(place), place.key.rstrip("/") or None):
                for meta in batch:
                    yield stat_of_object(meta, Address(place.scheme, place.host, meta["path"]))

    def write(self, address: AnyAddress, data: bytes | Path, *, create: bool = False) -> bool:
        """Put a file, whole or not at all.

        Args:
            address: of a bucket or a file.
            data: its bytes, or the local file that holds them.
            create: leave what is there already as it is.

        Returns:
            Whether it was written; False only with `create`.

        Raises:
            RemoteError: it cannot be written, or may not be.
            OutputError: a local file cannot be.
        """
        place = self._checked(address)
        if place.is_web:
            raise RemoteError(
                f"cannot write {place.shown}: files are written to buckets: s3://, gs://, az://"
            )
        if place.scheme == "file":
            return write_file(place.path, data, create=create)
        from obstore import exceptions, put

        from aftermap.remote.buckets import explained

        with explained(place, "write"):
            try:
                put(self._store(place), place.key, data, mode="create" if create else "overwrite")
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return False
        return True

    def delete(self, address: AnyAddress) -> None:
        """Delete a file; none there is fine.

        Raises:
            RemoteError: it cannot be deleted.
        """
        place = self._checked(address)
        if place.is_web:
            raise RemoteError(f"cannot delete {place.shown}: files are deleted in buckets only")
        from obstore import delete

        from aftermap.remote.buckets import explained

        with suppress(AbsentError), explained(place, "delete"):
            delete(self._store(place), place.key)

    def download(
        self, address: AnyAddress, path: Path, *, progress: Callable[[int, int], None] | None = None
    ) -> Stat:
        """Copy a file to this machine, whole or not at all, a piece at a time.

        Args:
            address: it.
            path: the local file.
            progress: told the bytes done and those in all.

        Raises:
            RemoteError: as for `read_range`, or it was changed meanwhile.
            OutputError: the local file cannot be written.
        """
        stat = self.stat(address)
        self.budget.require(stat.size, stat.address.shown)
        with replacing(path, shared=True) as part, part.open("wb") as file:
            for start in range(0, stat.size, _CHUNK):
                data = self.read_range(address, start, min(_CHUNK, stat.size - start))
                if not data:
                    raise RemoteError(
                        f"cannot read {stat.address.shown}: it became shorter while it was read"
                    )
                file.write(data)
                if progress is not None:
                    progress(start + len(data), stat.size)
            if self.stat(address).etag != stat.etag:
                raise RemoteError(
                    f"cannot read {stat.address.shown}: it was changed while it was read; try again"
                )
        return stat

    def close(self) -> None:
        """Close all connections; reading opens them again."""
        with self._lock:
            if self._web is not None:
                self._web.close()
            self._web = None
            self._stores.clear()

    def post(self, address: AnyAddress, body: bytes, *, most_bytes: int = _MOST_BYTES) -> bytes:
        """What a web service answers to JSON that is sent to it.

        Raises:
            RemoteError: as for `read`.
        """
        place = self._checked(address)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        data: bytes = self._web_of(place).fetch(
            place,
            lambda answer: self._taken(answer.chunks, place, most_bytes),
            headers=headers,
            method="POST",
            body=body,
        )
        return data

    def _checked(self, address: AnyAddress) -> Address:
        place = Address.parse(address)
        self.reach.check(place)
        return place

    def _web_of(self, place: Address) -> "Web":
        if not place.is_web:
            raise RemoteError(f"{place.shown} is no web address")
        from aftermap.remote.web import Web

        with self._lock:
            if self._web is None:
                self._web = Web(
                    self.reach,
                    self._named,
                    timeout_s=self.timeout_s,
                    slowest=self._slowest,
                    tries=self._tries,
                )
            return self._web

    def _fetch(self, place: Address, take: Callable[["Answer"], Any], start: int, length: int) -> Any:
        headers = [("Range", f"bytes={start}-{start + length - 1}")]
        return self._web_of(place).fetch(place, take, headers=headers)

    def _store(self, place: Address) -> Any:
        from aftermap.remote.buckets import open_store

        with self._lock:
            found = (place.scheme, place.host)
            if found not in self._stores:
                self._stores[found] = open_store(
                    place,
                    timeout_s=self.timeout_s,
                    tries=self._tries,
                    reach=self.reach,
                )
            return self._stores[found]

    def _taken(self, chunks: Iterator[bytes], place: Address, most_bytes: int) -> bytes:
        """A body, counted as it comes."""
        parts, count = [], 0
        for chunk in chunks:
            self.budget.spend(len(chunk))
            count += len(chunk)
            _refuse_large(place, count, most_bytes)
            parts.append(chunk)
        return b"".join(parts)


def _refuse_large(place: Address, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise RemoteError(
            f"{place.shown} is larger than the {amount(most_bytes)} that are read of such a file"
        )
