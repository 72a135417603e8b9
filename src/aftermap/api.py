"""What aftermap does, one function each: the table of contents of the product.

Every function here is also a name of the package (`aftermap.map`, `aftermap.evaluate`, ...) and what a command of the
same name calls. Paths may be strings. Mistakes of the user raise `aftermap.AftermapError`, warnings are Python warnings
of the class `aftermap.errors.AftermapWarning`. Arrays are (bands, height, width), as rasterio gives them.

Example:
    import aftermap

    result = aftermap.map("before.tif", "after.tif", footprints="buildings.geojson")
    print(result.summary["damaged"], result.warnings)
    result.buildings.query("damage == 'destroyed'").to_file("destroyed.gpkg")
"""

# Imports stand inside the functions: `import aftermap` and a map with an exported model load no more than they need.

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

if TYPE_CHECKING:
    from aftermap.data.checking.doctor import Report
    from aftermap.data.checking.splits import By
    from aftermap.data.scene import Manifest, Scene
    from aftermap.geo.pair import Alignment
    from aftermap.inference.ensemble import RunningKeywords
    from aftermap.inference.predictor import AnyPredictor
    from aftermap.scoring.class_scores import ClassScores
    from aftermap.workflows.kinds import Outcome
    from aftermap.workflows.mapping.memory import Imagery, Place, Vectors
    from aftermap.workflows.mapping.result import MapResult, TaskName
    from aftermap.workflows.mapping.run import Progress
    from aftermap.workflows.mapping.settings import MapOptions
    from aftermap.workflows.scoring.score import ScoreReport
    from aftermap.workflows.training.training_kind import TrainingProgress

__all__ = [
    *("map", "map_buildings", "map_classes"),
    *("open_model", "predict", "evaluate", "score"),
    *("train", "adapt"),
    *("package",),
    *("prepare", "check", "split", "synth"),
]

DatasetKind = Literal[
    "xbd", "folder", "class_folder", "isprs", "isaid", "agrivision", "opencities", "spacenet"
]
SplitName = Literal["train", "validation", "test", "unassigned", "all"]


# Maps


def map(
    pre: "Imagery",
    post: "Imagery | None" = None,
    out: str | Path | None = None,
    *,
    task: "TaskName | None" = None,
    model: str | Path = "box",
    footprints: "Vectors | None" = None,
    aoi: "Vectors | None" = None,
    grid: "Place | None" = None,
    align: "Alignment" = "auto",
    progress: "Progress | None" = None,
    **options: "Unpack[MapOptions]",
) -> "MapResult":
    """Map the damage to every building between two dates; with one date, its buildings or its classes.

    Args:
        pre: image from before, or the only one: a file, a folder of tiles, or an array (bands, H, W).
        post: image from after; it is brought onto the grid of the first.
        out: folder to make; without it a temporary one that lives as long as the result.
        task: `damage`, `buildings` or `classes`; by default damage for two images, and for one the classes of a model
            that has a legend.
        model: model folder, ensemble folder, exported model, or `box` for the one in the package.
        footprints: buildings to judge, a vector file or a GeoDataFrame; by default they are traced.
        aoi: polygons that bound the map, likewise.
        grid: where arrays lie: a `Grid`, or (transform, reference system). An array may bring its own as a pair
            (array, grid). Without one a map counts pixels.
        align: `auto` takes a measured shift between the dates out where that brings them closer.
        progress: called with the stage, the pixels done and those in all.
        options: see `aftermap.workflows.mapping.settings.Settings`.

    Returns:
        The rasters, the table and the summary, with `plot`, `explore` and a picture in notebooks.

    Raises:
        InputError: images, polygons and model cannot be used, or do not go together.
        OutputError: the output exists or cannot be written.

    Example:
        result = aftermap.map("pre/", "post/", "joplin", footprints="buildings.geojson")
        result.buildings["damage"].value_counts()

        with rasterio.open("before.tif") as a, rasterio.open("after.tif") as b:
            result = aftermap.map(a.read(), b.read(), grid=(a.transform, a.crs))
    """
    from aftermap.workflows.mapping.images import map_images

    return map_images(
        pre,
        post,
        out,
        task=task,
        model=model,
        footprints=footprints,
        aoi=aoi,
        grid=grid,
        align=align,
        progress=progress,
        **options,
    )


def map_buildings(
    image: "Imagery",
    out: str | Path | None = None,
    *,
    model: str | Path = "box",
    footprints: "Vectors | None" = None,
    aoi: "Vectors | None" = None,
    grid: "Place | None" = None,
    progress: "Progress | None" = None,
    **options: "Unpack[MapOptions]",
) -> "MapResult":
    """Map the buildings of one image; see `map`. A model of two dates is shown the image as both.

    Example:
        aftermap.map_buildings("drone.tif").buildings.plot("confidence")
    """
    return map(
        image,
        None,
        out,
        task="buildings",
        model=model,
        footprints=footprints,
        aoi=aoi,
        grid=grid,
        progress=progress,
        **options,
    )


def map_classes(
    image: "Imagery",
    out: str | Path | None = None,
    *,
    model: str | Path,
    aoi: "Vectors | None" = None,
    grid: "Place | None" = None,
    progress: "Progress | None" = None,
    **options: "Unpack[MapOptions]",
) -> "MapResult":
    """Map what every pixel of one image shows, by the legend of a model; see `map`.

    Example:
        cover = aftermap.map_classes("aerial.tif", model="runs/potsdam/model")
        cover.summary["classes"]["low_vegetation"]["area_ha"]
    """
    return map(
        image, None, out, task="classes", model=model, aoi=aoi, grid=grid, progress=progress, **options
    )


# Models and scores


def open_model(model: str | Path = "box", **running: "Unpack[RunningKeywords]") -> "AnyPredictor":
    """Open a model folder, an ensemble folder, an exported model or the model in the box, ready to predict.

    Args:
        model: its folder or file, or `box`.
        running: see `aftermap.inference.ensemble.Options`; the backend is `auto` where none is named.

    Raises:
        ModelError: nothing usable is there.

    Example:
        model = aftermap.open_model("box")
        probabilities = model.predict(images)  # (B, T, C, H, W) to (B, K, H, W)
    """
    from aftermap.inference.ensemble import Options, open_predictor

    if "scales" in running:
        running["scales"] = tuple(running["scales"])
    options = Options(**{"backend": "auto", **running})  # type: ignore[arg-type]  # scales are a tuple now
    return open_predictor(model, options)


def predict(
    model: "str | Path | AnyPredictor",
    data: str | Path,
    out: str | Path,
    *,
    split: SplitName = "all",
    targets: str | Path | None = None,
    overwrite: bool = False,
    on_scene: "Callable[[Scene], None] | None" = None,
    **running: "Unpack[RunningKeywords]",
) -> int:
    """Predict a prepared dataset into PNGs, in the naming of the xView2 competition or of a legend's classes.

    Args:
        model: as `open_model` takes it or gives it.
        data: a prepared dataset.
        out: folder for the predictions; those that are there are kept, so that an interrupted run goes on.
        split: which scenes.
        targets: folder for the truth in the same naming.
        overwrite: predict again what is there.
        on_scene: called with each scene.
        running: see `aftermap.inference.ensemble.Options`; for a model that is not open yet.

    Returns:
        How many scenes were predicted now.

    Example:
        aftermap.predict("box", "xbd-prepared", "predictions", targets="truth")
        aftermap.score("predictions", "truth")
    """
    from aftermap.data.scene import scenes_of
    from aftermap.workflows.scoring.predict import predict_dataset

    return predict_dataset(
        _opened(model, running),
        scenes_of(Path(data), split),
        Path(out),
        targets=None if targets is None else Path(targets),
        overwrite=overwrite,
        on_scene=on_scene,
    )


def evaluate(
    model: "str | Path | AnyPredictor",
    data: str | Path,
    *,
    split: SplitName = "test",
    events: Sequence[str] = (),
    threshold: float | None = None,
    bootstrap: int = 1000,
    boundary_m: float | None = None,
    on_scene: Callable[..., None] | None = None,
    **running: "Unpack[RunningKeywords]",
) -> "ScoreReport | ClassScores":
    """Score a model on the labelled scenes of a prepared dataset.

    Damage models get the xView2 score and its companions, models of buildings Jaccard, F1 and boundary IoU, models with
    a legend F1 and IoU of every class.

    Args:
        model: as `open_model` takes it or gives it.
        data: a prepared dataset.
        split: which scenes.
        events: only these; all by default.
        threshold: building threshold of all classes instead of the card's.
        bootstrap: resamples of the scenes for the intervals; 0 leaves them out.
        boundary_m: width in metres of the band in which boundary IoU compares outlines; by default 2 % of the diagonal.
        on_scene: called with each scene.
        running: see `aftermap.inference.ensemble.Options`; for a model that is not open yet.

    Raises:
        DataError: no labelled scenes, or other classes than the model's.

    Example:
        aftermap.evaluate("box", "xbd-prepared", events=["hurricane-harvey"]).as_dict()["score"]
    """
    from aftermap.data.scene import labelled_scenes
    from aftermap.workflows.scoring.evaluate import evaluate_dataset

    scenes = labelled_scenes(Path(data), split, events)
    return evaluate_dataset(
        _opened(model, running),
        Path(data),
        scenes,
        threshold=threshold,
        bootstrap=bootstrap,
        boundary_m=boundary_m,
        on_scene=on_scene,
    )


def score(
    prediction: str | Path,
    target: str | Path,
    *,
    events: str | Path | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    iou: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> "ScoreReport":
    """Score folders of predicted masks: the official xView2 score and its companions.

    Args:
        prediction: folder of predicted masks.
        target: folder of target masks in the same naming; 255 marks unknown pixels.
        events: CSV (scene,event) or JSON object that names the event of each scene; by default the names tell it.
        bootstrap: resamples of the scenes for the intervals; 0 leaves them out.
        seed: of the resamples.
        iou: overlap above which a predicted and a target outline are the same building.
        progress: called with (scenes done, scenes).

    Raises:
        DataError: masks are missing, of other sizes, or hold other values.

    Example:
        aftermap.score("predictions", "targets").as_dict()["score"]
    """
    from aftermap.workflows.scoring.score import score_folders

    return score_folders(
        Path(prediction),
        Path(target),
        events=None if events is None else Path(events),
        bootstrap=bootstrap,
        seed=seed,
        iou=iou,
        progress=progress,
    )


# Training


def train(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    resume: bool = False,
    step: int | None = None,
    start: str | Path | None = None,
    on_progress: "Callable[[TrainingProgress], None] | None" = None,
) -> "Outcome":
    """Train what a recipe of any kind says: an ordinary run, self-training, an adaptation, classes step by step.

    Args:
        recipe: a YAML file, the name of one that comes along, such as "localization.yaml", or what it says as a mapping.
        out: the run folder; new, or that of an interrupted run with `resume`.
        overrides: dotted keys of the recipe and their values, as a mapping or as words such as "steps=2000".
        resume: go on with the run in `out`, whose own recipe is taken, to the same weights as without the interruption.
        step: of an incremental task: this one alone, from 0.
        start: of an incremental task: a model to begin from, or a run with one.
        on_progress: called with how far it is after every step, scene and tile.

    Returns:
        What came of it, by the recipe's kind; `model` is the model folder.

    Raises:
        RecipeError: no such recipe, or a key or value is wrong.
        DataError: the data did not pass their check, or a split is empty.
        TrainingError: a loss is not finite, or there is nothing to resume.
        OutputError: the folder holds a run, or cannot be written.

    Example:
        aftermap.train("localization.yaml", "runs/loc", overrides=["data.manifests=[xbd-prepared]"]).model
    """
    from aftermap.config import override_words
    from aftermap.errors import RecipeError
    from aftermap.workflows.kinds import interrupted_recipe, read_recipe, train_recipe

    words = override_words(overrides)
    kind, settings = interrupted_recipe(Path(out), words) if resume else read_recipe(recipe, words)
    options = {"step": step, "start": None if start is None else Path(start)}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if given and kind != "incremental":
        raise RecipeError(f"step and start are of recipes of kind incremental, {recipe} is of kind {kind}")
    return train_recipe(settings, Path(out), resume=resume, on_progress=on_progress, **given)


def adapt(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    event: str,
    labels: bool = True,
    on_progress: "Callable[[TrainingProgress], None] | None" = None,
    **keys: Any,
) -> "Outcome":
    """Adapt a model to an event with a few of its labelled scenes, or from its images alone, and see whether it helped.

    Args:
        model: a model folder, or "box".
        data: a prepared dataset.
        out: the run folder, new.
        event: whose scenes.
        labels: learn from labels; False learns from images alone, as the recipe adapt-event says.
        on_progress: called with how far it is after every scene and step.
        keys: others of `AdaptConfig`, such as scenes=3 and steps=80, or of `AdaptEventRecipe` without labels.

    Returns:
        What came of it: `kept` says whose weights its `model` holds, the adapted ones or the parent's.

    Raises:
        DataError: the event has too few scenes, or labels that the model does not tell.
        ModelError: there is no such model, or it is an ensemble.
        RecipeError: a key or value is wrong, or does not go with the model.
        OutputError: the folder holds a run, or cannot be written.

    Example:
        aftermap.adapt("box", "xbd-prepared", "runs/harvey", event="hurricane-harvey", scenes=3).kept
    """
    from aftermap.workflows.adaptation.config import wanted_adaptation
    from aftermap.workflows.adaptation.run import adapt as run_adaptation
    from aftermap.workflows.training.training_kind import unseen

    wanted = wanted_adaptation(model, Path(data), labels=labels, event=event, **keys)
    return run_adaptation(wanted, Path(out), on_progress=on_progress or unseen)


# Datasets


def prepare(
    source: str | Path,
    out: str | Path | None = None,
    *,
    kind: DatasetKind = "xbd",
    workers: int = 1,
    overwrite: bool = False,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> "Manifest":
    """Turn a dataset into masks and a manifest that `train`, `check` and `split` read.

    Args:
        source: the dataset's folder, or the file that lists it.
        out: folder to make; by default the source's name with -prepared, here.
        kind: how it is laid out; `class_folder` is a plain folder with masks of many classes and a `legend`.
        workers: processes.
        overwrite: write into a folder that holds other things.
        strict: refuse a dataset of which a single scene cannot be used.
        progress: called with (scenes done, scenes).
        options: of `<kind>_dataset` in `aftermap.data.readers.<kind>`.

    Raises:
        DataError: the dataset cannot be used.
        OutputError: `out` cannot be written, or holds something else.

    Example:
        aftermap.prepare("xview2", "xview2-prepared", workers=8)
        aftermap.prepare("fields", "fields-prepared", kind="class_folder", legend="legend.yaml")
    """
    from importlib import import_module

    from aftermap.data.preparing.prepare import prepare as save
    from aftermap.data.preparing.prepare import usual_folder

    place = Path(source)
    found = getattr(import_module(f"aftermap.data.readers.{kind}"), f"{kind}_dataset")(place, **options)
    folder = usual_folder(place) if out is None else Path(out)
    return save(found, folder, workers=workers, overwrite=overwrite, strict=strict, progress=progress)


def check(
    data: str | Path,
    *,
    deep: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> "Report":
    """Look for everything that spoils training: missing or broken files, wrong labels, leaks between splits.

    Args:
        data: a prepared folder, or its manifest.
        deep: read pixels too, not only files, sizes and leaks.
        workers: processes.
        progress: called with (scenes done, scenes).

    Example:
        assert not aftermap.check("xview2-prepared").errors
    """
    from aftermap.data.checking.doctor import check as examine
    from aftermap.data.scene import Manifest

    return examine(Manifest.load(Path(data)), deep=deep, workers=workers, progress=progress)


def split(
    data: str | Path,
    *,
    by: "By | None" = None,
    fractions: Sequence[float] | None = None,
    seed: int | None = None,
    hold_out: Sequence[str] = (),
    validate_on: Sequence[str] = (),
    group_zoom: int | None = None,
    folds: int | None = None,
    fold: int | None = None,
    compat_leak: bool = False,
    out: str | Path | None = None,
) -> "Manifest":
    """Assign scenes to train, validation and test so that nothing leaks between them.

    Args:
        data: a prepared folder, or its manifest.
        by: whole events (the default), groups (tiles of the ground with `group_zoom`), blocks inside each event, random
            scenes, or as the publisher has it (`source`).
        fractions: of train, validation and test; 0.7, 0.15 and 0.15 by default.
        seed: another split of the same kind; 0 by default.
        hold_out: events that become the test split.
        validate_on: events that become the validation split.
        group_zoom: groups are the web-mercator tiles of this zoom.
        folds: instead of fractions: validate on one of so many folds of whole groups, train on the others.
        fold: which one, from 0.
        compat_leak: folds of single scenes at random, as the Open Cities system makes them.
        out: write the manifest to this file instead of changing the given one.

    Raises:
        DataError: the options do not go together or with the data.

    Example:
        aftermap.split("xview2-prepared", by="block")
    """
    from aftermap.data.checking.splits import split_dataset
    from aftermap.data.scene import Manifest, manifest_file

    assigned = split_dataset(
        Manifest.load(Path(data)),
        by=by,
        fractions=fractions,
        seed=seed,
        hold_out=hold_out,
        validate_on=validate_on,
        group_zoom=group_zoom,
        folds=folds,
        fold=fold,
        compat_leak=compat_leak,
    )
    assigned.save(manifest_file(Path(data)) if out is None else Path(out))
    return assigned


def synth(
    out: str | Path,
    *,
    scenes: int = 8,
    size_px: int = 1024,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    backdrop: str | Path | None = None,
    footprints: str | Path | None = None,
    workers: int = 1,
) -> "Manifest":
    """Make up disasters: image pairs with exact labels, for data that cannot be shipped.

    Args:
        out: folder for the scenes: xBD layout, GeoTIFFs, footprints and a manifest.
        scenes: how many pairs.
        size_px: width and height.
        seed: the same seed gives the same bytes.
        kinds: of disaster: wind, flood, fire, earthquake; all by default.
        backdrop: folder of real images of one date to paint the disaster on, with `footprints` or a folder `masks`.
        footprints: the buildings of the backdrop.
        workers: processes.

    Raises:
        DataError: the options do not go together.
        OutputError: the folder holds other things.

    Example:
        aftermap.synth("towns", scenes=8, kinds=["wind", "flood"])
    """
    from aftermap.errors import DataError
    from aftermap.synthetic.write import synthesise

    if footprints is not None and backdrop is None:
        raise DataError(
            "--footprints is given without --backdrop: damage is painted on images with known buildings"
        )
    return synthesise(
        Path(out),
        scenes=scenes,
        size_px=size_px,
        seed=seed,
        kinds=None if kinds is None else list(kinds),
        backdrop=None if backdrop is None else Path(backdrop),
        footprints=None if footprints is None else Path(footprints),
        workers=workers,
    )


# What is made of finished maps


def package(
    out: str | Path,
    formats: Sequence[str] = ("all",),
    *,
    to: str | Path | None = None,
    name: str = "buildings",
) -> list[Path]:
    """Write the buildings of a finished map of damage in the formats that other people open.

    Args:
        out: folder of the map.
        formats: some of geoparquet, flatgeobuf, shapefile, kmz, pmtiles, csv, xlsx and stac, or all.
        to: folder to write into; by default `package` in the map's.
        name: of the files, without ending.

    Returns:
        The files.

    Raises:
        InputError: there is no finished map of damage, no such format, or a format cannot hold the map.
        MissingExtraError: a format needs a library that is not installed.
        OutputError: they cannot be written.

    Example:
        aftermap.package("joplin", ["kmz", "xlsx"], name="joplin")
    """
    from aftermap.workflows.package.formats import write_formats

    return write_formats(Path(out), formats, to=None if to is None else Path(to), name=name)


def _opened(model: "str | Path | AnyPredictor", running: "RunningKeywords") -> "AnyPredictor":
    return open_model(model, **running) if isinstance(model, (str, Path)) else model
