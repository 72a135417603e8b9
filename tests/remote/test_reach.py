import pytest

from aftermap.errors import BudgetError, InputError, RemoteError
from aftermap.remote import Address, Budget, Reach
from aftermap.remote.reach import is_public, parse_amount


@pytest.mark.parametrize(
    "number",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "fec0::1",
    ],
)  # fmt: skip
def test_numbers_that_are_not_of_the_open_internet(number: str) -> None:
    assert not is_public(number)


@pytest.mark.parametrize(
    "number", ["8.8.8.8", "52.216.0.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_numbers_of_the_open_internet(number: str) -> None:
    assert is_public(number)


def test_strangers_reach_listed_hosts_by_https_only() -> None:
    reach = Reach.of_strangers(["*.example.org", "s3://maps"])
    for text in ("https://a.example.org/x.tif", "https://A.EXAMPLE.org:443/x.tif", "s3://maps/x.tif"):
        reach.check(Address.parse(text))
    for text, said in (
        ("https://example.com/x.tif", "not on the list"),
        ("https://a.example.org.evil.net/x", "not on the list"),
        ("https://evil.net/?.example.org", "not on the list"),
        ("http://a.example.org/x.tif", "only https"),
        ("https://u:p@a.example.org/x", "user or password"),
        ("https://evil.net@a.example.org/x", "user or password"),
        ("s3://other/x.tif", "not on the list"),
        ("file:///etc/passwd", "files of this machine"),
    ):
        with pytest.raises(RemoteError, match=said):
            reach.check(Address.parse(text))


def test_a_budget_counts_and_refuses_what_is_over() -> None:
    budget = Budget(1000)
    budget.spend(600)
    budget.require(400, "a file")
    with pytest.raises(BudgetError, match=r"a file has 401 B, and of the 1 kB .* 400 B are left"):
        budget.require(401, "a file")
    with pytest.raises(BudgetError, match="used up"):
        budget.spend(401)


def test_the_budget_is_set_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERMAP_ONLINE_BUDGET", "1.5 GB")
    assert Budget().limit == 1_500_000_000
    monkeypatch.setenv("AFTERMAP_ONLINE_BUDGET", "plenty")
    with pytest.raises(InputError, match="AFTERMAP_ONLINE_BUDGET is 'plenty'"):
        Budget()


@pytest.mark.parametrize(
    ("text", "count"), [("500MB", 500_000_000), ("2 g", 2_000_000_000), ("1e9", 10**9), ("7", 7)]
)
def test_amounts_are_read(text: str, count: int) -> None:
    assert parse_amount(text, "x") == count
