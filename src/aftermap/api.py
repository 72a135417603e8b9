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

# This file is longer than 400 lines for a reason: it is what `help(aftermap)` and the page of the Python API show, one
# function for each command, and two thirds of it are docstrings. A function here decides nothing: what is longer than a
# call belongs into a workflow. They stand in the order in which they are used.
#
# How a function is written here. What it works on are parameters. What may be chosen is `**options: Unpack[...]` of a
# TypedDict beside the function that does the work, where each keyword is explained, and what is raised: nothing is told
# twice. The docstring says what comes of it, names the keywords and shows a call; the body hands everything on at once.
# Imports stand inside: `import aftermap` and a map with an exported model load no more than they need.

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from aftermap.data.checking.doctor import Report
    from aftermap.data.checking.split_dataset import SplitOptions
    from aftermap.data.preparing.prepare import DatasetKind
    from aftermap.data.scene import Manifest
    from aftermap.geo.pair import Alignment
    from aftermap.inference.ensemble import RunningKeywords
    from aftermap.inference.predictor import AnyPredictor
    from aftermap.scoring.class_scores import ClassScores
    from aftermap.synthetic.write import SynthOptions
    from aftermap.workflows.areas.run import AreaOptions, AreaResult
    from aftermap.workflows.benchmark.run import BenchmarkOptions, BenchmarkResult
    from aftermap.workflows.catalogues.find import FindOptions, Found
    from aftermap.workflows.comparing.run import CompareOptions, Comparison
    from aftermap.workflows.event_model.run import Learnt
    from aftermap.workflows.footprints.run import Fetched, FootprintOptions
    from aftermap.workflows.fusing.cells import CellOptions, FusedCells
    from aftermap.workflows.fusing.run import Fused, FuseOptions
    from aftermap.workflows.kinds import Outcome, TrainOptions
    from aftermap.workflows.many.run import ManyOptions, ManyResult
    from aftermap.workflows.mapping.inputs.images import BuildingMapOptions, ClassMapOptions
    from aftermap.workflows.mapping.inputs.memory import Imagery, Place, Vectors
    from aftermap.workflows.mapping.result import MapResult, TaskName
    from aftermap.workflows.mapping.run import Progress
    from aftermap.workflows.mapping.settings import MapOptions
    from aftermap.workflows.monitoring.run import MonitorOptions, Series
    from aftermap.workflows.package.agency import AgencyOptions, PackageResult
    from aftermap.workflows.report.run import ReportOptions
    from aftermap.workflows.scoring.evaluate import EvaluateOptions
    from aftermap.workflows.scoring.predict import PredictOptions
    from aftermap.workflows.scoring.score import ScoreOptions, ScoreReport
    from aftermap.workflows.totals.run import TotalsOptions, TotalsResult
    from aftermap.workflows.training.training_kind import OnProgress

__all__ = [
    *("find", "footprints"),
    *("map", "map_buildings", "map_classes", "map_many"),
    *("answers", "learn"),
    *("totals", "areas"),
    *("compare", "fuse", "fuse_cells", "monitor"),
    *("package", "agency_package", "collect", "report"),
    *("open_model", "predict", "evaluate", "score", "benchmark"),
    *("train", "adapt", "adapt_map"),
    *("prepare", "check", "split", "synth"),
]


# Images to map


def find(
    catalogue: str | Path,
    aoi: str | Path,
    *,
    before: str,
    after: str | None = None,
    **options: "Unpack[FindOptions]",
) -> "Found":
    """Pairs of images in a catalogue (STAC) that show an area before and after a day, the best first.

    Args:
        catalogue: address or path of a STAC catalogue, collection or item collection, or of an API.
        aoi: polygons, a vector file.
        before: day of the disaster, or `FIRST/LAST`.
        after: likewise; by default the same day.
        options: collections, asset, most_cloud, most_off_nadir, limit, online and progress of `find_pairs`.

    Example:
        best = aftermap.find(address, "area.geojson", before="2023-02-06").pairs[0]
        aftermap.map(best.before, best.after, "antakya", aoi="area.geojson")
    """
    from aftermap.workflows.catalogues.find import find_pairs

    return find_pairs(str(catalogue), Path(aoi), before=before, after=after, **options)


def footprints(
    aoi: str | Path,
    out: str | Path,
    *,
    source: str | Path = "overture",
    **options: "Unpack[FootprintOptions]",
) -> "Fetched":
    """Write the buildings of an area from a public map, each with its source, day and licence.

    Args:
        aoi: polygons, a vector file.
        out: `.gpkg`, `.geojson` or `.parquet`.
        source: `overture`, or path or address of an OpenStreetMap extract, PMTiles, GeoParquet or other vector file.
        options: release, credit, source_date, licence, online and progress of `fetch_footprints`.

    Example:
        aftermap.footprints("area.geojson", "buildings.gpkg")
        aftermap.map("before.tif", "after.tif", "out", footprints="buildings.gpkg", aoi="area.geojson")
    """
    from aftermap.workflows.footprints.run import fetch_footprints

    return fetch_footprints(Path(aoi), Path(out), source=str(source), **options)


# Maps


def map(
    pre: "Imagery | None" = None,
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

    The result has the rasters, the table and the summary, with `plot`, `explore` and a picture in notebooks.

    Args:
        pre: image from before, or the only one: a file, a folder of tiles, or an array (bands, H, W).
        post: image from after; it is brought onto the grid of the first. Without `pre` it is mapped alone, as
            `post-only`.
        out: folder to make; without it a temporary one that lives as long as the result.
        task: `damage`, `buildings`, `classes`, `post-only` or `pre-only` (one of two dates, with a model whose card says
            that it was trained for it); by default damage for two images, and for one the classes of a model
            that has a legend.
        model: model folder, ensemble folder, exported model, or `box` for the one in the package.
        footprints: buildings to judge, a vector file or a GeoDataFrame; by default they are traced.
        aoi: polygons that bound the map, likewise.
        grid: where arrays lie: a `Grid`, or (transform, reference system). An array may bring its own as a pair
            (array, grid). Without one a map counts pixels.
        align: `auto` takes a measured shift between the dates out where that brings them closer.
        progress: called with the stage, the pixels done and those in all.
        options: see `aftermap.workflows.mapping.settings.Settings`.

    Example:
        result = aftermap.map("pre/", "post/", "joplin", footprints="buildings.geojson")
        result.buildings["damage"].value_counts()

        with rasterio.open("before.tif") as a, rasterio.open("after.tif") as b:
            result = aftermap.map(a.read(), b.read(), grid=(a.transform, a.crs))
    """
    from aftermap.workflows.mapping.inputs.images import map_images

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
    image: "Imagery", out: str | Path | None = None, **options: "Unpack[BuildingMapOptions]"
) -> "MapResult":
    """Map the buildings of one image; see `map`. A model of two dates is shown the image as both.

    Example:
        aftermap.map_buildings("drone.tif").buildings.plot("confidence")
    """
    return map(image, None, out, task="buildings", **options)


def map_classes(
    image: "Imagery",
    out: str | Path | None = None,
    *,
    model: str | Path,
    **options: "Unpack[ClassMapOptions]",
) -> "MapResult":
    """Map what every pixel of one image shows, by the legend of a model; see `map`.

    Example:
        cover = aftermap.map_classes("aerial.tif", model="runs/potsdam/model")
        cover.summary["classes"]["low_vegetation"]["area_ha"]
    """
    return map(image, None, out, task="classes", model=model, **options)


def map_many(pairs: str | Path, out: str | Path, **options: "Unpack[ManyOptions]") -> "ManyResult":
    """Map many pairs of images by several processes or by Ray, and put them together as one map of damage.

    A scene that cannot be mapped is among `failed` of the result and does not stop the others. The folder is a finished
    map, which `areas`, `package`, `report` and the rest take.

    Args:
        pairs: a CSV or JSON table with pre and post, or a STAC collection whose items have these assets.
        out: folder to make.
        options: model, footprints, aoi, align, engine, address, workers, retries, memory_gb, timeout_s, formats, h3,
            squares_m, merge_crs, block_mpx, keep and take_over of `aftermap.workflows.many.run.map_many`, and those of
            every map.

    Example:
        found = aftermap.map_many("pairs.csv", "event", workers=4)
        found.failed, found.buildings["damage"].value_counts()
    """
    from aftermap.workflows.many.run import map_many as map_all

    return map_all(Path(pairs), out, **options)


# What is made of finished maps


def answers(out: str | Path) -> "GeoDataFrame":
    """What people said of the buildings of a map: a row for each answer that stands.

    Args:
        out: folder of the map; `aftermap review` asks for answers.

    Returns:
        Columns of `workflows.review.exchange.COLUMNS` and the outline that each is about, in the map's reference system.

    Example:
        aftermap.answers("joplin").query("verdict == 'destroyed'")
    """
    from aftermap.workflows.mapping.finished import open_map
    from aftermap.workflows.review.exchange import answer_table

    return answer_table(open_map(Path(out)))


def learn(out: str | Path) -> "Learnt":
    """Learn the event's own model from the answers to a map of damage, and rewrite its table where that is better.

    Answers of reviewers win; what the map's model said stays in the column `damage_model`. `map` with `features=True`
    keeps what is best learnt from.

    Args:
        out: folder of the map, with the answers of `aftermap review`.

    Example:
        found = aftermap.learn("joplin")
        found.better, found.check.macro_f1_before, found.check.macro_f1_after
    """
    from aftermap.workflows.event_model.run import learn_from_answers

    return learn_from_answers(Path(out))


def totals(out: str | Path, **options: "Unpack[TotalsOptions]") -> "TotalsResult":
    """Say how many buildings of a finished map are damaged, with an interval that covers.

    It rests on the answers of reviewers to a random sample; without one there is no interval. The result
    has `words`, a `table`, and the files that were written into `totals` in the map's folder.

    Args:
        out: folder of the map.
        options: `target`, `kind` and `risk`.

    Example:
        found = aftermap.totals("joplin", target=0.1)
        found.totals["damaged"].low, found.table
    """
    from aftermap.workflows.totals.run import totals as estimate

    return estimate(Path(out), **options)


def areas(out: str | Path, **options: "Unpack[AreaOptions]") -> "list[AreaResult]":
    """Count a finished map of damage by areas, and write `OUT/areas/NAME.*` for each kind that is asked for.

    Args:
        out: folder of the map.
        options: h3, grid, grid_crs, by, name, pcode, tiles and rasters of `count_areas`.

    Example:
        (cells,) = aftermap.areas("joplin", h3=9)
        cells.areas.nlargest(5, "damaged")
    """
    from aftermap.workflows.areas.run import write_areas

    return write_areas(Path(out), **options)


def compare(out: str | Path, truth: "Vectors", **options: "Unpack[CompareOptions]") -> "Comparison":
    """Hold a finished map of damage against points or polygons that others graded; the result is in its `compare`.

    Args:
        out: folder of the map.
        truth: a vector file, `FILE:LAYER`, a label file of xBD's or a folder of them, or a GeoDataFrame.
        options: kind, column, mapping, within, iou, several, unlisted, area, name and as_answers of
            `aftermap.workflows.comparing.run.compare`.

    Example:
        found = aftermap.compare("joplin", "EMSR999_AOI01_GRA_PRODUCT_builtUpP.shp", within=8)
        found.summary["damaged"]["recall"]
    """
    from aftermap.workflows.comparing.run import compare as hold_against

    return hold_against(Path(out), truth, **options)


def fuse(sources: Sequence[str | Path], out: str | Path, **options: "Unpack[FuseOptions]") -> "Fused":
    """Fuse several maps and layers of one event on the buildings of the first map, as a folder like a map's.

    Args:
        sources: folder of a finished map, then further ones, vector layers, and rasters of the probability of damage.
        out: folder to make.
        options: weights, rule, within, column, mapping, probability, reliability, layers, add_others, title and
            overwrite of `aftermap.workflows.fusing.run.fuse`.

    Example:
        fused = aftermap.fuse(["box", "field", "radar.tif"], "fused", weights=[1, 1, 0.5])
        fused.buildings.query("disagreement >= 0.5")
    """
    from aftermap.workflows.fusing.run import fuse as fuse_sources

    return fuse_sources([Path(source) for source in sources], Path(out), **options)


def fuse_cells(
    sources: Sequence[str | Path], out: str | Path, *, h3: int, **options: "Unpack[CellOptions]"
) -> "FusedCells":
    """Fuse several sources of one event by H3 cell: shares that are damaged, for sources that share no buildings.

    Args:
        sources: folder of a finished map, then further ones, vector layers, and rasters.
        out: folder to make.
        h3: resolution of the cells.
        options: weights, column, mapping, probability, layers, title and overwrite of
            `aftermap.workflows.fusing.cells.fuse_cells`.

    Example:
        aftermap.fuse_cells(["box", "field", "radar.tif"], "cells", h3=9).cells.query("disagreement > 0.3")
    """
    from aftermap.workflows.fusing.cells import fuse_cells as fuse_by_cell

    return fuse_by_cell([Path(source) for source in sources], Path(out), h3=h3, **options)


def monitor(maps: Sequence[str | Path], out: str | Path, **options: "Unpack[MonitorOptions]") -> "Series":
    """Bring finished maps of several dates together: the state of every building over time, and what is new.

    Args:
        maps: folders of the maps, in any order.
        out: folder to make.
        options: dates, allow_repair, title and overwrite of `aftermap.workflows.monitoring.run.monitor`.

    Example:
        series = aftermap.monitor(["feb08", "feb20"], "series")
        series.summary["changes"][-1]["newly_destroyed"]
    """
    from aftermap.workflows.monitoring.run import monitor as bring_together

    return bring_together([Path(folder) for folder in maps], Path(out), **options)


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
        formats: some of geoparquet, flatgeobuf, shapefile, kmz, pmtiles, csv, xlsx, envi and stac, or all.
        to: folder to write into; by default `package` in the map's.
        name: of the files, without ending.

    Example:
        aftermap.package("joplin", ["kmz", "xlsx"], name="joplin")
    """
    from aftermap.workflows.package.formats import write_formats

    return write_formats(Path(out), formats, to=None if to is None else Path(to), name=name)


def collect(
    maps: Sequence[str | Path],
    out: str | Path,
    *,
    name: str | None = None,
    title: str = "",
    licence: str = "other",
) -> list[Path]:
    """Describe finished maps of damage as one STAC collection; its file comes first, then the items.

    Args:
        maps: their folders.
        out: folder of the collection.
        name: id of the collection; by default the folder's name.
        title: its heading.
        licence: SPDX, or `other`.

    Example:
        aftermap.collect(["maps/north", "maps/south"], "maps/catalogue", licence="CC-BY-4.0")
    """
    from aftermap.workflows.package.collection import write_collection

    return write_collection([Path(each) for each in maps], Path(out), name=name, title=title, licence=licence)


def agency_package(
    out: str | Path, agency: str, *, to: str | Path | None = None, **options: "Unpack[AgencyOptions]"
) -> "PackageResult":
    """Write a finished map of damage in the names, layers and attributes of an agency, as a new version.

    Args:
        out: folder of the map.
        agency: ems, unosat, fema or hdx.
        to: folder of the versions; by default `package/AGENCY` in the map's.
        options: code, number, event, organisation and licence of `write_agency_package`.

    Example:
        aftermap.agency_package("joplin", "ems", code="EMSR123", number=1).folder
    """
    from aftermap.workflows.package.agency import write_agency_package

    return write_agency_package(Path(out), agency, to=None if to is None else Path(to), **options)


def report(
    out: str | Path, *, to: str | Path | None = None, **options: "Unpack[ReportOptions]"
) -> list[Path]:
    """Write a finished map of damage as a report of two pages, as PDF, HTML and DOCX.

    Args:
        out: folder of the map.
        to: folder to write into; by default `report` in the map's.
        options: language, title, organisation, credit, paper and formats of `write_report`.

    Example:
        aftermap.report("joplin", language="fr", organisation="Protection civile")
    """
    from aftermap.workflows.report.run import write_report

    return write_report(Path(out), to=None if to is None else Path(to), **options)


# Models and scores


def open_model(model: str | Path = "box", **running: "Unpack[RunningKeywords]") -> "AnyPredictor":
    """Open a model folder, an ensemble folder, an exported model or the model in the box, ready to predict.

    Args:
        model: its folder or file, or `box`.
        running: see `aftermap.inference.ensemble.Options`; the backend is `auto` where none is named.

    Example:
        model = aftermap.open_model("box")
        probabilities = model.predict(images)  # (B, T, C, H, W) to (B, K, H, W)
    """
    from aftermap.inference.ensemble import opened

    return opened(model, **running)


def predict(
    model: "str | Path | AnyPredictor",
    data: str | Path,
    out: str | Path,
    **options: "Unpack[PredictOptions]",
) -> int:
    """Predict a prepared dataset into PNGs, in the naming of the xView2 competition or of a legend's classes.

    Args:
        model: as `open_model` takes it or gives it.
        data: a prepared dataset.
        out: folder for the predictions; those that are there are kept, so that an interrupted run goes on.
        options: split, targets, overwrite and on_scene of `predict_dataset`, and how the model is run.

    Example:
        aftermap.predict("box", "xbd-prepared", "predictions", targets="truth")
        aftermap.score("predictions", "truth")
    """
    from aftermap.workflows.scoring.predict import predict_dataset

    return predict_dataset(model, Path(data), Path(out), **options)


def evaluate(
    model: "str | Path | AnyPredictor", data: str | Path, **options: "Unpack[EvaluateOptions]"
) -> "ScoreReport | ClassScores":
    """Score a model on the labelled scenes of a prepared dataset.

    Damage models get the xView2 score and its companions, models of buildings Jaccard, F1 and boundary IoU, models with
    a legend F1 and IoU of every class.

    Args:
        model: as `open_model` takes it or gives it.
        data: a prepared dataset.
        options: split ("test" by default), events, threshold, bootstrap, boundary_m and on_scene of `evaluate_dataset`,
            and how the model is run.

    Example:
        aftermap.evaluate("box", "xbd-prepared", events=["hurricane-harvey"]).as_dict()["score"]
    """
    from aftermap.workflows.scoring.evaluate import evaluate_dataset

    return evaluate_dataset(model, Path(data), **options)


def score(prediction: str | Path, target: str | Path, **options: "Unpack[ScoreOptions]") -> "ScoreReport":
    """Score folders of predicted masks: the official xView2 score and its companions.

    Args:
        prediction: folder of predicted masks.
        target: folder of target masks in the same naming; 255 marks unknown pixels.
        options: events, bootstrap, seed, iou and progress of `score_folders`.

    Example:
        aftermap.score("predictions", "targets").as_dict()["score"]
    """
    from aftermap.workflows.scoring.score import score_folders

    return score_folders(Path(prediction), Path(target), **options)


def benchmark(data: str | Path, out: str | Path, **options: "Unpack[BenchmarkOptions]") -> "BenchmarkResult":
    """Compare models, and recipes that are trained for it, on folds that do not leak.

    Args:
        data: a prepared dataset with two dates and labels of damage.
        out: folder to make: a page, the same as JSON and CSV, and the protocol as a file.
        options: models, recipes, protocol, seeds, bootstrap and others of `run_benchmark`.

    Example:
        aftermap.benchmark("xbd-prepared", "compared", models=["box", "mine=runs/mine-{fold}/model"]).page
    """
    from aftermap.workflows.benchmark.run import run_benchmark

    return run_benchmark(Path(data), Path(out), **options)


# Training


def train(
    recipe: str | Path | Mapping[str, Any], out: str | Path, **options: "Unpack[TrainOptions]"
) -> "Outcome":
    """Train what a recipe of any kind says: an ordinary run, self-training, an adaptation, classes step by step.

    What comes of it depends on the recipe's kind; its `model` is the model folder.

    Args:
        recipe: a YAML file, the name of one that comes along, such as "localization.yaml", or what it says as a mapping.
        out: the run folder; new, or that of an interrupted run with `resume`.
        options: overrides, resume, step, start and on_progress of `train_named`.

    Example:
        aftermap.train("localization.yaml", "runs/loc", overrides=["data.manifests=[xbd-prepared]"]).model
    """
    from aftermap.workflows.kinds import train_named

    return train_named(recipe, Path(out), **options)


def adapt(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    event: str,
    labels: bool = True,
    on_progress: "OnProgress | None" = None,
    **keys: Any,
) -> "Outcome":
    """Adapt a model to an event with a few of its labelled scenes, or from its images alone, and see whether it helped.

    `kept` of the outcome says whose weights its `model` holds, the adapted ones or the parent's.

    Args:
        model: a model folder, or "box".
        data: a prepared dataset.
        out: the run folder, new.
        event: whose scenes.
        labels: learn from labels; False learns from images alone, as the recipe adapt-event says.
        on_progress: called with how far it is after every scene and step.
        keys: others of `AdaptConfig`, such as scenes=3 and steps=80, or of `AdaptEventRecipe` without labels.

    Example:
        aftermap.adapt("box", "xbd-prepared", "runs/harvey", event="hurricane-harvey", scenes=3).kept
    """
    from aftermap.workflows.adaptation.config import wanted_adaptation
    from aftermap.workflows.kinds import train_recipe

    wanted = wanted_adaptation(model, Path(data), labels=labels, event=event, **keys)
    return train_recipe(wanted, Path(out), on_progress=on_progress)


def adapt_map(
    out: str | Path,
    run: str | Path,
    *,
    parent: str | Path | None = None,
    on_progress: "OnProgress | None" = None,
    **keys: Any,
) -> "Outcome":
    """Adapt the network of a map with the answers of its review, and see whether it helped; the map stays as it is.

    Args:
        out: folder of the map; `aftermap review` asks for answers.
        run: the run folder, new.
        parent: the model to adapt; by default the one in the box, where the map is its.
        on_progress: called with how far it is after every scene and step.
        keys: `pre` and `post`, the images where they do not lie near the map, and others of `AdaptConfig`.

    Example:
        aftermap.adapt_map("demo/map", "runs/demo", steps=40).kept
    """
    from aftermap.workflows.adaptation.answer_scenes import adaptation_of_map
    from aftermap.workflows.kinds import train_recipe

    given = {name: Path(keys.pop(name)) for name in ("pre", "post") if keys.get(name) is not None}
    config = adaptation_of_map(Path(out), parent=None if parent is None else str(parent), **given, **keys)
    return train_recipe(config, Path(run), on_progress=on_progress)


# Datasets


def prepare(
    source: str | Path,
    out: str | Path | None = None,
    *,
    kind: "DatasetKind" = "xbd",
    **options: Any,
) -> "Manifest":
    """Turn a dataset into masks and a manifest that `train`, `check` and `split` read.

    Args:
        source: the dataset's folder, or the file that lists it.
        out: folder to make; by default the source's name with -prepared, here.
        kind: how it is laid out; `class_folder` is a plain folder with masks of many classes and a `legend`.
        options: workers, overwrite, strict and progress of `prepare_source`, and those of `<kind>_dataset` in
            `aftermap.data.readers.<kind>`.

    Example:
        aftermap.prepare("xview2", "xview2-prepared", workers=8)
        aftermap.prepare("fields", "fields-prepared", kind="class_folder", legend="legend.yaml")
    """
    from aftermap.data.preparing.prepare import prepare_source

    return prepare_source(Path(source), None if out is None else Path(out), kind=kind, **options)


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
    data: str | Path, *, out: str | Path | None = None, **options: "Unpack[SplitOptions]"
) -> "Manifest":
    """Assign scenes to train, validation and test so that nothing leaks between them.

    Args:
        data: a prepared folder, or its manifest.
        out: write the manifest to this file instead of changing the given one.
        options: by, fractions, seed, hold_out, validate_on, group_zoom, folds, fold and compat_leak of `split_dataset`.

    Example:
        aftermap.split("xview2-prepared", by="block")
    """
    from aftermap.data.checking.split_dataset import split_file

    return split_file(Path(data), out=out, **options)


def synth(out: str | Path, **options: "Unpack[SynthOptions]") -> "Manifest":
    """Make up disasters: image pairs with exact labels, for data that cannot be shipped.

    Args:
        out: folder for the scenes: xBD layout, GeoTIFFs, footprints and a manifest.
        options: scenes, size_px, seed, kinds, backdrop, footprints, workers and geotiff of `synthesise`.

    Example:
        aftermap.synth("towns", scenes=8, kinds=["wind", "flood"])
    """
    from aftermap.synthetic.write import synthesise

    return synthesise(Path(out), **options)
