"""What the Dice head of a `fpn-efficientnet` says of a whole image, which no other prediction looks at."""

import numpy as np

from aftermap.artefacts.store import LoadedModel
from aftermap.errors import ModelError
from aftermap.inference.backends.base import Execution


class DiceMaps:
    """Probabilities of the Dice head in bytes, at the resolution of the head: a quarter of the image's.

    Source: the third place of Open Cities, which wrote them beside those of its map head and used neither.
    """

    def __init__(self, loaded: LoadedModel, device: str = "cpu") -> None:
        """Take a model.

        Raises:
            ModelError: it has no such head.
        """
        from aftermap.inference.backends.pytorch import TorchNetwork
        from aftermap.models.networks.fpn import FpnEfficientnet

        if not isinstance(loaded.model, FpnEfficientnet):
            raise ModelError(
                f"{loaded.card.name} is a {loaded.card.model.kind}, which has no Dice head: pass a model of kind "
                "fpn-efficientnet"
            )
        self._model = loaded.model
        self._network = TorchNetwork(loaded, Execution(device=device, precision="f32"))

    def of(self, image: np.ndarray) -> np.ndarray:
        """255 p, cut and not rounded, uint8 (ceil(H / 4), ceil(W / 4)) of raw values (C, H, W).

        Sides that are no multiples of the network's stride are continued by what lies at their edge.
        """
        import torch
        import torch.nn.functional as F

        x = self._network.prepare(image[None, None])
        height, width = x.shape[-2:]
        stride = self._model.stride
        right, below = -width % stride, -height % stride
        padded = F.pad(x[:, 0], (0, right, 0, below), mode="replicate")[:, None]
        with torch.inference_mode():
            logits = self._model(padded, heads=True).dice
        cells = (height + below) // logits.shape[-2]
        p = torch.sigmoid(logits[0, 0, : -(-height // cells), : -(-width // cells)].float())
        stored: np.ndarray = (p * 255).to(torch.uint8).cpu().numpy()
        return stored
