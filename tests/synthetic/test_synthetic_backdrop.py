"""Disasters on real single-date images: georeference, masks, and what stays as it was."""

from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box

from aftermap.data.scene import read_mask
from aftermap.errors import DataError, FootprintError
from aftermap.synthetic.backdrop import paint_disaster
from aftermap.synthetic.photos import find_photos, image_grid
from aftermap.synthetic.write import synthesise


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """One 96 px image at 0.5 m in UTM with two houses, and their footprints in degrees."""
    folder = tmp_path / "town"
    folder.mkdir()
    image = np.random.default_rng(0).integers(60, 120, (3, 96, 96), dtype=np.uint8)
    image[:, 20:44, 20:50] = 180
    image[:, 60:80, 50:80] = 150
    transform = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)
    with rasterio.open(
        folder / "scene.tif",
        "w",
        driver="GTiff",
        width=96,
        height=96,
        count=3,
        dtype="uint8",
        crs="EPSG:32615",
        transform=transform,
    ) as file:
        file.write(image)
    shapes = [
        box(*(transform * (x0, y1)), *(transform * (x1, y0)))
        for x0, y0, x1, y1 in ((20, 20, 50, 44), (50, 60, 80, 80))
    ]
    gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=shapes, crs="EPSG:32615").to_crs("EPSG:4326").to_file(
        tmp_path / "houses.geojson"
    )
    return tmp_path


def test_footprints_in_another_crs_fall_on_the_houses(photo_folder: Path) -> None:
    photos = find_photos(photo_folder / "town", photo_folder / "houses.geojson")
    pair, grid = paint_disaster(1, photos[0], size_px=96, kind="wind")
    expected = np.zeros((96, 96), bool)
    expected[20:44, 20:50] = expected[60:80, 50:80] = True
    found = pair.building_mask > 0
    assert (expected & found).sum() / (expected | found).sum() > 0.88
    assert grid.resolution_m == pytest.approx(0.5, rel=0.01)


def test_the_first_date_is_the_photograph_itself(photo_folder: Path) -> None:
    photos = find_photos(photo_folder / "town", photo_folder / "houses.geojson")
    pair, _ = paint_disaster(1, photos[0], size_px=96, kind="fire")
    with rasterio.open(photo_folder / "town" / "scene.tif") as file:
        np.testing.assert_array_equal(pair.pre, file.read())
    assert (pair.post != pair.pre).mean() > 0.5


def test_the_same_seed_paints_the_same_disaster(photo_folder: Path) -> None:
    photo = find_photos(photo_folder / "town", photo_folder / "houses.geojson")[0]
    first, second = (paint_disaster(4, photo, size_px=80, kind="earthquake")[0] for _ in range(2))
    assert first.post.tobytes() == second.post.tobytes()


def test_tile_names_give_the_georeference(tmp_path: Path) -> None:
    """Tile 0/0 at zoom 1 is the world's upper left quarter."""
    cv2.imwrite(str(tmp_path / "OAM-0-0-1.png"), np.zeros((64, 64, 3), np.uint8))
    grid = image_grid(tmp_path / "OAM-0-0-1.png")
    assert grid.crs is not None and grid.crs.to_epsg() == 3857
    assert grid.bounds == pytest.approx((-20037508.34, 0, 0, 20037508.34), abs=0.01)


def test_masks_beside_plain_images_are_enough(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = np.zeros((80, 80), np.uint8)
    mask[10:34, 10:40] = 1
    mask[50:70, 40:60] = 3  # another class of land cover
    cv2.imwrite(
        str(tmp_path / "images" / "a.png"),
        np.random.default_rng(1).integers(40, 200, (80, 80, 3), dtype=np.uint8),
    )
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), mask)
    manifest = synthesise(tmp_path / "out", scenes=2, size_px=80, backdrop=tmp_path, kinds=["fire"])
    found = read_mask(manifest.scenes[0], target="building") > 0
    assert (found & (mask == 1)).sum() / (found | (mask == 1)).sum() > 0.85
    assert manifest.scenes[0].grid is None
    assert manifest.licence is None


def test_a_backdrop_without_known_buildings_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(DataError, match="pass --footprints"):
        find_photos(tmp_path, None)


def test_footprints_on_images_without_georeference_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    cv2.imwrite(str(plain / "a.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(DataError, match="has no georeference"):
        find_photos(plain, photo_folder / "houses.geojson")


def test_footprints_of_another_place_are_refused(photo_folder: Path) -> None:
    far = gpd.GeoDataFrame({"name": ["x"]}, geometry=[box(10, 10, 10.001, 10.001)], crs="EPSG:4326")
    far.to_file(photo_folder / "far.geojson")
    with pytest.raises(FootprintError):
        find_photos(photo_folder / "town", photo_folder / "far.geojson")


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::aftermap.errors.DataWarning")
def test_openaerialmap_tiles_carry_their_buildings(shared_data: Path) -> None:
    photos = find_photos(shared_data / "oam-ggaba", shared_data / "oam-ggaba" / "labels.geojson")
    photo = next(photo for photo in photos if photo.path.stem.endswith("-19"))
    pair, grid = paint_disaster(0, photo, size_px=256, kind="wind")
    truth = (
        cv2.imread(str(shared_data / "oam-ggaba" / "masks_derived" / photo.path.name), cv2.IMREAD_UNCHANGED)
        > 0
    )
    found = pair.building_mask > 0
    assert (truth & found).sum() / (truth | found).sum() > 0.85
    assert grid.resolution_m == pytest.approx(0.298, abs=0.002)
