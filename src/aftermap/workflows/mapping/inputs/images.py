"""Any map: which task the images and the model ask for, whatever they are given as."""

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Unpack

from aftermap.artefacts.card import BaseCard
from aftermap.artefacts.ensemble import read_card
from aftermap.artefacts.exported import is_exported, load_exported_card
from aftermap.errors import InputError
from aftermap.geo.pair import Alignment
from aftermap.workflows.mapping.damage import map_damage
from aftermap.workflows.mapping.inputs.elsewhere import Elsewhere
from aftermap.workflows.mapping.inputs.memory import Imagery, Place, Vectors, on_disk
from aftermap.workflows.mapping.result import MapResult, TaskName
from aftermap.workflows.mapping.run import Progress
from aftermap.workflows.mapping.settings import MapKeywords, MapOptions
from aftermap.workflows.mapping.work import check_output


class ClassMapOptions(MapOptions, total=False):
    """Keywords of `map_images` for the classes of one date, beside the model."""

    aoi: Vectors | None
    grid: Place | None
    progress: Progress | None


class BuildingMapOptions(ClassMapOptions, total=False):
    """The same for the buildings of one date, and the model."""

    model: str | Path
    footprints: Vectors | None


def map_images(
    pre: Imagery | None = None,
    post: Imagery | None = None,
    out: str | Path | None = None,
    *,
    task: TaskName | None = None,
    model: str | Path = "box",
    footprints: Vectors | None = None,
    aoi: Vectors | None = None,
    grid: Place | None = None,
    align: Alignment = "auto",
    progress: Progress | None = None,
    **options: Unpack[MapOptions],
) -> MapResult:
    """Map two dates or one; see `aftermap.api.map`.

    Raises:
        InputError: images, vector files, task and model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.
    """
    if pre is None:
        if post is None:
            raise InputError("pass the images, or the one from after alone as post")
        pre, post, task = post, None, task or "post-only"
        if task != "post-only":
            raise InputError(f"--task {task} does not map the image from after alone: leave --task out")
    chosen = task or ("classes" if has_legend(model, dates=1 if post is None else 2) else "damage")
    _check_dates(chosen, post, align, model)
    kept = TemporaryDirectory(prefix="aftermap-") if out is None else None
    folder = Path(kept.name) / "map" if kept is not None else Path(out or "")
    with on_disk() as files, Elsewhere.of(pre, post, footprints, aoi, options.get("cloud_mask")) as elsewhere:
        if elsewhere.is_asked:
            check_output(folder, overwrite=options.get("overwrite", False))
        area = elsewhere.vectors(files.vectors(aoi, "aoi"))
        settings: MapKeywords = {
            "model": model,
            "footprints": elsewhere.vectors(files.vectors(footprints, "footprints")),
            "aoi": area,
            **options,  # type: ignore[typeddict-item]  # nobody asks for a draft
            "cloud_mask": elsewhere.mask(options.get("cloud_mask"), area, progress),
        }
        one = {"pre-only": "pre", "post-only": "post"}.get(chosen, "image")
        first = files.image(elsewhere.image(pre, area, progress), one if post is None else "pre", grid)
        second = None if post is None else files.image(elsewhere.image(post, area, progress), "post", grid)
        # each way is loaded where it is gone
        if chosen == "damage":
            assert second is not None
            result = map_damage(first, second, folder, align=align, progress=progress, **settings)
        elif chosen == "pre-only" or chosen == "post-only":
            from aftermap.workflows.mapping.one_date import map_one_date

            result = map_one_date(first, folder, mode=chosen, progress=progress, **settings)
        elif chosen == "classes":
            from aftermap.workflows.mapping.classes import map_classes

            result = map_classes(first, folder, post=second, align=align, progress=progress, **settings)
        else:
            from aftermap.workflows.mapping.buildings import map_buildings

            result = map_buildings(first, folder, progress=progress, **settings)
    return dataclasses.replace(result, kept=kept)


def has_legend(model: str | Path, *, dates: int = 1) -> bool:
    """Whether a model of so many dates tells the classes of a legend, so that a map of so many images shows these.

    Raises:
        ModelError: there is no such model.
    """
    card: BaseCard = load_exported_card(model) if is_exported(model) else read_card(model)
    return card.legend is not None and card.dates == dates


def _check_dates(task: TaskName, post: Imagery | None, align: Alignment, model: str | Path) -> None:
    """Refuse what does not go with the task."""
    if task == "damage" and post is None:
        raise InputError(
            "mapping damage needs two dates: pass the image from after too, or --task buildings (or pre-only, post-only, "
            "with a model that was trained for it) for a map of one date"
        )
    if task != "damage" and post is not None and not (task == "classes" and has_legend(model, dates=2)):
        found = f" {post}" if isinstance(post, (str, Path)) else ""
        raise InputError(
            f"--task {task} maps one date, found a second image{found}: leave it out, or leave out --task for damage"
        )
    if post is None and align != "auto":
        raise InputError(f"--align {align} is about two dates, --task {task} maps one: leave it out")
