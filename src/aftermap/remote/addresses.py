"""Addresses of files: schemes, hosts or buckets, keys; and how they are shown."""

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from aftermap.errors import RemoteError, shown

BUCKETS = ("s3", "gs", "az")
SCHEMES = ("https", "http", *BUCKETS, "file")

_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):[/\\]+(.*)", re.IGNORECASE | re.DOTALL)
_FOREIGN = re.compile(r"([a-z][a-z0-9+-]+):[/\\]", re.IGNORECASE)
_OTHER = re.compile(r"([a-z][a-z0-9+.-]+):[/\\]{2}", re.IGNORECASE)


def is_address(value: str | os.PathLike[str]) -> bool:
    """Whether a text, or a path that was made of one, is the address of a file elsewhere."""
    return _ADDRESS.fullmatch(os.fspath(value)) is not None


def unknown_scheme(value: str | os.PathLike[str]) -> str | None:
    """What is wrong with an address that nothing here reads, also where a path was made of it; None for the rest."""
    found = _FOREIGN.match(os.fspath(value))
    if found is None or found[1].lower() in SCHEMES or Path(value).exists():
        return None
    return f"{found[1]}:// is not read: expected a path, or {', '.join(SCHEMES[:-1])}"


@dataclass(frozen=True)
class Address:
    """Where a file lies.

    Attributes:
        scheme: one of `SCHEMES`.
        host: host with its port, bucket or container; empty for `file`. A user and password may stand before it.
        key: path below it without the first slash; percent-encoded for web addresses only.
        query: of web addresses, with its question mark.
    """

    scheme: str
    host: str
    key: str
    query: str = ""

    @classmethod
    def parse(cls, value: "str | os.PathLike[str] | Address") -> "Address":
        """Take an address apart.

        Raises:
            RemoteError: it is none, or of a scheme that is not known.
        """
        if isinstance(value, Address):
            return value
        text = os.fspath(value)
        found = _ADDRESS.fullmatch(text.strip())
        if found is None:
            other = _OTHER.match(text)
            scheme = f"{other[1]}:// is not known" if other else "it has no scheme"
            raise RemoteError(f"{_bare(text)} is no address: {scheme}, expected {', '.join(SCHEMES)}")
        scheme, rest = found[1].lower(), found[2].replace("\\", "/")
        if any(not letter.isprintable() for letter in rest):
            raise RemoteError(f"{_bare(text)} is no address: it holds control characters")
        if scheme == "file":
            return cls("file", "", rest.lstrip("/"))
        if scheme in BUCKETS:
            host, _, key = rest.partition("/")
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", host):
                raise RemoteError(f"{_bare(text)} names no bucket: expected {scheme}://bucket/key")
            return cls(scheme, host, key)
        try:
            parts = urlsplit(f"{scheme}://{rest}")
            _ = parts.port
        except ValueError:
            raise RemoteError(f"{_bare(text)} is no address: its host or port cannot be understood") from None
        if not parts.hostname:
            raise RemoteError(f"{_bare(text)} names no host")
        key = quote(parts.path.lstrip("/"), safe="/%:@!$&'()*+,;=~-._")
        return cls(
            scheme, parts.netloc, key, f"?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else ""
        )

    @classmethod
    def of_path(cls, path: Path) -> "Address":
        """The address of a file of this machine."""
        return cls("file", "", path.absolute().as_posix().lstrip("/"))

    @classmethod
    def of(cls, value: "str | os.PathLike[str] | Address") -> "Address":
        """An address as it is, or that of a path."""
        return (
            cls.parse(value) if isinstance(value, Address) or is_address(value) else cls.of_path(Path(value))
        )

    def __str__(self) -> str:
        """All of it, secrets too: to be used, not to be shown."""
        return f"{self.scheme}://{self.host}/{self.key}{self.query}"

    @property
    def shown(self) -> str:
        """The address as messages and records show it: no user, password or query; of a file its path."""
        if self.scheme == "file":
            return f"/{self.key}"
        return f"{self.scheme}://{self.host.rpartition('@')[2]}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        last = self.key.rstrip("/").rpartition("/")[2]
        return unquote(last) if self.is_web else last

    @property
    def is_web(self) -> bool:
        """Whether it is asked for by plain HTTP."""
        return self.scheme in ("https", "http")

    @property
    def path(self) -> Path:
        """The path of a `file` address."""
        assert self.scheme == "file"
        return Path("/" + self.key)

    @property
    def parent(self) -> "Address":
        """What it lies in."""
        return Address(self.scheme, self.host, self.key.rstrip("/").rpartition("/")[0])

    def refer(self, href: str) -> "Address":
        """What a reference in this file means: an address, or a way from the file's place on.

        Raises:
            RemoteError: it is neither.
        """
        if _OTHER.match(href):
            return Address.parse(href)
        way, _, query = href.partition("?") if self.is_web else (href, "", "")
        base = "" if way.startswith("/") else self.key.rpartition("/")[0]
        key = posixpath.normpath(posixpath.join(base, way.lstrip("/"))).lstrip("/")
        if key == ".." or key.startswith("../"):
            raise RemoteError(f"{self.shown} refers to {shown(href)}, which lies outside of its place")
        return Address.parse(
            f"{self.scheme}://{self.host}/{'' if key == '.' else key}{'?' if query else ''}{query}"
        )

    def join(self, *names: str) -> "Address":
        """What lies below it, by names."""
        parts = [part for part in (self.key.rstrip("/"), *(name.strip("/") for name in names)) if part]
        return Address(self.scheme, self.host, "/".join(parts))


_QUERY_SAFE = "/%:@!$&'()*+,;=~-._?"


def _bare(text: str) -> str:
    """A text without what may be a secret."""
    return shown(re.sub(r"//[^/@]*@", "//", text.partition("?")[0]))
