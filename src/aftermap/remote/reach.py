"""What may be reached and how much may be read: hosts by name and by number, and a budget of bytes."""

import fnmatch
import ipaddress
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aftermap.errors import BudgetError, InputError, RemoteError
from aftermap.remote.addresses import Address

BUDGET_VARIABLE = "AFTERMAP_ONLINE_BUDGET"
"""Environment variable with the most bytes that one run reads online."""

DEFAULT_BUDGET = 20_000_000_000

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_GLOBAL = tuple(
    map(ipaddress.ip_network, ("64:ff9b:1::/48", "100.64.0.0/10", "fec0::/10", "192.88.99.0/24"))
)


@dataclass(frozen=True)
class Reach:
    """Which addresses may be asked.

    Attributes:
        hosts: patterns of host names (`*.example.org`) and of buckets (`s3://maps`); None for all.
        private: whether a host may have a number of a private network, of this machine or of its link: `named` where
            the user wrote it (a redirect is not written by the user), or `never`.
        plain: whether `http://` may be read.
        files: whether `file://` may be read and written.
        personal: whether the user's own credentials for web hosts (`~/.netrc`) and proxies are used.
    """

    hosts: tuple[str, ...] | None = None
    private: Literal["named", "never"] = "named"
    plain: bool = True
    files: bool = True
    personal: bool = True

    @classmethod
    def of_strangers(cls, hosts: Iterable[str]) -> "Reach":
        """For addresses that others send to a server: public hosts of a list, by https or in listed buckets."""
        return cls(tuple(hosts), private="never", plain=False, files=False, personal=False)

    def check(self, address: Address) -> None:
        """Refuse an address by its text alone.

        Raises:
            RemoteError: with what is allowed.
        """
        if address.scheme == "file" and not self.files:
            raise RemoteError(
                f"{address.shown} may not be read: files of this machine are not to be asked for"
            )
        if address.scheme == "http" and not self.plain:
            raise RemoteError(f"{address.shown} may not be read: only https:// is allowed here")
        if address.is_web and self.private == "never" and "@" in address.host:
            raise RemoteError(
                f"{address.shown} may not be read: an address must not hold a user or password here"
            )
        if self.hosts is None or address.scheme == "file":
            return
        name = host_name(address) if address.is_web else f"{address.scheme}://{address.host}"
        if not any(fnmatch.fnmatchcase(name, pattern.lower().rstrip("/")) for pattern in self.hosts):
            listed = ", ".join(self.hosts) or "none"
            raise RemoteError(
                f"{address.shown} may not be read: {name} is not on the list of hosts ({listed})"
            )


def host_name(address: Address) -> str:
    """The host of a web address without user and port, in lower case."""
    host = address.host.rpartition("@")[2].lower()
    if host.startswith("["):
        return host.partition("]")[0].strip("[")
    return host.partition(":")[0].rstrip(".")


def is_public(number: str) -> bool:
    """Whether an IP address is one of the open internet; those that carry another one inside go by that."""
    ip = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inside is None and ip in _NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
    listed = any(ip.version == network.version and ip in network for network in _NOT_GLOBAL)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not listed


class Budget:
    """Bytes that may be read, shared by all threads.

    Args:
        limit: how many; by default AFTERMAP_ONLINE_BUDGET, else 20 GB.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = _default() if limit is None else limit
        self.spent = 0
        self._lock = threading.Lock()

    def spend(self, count: int) -> None:
        """Count bytes.

        Raises:
            BudgetError: there are more than the budget allows.
        """
        with self._lock:
            self.spent += count
            over = self.spent > self.limit
        if over:
            raise self._used_up()

    def require(self, count: int, what: str) -> None:
        """Refuse what would not fit, before it is asked for.

        Raises:
            BudgetError: it would not.
        """
        if self.spent + count > self.limit:
            raise BudgetError(
                f"{what} has {amount(count)}, and of the {amount(self.limit)} that may be read online "
                f"{amount(max(0, self.limit - self.spent))} are left: pass a smaller --aoi, or set "
                f"{BUDGET_VARIABLE}={amount(2 * (self.spent + count)).replace(' ', '')}"
            )

    def _used_up(self) -> BudgetError:
        return BudgetError(
            f"the {amount(self.limit)} that may be read online are used up: pass a smaller --aoi, or set "
            f"{BUDGET_VARIABLE}={amount(2 * self.limit).replace(' ', '')}"
        )


def amount(count: float) -> str:
    """Bytes in words: `3.2 GB`."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def parse_amount(text: str, what: str) -> int:
    """Bytes of a text such as `500MB`, `20 GB` or `1e9`.

    Raises:
        InputError: it is no amount.
    """
    word = text.strip().lower().removesuffix("b")
    unit = word[-1:] if word[-1:] in "kmgt" else ""
    try:
        count = float(word.removesuffix(unit).strip()) * _UNITS[unit]
        if not 1 <= count < 1e18:
            raise ValueError
    except ValueError:
        raise InputError(f"{what} is {text!r}, expected an amount such as 500MB or 20GB") from None
    return int(count)


def _default() -> int:
    text = os.environ.get(BUDGET_VARIABLE)
    return DEFAULT_BUDGET if text is None else parse_amount(text, BUDGET_VARIABLE)
