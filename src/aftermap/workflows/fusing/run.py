"""Several maps and layers of one event, fused on the buildings of the first map, as a folder that other commands open.

FUSED/buildings.gpkg       the columns of a map, then `disagreement`, `entropy`, `sources` and what each source says
FUSED/damage.tif           the fused classes, painted into the outlines
FUSED/map.html             the fused map; FUSED/disagreement.html shows where the sources differ
FUSED/overview.png, summary.json, provenance.json
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypedDict

import geopandas
import numpy as np
import rasterio.features
import shapely

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, IGNORE, NOT_ASSESSED
from aftermap.errors import InputError
from aftermap.files import check_output, replacing_folder, write_json
from aftermap.geo.grid import Grid, Window
from aftermap.geo.polygons import to_pixels
from aftermap.products.cog import RasterWriter, class_colormap
from aftermap.products.styles import DAMAGE_STYLE, ONE_DATE_STYLE, style_layer, write_class_names
from aftermap.products.summary import summarise, summarise_one_date
from aftermap.products.vectors import DAMAGE_LAYER, ONE_DATE_LAYER, PROBABILITIES, normalise, write_buildings
from aftermap.wording import counted
from aftermap.workflows.fusing.basis import Basis
from aftermap.workflows.fusing.pages import write_pages
from aftermap.workflows.fusing.pooling import Pool, entropy, pool
from aftermap.workflows.fusing.readings import LayerOptions, readings_of, weights_of
from aftermap.workflows.fusing.source import Source
from aftermap.workflows.fusing.sources import Opened, Reading, of_map, open_source, told
from aftermap.workflows.mapping.finished import FinishedMap, open_map
from aftermap.workflows.mapping.provenance import describe_grid, versions
from aftermap.workflows.mapping.work import MARKER

_CLASSES = DAMAGE.names[1:]
_OURS = (
    MARKER,
    "summary.json",
    "map.html",
    "disagreement.html",
    "overview.png",
    "damage.tif",
    "damage.tif.aux.xml",
    "destroyed.tif",
    "destroyed.tif.aux.xml",
    "buildings.*",
)
_ROWS = 512


class FuseOptions(TypedDict, total=False):
    """Keywords of `fuse`."""

    weights: Sequence[float] | None
    rule: Pool | Literal["auto"]
    within: float
    column: str | None
    mapping: Mapping[str, str] | None
    probability: str | None
    reliability: float
    layers: Mapping[str, LayerOptions] | None
    add_others: bool
    title: str | None
    overwrite: bool


@dataclass(frozen=True, repr=False)
class Fused:
    """Several sources as one map.

    Attributes:
        folder: the output folder.
        buildings: as `buildings.gpkg` holds them.
        summary: what `summary.json` holds.
        sources: what each says.
        weights: theirs.
        rule: of the pool.
    """

    folder: Path
    buildings: geopandas.GeoDataFrame = field(compare=False)
    summary: dict[str, Any]
    sources: tuple[Source, ...] = field(compare=False)
    weights: tuple[float, ...] = ()
    rule: Pool = "linear"

    def __repr__(self) -> str:
        return (
            f"<{len(self.sources)} sources on {counted(len(self.buildings), 'building')}, in {self.folder}>"
        )


def fuse(
    sources: Sequence[Path],
    out: Path,
    *,
    weights: Sequence[float] | None = None,
    rule: Pool | Literal["auto"] = "auto",
    within: float = 10.0,
    column: str | None = None,
    mapping: Mapping[str, str] | None = None,
    probability: str | None = None,
    reliability: float = 0.8,
    layers: Mapping[str, LayerOptions] | None = None,
    add_others: bool = False,
    title: str | None = None,
    overwrite: bool = False,
) -> Fused:
    """Fuse sources on the buildings of the first one, and on those that only others have where wanted.

    Args:
        sources: the folder of a finished map, whose buildings count, then further maps, vector layers of points or
            polygons, and rasters of the probability of damage.
        out: folder to make.
        weights: of the sources, above 0; all alike by default.
        rule: `linear` or `logarithmic`, see `pooling`. `auto` takes the logarithmic pool where every source gives
            probabilities, and the linear one where one only gives grades, which may not veto the others.
        within: how far a point may lie from its building, metres.
        column: that holds the grades of a layer; by default told by what it holds.
        mapping: what its words mean; see `workflows.comparing`.
        probability: column of a layer that holds the probability of damage.
        reliability: how likely a grade without a probability is right.
        layers: the last five for single sources, by name (a file's without its ending) or number, from 1.
        add_others: add buildings that a later map or layer of polygons has and those before it lack.
        title: of the page; by default the folder's name.
        overwrite: replace an earlier result.

    Raises:
        InputError: a source cannot be used, or does not lie on the map.
        OutputError: the output exists or cannot be written.
    """
    chosen = weights_of(sources, weights)
    common = Reading(within, column, mapping, probability, reliability)
    readings = readings_of(sources, common, layers or {})
    chosen = [1.0] * len(sources) if weights is None else [float(weight) for weight in weights]
    if len(chosen) != len(sources) or not all(0 < weight < float("inf") for weight in chosen):
        raise InputError(
            f"--weights has {len(chosen)} for {counted(len(sources), 'source')}: pass a number above 0 for each, such as "
            "1,0.5"
        )
    check_output(out, marker=MARKER, overwrite=overwrite)
    base = open_map(sources[0], also=("post-only",))
    found = [of_map(base, base)]
    found += [
        open_source(base, path, reading) for path, reading in zip(sources[1:], readings[1:], strict=True)
    ]
    basis = Basis.of(base.buildings)
    if add_others:
        for each in found[1:]:
            basis = basis.with_others(each.name, each.outlines, each.frame, base.grid)
    opened = [
        _placed(basis, path, each, base.folder, binary=base.one_date is not None)
        for path, each in zip(sources, found, strict=True)
    ]
    taken: Pool = (
        rule if rule != "auto" else "linear" if any(s.kind == "grades" for s in opened) else "logarithmic"
    )
    pooled = pool([source.opinions for source in opened], chosen, taken)
    frame = _table(basis, opened, np.array(chosen), pooled, marked=add_others)
    layer, style, raster = DAMAGE_LAYER, DAMAGE_STYLE, "damage.tif"
    if base.one_date is None:
        summary = summarise(frame, base.grid)
    else:
        layer, style, raster = ONE_DATE_LAYER, ONE_DATE_STYLE, "destroyed.tif"
        summary = summarise_one_date(frame, base.grid, mode=base.one_date)
    with replacing_folder(out, ours=_OURS) as folder:
        write_buildings(frame, folder, layer)
        style_layer(folder, "buildings", style, list(normalise(frame, layer).columns))
        _write_raster(base, frame, folder / raster)
        write_json(folder / "summary.json", summary)
        notes = [
            f"{taken} pool of {len(opened)} sources, weights {', '.join(f'{weight:g}' for weight in chosen)}",
            *(told(source) for source in opened),
        ]
        if add_others:
            count = int((basis.added_by != "").sum())
            notes.append(f"{counted(count, 'building')} that only later sources have added (column added_by)")
        write_pages(base, folder, frame, summary, notes, title or out.name)
        write_json(folder / MARKER, _provenance(base, opened, chosen, taken, readings, notes))
    return Fused(out, frame, summary, tuple(opened), tuple(chosen), taken)


def _placed(basis: Basis, path: Path, opened: Opened, first: Path, *, binary: bool) -> Source:
    source = opened.place(basis)
    if binary:
        source = source.as_destroyed_or_not()
    if not source.speaks.any() and len(basis.buildings) and path != first:
        raise InputError(f"{path} says nothing of any building of {first}")
    return source


def _table(
    basis: Basis, sources: Sequence[Source], weights: np.ndarray, pooled: np.ndarray, *, marked: bool
) -> geopandas.GeoDataFrame:
    """The table of the buildings with the pooled probabilities, and what the sources say."""
    known = np.isfinite(pooled).all(axis=1)
    speaks = np.array([source.speaks for source in sources])
    best = np.where(known, np.argmax(np.where(np.isfinite(pooled), pooled, 0), axis=1), 0)
    said = np.array([source.allowed for source in sources])
    agreed = np.where(speaks[:, :, None], said, True).all(axis=0)
    one = (
        agreed.sum(axis=1) == 1
    )  # all that speak say the same class: it is theirs, whatever their decisions weigh
    best = np.where(one & known, np.argmax(agreed, axis=1), best)
    rows = np.arange(len(best))
    differs = speaks & ~said[:, rows, best]
    spoken = (weights[:, None] * speaks).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        disagreement = (weights[:, None] * differs).sum(axis=0) / spoken
    is_binary, unknown = pooled.shape[1] == 2, np.zeros(len(best), bool)
    if not is_binary:
        # where the image after alone is all that speaks, what is not destroyed may be undamaged or badly damaged
        fuller = [source.speaks & (not source.tells_destroyed_alone) for source in sources]
        unknown = known & ~np.any(fuller, axis=0) & (best != len(_CLASSES) - 1)
        known, pooled = known & ~unknown, np.where(unknown[:, None], np.nan, pooled)
    frame = basis.buildings.copy()
    words = np.array(DESTROYED_OR_NOT.names[1:] if is_binary else _CLASSES, dtype=object)
    frame["damage"] = np.where(known, words[best], NOT_ASSESSED)
    if is_binary:
        frame[PROBABILITIES[-1]] = pooled[:, 1]
    else:
        frame[list(PROBABILITIES)] = pooled
    frame["confidence"] = np.where(known, pooled[rows, best], np.nan)
    frame["p_building"] = np.where(known, frame["p_building"].astype(float).fillna(1.0), np.nan)
    frame["seen"] = np.where(known, frame["seen"].astype(float).clip(lower=0), frame["seen"].astype(float))
    gaps = np.where(unknown, "only that it is not destroyed is known", "no source")
    frame["reason"] = np.where(known, "", gaps)
    frame["mode"] = "fused"
    added = {
        "disagreement": np.round(disagreement, 4),
        "entropy": np.round(entropy(pooled), 4),
        "sources": speaks.sum(axis=0),
        **({"added_by": basis.added_by} if marked else {}),
        **{f"says_{number}": source.classes for number, source in enumerate(sources, start=1)},
    }
    taken = {name: f"earlier_{name}" for name in added if name in frame.columns}
    return frame.rename(columns=taken).assign(**added)


def _write_raster(base: FinishedMap, frame: geopandas.GeoDataFrame, path: Path) -> None:
    """The classes in their outlines; what the first map did not see stays so beside them."""
    grid = base.grid
    scheme = base.scheme
    values = [IGNORE if name == NOT_ASSESSED else scheme.index(name) for name in frame["damage"]]
    shapes = to_pixels(frame.geometry.to_numpy(), grid)
    tree = shapely.STRtree(shapes)
    with RasterWriter(
        path,
        grid,
        count=1,
        dtype="uint8",
        nodata=IGNORE,
        colormap=class_colormap(scheme),
        descriptions=("damage",),
    ) as writer:
        for row in range(0, grid.height, _ROWS):
            window = Window(row, 0, min(_ROWS, grid.height - row), grid.width)
            here = np.sort(tree.query(shapely.box(0, row, grid.width, row + window.height)))
            block = _unseen(base.raster, grid, window)
            if len(here):
                moved = shapely.transform(shapes[here], lambda xy, top=row: xy - (0, top))
                painted = zip(moved, (values[index] for index in here.tolist()), strict=True)
                rasterio.features.rasterize(painted, out=block)
            writer.write(window, block)
    write_class_names(path, scheme)


def _unseen(path: Path, grid: Grid, window: Window) -> np.ndarray:
    """Background, and not assessed where the first map is."""
    with rasterio.open(path, driver="GTiff") as file:
        earlier = file.read(1, window=((window.row, window.row + window.height), (0, grid.width)))
    block: np.ndarray = np.where(earlier == IGNORE, np.uint8(IGNORE), np.uint8(0))
    return block


def _provenance(
    base: FinishedMap,
    sources: Sequence[Source],
    weights: Sequence[float],
    rule: Pool,
    readings: Sequence[Reading],
    notes: Sequence[str],
) -> dict[str, Any]:
    listed = [
        {
            "name": source.name,
            "kind": source.kind,
            "about": source.about,
            "weight": weight,
            "speaks_of": int(source.speaks.sum()),
            "options": {} if source.kind == "map" else reading.as_dict(),
        }
        for source, weight, reading in zip(sources, weights, readings, strict=True)
    ]
    digest = hashlib.sha256(repr((rule, listed, base.outlines_sha256)).encode()).hexdigest()
    names = " + ".join(source.name for source in sources)
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": "fused",
        "scale": base.scheme.name,
        "model": {"name": f"fused {names}", "version": "1", "sha256": digest, **_terms(sources)},
        "inputs": base.provenance.get("inputs", {}),
        "sources": listed,
        "grid": describe_grid(base.grid),
        "options": {"rule": rule},
        "warnings": list(base.provenance.get("warnings", [])),
        "notes": list(notes),
        "versions": versions(),
    }


def _terms(sources: Sequence[Source]) -> dict[str, str]:
    """Licences, training data and limits of all models that went in: what binds one of them binds the fused map."""
    found = {}
    for key in ("licence", "training_data", "training_data_licence", "limits"):
        told = dict.fromkeys(str(source.model[key]).strip() for source in sources if source.model.get(key))
        if told:
            found[key] = ("\n" if key == "limits" else " + ").join(told)
    return found
