"""Preparation of datasets: what a reader found becomes masks on disk with a manifest beside them.

A journal beside the masks keeps what is finished, so that an interrupted preparation goes on where it stopped;
the manifest is written last.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Literal

from aftermap.data.preparing.dataset import Dataset, Made, MakeScenes, PreparedFolder, Progress, SourceScene
from aftermap.data.preparing.journal import IMAGES, JOURNAL_NAME, MASKS, SOFT, Journal, claim, keep_splits
from aftermap.data.scene import MANIFEST_NAME, Manifest, Scene
from aftermap.errors import AftermapWarning, DataError, DataWarning, InputError, OutputError, ReadingError
from aftermap.files import writing
from aftermap.wording import counted
from aftermap.worklist.job import Do, Job, Outcome
from aftermap.worklist.run import Engine, check_engine, run_jobs
from aftermap.worklist.team import Limits

_BY_FRACTION = ("split_fractions", "split_fold")


def usual_folder(source: Path) -> Path:
    """Where a dataset is prepared if nobody says: the source's name with -prepared, here."""
    return Path(f"{source.resolve().name}-prepared")


DatasetKind = Literal[
    "xbd",
    "folder",
    "class_folder",
    "isprs",
    "isaid",
    "agrivision",
    "photographs",
    "opencities",
    "spacenet",
    "published",
    "hugging_face",
    "torchgeo",
]
"""Each has `<kind>_dataset` in `aftermap.data.readers.<kind>`, or in the module of `_PLACES`."""

_PLACES = {
    "published": "published.releases",
    "hugging_face": "samples.hugging_face",
    "torchgeo": "samples.torchgeo",
}


def prepare_source(
    source: Path,
    out: Path | None = None,
    *,
    kind: DatasetKind = "xbd",
    workers: int = 1,
    engine: Engine = "processes",
    address: str | None = None,
    overwrite: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    **reading: Any,
) -> Manifest:
    """Find the scenes of a dataset of some kind, and prepare them.

    Args:
        source: the dataset's folder, or the file that lists it.
        out: folder to make; by default the source's name with -prepared, here.
        kind: how it is laid out; `class_folder` is a plain folder with masks of many classes and a `legend`.
        workers: how many.
        engine: processes of this machine, or actors of Ray on machines that see the same folders.
        address: of the Ray cluster.
        overwrite: write into a folder that holds other things.
        strict: refuse a dataset of which a single scene cannot be used.
        progress: called with (scenes done, scenes).
        reading: keywords of `<kind>_dataset`.

    Raises:
        DataError: the dataset cannot be used.
        OutputError: `out` cannot be written, or holds something else.
    """
    check_engine(engine, address)
    reader = import_module(f"aftermap.data.readers.{_PLACES.get(kind, kind)}")
    found = getattr(reader, f"{kind}_dataset")(source, **reading)
    folder = out or usual_folder(source)
    return prepare(
        found,
        folder,
        workers=workers,
        engine=engine,
        address=address,
        overwrite=overwrite,
        strict=strict,
        progress=progress,
    )


def prepare(
    dataset: Dataset,
    out: Path,
    *,
    workers: int = 1,
    engine: Engine = "processes",
    address: str | None = None,
    overwrite: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write masks, tiles and a manifest for a dataset into the folder `out`.

    Scenes whose files and options have not changed since an earlier (or interrupted) run are taken over. Scenes whose
    files cannot be used are left out with a warning each, and noted in the manifest.

    Args:
        dataset: what a reader found.
        out: folder, made where missing.
        workers: how many; one works in this process, unless it is Ray's.
        engine: processes of this machine, or actors of Ray on machines that see the same folders.
        address: of the Ray cluster.
        overwrite: write into a folder that holds other things, and replace what was prepared otherwise: nothing but
            files that an earlier preparation names, or that have the name of a new one.
        strict: refuse a dataset of which a single scene cannot be used; the others stay finished.
        progress: called with the number of finished source scenes and of all, or with steps where there is one alone.

    Raises:
        DataError: no scene can be used, or one where `strict`, or files that the options given do not fit.
        OutputError: `out` cannot be written, or holds something else.

    Warns:
        DataWarning: scenes that are left out.
    """
    _check_places(dataset, out)
    names = () if dataset.is_cut else [scene.name for scene in dataset.scenes]
    earlier = claim(out, names, kind=dataset.kind, overwrite=overwrite)
    journal = Journal(out / JOURNAL_NAME, {"kind": dataset.kind, "scheme": dataset.scheme, **dataset.options})
    journal.load(earlier)
    if dataset.is_cut and not journal.scenes:
        _clear(out, earlier, dataset.kind, overwrite=overwrite)
    by = None if workers <= 1 and engine == "processes" else _Sharing(workers, engine, address)
    try:
        made, problems = _make_all(dataset, journal, by, progress)
        left_out = _refuse(dataset, made, problems, journal, strict=strict)
        scenes = sorted(
            (scene for one in made.values() for scene in one.scenes), key=lambda scene: scene.name
        )
        notes = {**dataset.notes, **dataset.conclude(made), **left_out}
        manifest = Manifest(
            kind=dataset.kind,
            scheme=dataset.scheme,
            legend=dataset.legend,
            licence=dataset.licence,
            options={**dataset.options, **notes},
            scenes=scenes if dataset.is_cut else _with_resolution(scenes),
        )
        if all(scene.split == "unassigned" for scene in dataset.scenes) or _was_dealt_out(earlier):
            manifest = keep_splits(manifest, earlier)
        with writing(out / MANIFEST_NAME):
            manifest.save(out)
            journal.path.unlink(missing_ok=True)
    finally:
        journal.release()
    return Manifest.load(out)


def _make_all(
    dataset: Dataset, journal: Journal, by: "_Sharing | None", progress: Progress | None
) -> tuple[dict[str, Made], dict[str, InputError]]:
    """What became of each source scene, by its name, in their order."""
    made: dict[str, Made] = {}
    problems: dict[str, InputError] = {}
    noted: set[str] = set()

    def note(scene: Scene) -> None:
        if scene.name not in noted:
            noted.add(scene.name)
            journal.add(scene)

    with journal:
        folder = PreparedFolder(
            journal.path.parent.resolve(),
            journal.scenes,
            note,
            progress if len(dataset.scenes) == 1 else None,
        )
        met = 0

        def take(source: SourceScene, outcome: Made | InputError) -> None:
            nonlocal met
            met += 1
            if isinstance(outcome, InputError):
                problems[source.name] = outcome
            else:
                made[source.name] = outcome
                for scene in outcome.scenes:
                    note(scene)
            if progress is not None and len(dataset.scenes) > 1:
                progress(met, len(dataset.scenes))

        if by is None or len(dataset.scenes) == 1:
            maker = _Maker(dataset.make, folder)
            for source in dataset.scenes:
                take(source, maker(source))
        else:
            by.run(dataset, folder, take)
    order = [source.name for source in dataset.scenes]
    return (
        {name: made[name] for name in order if name in made},
        {name: problems[name] for name in order if name in problems},
    )


class _Maker:
    """Makes scenes with its errors as results."""

    def __init__(self, make: MakeScenes, folder: PreparedFolder) -> None:
        self.make, self.folder = make, folder

    def __call__(self, source: SourceScene) -> Made | InputError:
        try:
            return self.make(source, self.folder)
        except InputError as error:
            return error


@dataclass(frozen=True)
class _PrepareWork:
    """Making scenes, as it is sent to every worker once."""

    make: MakeScenes
    path: Path
    known: Mapping[str, Scene]

    def start(self) -> Do:
        """Nothing has to be loaded."""
        maker = _Maker(self.make, PreparedFolder(self.path, self.known))

        def do(job: Job) -> Mapping[str, Any]:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", AftermapWarning)
                outcome = maker(job.what["source"])
            warned = [(each.category, str(each.message)) for each in caught]
            return {"outcome": outcome, "warned": warned}

        return do


@dataclass(frozen=True)
class _Sharing:
    """Several workers."""

    workers: int
    engine: Engine
    address: str | None

    def run(
        self, dataset: Dataset, folder: PreparedFolder, take: Callable[[SourceScene, Made | InputError], None]
    ) -> None:
        """Have them make all scenes; each is taken as it is done.

        Raises:
            OutputError: scenes could not be written, or their workers died.
        """
        sources = {source.name: source for source in dataset.scenes}
        failed: list[Outcome] = []

        def on_outcome(outcome: Outcome) -> None:
            if outcome.state == "failed":
                failed.append(outcome)
            else:
                for category, text in outcome.facts["warned"]:
                    warnings.warn(text, category, stacklevel=2)
                take(sources[outcome.name], outcome.facts["outcome"])

        run_jobs(
            _PrepareWork(dataset.make, folder.path, dict(folder.known)),
            [Job(name, {"source": source}) for name, source in sources.items()],
            engine=self.engine,
            limits=Limits(workers=self.workers),
            address=self.address,
            on_outcome=on_outcome,
        )
        if failed:
            more = f" (and {len(failed) - 1} more like it)" if len(failed) > 1 else ""
            raise OutputError(
                f"{failed[0].name} could not be prepared: {failed[0].reason}{more}: repeat the command, finished scenes "
                "are kept"
            )


def _refuse(
    dataset: Dataset,
    made: Mapping[str, Made],
    problems: Mapping[str, InputError],
    journal: Journal,
    *,
    strict: bool,
) -> dict[str, str]:
    """Refuse what makes no dataset, warn of what is left out, and note that."""
    misread = [error for error in problems.values() if isinstance(error, ReadingError)]
    if misread or (problems and (strict or not made)):
        kept = "" if journal.abandon() else ", finished scenes are kept"
        first = next(iter(misread), None) or next(iter(problems.values()))
        rest = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        remedy = "" if misread else ": mend or remove the files and run again"
        raise DataError(f"{first}{rest}{remedy}{kept}")
    for error in problems.values():
        warnings.warn(f"left out: {error}", DataWarning, stacklevel=3)
    if not any(one.scenes for one in made.values()):
        journal.abandon()
        met: Counter[str] = sum((Counter(one.counts) for one in made.values()), Counter())
        reasons = ", ".join(f"{number} {reason}" for reason, number in met.items()) or "no place is left"
        raise DataError(
            f"none of {counted(len(dataset.scenes), 'image')} gives a tile ({reasons}): cut smaller tiles, or another way"
        )
    return {"left_out": ",".join(problems)} if problems else {}


def _check_places(dataset: Dataset, out: Path) -> None:
    """Refuse two scenes of one name, and to write among the files that are read."""
    seen: dict[str, SourceScene] = {}
    for scene in dataset.scenes:
        if scene.name in seen:
            raise DataError(
                f"{seen[scene.name].pre} and {scene.pre} would both be called {scene.name}: rename one of them"
            )
        seen[scene.name] = scene
    parents = {path.parent for scene in dataset.scenes for path in scene.files.values()}
    folders = {folder.resolve() for folder in parents}
    own = {(out / name).resolve() for name in (IMAGES, MASKS, SOFT)}
    if folders & own or (not dataset.is_cut and out.resolve() in {folder.parent for folder in folders}):
        raise OutputError(f"{out} is the source itself, whose files could be replaced: choose another -o")


def _clear(out: Path, earlier: Manifest | None, kind: str, *, overwrite: bool) -> None:
    """Remove tiles that were made otherwise; nothing but files of the names that tiles have."""
    ours = earlier is not None or (out / JOURNAL_NAME).is_file()
    kinds = (
        (IMAGES, "*.tif"),
        (MASKS, "*_building.png"),
        (MASKS, "*_damage.png"),
        (MASKS, "*_classes.png"),
        (SOFT, "*.tif"),
    )
    old = [path for folder, pattern in kinds for path in (out / folder).glob(pattern)] if ours else []
    if not old:
        return
    if earlier is not None and earlier.kind != kind:
        raise OutputError(
            f"{out} holds a dataset of another kind ({earlier.kind}), whose files are not ours to remove: "
            "choose another -o"
        )
    if not overwrite:
        raise OutputError(
            f"{out} holds tiles or data that were prepared otherwise: choose another -o, or pass --overwrite"
        )
    for path in (*old, out / MANIFEST_NAME):
        path.unlink(missing_ok=True)


def _was_dealt_out(earlier: Manifest | None) -> bool:
    """Whether `aftermap data split` has dealt out the scenes of an earlier preparation in its own way."""
    return earlier is not None and any(key in earlier.options for key in _BY_FRACTION)


def _with_resolution(scenes: list[Scene]) -> list[Scene]:
    """Give scenes without georeference the usual resolution of their event's scenes of the same size."""
    known: dict[tuple[str, int], list[float]] = {}
    for scene in scenes:
        if scene.grid is not None and scene.resolution_m is not None:
            known.setdefault((scene.event, scene.width), []).append(scene.resolution_m)
    return [
        scene.model_copy(update={"resolution_m": median(mates)})
        if scene.grid is None and (mates := known.get((scene.event, scene.width)))
        else scene
        for scene in scenes
    ]
