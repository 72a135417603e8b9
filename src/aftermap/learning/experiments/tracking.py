"""The experiment database: where it is, how it is reached through MLflow, and what may stand in it."""

import hashlib
import json
import logging
import math
import os
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, field_serializer, field_validator

from aftermap.config import Config, may_be_read
from aftermap.errors import AftermapError, RecordsError
from aftermap.extras import lacking, needs
from aftermap.files import turn
from aftermap.learning.experiments.background import Worker
from aftermap.redaction import MASK, hide_secrets

VARIABLE = "AFTERMAP_TRACKING"
DATABASE = "mlflow.db"
EXPERIMENT = "aftermap"
CONNECT_SECONDS = 10.0
"""A database that takes longer to answer counts as unreachable."""
CREATE_SECONDS = 120.0
"""How much longer a file, or one that is there, may take: making the tables of a new one is slow on a busy machine."""

_OFF = ("off", "none")
_NAME = re.compile(r"\$\{(\w+)\}")


class RecordsConfig(Config):
    """Where runs are recorded.

    Attributes:
        uri: `postgresql://user:password@host/database`, `sqlite:///FILE`, the address of an MLflow server, a database
            file, or `off`. None takes AFTERMAP_TRACKING, and where that is not set either, `mlflow.db` in the nearest
            folder named `runs` above the run (beside the run, where there is none). Its password is never written:
            a recipe's copy says `${NAME}` where the address came whole from an environment variable.
        experiment: name of the MLflow experiment.
    """

    uri: SecretStr | None = None
    experiment: str = EXPERIMENT

    @field_validator("uri", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        """YAML reads an unquoted `off` as false, also where it stands for an environment variable."""
        return "off" if value is False else value

    @field_serializer("uri")
    def _without_password(self, uri: SecretStr | None) -> str | None:
        if uri is None:
            return None
        address = uri.get_secret_value()
        name = environment_name(address)
        return f"${{{name}}}" if name else hide_secrets(address)


@dataclass(frozen=True, slots=True)
class Store:
    """An address of the database.

    Attributes:
        uri: for MLflow, password included.
        artefacts: `file:` address of the files beside it; None leaves it to an MLflow server.
    """

    uri: str = field(repr=False)
    artefacts: str | None

    @property
    def shown(self) -> str:
        """The address without its password."""
        return hide_secrets(self.uri)


@dataclass
class Connection:
    """An open database. All calls of `client` run on `worker`, so that a database that hangs stops nobody."""

    store: Store
    client: Any
    experiment_id: str
    artefacts: str | None
    worker: Worker


def find_store(uri: str | None, folder: Path) -> Store | None:
    """The database of a run folder: a configured one, else that of AFTERMAP_TRACKING, else `mlflow.db` in `runs/`.

    Where no folder above is called `runs`, it lies beside the run; the steps of an incremental run share one beside it.

    Args:
        uri: see `RecordsConfig.uri`.
        folder: the run folder, which need not exist.

    Returns:
        None where records are switched off.

    Raises:
        RecordsError: the address comes from a copied recipe, which keeps no password.
    """
    wanted = from_environment(uri) if uri else os.environ.get(VARIABLE)
    if uri and f"{MASK}@" in uri:
        wanted = os.environ.get(VARIABLE)
        if not wanted:
            raise RecordsError(
                f"the recipe keeps no password of {uri}: export {VARIABLE}=URL, or pass records.uri=URL"
            )
    absolute = folder.resolve()
    whole = next((p for p in absolute.parents if (p / "protocol.json").is_file()), absolute)
    above = next((p for p in absolute.parents if p.name == "runs"), whole.parent)
    if not wanted:
        return file_store(above / DATABASE)
    return parse_store(wanted, artefacts=above)


def parse_store(address: str, *, artefacts: Path) -> Store | None:
    """A database from what a user wrote; None for `off`.

    Args:
        address: a URL, a database file, or a folder with `mlflow.db`.
        artefacts: folder beside whose runs the artefacts of a database server are kept.
    """
    if address.strip().lower() in _OFF:
        return None
    address = re.sub(r"^postgres(ql)?://", "postgresql+pg8000://", address.strip())
    if "://" not in address:
        path = Path(address).expanduser()
        return file_store(path / DATABASE if path.is_dir() else path)
    if address.startswith(("http://", "https://")):
        return Store(address, None)
    if address.startswith("sqlite:///"):
        artefacts = Path(address.removeprefix("sqlite:///")).absolute().parent
    return Store(address, _artefacts(artefacts))


def file_store(path: Path) -> Store:
    """A SQLite database in a file, its artefacts beside it."""
    path = path.absolute()
    uri = f"sqlite:///{path}"
    if set("%?") & set(str(path)):
        from sqlalchemy.engine import URL

        uri = URL.create("sqlite", database=str(path)).render_as_string()
    return Store(uri, _artefacts(path.parent))


def connect(
    config: RecordsConfig, folder: Path, *, enabled: bool = True, seconds: float = CONNECT_SECONDS
) -> Connection | None:
    """Reach the database that a run will be recorded in; call it before the run folder is made.

    Args:
        config: the recipe's part.
        folder: the run folder, which need not exist.
        enabled: False on all but the main process of a run.
        seconds: to wait for an answer; creating the tables of a new database may take longer.

    Returns:
        None where records are switched off or not enabled, or where nobody asked for them and what writes them is not
        installed.

    Raises:
        RecordsError: it cannot be reached or used.
        MissingExtraError: what writes it is not installed.
    """
    if not (config.uri or os.environ.get(VARIABLE)) and lacking("track"):
        return None
    store = find_store(config.uri.get_secret_value() if config.uri else None, folder) if enabled else None
    return None if store is None else open_store(store, experiment=config.experiment, seconds=seconds)


def open_store(store: Store, *, experiment: str = EXPERIMENT, seconds: float = CONNECT_SECONDS) -> Connection:
    """Open a database and the experiment in it, which is made where it does not exist.

    Raises:
        RecordsError: it cannot be reached or used.
        MissingExtraError: what reaches it is not installed.
    """
    is_postgres = "+pg8000:" in store.uri
    needs(f"the experiment database {store.shown}", "track", *(("postgres",) if is_postgres else ()))
    worker = Worker("aftermap-records")
    reached: list[bool] = []
    opened: list[Connection] = []
    trouble: list[str] = []

    def reach() -> None:
        try:
            _knock(store, seconds)
            reached.append(True)
            with _alone(store):
                client = quiet_client(store.uri)
                found = _experiment(client, experiment, store.artefacts)
            opened.append(
                Connection(
                    store, client, found.experiment_id, _usable(found.artifact_location, store), worker
                )
            )
        except Exception as error:
            trouble.append(one_line(error, store))

    worker.submit(reach)
    patience = 2 * seconds
    is_file = store.uri.startswith("sqlite")
    if not worker.wait(patience) and (reached or is_file):
        worker.wait(CREATE_SECONDS)
        patience += CREATE_SECONDS
    if opened:
        return opened[0]
    why = trouble[0] if trouble else f"no answer within {patience:.0f} s"
    remedy = "choose a folder that can be written" if is_file else "start it"
    raise RecordsError(
        f"the experiment database {store.shown} cannot be used: {why}; {remedy}, or set {VARIABLE} or records.uri "
        "to another one, or to off"
    )


def quiet_client(uri: str) -> Any:
    """MLflow's client without its log lines, and without telemetry or any other call to the network."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(uri)


def one_line(error: BaseException, store: Store | None = None) -> str:
    """What went wrong, in one line and without the database's password."""
    text = str(error).strip()
    line = next((part.strip() for part in text.splitlines() if part.strip()), type(error).__name__)
    line = re.sub(r"^\(\w+(\.\w+)*\)\s*", "", line)
    if store is not None:
        password = re.search(r"://[^:/@]*:(.*)@", store.uri)
        if password and password.group(1):
            line = line.replace(password.group(1), MASK)
    return hide_secrets(line).rstrip(".")[:500]


def safe_command(words: Sequence[str]) -> str:
    """A command line for the records: values of `records` and `notify`, which may hold secrets, are masked."""
    masked = (
        re.sub(r"^((?:[\w-]+\.)*(?:records|notify)\b[\w.]*=).*", rf"\1{MASK}", w, flags=re.S) for w in words
    )
    return shlex.join(hide_secrets(word) for word in masked)


def from_environment(value: str) -> str:
    """An address with `${NAME}` filled in, for those that did not come from a recipe file; unset names stay."""
    return _NAME.sub(lambda found: os.environ.get(found.group(1), found.group(0)), value)


def environment_name(value: str) -> str | None:
    """A variable that holds exactly this value and that recipes may read, ours first; None where there is none."""
    names = sorted(name for name, held in os.environ.items() if held == value and value and may_be_read(name))
    return min(names, key=lambda name: not name.startswith("AFTERMAP_"), default=None)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a tree by dotted key; an empty group is a leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parameters_of(recipe: Mapping[str, Any]) -> dict[str, str]:
    """A recipe as MLflow parameters: dotted keys, lists as JSON; nothing of `records` and `notify`."""
    kept = {key: value for key, value in recipe.items() if key not in ("records", "notify")}
    return {
        metric_key(key): (value if isinstance(value, str) else json.dumps(value, default=str))[:6000]
        for key, value in flatten(kept)
    }


def metrics_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Finite numbers of a tree by keys that MLflow accepts; two names never share a key."""
    found: dict[str, float] = {}
    for name, value in flatten(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        key = metric_key(name)
        if key in found:
            key = f"{key[:240]}-{_digest(name)}"
        found[key] = float(value)
    return found


def metric_key(name: str) -> str:
    """A key that MLflow accepts: letters, digits and `_ - . / :`, no path tricks, at most 250 characters."""
    key = re.sub(r"[^\w\-. /:]", "_", name)
    if key.startswith("/") or posixpath.normpath(key) != key or key == "." or key.startswith(".."):
        key = re.sub(r"[/.]", "_", key)
    return (key if len(key) <= 250 else f"{key[:240]}-{_digest(name)}") or "_"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _artefacts(folder: Path) -> str:
    return (folder.absolute() / "mlflow-artifacts").as_uri()


def _usable(location: str, store: Store) -> str | None:
    """Where artefacts go: not to a folder of another machine, nor to where the database was before it moved."""
    is_local = location.startswith(("file:", "/"))
    return location if not is_local or location == store.artefacts else None


def _experiment(client: Any, name: str, artefacts: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            client.create_experiment(name, artifact_location=artefacts)
        except MlflowException:  # another run was faster
            if client.get_experiment_by_name(name) is None:
                raise
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":
        raise RecordsError(f"experiment {name} was deleted in it: restore it, or choose records.experiment")
    return found


def _alone(store: Store) -> AbstractContextManager[None]:
    """The tables of a new database in a file are made by one run, while others that begin with it wait."""
    import sqlalchemy

    address = sqlalchemy.make_url(store.uri)
    if address.get_backend_name() != "sqlite" or not address.database:
        return nullcontext()
    return turn(Path(f"{address.database}.lock"), seconds=CREATE_SECONDS)


def _knock(store: Store, seconds: float) -> None:
    """Fail fast where nobody answers: MLflow itself would try for hours."""
    if store.uri.startswith(("http://", "https://")):
        import requests

        requests.get(store.uri.rstrip("/") + "/health", timeout=seconds).raise_for_status()
        return
    import sqlalchemy

    address = sqlalchemy.make_url(store.uri)
    if address.get_backend_name() == "sqlite" and address.database:
        parent = Path(address.database).parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsError(f"cannot make its folder {parent} ({error.strerror or error})") from None
    is_pg8000 = "+pg8000:" in store.uri
    engine = sqlalchemy.create_engine(
        address, poolclass=sqlalchemy.pool.NullPool, connect_args={"timeout": seconds} if is_pg8000 else {}
    )
    with engine.connect() as connection:
        connection.execute(
            sqlalchemy.text("SELECT 1" if address.get_backend_name() != "sqlite" else "PRAGMA schema_version")
        )


def failure(error: BaseException) -> str:
    """Why a run failed, in one line and without passwords."""
    return (
        one_line(error) if isinstance(error, AftermapError) else f"{type(error).__name__}: {one_line(error)}"
    )
