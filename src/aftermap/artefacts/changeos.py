"""Published ChangeOS weights as a model folder of ours."""

import re
import zipfile
from contextlib import suppress
from pathlib import Path

from aftermap.artefacts.card import Card, Normalisation, TrainingRecord
from aftermap.artefacts.hub import HubName, parse_hub_name
from aftermap.artefacts.store import save_model
from aftermap.errors import ModelError
from aftermap.files import sha256_of
from aftermap.models.build import build_model
from aftermap.models.configs import TorchangeConfig
from aftermap.models.networks.torchange import MEAN, STD, identify
from aftermap.models.weights.pretrained import hub_file, local_file, read_weights

XVIEW2_WEIGHTS = "hf://EVER-Z/torchange_example_changeos_swint_on_xview2_best42k"
"""ChangeOS on Swin-T for xView2, as the authors of torchange publish it: the one whose training is known here."""

XBD = ("xBD train and tier3 (xView2)", "CC BY-NC-SA 4.0")
LIMITS = (
    "Made by others and not trained by aftermap: check it on labelled scenes of your own before use. Buildings come from "
    "the pre image alone; damage classes are those of the joint damage scale."
)


def import_torchange(
    source: str | Path,
    folder: Path,
    *,
    data: str | None = None,
    data_licence: str | None = None,
    licence: str | None = None,
) -> Card:
    """Write a model folder from ChangeOS weights, which need the package torchange to run.

    Args:
        source: a weight file, a folder with one, or `hf://owner/name`, which is fetched where it is not in the cache.
        folder: the model folder to write.
        data: what they were trained on; known for `XVIEW2_WEIGHTS`.
        data_licence: under which licence that is.
        licence: of the weights; None takes what the repository's README states.

    Returns:
        The card, with the SHA-256 of the source as its parent.

    Raises:
        ModelError: nothing there, a program instead of weights, or weights of another network.
    """
    named = str(source).startswith("hf:")
    hub = parse_hub_name(source) if named else None
    if hub is not None:
        what = f"the weights {hub}"
        file = hub_file(hub.repository, revision=hub.revision, what=what)
    else:
        file = local_file(Path(source))
    if _is_program(file):
        raise ModelError(
            f"{file} is a TorchScript program, and programs of others are not run here: take {XVIEW2_WEIGHTS}"
        )
    state = {key.removeprefix("_orig_mod."): value for key, value in read_weights(file).items()}
    config = TorchangeConfig(encoder_name=identify(state))
    model = build_model(config)
    model.load_state_dict(state)
    known = XBD if str(source) == XVIEW2_WEIGHTS else ("not stated", "not stated")
    card = Card(
        name=f"changeos-{config.encoder_name.replace('_', '-')}",
        dates=2,
        scheme="joint-damage-scale",
        model=config,
        normalisation=Normalisation(mean=MEAN, std=STD),
        licence=licence or _stated_licence(hub, file),
        training=TrainingRecord(
            data=data or known[0],
            data_licence=data_licence or known[1],
            command=f"published weights, imported from {hub or file.name}",
            parent_sha256=sha256_of(file),
        ),
        limits=LIMITS,
    )
    return save_model(folder, model, card)


def _is_program(file: Path) -> bool:
    """Whether the file is TorchScript, which holds code beside the weights."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def _stated_licence(hub: HubName | None, file: Path) -> str:
    """The licence in the head of the README beside the weights; the code's where there is none."""
    readme = file.with_name("README.md")
    if hub is not None and not readme.is_file():
        with suppress(ModelError):
            readme = hub_file(hub.repository, names=("README.md",), revision=hub.revision, what="the README")
    if readme.is_file():
        head = re.match(r"---\n(.*?)\n---", readme.read_text(errors="replace"), flags=re.DOTALL)
        stated = re.search(r"^license:\s*(\S+)", head.group(1), flags=re.MULTILINE) if head else None
        if stated:
            return stated.group(1)
    return "not stated with the weights; the code is Apache-2.0"
