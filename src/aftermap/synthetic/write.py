"""Synthetic datasets on disk: xBD layout, GeoTIFFs, footprints, truth masks and a manifest."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypedDict

import cv2
import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import Polygon

from aftermap.classes import DAMAGE
from aftermap.data.geotransform import scene_grid
from aftermap.data.scene import Manifest, Scene
from aftermap.errors import DataError, InputError, OutputError
from aftermap.files import replacing_folder
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import from_pixels
from aftermap.synthetic.backdrop import paint_disaster
from aftermap.synthetic.damage import KINDS, Kind, as_kind
from aftermap.synthetic.pair import Pair, make_pair
from aftermap.synthetic.photos import Photo, find_photos
from aftermap.wording import counted

EPSG = 32615
LICENCE = "CC0-1.0"


@dataclass(frozen=True)
class _Job:
    """One scene to make; sent to worker processes."""

    out: Path
    index: int
    seed: int
    size_px: int
    kind: Kind
    geotiff: bool
    photo: Photo | None


@dataclass(frozen=True)
class _Made:
    """A written scene and its buildings: (building_id, damage, polygon in the scene's reference system)."""

    scene: Scene
    buildings: list[tuple[str, str, Polygon]]


class SynthOptions(TypedDict, total=False):
    """Keywords of `synthesise`."""

    scenes: int
    size_px: int
    seed: int
    kinds: Sequence[str] | None
    backdrop: str | Path | None
    footprints: str | Path | None
    workers: int
    geotiff: bool


def synthesise(
    out: Path,
    *,
    scenes: int = 8,
    size_px: int = 1024,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    backdrop: str | Path | None = None,
    footprints: str | Path | None = None,
    workers: int = 1,
    geotiff: bool = True,
) -> Manifest:
    """Write a dataset of synthetic disasters; the same arguments give the same bytes, whatever the workers.

    The folder appears when everything is written; until then the work lies beside it under the name `<out>.part`.

    Args:
        out: folder to make; it must not exist, or be empty.
        scenes: number of pairs.
        size_px: width and height of each image.
        seed: of everything random.
        kinds: disasters that take turns (`wind`, `flood`, `fire`, `earthquake`); all four by default.
        backdrop: real images of one date to paint disasters on, instead of towns from nothing.
        footprints: their known buildings, a vector file; not needed where the folder has masks.
        workers: processes.
        geotiff: also write georeferenced GeoTIFF pairs.

    Raises:
        OutputError: `out` holds something, or cannot be written.
        InputError: the backdrop or its footprints cannot be used.
        InputError: numbers or kinds out of range.
    """
    if footprints is not None and backdrop is None:
        raise DataError(
            "--footprints is given without --backdrop: damage is painted on images with known buildings"
        )
    backdrop, footprints = (None if path is None else Path(path) for path in (backdrop, footprints))
    chosen = tuple(as_kind(kind) for kind in kinds or KINDS)
    if scenes < 1 or size_px < 32:
        raise InputError(f"{counted(scenes, 'scene')} of {size_px} px: at least 1 scene of 32 px is needed")
    photos = find_photos(backdrop, footprints) if backdrop is not None else []
    with _workspace(out) as work:
        jobs = [
            _Job(work, index, seed, size_px, chosen[index % len(chosen)], geotiff, _pick(photos, index))
            for index in range(scenes)
        ]
        made = sorted(_run(jobs, workers), key=lambda item: item.scene.name)
        _write_footprints(work / "footprints.gpkg", made)
        manifest = Manifest(
            kind="synthetic",
            scheme=DAMAGE.name,
            licence=LICENCE if backdrop is None else None,
            options={"seed": str(seed), "size_px": str(size_px), "kinds": ",".join(chosen)}
            | ({"backdrop": backdrop.name} if backdrop is not None else {}),
            scenes=[item.scene for item in made],
        )
        manifest.save(work)
    return Manifest.load(out)


def _pick(photos: list[Photo], index: int) -> Photo | None:
    return photos[index % len(photos)] if photos else None


def _run(jobs: list[_Job], workers: int) -> Iterator[_Made]:
    if workers <= 1:
        yield from map(_write_scene, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_write_scene, jobs, chunksize=2)


@contextmanager
def _workspace(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when all went well."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not empty: choose another folder, or remove it")
    with replacing_folder(out, ours=()) as work:
        for folder in ("images", "labels", "masks", "geotiff"):
            (work / folder).mkdir()
        yield work
        if not any((work / "geotiff").iterdir()):
            (work / "geotiff").rmdir()


def _write_scene(job: _Job) -> _Made:
    cv2.setNumThreads(1)
    name = f"synthetic-{job.kind}_{job.index:08d}"
    seed = int(np.random.SeedSequence([job.seed, job.index]).generate_state(1)[0])
    if job.photo is None:
        pair = make_pair(seed, size_px=job.size_px, kind=job.kind)
        grid = _grid(job.index, job.size_px, pair.gsd_m)
    else:
        pair, grid = paint_disaster(seed, job.photo, size_px=job.size_px, kind=job.kind)
    checksums: dict[str, str] = {}
    paths: dict[str, Path] = {}
    dates: tuple[tuple[Literal["pre", "post"], np.ndarray], ...] = (("pre", pair.pre), ("post", pair.post))
    for date, image in dates:
        paths[date] = job.out / "images" / f"{name}_{date}_disaster.png"
        checksums[date] = _write_png(paths[date], image.transpose(1, 2, 0)[..., ::-1])
        if grid.is_georeferenced or job.photo is None:
            text = xbd_labels(pair, name, grid, date).encode()
            (job.out / "labels" / f"{name}_{date}_disaster.json").write_bytes(text)
            checksums[f"{date}_label"] = hashlib.sha256(text).hexdigest()
        if job.geotiff and grid.is_georeferenced:
            _write_tiff(job.out / "geotiff" / f"{name}_{date}.tif", image, grid)
    for target, mask in (("building", pair.building_mask), ("damage", pair.damage_mask)):
        paths[target] = job.out / "masks" / f"{name}_{target}.png"
        _write_png(paths[target], mask)
    levels = [DAMAGE.names[footprint.damage] for footprint in pair.footprints]
    place = scene_grid(grid)
    scene = Scene(
        name=name,
        event=f"synthetic-{job.kind}",
        pre=paths["pre"],
        post=paths["post"],
        building_mask=paths["building"],
        damage_mask=paths["damage"],
        width=pair.pre.shape[2],
        height=pair.pre.shape[1],
        grid=place and place.model_copy(update={"residual_px": 0.0}),
        resolution_m=grid.resolution_m or pair.gsd_m,
        class_pixels=np.bincount(pair.damage_mask.ravel(), minlength=5).tolist(),
        polygons={level: levels.count(level) for level in DAMAGE.names[1:] if level in levels},
        checksums=checksums,
    )
    rows = []
    for number, (footprint, level) in enumerate(zip(pair.footprints, levels, strict=True)):
        rows.append((building_id(name, number), level, from_pixels(footprint.polygon, grid)))
    return _Made(scene, rows)


def _grid(index: int, size_px: int, gsd_m: float) -> Grid:
    """A place of its own for every scene: 4 km apart, rows of 60, in UTM zone 15 north."""
    left, top = 380_000 + 4_000 * (index % 60), 4_200_000 - 4_000 * (index // 60)
    return Grid(CRS.from_epsg(EPSG), Affine(gsd_m, 0, left, 0, -gsd_m, top), size_px, size_px)


def _write_png(path: Path, image: np.ndarray) -> str:
    encoded = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
    path.write_bytes(encoded)
    return hashlib.sha256(encoded).hexdigest()


def _write_tiff(path: Path, image: np.ndarray, grid: Grid) -> None:
    profile = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": 3,
        "dtype": "uint8",
        "crs": grid.crs,
        "transform": grid.transform,
        "compress": "deflate",
        "predictor": 2,
        "zlevel": 4,
        "photometric": "RGB",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(image)


def _write_footprints(path: Path, made: list[_Made]) -> None:
    """All buildings in one layer; in longitude and latitude where scenes differ in their reference system."""
    systems = {item.scene.grid.crs if item.scene.grid else None for item in made}
    if None in systems:  # images without georeference: their buildings are in the masks
        return
    frames = []
    for item in made:
        if not item.buildings:
            continue
        ids, levels, shapes = zip(*item.buildings, strict=True)
        frame = gpd.GeoDataFrame(
            {"building_id": ids, "damage": levels, "event": item.scene.event, "scene": item.scene.name},
            geometry=list(shapes),
            crs=item.scene.grid.crs if item.scene.grid else None,
        )
        frames.append(frame.to_crs("EPSG:4326") if len(systems) > 1 else frame)
    if not frames:
        return
    whole = (
        frames[0]
        if len(frames) == 1
        else gpd.GeoDataFrame(gpd.pd.concat(frames, ignore_index=True), crs=frames[0].crs)
    )
    before = os.environ.get("OGR_CURRENT_DATE")
    os.environ["OGR_CURRENT_DATE"] = "2020-01-01T00:00:00.000Z"  # GeoPackages carry the time of writing
    try:
        whole.to_file(path, layer="buildings", driver="GPKG", engine="pyogrio")
    finally:
        if before is None:
            del os.environ["OGR_CURRENT_DATE"]
        else:
            os.environ["OGR_CURRENT_DATE"] = before


DISASTER_TYPES = {"wind": "wind", "flood": "flooding", "fire": "fire", "earthquake": "earthquake"}
CAPTURE_DATES = {"pre": "2020-01-01T12:00:00.000Z", "post": "2020-02-01T12:00:00.000Z"}


def xbd_labels(pair: Pair, name: str, grid: Grid, date: Literal["pre", "post"]) -> str:
    """The label file of one date as JSON text.

    Args:
        pair: the scene.
        name: without date and suffix, such as `synthetic-wind_00000003`.
        grid: georeference of the scene.
        date: damage is named in `post` only, as in xBD.
    """
    xy: list[dict[str, Any]] = []
    lng_lat: list[dict[str, Any]] = []
    for number, footprint in enumerate(pair.footprints):
        properties: dict[str, str] = {"feature_type": "building"}
        if date == "post":
            properties["subtype"] = DAMAGE.names[footprint.damage]
        properties["uid"] = building_id(name, number)
        xy.append({"properties": properties, "wkt": shapely.to_wkt(footprint.polygon, rounding_precision=2)})
        degrees = to_degrees(footprint.polygon, grid)
        lng_lat.append({"properties": properties, "wkt": shapely.to_wkt(degrees, rounding_precision=11)})
    index = 0 if date == "pre" else 1
    metadata = {
        "sensor": "SYNTHETIC",
        "provider_asset_type": "SYNTHETIC",
        "gsd": round(pair.gsd_m, 6),
        "capture_date": CAPTURE_DATES[date],
        "off_nadir_angle": round(pair.off_nadir[index], 4),
        "pan_resolution": round(pair.gsd_m, 6),
        "sun_azimuth": round((pair.sun[index][0] + 90) % 360, 4),  # ours is counted from the image's right
        "sun_elevation": round(pair.sun[index][1], 4),
        "target_azimuth": 0.0,
        "disaster": name.rsplit("_", 1)[0],
        "disaster_type": DISASTER_TYPES[pair.kind],
        "catalog_id": f"{name}_{date}",
        "original_width": pair.pre.shape[2],
        "original_height": pair.pre.shape[1],
        "width": pair.pre.shape[2],
        "height": pair.pre.shape[1],
        "id": f"{name}_{date}",
        "img_name": f"{name}_{date}_disaster.png",
    }
    return json.dumps({"features": {"lng_lat": lng_lat, "xy": xy}, "metadata": metadata}, indent=1) + "\n"


def building_id(name: str, number: int) -> str:
    """Identifier of a building, the same in both dates and in the footprints."""
    return f"{name}_{number:04d}"


def to_degrees(polygon: Polygon, grid: Grid) -> Polygon:
    """A polygon from pixels to longitude and latitude (EPSG:4326)."""

    def change(points: np.ndarray) -> np.ndarray:
        return np.stack(grid.lonlat(points[:, 0], points[:, 1]), axis=1)

    moved: Polygon = shapely.transform(polygon, change)
    return moved
