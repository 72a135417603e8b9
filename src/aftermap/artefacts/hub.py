"""Model folders on the Hugging Face hub, named `hf://owner/name` or `hf://owner/name@revision`."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.errors import HTTPError as _HTTPError  # type: ignore[attr-defined]  # of httpx or requests

from aftermap.artefacts.card import Card
from aftermap.artefacts.folder import (
    CARD_NAME,
    ENSEMBLE_NAME,
    WEIGHTS_NAME,
    card_in,
    check_replaceable,
    ensemble_in,
    holds_ensemble,
    replacing_model,
)
from aftermap.errors import ModelError
from aftermap.files import sha256_of
from aftermap.models.configs import CustomConfig

README_NAME = "README.md"
SITE = "https://huggingface.co"
HUB_LICENCES = (
    "mit",
    "apache-2.0",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-sa-4.0",
)

_NAME = re.compile(r"hf:/{1,2}(?P<owner>[\w-][\w.-]*)/(?P<model>[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of the hub and, if one is named, a branch, tag or commit of it."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @property
    def page(self) -> str:
        """Where people look at it."""
        return f"{SITE}/{self.repository}"


def parse_hub_name(name: str | Path) -> HubName:
    """Take `hf://owner/name[@revision]` apart.

    Raises:
        ModelError: it is not of that form.
    """
    match = _NAME.fullmatch(str(name))
    if match is None:
        raise ModelError(
            f"{name} names no model of the hub: expected hf://owner/name or hf://owner/name@revision"
        )
    return HubName(f"{match['owner']}/{match['model']}", match["revision"])


def fetch_model(name: str | Path, *, refresh: bool = False) -> Path:
    """The folder of a hub's model in the local cache; the network is asked only where a file is not there.

    Only the card, the safetensors files that it needs and the README are fetched. Weights are checked against the
    card when they are loaded.

    Args:
        name: `hf://owner/name[@revision]`.
        refresh: ask the hub for a newer version.

    Raises:
        ModelError: no such model, no network, no complete model folder, or a card that names code to run.
    """
    hub = parse_hub_name(name)
    folder = None if refresh else _cached(hub)
    if folder is None:
        folder = _download(hub, refresh=refresh)
    for card in _cards(folder):
        if isinstance(card.model, CustomConfig):
            raise ModelError(
                f"{hub} wants to run {card.model.target!r} of its own choice: models of kind custom are not taken "
                "from the hub"
            )
    return folder


def pull_model(name: str, folder: Path, *, refresh: bool = False) -> Path:
    """Copy a hub's model into a model folder (or an ensemble folder), checked by the hashes of its card.

    Args:
        name: `hf://owner/name[@revision]`.
        folder: written whole or not at all; an older model folder there is replaced.
        refresh: ask the hub for a newer version even where one is in the local cache.

    Raises:
        ModelError: see `fetch_model`; or the weights are not those of the card.
        OutputError: `folder` holds something else.
    """
    check_replaceable(folder)
    source = fetch_model(name, refresh=refresh)
    check_folder(source)
    with replacing_model(folder) as part:
        for file in model_files(source):
            (part / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, part / file)  # follows the cache's links
    return folder


def push_model(folder: Path, name: str, *, private: bool = False, api: Any = None) -> str:
    """Publish a model folder or an ensemble folder on the hub, in one commit.

    Args:
        folder: checked against its hashes first.
        name: `hf://owner/name`; the repository is created where it does not exist.
        private: of a repository that is created.
        api: stands in for huggingface_hub's `HfApi`, which takes the token of its own login or environment.

    Returns:
        The web page of the model.

    Raises:
        ModelError: not a whole model folder, or the hub does not take it.
    """
    hub = parse_hub_name(name)
    if hub.revision:
        raise ModelError(f"{hub} names a revision: push to hf://{hub.repository}")
    check_folder(folder)
    card = ensemble_in(folder) if holds_ensemble(folder) else card_in(folder)
    operations = [
        CommitOperationAdd(
            path_in_repo=file,
            path_or_fileobj=(folder / file) if file != README_NAME else _readme(folder, card.licence),
        )
        for file in model_files(folder)
    ]
    api = api or HfApi()
    with _explained(hub, "the model was not published"):
        api.create_repo(hub.repository, private=private, exist_ok=True)
        api.create_commit(
            hub.repository, operations=operations, commit_message=f"{card.name}, version {card.version}"
        )
    return hub.page


def model_files(folder: Path) -> list[str]:
    """Files of a model or ensemble folder, relative to it; the READMEs only where they are."""
    if holds_ensemble(folder):
        parts = [f"{part}/" for part in ensemble_in(folder).parts]
        names = [ENSEMBLE_NAME]
    else:
        parts, names = [""], []
    names += [part + name for part in parts for name in (CARD_NAME, WEIGHTS_NAME)]
    readmes = dict.fromkeys(["", *parts])
    return names + [part + README_NAME for part in readmes if (folder / part / README_NAME).is_file()]


def check_folder(folder: Path) -> None:
    """Whether a model or ensemble folder is whole and its weights are those of its cards.

    Raises:
        ModelError: they are not.
    """
    expected: dict[str, str | None] = {"": None}
    if holds_ensemble(folder):
        expected = {**ensemble_in(folder).parts}
    for part, sha256 in expected.items():
        card = card_in(folder / part)
        file = folder / part / WEIGHTS_NAME
        if card.weights is None or not file.is_file():
            raise ModelError(f"{folder / part} is incomplete: {WEIGHTS_NAME} is missing")
        found = sha256_of(file)
        for wanted in {card.weights.sha256, sha256 or card.weights.sha256}:
            if found != wanted:
                raise ModelError(
                    f"{file} was altered: its SHA-256 is {found[:12]}..., the card expects {wanted[:12]}..."
                )


def _cached(hub: HubName) -> Path | None:
    """The model's folder in the local cache, if every file that is needed is there."""
    for name in (ENSEMBLE_NAME, CARD_NAME):
        found = try_to_load_from_cache(hub.repository, name, revision=hub.revision)
        if isinstance(found, str):
            folder = Path(found).parent
            return folder if not _absent(folder) else None
    return None


def _download(hub: HubName, *, refresh: bool) -> Path:
    cards = [CARD_NAME, ENSEMBLE_NAME, README_NAME]
    with _explained(hub, "it is not in the local cache"):
        if refresh:
            HfApi().model_info(
                hub.repository, revision=hub.revision
            )  # says so where the hub cannot be reached
        folder = Path(snapshot_download(hub.repository, revision=hub.revision, allow_patterns=cards))
        if holds_ensemble(folder):
            parts = [f"{part}/" for part in ensemble_in(folder).parts]
            files = [part + name for part in parts for name in (CARD_NAME, WEIGHTS_NAME, README_NAME)]
        else:
            files = [WEIGHTS_NAME]
        # by the commit, so that both requests see the same version
        snapshot_download(hub.repository, revision=folder.name, allow_patterns=files)
    absent = _absent(folder)
    if absent:
        raise ModelError(
            f"{hub} is no complete model folder: {absent[0]} is missing there, or could not be fetched"
        )
    return folder


def _absent(folder: Path) -> list[str]:
    return [name for name in model_files(folder) if not (folder / name).is_file()]


def _cards(folder: Path) -> list[Card]:
    if not holds_ensemble(folder):
        return [card_in(folder)]
    return [card_in(folder / part) for part in ensemble_in(folder).parts]


def _readme(folder: Path, licence: str) -> bytes:
    """The README under the header that the hub reads."""
    known = licence.strip().lower().replace(" ", "-")
    header = ["library_name: aftermap", "pipeline_tag: image-segmentation"]
    header += (
        [f"license: {known}"]
        if known in HUB_LICENCES
        else ["license: other", f"license_name: {known[:60]!r}"]
    )
    header += ["tags: [remote-sensing, disaster-response, building-damage]"]
    text = (folder / README_NAME).read_text()
    return ("---\n" + "\n".join(header) + "\n---\n\n" + text).encode()


@contextmanager
def _explained(hub: HubName, otherwise: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line of ours."""
    try:
        yield
    except GatedRepoError:
        reason = f"its terms have to be accepted at {hub.page} first, and 'hf auth login' done"
    except RevisionNotFoundError:
        reason = f"it has no revision {hub.revision}"
    except RepositoryNotFoundError:
        reason = "the hub has no such model, or it is private: check the name, or log in with 'hf auth login'"
    except LocalTokenNotFoundError:
        reason = "no token is here: log in with 'hf auth login', or set HF_TOKEN"
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        login = ": log in with 'hf auth login' as someone who may" if status in (401, 403) else ""
        reason = f"the hub answered {status}{login}"
    except (LocalEntryNotFoundError, ConnectionError, _HTTPError):
        reason = "the hub cannot be reached"
    except OSError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    else:
        return
    raise ModelError(f"{hub}: {reason}; {otherwise}") from None
