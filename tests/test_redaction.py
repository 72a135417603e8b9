"""What is printed of addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftermap.redaction import hide_secrets


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("https://ghp_abc@host/x", "https://***@host/x"),
        ("https://host/x.tif?token=abc&size=3", "https://host/x.tif?token=***&size=3"),
        (
            "https://host/x?X-Amz-Signature=abc&X-Amz-Date=1",
            "https://host/x?X-Amz-Signature=***&X-Amz-Date=1",
        ),
        ("https://host/x?api_key=abc'", "https://host/x?api_key=***'"),
        ("https://host/x?AWSAccessKeyId=abc&Expires=9", "https://host/x?AWSAccessKeyId=***&Expires=9"),
        ("no address at all: a key=value", "no address at all: a key=value"),
        ("sqlite:///runs/mlflow.db", "sqlite:///runs/mlflow.db"),
    ],
)
def test_secrets_of_an_address_are_hidden_and_the_rest_stays(address, shown):
    assert hide_secrets(address) == shown


secret = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=8, max_size=20).map(
    lambda s: f"Q{s}Z"
)


@given(secret, st.sampled_from(["?token={}", "?a=1&access_token={}", "?sig={}&b=2", "?Password={}"]))
def test_no_secret_of_a_query_is_seen(value, query):
    text = f"cannot open https://host/path{query.format(value)}: refused"
    assert value not in hide_secrets(text)
    assert hide_secrets(hide_secrets(text)) == hide_secrets(text)
