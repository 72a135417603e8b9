"""What can be used without a network: models by name, and ImageNet weights of encoders, from packages and caches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aftermap.artefacts.folder import card_in
from aftermap.artefacts.installed import installed_models
from aftermap.artefacts.store import BOX, model_folder
from aftermap.extras import lacking
from aftermap.models.weights.packages import PACKAGED_LICENCE, PACKAGES, installed_file

PREFIXES = ("timm/", "smp-hub/")
"""Owners on the hub that publish encoders."""


@dataclass(frozen=True, slots=True)
class Here:
    """Something that is on this machine, or could be.

    Attributes:
        name: what a recipe or `-m` calls it. origin: package or cache that it is from.
        path: where it is; None where its package is not installed.
        licence: of a model, as its card says; of an encoder, as timm says; empty where nobody does.
    """

    name: str
    origin: str
    path: Path | None
    licence: str = ""


def models_here() -> list[Here]:
    """The model in the box, and those of installed packages."""
    folders = {BOX: model_folder(BOX), **installed_models()}
    return [
        Here(name, "aftermap" if name == BOX else "package", folder, card_in(folder, name).licence)
        for name, folder in folders.items()
    ]


def encoders_here() -> list[Here]:
    """Encoders that `encoder_weights: imagenet` finds without a network, and those that a package would bring."""
    packaged = [
        Here(name, f"package {p.name}", installed_file(p), PACKAGED_LICENCE) for name, p in PACKAGES.items()
    ]
    return [*packaged, *_in_hub_cache(), *_in_torch_cache()]


def _in_hub_cache() -> Iterator[Here]:
    if lacking("hub"):
        return
    from huggingface_hub import constants, scan_cache_dir

    if not Path(constants.HF_HUB_CACHE).is_dir():
        return
    for repository in sorted(scan_cache_dir(constants.HF_HUB_CACHE).repos, key=lambda r: r.repo_id):
        if repository.repo_id.startswith(PREFIXES):
            name = repository.repo_id.partition("/")[2]
            yield Here(name, "hub's cache", Path(repository.repo_path), _listed(name))


def _listed(name: str) -> str:
    if lacking("train"):
        return ""
    from aftermap.models.weights.brought import listed_licence

    return listed_licence(name)


def _in_torch_cache() -> Iterator[Here]:
    if lacking("train"):
        return
    from torch.hub import get_dir

    for file in sorted((Path(get_dir()) / "checkpoints").glob("*.pth")):
        yield Here(file.stem, "PyTorch's cache", file)
