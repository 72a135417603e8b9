"""Every run in the experiment database: its recipe, its metrics by evaluation, where it ran and how it ended.

`metrics.jsonl` and `run.json` in the run folder stay the truth; what is in the database can be made from them again.
"""

import contextlib
import hashlib
import json
import math
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from aftermap.errors import OutputError, RecordsError, RecordsWarning
from aftermap.learning.experiments.tracking import (
    Connection,
    failure,
    flatten,
    metrics_of,
    one_line,
    parameters_of,
)
from aftermap.learning.run import Run
from aftermap.redaction import hide_secrets

Status = Literal["running", "complete", "interrupted", "failed"]

STATUS_NAMES: dict[Status, str] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
"""Our words for the state of a run, and MLflow's."""

RUN_TAG = "aftermap_run"
FINISH_SECONDS = 20.0
_NO_TAGS = ("id", "status", "reason", "tracking", "started", "ended", "minutes", "best", "step")


class Records:
    """One run in the experiment database.

        connection = connect(recipe.records, folder)             # before the run folder is made
        ...
        with Records(connection, run, recipe.model_dump(mode="json")) as records:
            records.log(step, metrics)
            records.finish(model=run.model)

    A resumed run goes on in the entry it has (`tracking` in `run.json`), and evaluations that the entry lacks are
    filled in from `metrics.jsonl`. Leaving the block records the end, also in `run.json`: `complete`, `interrupted` on
    Ctrl-C, `failed` with the reason. Nothing after the start waits for the database; a database that dies is warned of
    once, and whatever it misses is sent again with the next evaluation.

    Metrics keep their names (`score`, `f1_destroyed`); those of the kept step stand beside them as `best_score` and so
    on. `minutes` is the time that the run has taken so far, pauses left out.

    Args:
        connection: from `connect`; None keeps nothing but the status in `run.json`.
        run: the run folder.
        recipe: plain values; `records` and `notify` are left out.
        tags: more facts, beside those of `run.json`.

    Raises:
        RecordsError: the database refuses the run.
    """

    def __init__(
        self,
        connection: Connection | None,
        run: Run,
        recipe: Mapping[str, Any],
        *,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = connection
        self._run = run
        self._run_id = ""
        self._best = -math.inf
        self._minutes = 0.0
        self._started = time.monotonic()
        self._recorded_step: int | None = None
        self._pending: list[tuple[dict[str, float], int, int]] = []
        self._trouble = ""
        self._has_warned = False
        self._has_finished = False
        if connection is None:
            return
        failed: list[str] = []

        def begin() -> None:
            try:
                self._begin(connection, recipe, tags or {})
            except Exception as error:
                failed.append(one_line(error, connection.store))

        connection.worker.submit(begin)
        if not connection.worker.wait(60):
            failed.append("no answer within 60 s")
        if failed:
            raise RecordsError(
                f"the experiment database {connection.store.shown} does not take the run: {failed[0]}"
            )
        self._note(tracking={"store": connection.store.shown, "run_id": self._run_id})

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; empty where records are off."""
        return self._run_id

    def log(self, step: int, metrics: Mapping[str, Any], *, kept: bool | None = None) -> None:
        """Record an evaluation, or any numbers of a step; returns at once.

        Args:
            step: the step (or epoch) that the numbers belong to.
            metrics: numbers by name, also in groups; those that are not finite are left out.
            kept: the model of this step is the one to keep; by default where `score` is the highest so far.

        Warns:
            RecordsWarning: the database stopped answering (once).
        """
        minutes = self._minutes + (time.monotonic() - self._started) / 60
        values = self._values(metrics, minutes=minutes, kept=kept)
        connection = self._connection
        if connection is not None:
            connection.worker.submit(lambda: self._write(connection, values, step))
            self._warn_once(connection)

    def finish(
        self,
        status: Status = "complete",
        *,
        reason: str | None = None,
        model: Path | None = None,
        ended: str | None = None,
    ) -> None:
        """Record the end; waits for the database, but not longer than 20 seconds.

        Args:
            status: how it ended.
            reason: why it failed.
            model: the model folder; by default that of the run folder, where it exists.
            ended: when, in ISO 8601; by default now.

        Warns:
            RecordsWarning: some of the run did not reach the database.
        """
        self._has_finished = True
        tags = {"reason": hide_secrets(reason)} if reason else {}
        ended = ended or datetime.now(UTC).isoformat(timespec="seconds")
        self._note(status=status, ended=ended, **tags)
        connection = self._connection
        if connection is None:
            return
        folder = model or self._run.model
        if folder.exists():
            tags["model"] = str(folder.resolve())
        connection.worker.submit(lambda: self._end(connection, status, tags, ended))
        if not connection.worker.wait(FINISH_SECONDS):
            self._trouble = f"no answer within {FINISH_SECONDS:.0f} s"
        self._warn_once(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_finished:
            return
        if error is None:
            self.finish()
        elif isinstance(error, KeyboardInterrupt):
            self.finish("interrupted")
        else:
            self.finish("failed", reason=failure(error))

    def _values(self, metrics: Mapping[str, Any], *, minutes: float, kept: bool | None) -> dict[str, float]:
        """What is stored of an evaluation; those of the kept step also as `best_`."""
        values = metrics_of({name: value for name, value in metrics.items() if name != "step"})
        score = values.get("score", -math.inf)
        if score > self._best if kept is None else kept:
            self._best = score
            values |= {f"best_{name}": value for name, value in values.items()}
        return {"minutes": round(minutes, 4)} | values

    def _begin(self, connection: Connection, recipe: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """On the worker: find or make the entry, store the facts and fill in what the entry lacks."""
        client, facts = connection.client, self._run.facts()
        entry = _find(connection, facts)
        parameters = parameters_of(recipe)
        named = {key: _text(value) for key, value in flatten(facts) if key.partition(".")[0] not in _NO_TAGS}
        named |= {"run_folder": str(self._run.folder.resolve()), RUN_TAG: run_identity(facts)} | dict(tags)
        named |= {key: parameters[key] for key in ("task",) if key in parameters}
        if entry is None:
            entry = client.create_run(
                connection.experiment_id,
                start_time=_milliseconds(facts.get("started")),
                run_name=str(recipe.get("name", self._run.folder.name)),
            )
        self._run_id = entry.info.run_id
        known = entry.data.params
        if known:  # parameters never change in MLflow
            client.update_run(self._run_id, status=STATUS_NAMES["running"])
            changed = [
                f"{key}={value}" for key, value in parameters.items() if known.get(key, value) != value
            ]
            named |= {"resumed_with": "; ".join(changed)} if changed else {}
        _store(client, self._run_id, {k: v for k, v in parameters.items() if k not in known}, named)
        history = client.get_metric_history(self._run_id, "minutes")
        if history:
            self._recorded_step = max(point.step for point in history)
            self._minutes = max(point.value for point in history)
            self._best = entry.data.metrics.get("best_score", -math.inf)
        self._put_artefact(connection, self._run.folder / "recipe.yaml")
        minutes = float(facts.get("minutes", self._minutes))
        for line in self._run.metrics():
            self._write(connection, self._values(line, minutes=minutes, kept=None), int(line["step"]))
        if self._trouble:
            raise RecordsError(self._trouble)

    def _write(self, connection: Connection, values: dict[str, float], step: int) -> None:
        """On the worker: send these values and those that did not get through before."""
        if self._recorded_step is not None and step <= self._recorded_step:
            return  # made again after a resume, with the same values
        self._pending.append((values, step, int(time.time() * 1000)))
        try:
            self._flush(connection)
            self._trouble = ""
        except Exception as error:
            self._trouble = one_line(error, connection.store)

    def _flush(self, connection: Connection) -> None:
        from mlflow.entities import Metric

        while self._pending:
            values, step, moment = self._pending[0]
            points = [Metric(key, value, moment, step) for key, value in values.items()]
            for first in range(0, len(points), 1000):
                connection.client.log_batch(self._run_id, metrics=points[first : first + 1000])
            del self._pending[0]

    def _end(self, connection: Connection, status: Status, tags: dict[str, str], ended: str) -> None:
        """On the worker: what is left, the files, the status."""
        try:
            self._flush(connection)
            _store(connection.client, self._run_id, {}, tags)
            for file in (self._run.folder / "metrics.jsonl", Path(tags.get("model", "")) / "card.json"):
                self._put_artefact(connection, file)
            connection.client.set_terminated(self._run_id, STATUS_NAMES[status], _milliseconds(ended))
            self._trouble = ""
        except Exception as error:
            self._trouble = one_line(error, connection.store)

    def _put_artefact(self, connection: Connection, file: Path) -> None:
        """Copy a file beside the database; a tag says so where that is impossible."""
        if connection.artefacts is None or not file.is_file():
            return
        try:
            connection.client.log_artifact(self._run_id, str(file))
        except Exception as error:
            connection.client.set_tag(self._run_id, "artefacts", f"not stored: {one_line(error)}"[:500])

    def _note(self, **facts: Any) -> None:
        with contextlib.suppress(OSError, OutputError):  # a full disk must not hide why the run ended
            self._run.record(**facts)

    def _warn_once(self, connection: Connection) -> None:
        if not self._trouble or self._has_warned:
            return
        self._has_warned = True
        warnings.warn(
            f"the experiment database {connection.store.shown} stopped answering ({self._trouble}): the run "
            f"goes on; record it later with 'aftermap runs import {self._run.folder}'",
            RecordsWarning,
            stacklevel=3,
        )


def run_identity(facts: Mapping[str, Any]) -> str:
    """What tells a run from all others, in any database."""
    return str(facts.get("id") or hashlib.sha256(str(facts.get("started")).encode()).hexdigest()[:32])


def _find(connection: Connection, facts: Mapping[str, Any]) -> Any:
    """The entry that a run has in this database, or None."""
    from mlflow.exceptions import MlflowException

    run_id = facts.get("tracking", {}).get("run_id")
    if run_id:
        try:
            return connection.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    found = connection.client.search_runs(
        [connection.experiment_id], f"tags.{RUN_TAG} = '{run_identity(facts)}'", max_results=1
    )
    return found[0] if found else None


def _store(client: Any, run_id: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
    from mlflow.entities import Param, RunTag

    params = [Param(key, value) for key, value in parameters.items()]
    for first in range(0, len(params), 100):
        client.log_batch(run_id, params=params[first : first + 100])
    labels = [RunTag(key, value[:8000]) for key, value in tags.items()]
    for first in range(0, len(labels), 100):
        client.log_batch(run_id, tags=labels[first : first + 100])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _milliseconds(moment: str | None) -> int | None:
    return None if moment is None else int(datetime.fromisoformat(moment).timestamp() * 1000)
