from pathlib import Path

import pytest

from aftermap.errors import RemoteError
from aftermap.remote import Address, is_address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://host/a/b.tif", ("https", "host", "a/b.tif", "")),
        ("HTTPS://host:8443/a.tif?sig=x%2Fy", ("https", "host:8443", "a.tif", "?sig=x%2Fy")),
        ("s3://bucket/folder/pre image.tif", ("s3", "bucket", "folder/pre image.tif", "")),
        ("s3://bucket", ("s3", "bucket", "", "")),
        ("az://container/x", ("az", "container", "x", "")),
        ("file:///tmp/x", ("file", "", "tmp/x", "")),
        ("https://host/né e.tif", ("https", "host", "n%C3%A9%20e.tif", "")),
    ],
)
def test_addresses_are_taken_apart(text: str, parts: tuple[str, ...]) -> None:
    found = Address.parse(text)
    assert (found.scheme, found.host, found.key, found.query) == parts


def test_an_address_that_was_made_a_path_is_the_same() -> None:
    for text in ("https://host/a/b.tif?x=1", "s3://bucket/key", "file:///tmp/x"):
        assert Address.parse(Path(text)) == Address.parse(text)
        assert is_address(Path(text))


def test_paths_are_no_addresses() -> None:
    for text in ("a/b.tif", "/tmp/x", "hf://owner/name", "C:/x.tif", "footprints.gpkg:layer", "https:"):
        assert not is_address(text)


def test_what_is_shown_holds_no_secret() -> None:
    found = Address.parse("https://ana:pw@host/a.tif?X-Amz-Signature=abc")
    assert found.shown == "https://host/a.tif"
    assert str(found) == "https://ana:pw@host/a.tif?X-Amz-Signature=abc"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://host/x", "ftp:// is not known"),
        ("nothing", "no scheme"),
        ("https:///x", "is no address|names no host"),
        ("https://host:port/x", "host or port"),
        ("s3://a b/x", "names no bucket"),
        ("https://host/a\nb", "control characters"),
    ],
)
def test_what_is_no_address_is_refused_in_one_line(text: str, said: str) -> None:
    if text == "https:///x":  # the slashes are one, as in a path: the host is x
        assert Address.parse(text).host == "x"
        return
    with pytest.raises(RemoteError, match=said):
        Address.parse(text)


def test_names_parents_and_what_lies_below() -> None:
    place = Address.parse("s3://bucket/out/")
    assert str(place.join("parts", "7.gpkg")) == "s3://bucket/out/parts/7.gpkg"
    assert place.join("a b.tif").name == "a b.tif"
    assert Address.parse("https://host/a%20b.tif?x=1").name == "a b.tif"
    assert str(Address.parse("s3://bucket/out/a").parent) == "s3://bucket/out"
    assert Address.of_path(Path("/tmp/x")).path == Path("/tmp/x")
