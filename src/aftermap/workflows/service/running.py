"""What a job does: the same functions as the commands, on the service's folder. Begun twice, it goes on."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aftermap.artefacts.folder import CARD_NAME
from aftermap.artefacts.installed import installed_models
from aftermap.artefacts.store import BOX
from aftermap.errors import AftermapWarning, InputError
from aftermap.files import work_path
from aftermap.files.folders import remove_folder
from aftermap.remote import is_address
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.mapping.work import MARKER
from aftermap.workflows.review.images import open_images
from aftermap.workflows.service.fetched import fetched
from aftermap.workflows.service.jobs import Job
from aftermap.workflows.service.maps import Maps
from aftermap.workflows.service.place import Place
from aftermap.workflows.service.tiles.display import make_display
from aftermap.workflows.service.uploads import Uploads
from aftermap.workflows.service.wanted import LearnWanted, MapWanted

Report = Callable[[str, int, int], None]
"""Told the stage, what is done and what in all; raises where the job is to end."""


def known_models(place: Place) -> dict[str, str | Path]:
    """Models that a job may name, and where they lie: the box, installed ones, and folders in DATA/models."""
    own = {
        folder.name: folder
        for folder in sorted(place.models.glob("*"))
        if (folder / CARD_NAME).is_file() and not folder.name.startswith(".")
    }
    return {**own, **{name: name for name in installed_models()}, BOX: BOX}


def warm() -> None:
    """Load what most jobs need, once for a worker: modules, and the graph of the box."""
    from importlib import import_module

    from aftermap.inference.ensemble import Options, open_predictor

    import_module("aftermap.workflows.mapping.inputs.images")
    open_predictor(BOX, Options(backend="auto"))


def run_job(place: Place, uploads: Uploads, maps: Maps, job: Job, report: Report) -> None:
    """Do what a job says, or what is left of it.

    Raises:
        AftermapError: it cannot be done.
    """
    if job.kind == "map":
        _map(place, uploads, maps, job, report)
    else:
        _learn(place, maps, job, report)


def _map(place: Place, uploads: Uploads, maps: Maps, job: Job, report: Report) -> None:
    from aftermap.workflows.mapping.inputs.images import map_images

    wanted = MapWanted.model_validate(job.wanted)
    out = place.map(job.id)
    files = {
        name: _file(place, uploads, job, name, named, report) for name, named in wanted.sources().items()
    }
    title = wanted.title or files["pre"].stem
    if not (out / MARKER).is_file():
        options: dict[str, Any] = {
            name: value
            for name, value in wanted.model_dump(
                exclude={"pre", "post", "footprints", "aoi", "title"}
            ).items()
            if value is not None
        }
        options["model"] = known_models(place).get(wanted.model, "")
        if not options["model"]:
            raise InputError(
                f"there is no model {wanted.model}: choose from {', '.join(known_models(place))}"
            )
        options |= {name: files[name] for name in ("footprints", "aoi") if name in files}

        def attempt() -> None:
            map_images(
                files["pre"],
                files["post"],
                out,
                task="damage",
                title=title,
                resume=work_path(out).exists(),
                progress=report,
                **options,
            )

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AftermapWarning)  # kept in the map's provenance
            try:
                attempt()
            except InputError as error:
                if "--resume" not in str(error) and "different" not in str(error):
                    raise
                remove_folder(work_path(out))  # begun by another version, or of other options
                attempt()
    found = open_map(out)
    open_images(found, files["pre"], files["post"]).close()  # so that review and tiles find them
    described = make_display(found, place.display(job.id), progress=report)
    maps.add(job.id, job.owner, title, found, described)


def _learn(place: Place, maps: Maps, job: Job, report: Report) -> None:
    from aftermap.workflows.event_model.run import learn_from_answers

    wanted = LearnWanted.model_validate(job.wanted)
    out = place.map(wanted.map)
    report("learning", 0, 1)
    learn_from_answers(out)
    remove_folder(place.display(wanted.map))
    maps.describe(wanted.map, make_display(open_map(out), place.display(wanted.map), progress=report))
    report("learning", 1, 1)


def _file(place: Place, uploads: Uploads, job: Job, name: str, named: str, report: Report) -> Path:
    """Where a file of a job lies: an upload, or what an address holds, fetched once."""
    if is_address(named):
        return fetched(place, uploads, job, name, named, report)
    upload = uploads.find(named)
    if upload is None:
        raise InputError(f"there is no upload {named} any more: send it again")
    return uploads.path(upload)
