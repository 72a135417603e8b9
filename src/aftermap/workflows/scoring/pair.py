"""Two images to the two masks of the xView2 competition: what its container was asked for, four paths."""

from pathlib import Path
from typing import Unpack

import cv2
import numpy as np

from aftermap.data.scene import read_image
from aftermap.errors import InputError, ModelError
from aftermap.files import keep_inputs, replacing
from aftermap.inference.ensemble import RunningKeywords, opened
from aftermap.inference.postprocess import Decision
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.workflows.scoring.evaluate import decide


def predict_pair(
    model: str | Path | AnyPredictor,
    pre: Path,
    post: Path,
    localization: Path,
    damage: Path,
    **running: Unpack[RunningKeywords],
) -> None:
    """Write where buildings are (0 and 1), and what happened to them (1 to 4, else 0), as PNGs of the images' size.

    Args:
        model: as `open_model` takes it or gives it.
        pre: image from before, 8-bit red, green and blue.
        post: image from after, of the same size.
        localization: the first mask.
        damage: the second.
        running: see `aftermap.inference.ensemble.Options`.

    Raises:
        InputError: an image cannot be read, their sizes differ, or the model tells no damage.
        OutputError: a mask is one of the images, or cannot be written; neither is there then, or older ones stay.

    Source: xView2 challenge (Gupta et al. 2019), rules of submission by container.
    """
    for path in (localization, damage):
        if path.suffix.lower() != ".png":
            raise InputError(f"{path} is to be a mask: expected a name that ends in .png")
    if localization.absolute() == damage.absolute():
        raise InputError(f"{damage} is named twice: the two masks are two files")
    for path in (localization, damage):
        keep_inputs(path, pre, post)
    images = [read_image(pre), read_image(post)]
    if images[0].shape != images[1].shape:
        sizes = " and ".join(f"{image.shape[2]} x {image.shape[1]}" for image in images)
        raise InputError(f"{pre} and {post} have {sizes} pixels: both dates must have one size")
    predictor = opened(model, **running)
    if predictor.dates != 2:
        raise ModelError(f"model {predictor.card.name} looks at one date: this needs one of two")
    building, level = decide(predict_scene(predictor, np.stack(images)), Decision.of(predictor.card))
    if level is None:
        raise ModelError(f"model {predictor.card.name} tells no damage: this needs one that does")
    with replacing(localization, parents=True) as first, replacing(damage, parents=True) as second:
        first.write_bytes(_png(building))
        second.write_bytes(_png(level * building))


def _png(mask: np.ndarray) -> bytes:
    data: bytes = cv2.imencode(".png", mask)[1].tobytes()
    return data
