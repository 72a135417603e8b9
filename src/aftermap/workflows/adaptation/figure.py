"""A picture of what an adaptation changed: a few scenes with the truth if it is known, the model before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aftermap.classes import DAMAGE, ClassScheme
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.products.figures.painting import overlay
from aftermap.products.figures.sheet import PictureRow, pictures, swatches, write_figure


@dataclass(frozen=True, slots=True)
class ComparedScene:
    """A scene with the classes (H, W) that were predicted before and after."""

    scene: Scene
    before: np.ndarray
    after: np.ndarray


def write_comparison(
    path: Path, scenes: Sequence[ComparedScene], *, scheme: ClassScheme, title: str, note: str = ""
) -> Path:
    """Write a PNG with a row per scene: image or images, truth (where a scene has labels), before, after.

    Args:
        path: the file, written in one step.
        scenes: at least one.
        scheme: names and colours of the classes.
        title: heading.
        note: a line below it.

    Raises:
        OutputError: the file cannot be written.
    """
    damage = scheme == DAMAGE
    told = any(compared.scene.is_labelled for compared in scenes)
    headings = ["image before", "image after"] if damage else ["image"]
    headings += [*(["truth"] if told else []), "model", "adapted model"]
    rows = []
    for compared in scenes:
        images = [*read_images(compared.scene, dates=2 if damage else 1).transpose(0, 2, 3, 1)]
        masks = [compared.before, compared.after]
        if told:
            masks.insert(0, read_mask(compared.scene, target="damage" if damage else "building"))
        rows.append(
            PictureRow([compared.scene.name], images + [overlay(images[-1], mask, scheme) for mask in masks])
        )
    legend = swatches(scheme.names[1:], scheme.colours[1:])
    figure, _ = pictures(title, headings, rows, notes=[note] if note else [], legend=legend, cell_in=2.4)
    return write_figure(path, figure)
