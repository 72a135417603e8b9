"""Messages about a run, sent by apprise to mail, chat or a web address, without the run ever waiting for them.

Addresses hold passwords and tokens: they are never written to a run folder, a database, a log or a message.
"""

import logging
import os
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import SecretStr, field_serializer, field_validator

from aftermap.config import Config
from aftermap.errors import NotificationWarning
from aftermap.extras import needs
from aftermap.learning.experiments.background import Worker
from aftermap.learning.experiments.tracking import environment_name, failure, from_environment
from aftermap.redaction import MASK

VARIABLE = "AFTERMAP_NOTIFY"
CLOSE_SECONDS = 10.0
"""At most so long does the end of a run wait for messages on their way."""

Event = Literal["start", "best", "end", "failure"]
_NAME = re.compile(r"^\$\{\w+\}$")
"""An address that is a variable, which is not set where it still stands after filling in."""


class NotifyConfig(Config):
    """Who is told about a run, beside the addresses in AFTERMAP_NOTIFY.

    Attributes:
        urls: apprise addresses such as `mailto://...`, `slack://...`, `jsons://...`; write each as `${NAME}` of an
            environment variable, which may hold several, separated by spaces. A recipe's copy keeps `${NAME:-}`
            (one that is not set costs a warning), of anything else only the kind of address.
        events: what is told: `start`, `best` (a new best score), `end`, `failure` (with its reason; Ctrl-C too).
    """

    urls: tuple[SecretStr, ...] = ()
    events: tuple[Event, ...] = ("start", "best", "end", "failure")

    @field_validator("urls", mode="before")
    @classmethod
    def _one_is_enough(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | SecretStr) else value

    @field_serializer("urls")
    def _without_secrets(self, urls: tuple[SecretStr, ...]) -> list[str]:
        return [_shown(url.get_secret_value()) for url in urls]


class Notifier:
    """Tells about one run.

        with Notifier(recipe.notify, recipe.name, folder) as notifier:     # start
            ...
            notifier.best(step, score)
                                                                           # end, or failure with its reason

    Each address has a thread of its own; leaving the block waits for messages on their way, at most 10 seconds.

    Args:
        config: the recipe's part.
        name: of the run.
        folder: the run folder, named in the messages.
        enabled: False on all but the main process of a run.

    Raises:
        MissingExtraError: there are addresses, and apprise is not installed.

    Warns:
        NotificationWarning: apprise does not understand an address.
    """

    def __init__(self, config: NotifyConfig, name: str, folder: Path, *, enabled: bool = True) -> None:
        self._events = config.events
        self._name = name
        self._folder = folder
        self._best = ""
        self._channels: list[_Channel] = []
        addresses = _addresses(config) if enabled else []
        if addresses:
            needs("a message about a run", "notify")
        for url in addresses:
            channel = _channel(url)
            if channel is None:
                warnings.warn(
                    f"a notification address of kind {_kind(url)} is not understood: the run goes on without it "
                    "(see 'apprise --details' for the kinds)",
                    NotificationWarning,
                    stacklevel=2,
                )
            else:
                self._channels.append(channel)

    def best(self, step: int, score: float) -> None:
        """Tell of a new best score; returns at once."""
        self._best = f"best score {score:.4f} at step {step}"
        self._tell("best", self._best)

    def __enter__(self) -> Self:
        self._tell("start", "started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._tell("end", "complete")
        elif isinstance(error, KeyboardInterrupt):
            self._tell("failure", "interrupted")
        else:
            self._tell("failure", f"failed: {failure(error)}")
        self._close()

    def _tell(self, event: Event, what: str) -> None:
        if event not in self._events:
            return
        lines = [f"{self._name}: {what}", f"run folder: {self._folder}"]
        if self._best and event != "best":
            lines.insert(1, self._best)
        for channel in self._channels:
            channel.send(f"aftermap: {self._name} {what.partition(':')[0]}", "\n".join(lines))

    def _close(self) -> None:
        """Wait for what is on its way, all channels at once, and say what did not arrive."""
        left = CLOSE_SECONDS
        for channel in self._channels:
            left = max(channel.wait(left), 0.0)
        for channel in self._channels:
            if channel.lost:
                warnings.warn(
                    f"{channel.lost} of {channel.sent} messages to a {channel.kind} address did not arrive: try it "
                    f"with 'apprise -vv -b test ADDRESS'",
                    NotificationWarning,
                    stacklevel=3,
                )
        self._channels = []


class _Channel:
    """One address: sends in order on a thread of its own and counts what does not arrive."""

    def __init__(self, kind: str, notify: Callable[..., bool]) -> None:
        self.kind = kind
        self.sent = 0
        self._arrived = 0
        self._notify = notify
        self._worker = Worker(f"aftermap-notify-{kind}")

    @property
    def lost(self) -> int:
        """Messages that failed or are still on their way."""
        return self.sent - self._arrived

    def send(self, title: str, body: str) -> None:
        """Queue a message."""
        self.sent += 1
        self._worker.submit(lambda: self._send(title, body))

    def wait(self, seconds: float) -> float:
        """Wait for the queue, at most so long; returns the seconds left."""
        started = time.monotonic()
        self._worker.wait(seconds)
        return seconds - (time.monotonic() - started)

    def _send(self, title: str, body: str) -> None:
        try:
            self._arrived += bool(self._notify(title=title, body=body))
        except Exception:  # a plugin's mistake is one more message that did not arrive
            return


def _addresses(config: NotifyConfig) -> list[str]:
    """All addresses of the recipe and the environment, each once; those without their secrets are left out."""
    given = [_NAME.sub("", from_environment(url.get_secret_value())) for url in config.urls]
    if not all(text.strip() for text in given):
        warnings.warn(
            "a notification address of the recipe is empty: set its environment variable to be told about this run",
            NotificationWarning,
            stacklevel=3,
        )
    given.append(os.environ.get(VARIABLE, ""))
    single = list(dict.fromkeys(url for text in given for url in text.split()))
    usable = [url for url in single if not url.endswith(f"://{MASK}")]
    if len(usable) < len(single):
        warnings.warn(
            f"the recipe's copy keeps no secrets of {len(single) - len(usable)} notification addresses: set "
            f"{VARIABLE} to be told about this run",
            NotificationWarning,
            stacklevel=3,
        )
    return usable


def _channel(url: str) -> _Channel | None:
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its lines name addresses,
    logging.getLogger("urllib3").setLevel(logging.INFO)  # and so do debugging lines of this one
    asset = apprise.AppriseAsset(
        app_id="aftermap", async_mode=False, storage_mode=apprise.PersistentStoreMode.MEMORY
    )
    plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    return None if plugin is None else _Channel(_kind(url), plugin.notify)


def _shown(value: str) -> str:
    """What may be written of an address."""
    name = environment_name(from_environment(value))
    return f"${{{name}:-}}" if name else " ".join(f"{_kind(url)}://{MASK}" for url in value.split())


def _kind(url: str) -> str:
    """The part before `://`, which names the service."""
    kind, separator, _ = url.partition("://")
    return kind if separator and kind.isalnum() else "unknown"
