"""A picture of what an adaptation changed: a few scenes with the truth if it is known, the model before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aftermap.classes import DAMAGE, ClassScheme
from aftermap.data.scene import Scene, read_images, read_mask
from aftermap.files import replacing
from aftermap.workflows.scoring.samples import paint

_PANEL_IN, _DPI = 2.4, 150


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
    names = ["image before", "image after"] if damage else ["image"]
    told = any(compared.scene.is_labelled for compared in scenes)
    names += [*(["truth"] if told else []), "model", "adapted model"]
    rows, columns = len(scenes), len(names)
    head = 0.72 if note else 0.5
    width, height = columns * _PANEL_IN, rows * _PANEL_IN + head + 0.35
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(0.01, 1 - 0.16 / height, title, size=11, weight="bold", va="center", parse_math=False)
    figure.text(0.01, 1 - 0.36 / height, note, size=8, va="center", parse_math=False)
    for row, compared in enumerate(scenes):
        images = read_images(compared.scene, dates=2 if damage else 1).transpose(0, 2, 3, 1)
        masks = [compared.before, compared.after]
        if told:
            masks.insert(0, read_mask(compared.scene, target="damage" if damage else "building"))
        backdrop = images[-1]
        panels = [
            *images,
            *(paint(backdrop, mask, scheme) for mask in masks),
        ]
        for column, panel in enumerate(panels):
            bottom = 1 - (head + (row + 1) * _PANEL_IN) / height
            area = (column / columns + 0.002, bottom, 1 / columns - 0.004, (_PANEL_IN - 0.05) / height)
            axes = figure.add_axes(area)
            axes.set_axis_off()
            side = round(_PANEL_IN * _DPI)
            axes.imshow(cv2.resize(panel, (side, side), interpolation=cv2.INTER_AREA))
            if row == 0:
                axes.set_title(names[column], size=9, pad=3)
            if column == 0:
                axes.text(4, side - 6, compared.scene.name, size=6, color="white", parse_math=False)
    handles = [
        Patch(color=colour, label=name.replace("-", " "))
        for name, colour in zip(scheme.names[1:], scheme.colours[1:], strict=True)
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9)
    with replacing(path) as part, part.open("wb") as file:
        canvas.print_png(file)
    return path
