"""Files that lie elsewhere: read whole or by ranges, listed, and written whole or not at all, within limits.

    from aftermap.remote import Address, Budget, Online, Reach

    online = Online(named=[address])                      # for a user at the command line, who wrote these addresses
    online = Online(Reach.of_strangers(hosts=["*.amazonaws.com", "s3://maps"]), budget=Budget(2_000_000_000))

    online.stat("s3://bucket/pre.tif").size               # AbsentError where there is none
    online.read("https://host/item.json")                 # bytes, at most `most_bytes`
    online.read_range(address, start, length)
    online.read_ranges(address, [(0, 16384), (90_000, 512)])
    online.list("gs://bucket/folder/")                    # Stat(address, size, etag, modified) of what lies below it
    online.write("s3://bucket/out/part-7.gpkg", path)     # bytes or a Path; whole or not at all, as put by the store
    online.write(address, b"...", create=True)            # False, and nothing written, where there is one already
    online.delete(address)
    online.download(address, path)                        # streamed beside `path`, then renamed

Addresses are `https://`, `http://`, `s3://bucket/key`, `gs://bucket/key`, `az://container/key` and `file:///path`; only
buckets and files can be listed and written. `is_address(text)` tells them from paths; `Address.parse(text).join("a")`
goes deeper, and `str()` of it is the address again. `pathlib` takes one of the slashes away (`s3:/bucket/key`): that
is understood.

What every request keeps to: a time limit, some retries of what may pass, the `Budget` of bytes that all requests of one
`Online` share, and the `Reach`: which hosts may be asked. A host name is resolved here, its numbers are looked at, and
the connection goes to the number that was looked at, again for each redirect: nothing leads into a private network, to
this machine or to the metadata service of a cloud, except the host that a user has named (never for strangers).

Credentials come from the usual environment (`AWS_*`, `~/.aws/credentials`, `GOOGLE_*`, `AZURE_*`, `~/.netrc`); without
any, buckets are read unsigned. `AWS_ENDPOINT_URL` leads to another S3 server (in tests: `tests/s3_server.py`). Every
failure is a `RemoteError` in one line that shows no query string and no password.

Importing this costs nothing; the libraries of the extra `catalog` (httpcore, obstore) are loaded with the first request.
An `Online` may be shared between threads; to another process its `reach` and an address are sent, and it makes its own.
"""

from typing import TYPE_CHECKING, Any

from aftermap.remote.addresses import Address, is_address

if TYPE_CHECKING:
    from aftermap.remote.online import Online
    from aftermap.remote.reach import Budget, Reach
    from aftermap.remote.stat import Stat

__all__ = ["Address", "Budget", "Online", "Reach", "Stat", "is_address"]

_LATER = {"Online": "online", "Stat": "stat", "Budget": "reach", "Reach": "reach"}


def __getattr__(name: str) -> Any:
    """What costs something to load is loaded when it is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
