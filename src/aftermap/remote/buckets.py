"""Object stores by obstore: which one an address means, with whose credentials, and what its errors say."""

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from aftermap.errors import AbsentError, RemoteError
from aftermap.remote.addresses import Address
from aftermap.remote.reach import Reach

INSTANCE_VARIABLE = "AFTERMAP_INSTANCE_CREDENTIALS"
"""Environment variable, not empty where a cloud machine's own credentials are to be asked for at its metadata service."""

_YES = ("1", "yes", "true", "on")


def open_store(address: Address, *, timeout_s: float, tries: int, reach: Reach) -> Any:
    """The store of an address; its paths are keys.

    Args:
        address: of any file in it.
        timeout_s: of connecting, and of each wait for bytes.
        tries: how often a request is made.
        reach: whether it may be asked without encryption, as stores of one's own are.

    Raises:
        RemoteError: it is not configured.
    """
    from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

    if address.scheme == "file":
        return LocalStore("/")
    options = {
        "client_options": {
            "timeout": timedelta(seconds=20 * timeout_s),
            "read_timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=timeout_s),
            "allow_http": reach.personal,
            "user_agent": "aftermap",
        },
        "retry_config": {"max_retries": tries - 1, "retry_timeout": timedelta(seconds=timeout_s * tries)},
    }
    build, config = {
        "s3": (S3Store, s3_config),
        "gs": (GCSStore, gs_config),
        "az": (AzureStore, az_config),
    }[address.scheme]
    chosen = config(os.environ)
    if address.scheme == "s3" and needs_region(chosen, os.environ):
        found = region_of(address.host, timeout_s=min(10.0, timeout_s), personal=reach.personal)
        chosen |= {"region": found} if found else {}
    with explained(address):
        return build(address.host, config=chosen, **options)


def region_of(bucket: str, *, timeout_s: float, personal: bool) -> str | None:
    """The region of a bucket, which Amazon tells to everybody; None where it is not reached."""
    from aftermap.remote.web import Web

    web = Web(Reach(private="never", personal=personal), (), timeout_s=timeout_s, slowest=0, tries=1)
    try:
        return web.headers_of(Address("https", "s3.amazonaws.com", bucket)).get("x-amz-bucket-region")
    except RemoteError:
        return None
    finally:
        web.close()


def needs_region(config: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Whether a bucket lies at Amazon, and nobody said in which region."""
    elsewhere = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
    return not (
        "region" in config or "endpoint" in config or any(environment.get(name) for name in elsewhere)
    )


def s3_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the environment and `~/.aws` say of S3, beside what obstore finds in the environment itself.

    Unsigned where there are no credentials, or where AWS_NO_SIGN_REQUEST (of GDAL and the AWS tools' habit) says so.
    """
    config: dict[str, Any] = {}
    files = _aws_files(environment)
    if endpoint := environment.get("AWS_S3_ENDPOINT"):  # GDAL's name for it, without a scheme
        plain = environment.get("AWS_HTTPS", "YES").lower() == "no"
        config["endpoint"] = endpoint if "://" in endpoint else f"http{'' if plain else 's'}://{endpoint}"
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or files.get("region")
    if region:
        config["region"] = region
    if environment.get("AWS_NO_SIGN_REQUEST", "").lower() in _YES:
        return config | {"skip_signature": True}
    known = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
             "AWS_CONTAINER_CREDENTIALS_FULL_URI", INSTANCE_VARIABLE)  # fmt: skip
    if any(environment.get(name) for name in known) and not environment.get("AWS_PROFILE"):
        return config
    if "aws_access_key_id" in files and "aws_secret_access_key" in files:
        config["access_key_id"] = files["aws_access_key_id"]
        config["secret_access_key"] = files["aws_secret_access_key"]
        if "aws_session_token" in files:
            config["session_token"] = files["aws_session_token"]
        return config
    return config if any(environment.get(name) for name in known) else config | {"skip_signature": True}


def gs_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """The same of Google's store: unsigned where the environment names no account."""
    known = (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN",
        INSTANCE_VARIABLE,
    )
    default = Path(environment.get("HOME", "/")) / ".config/gcloud/application_default_credentials.json"
    signed = any(environment.get(name) for name in known) or default.is_file()
    unsigned = environment.get("GS_NO_SIGN_REQUEST", "").lower() in _YES or not signed
    return {"skip_signature": True} if unsigned else {}


def az_config(environment: Mapping[str, str]) -> dict[str, Any]:
    """The same of Azure's: the account has to be named, GDAL's names of the variables are known.

    Raises:
        RemoteError: no account is named.
    """
    names = {
        "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
        "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"),
        "sas_key": ("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN"),
        "token": ("AZURE_STORAGE_TOKEN", "AZURE_STORAGE_ACCESS_TOKEN"),
    }
    config: dict[str, Any] = {}
    for field, variables in names.items():
        if value := next((environment[name] for name in variables if environment.get(name)), None):
            config[field] = value
    if "account_name" not in config and environment.get("AZURE_STORAGE_USE_EMULATOR", "").lower() not in _YES:
        raise RemoteError("az:// needs the name of a storage account: set AZURE_STORAGE_ACCOUNT")
    others = ("AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", INSTANCE_VARIABLE)
    if len(config) <= 1 and not any(environment.get(name) for name in others):
        config["skip_signature"] = True
    return config


@contextmanager
def explained(address: Address, doing: str = "read") -> Iterator[None]:
    """Turn what obstore says into one line.

    Raises:
        AbsentError: there is no such object.
        RemoteError: anything else.
    """
    from obstore import exceptions

    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError):
        found = "no such file" if address.scheme == "file" else "no such file or bucket"
        raise AbsentError(f"cannot {doing} {address.shown}: there is {found}") from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError):
        raise RemoteError(
            f"cannot {doing} {address.shown}: the store refuses it; set the credentials in the environment, such as "
            f"{_VARIABLES[address.scheme]}"
        ) from None
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError, exceptions.NotModifiedError):
        raise
    except exceptions.BaseError as error:
        raise RemoteError(f"cannot {doing} {address.shown}: {_reason(error, address)}") from None


_VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ACCESS_KEY",
    "file": "",
}


_STATUS = re.compile(r"\bstatus(?: code)?:? ?\"?(\d{3})\b")
_DETAILS = re.compile(r"\bretry_timeout: \S+|\belapsed: \S+|<(requestid|hostid)>.*?</\1>")


def _reason(error: BaseException, address: Address) -> str:
    text = str(error)
    # numbers and limits that merely stand in the details (times, ids, retry_timeout) say nothing of the reason
    low = _DETAILS.sub("", text.lower())
    status = found[1] if (found := _STATUS.search(low)) else ""
    if status in ("401", "403") or "accessdenied" in low:
        return f"the store refuses it; set the credentials in the environment, such as {_VARIABLES[address.scheme]}"
    if status == "404" or "nosuchbucket" in low or "containernotfound" in low:
        return "there is no such bucket"
    if status == "301" or "permanentredirect" in low or "redirect without" in low:
        return "its bucket is in another region: set AWS_REGION"
    if "dns error" in low or "failed to lookup" in low:
        return "its host is not found: no such endpoint, or no network"
    if "connection refused" in low:
        return "nothing answers at its endpoint"
    if "timed out" in low or "timeout" in low:
        return "the store did not answer in time"
    if "region" in low and "missing" in low:
        return "its region is not known: set AWS_REGION"
    kept = " ".join(text.partition("Debug source:")[0].split())
    return kept[:240]


def _aws_files(environment: Mapping[str, str]) -> dict[str, str]:
    """Region and plain keys of the chosen profile in the user's AWS files."""
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    home = Path(environment.get("HOME") or "~").expanduser()
    found: dict[str, str] = {}
    for variable, name, section in (
        ("AWS_CONFIG_FILE", "config", profile if profile == "default" else f"profile {profile}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile),
    ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(environment.get(variable) or home / ".aws" / name, encoding="utf-8")
            if parser.has_section(section):
                found |= dict(parser.items(section))
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
    return found
