"""Maps of images whose ground ends somewhere: what is not ground is not judged, and guesses are told."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

import colour_town as colours
from aftermap.errors import DataWarning, GeoreferenceError, InputError, RasterError
from aftermap.geo.grid import Grid
from aftermap.geo.opening.whole import WholeImage
from aftermap.workflows.mapping.damage import map_damage

RGB = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
HIDDEN = {"00", "01", "10", "11"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.save_colour_model(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture
def footprints(tmp_path: Path) -> Path:
    shapes = {f"{row}{col}": shape for (row, col), shape in colours.houses().items()}
    return colours.write_footprints(tmp_path / "f.gpkg", shapes)


def ends(image: np.ndarray, value: int = 0) -> np.ndarray:
    """The image with its upper left quarter gone."""
    image = image.clip(1, 254)
    image[:, : colours.SIZE_PX // 2, : colours.SIZE_PX // 2] = value
    return image


def write(path: Path, array: np.ndarray, names: list[ColorInterp]) -> Path:
    colours.write_image(path, array, colours.town_grid())
    with rasterio.open(path, "r+") as file:
        file.colorinterp = names
    return path


def test_a_float_image_of_five_bands_its_opacity_twin_and_its_nodata_twin_give_the_same_rows(
    tmp_path: Path, model: Path, footprints: Path
) -> None:
    tables = []
    opaque = np.full((1, colours.SIZE_PX, colours.SIZE_PX), 255, np.uint8)
    opaque[:, : colours.SIZE_PX // 2, : colours.SIZE_PX // 2] = 0
    for kind in ("float", "opacity", "nodata"):
        folder, dates = tmp_path / kind, []
        folder.mkdir()
        for name, image in zip(("pre", "post"), colours.town()[:2], strict=True):
            path, rgb = folder / f"{name}.tif", ends(image)
            if kind == "float":
                stack = np.concatenate([rgb, rgb[:1] + 3, opaque]).astype(np.float32)
                dates.append(write(path, stack, [*RGB, ColorInterp.undefined, ColorInterp.alpha]))
            elif kind == "opacity":
                dates.append(write(path, np.concatenate([rgb, opaque]), [*RGB, ColorInterp.alpha]))
            else:
                dates.append(colours.write_image(path, rgb, colours.town_grid(), nodata=0))
        result = map_damage(
            *dates, folder / "map", model=model, footprints=footprints, bands=(1, 2, 3), stretch=(0, 100)
        )
        tables.append(result.buildings.drop(columns="geometry"))
    for other in tables[1:]:
        assert other.equals(tables[0])
    reasons = tables[0].set_index("building_id")["reason"]
    assert set(reasons[reasons != ""].index) == HIDDEN and set(reasons[sorted(HIDDEN)]) == {"no data before"}


@pytest.mark.parametrize(("value", "colour"), [(0, "black"), (255, "white")])
def test_a_rest_that_nothing_declares_is_not_judged_and_its_share_is_told(
    tmp_path: Path, model: Path, footprints: Path, value: int, colour: str
) -> None:
    pre, post, _ = colours.town()
    dates = (
        colours.write_image(tmp_path / "pre.tif", pre, colours.town_grid()),
        colours.write_image(tmp_path / "post.tif", ends(post, value), colours.town_grid()),
    )
    told = rf"25\.0% of post\.tif is {colour} up to its edge .* pass --nodata {value} if that is right"
    with pytest.warns(DataWarning, match=told):
        result = map_damage(*dates, tmp_path / "map", model=model, footprints=footprints)
    reasons = result.buildings.set_index("building_id")["reason"]
    assert set(reasons[reasons == "no data after"].index) == HIDDEN
    assert (reasons[~reasons.index.isin(HIDDEN)] == "").all()
    report = json.loads((result.folder / "provenance.json").read_text())
    assert any("25.0% of post.tif" in message for message in report["warnings"])
    assert "25.0% of post.tif" in (result.folder / "map.html").read_text()

    said = map_damage(*dates, tmp_path / "said", model=model, footprints=footprints, nodata=float(value))
    assert said.warnings == () and said.buildings["reason"].tolist() == result.buildings["reason"].tolist()
    ground = map_damage(*dates, tmp_path / "ground", model=model, footprints=footprints, nodata="none")
    assert ground.warnings == () and set(ground.buildings["reason"]) == {""}


def test_a_black_date_is_refused(tmp_path: Path, model: Path) -> None:
    pre, post, _ = colours.town()
    first = colours.write_image(tmp_path / "pre.tif", pre, colours.town_grid())
    second = colours.write_image(tmp_path / "post.tif", post * 0, colours.town_grid())
    with pytest.raises(RasterError, match=r"post\.tif shows no ground: it is black everywhere"):
        map_damage(first, second, tmp_path / "map", model=model)


def clouds(path: Path, value: int, *, rows: int, **profile: int) -> Path:
    mask = np.zeros((1, colours.SIZE_PX, colours.SIZE_PX), np.uint8)
    mask[:, :rows] = value
    return colours.write_image(path, mask, colours.town_grid(), **profile)


@pytest.fixture
def dates(tmp_path: Path) -> tuple[Path, Path]:
    return colours.write_town(tmp_path / "town")


def test_a_cloud_mask_whose_nodata_is_its_cloud_value_hides_its_clouds(
    tmp_path: Path, model: Path, footprints: Path, dates: tuple[Path, Path]
) -> None:
    mask = clouds(tmp_path / "cloud.tif", 1, rows=48, nodata=1)
    with pytest.warns(DataWarning, match=r"cloud\.tif declares the only value of its clouds as nodata"):
        result = map_damage(*dates, tmp_path / "map", model=model, footprints=footprints, cloud_mask=mask)
    reasons = result.buildings.set_index("building_id")["reason"]
    assert set(reasons[reasons == "cloud"].index) == {"00", "01", "02", "03"}


def test_nodata_of_a_cloud_mask_beside_its_clouds_hides_nothing(
    tmp_path: Path, model: Path, footprints: Path, dates: tuple[Path, Path]
) -> None:
    mask = clouds(tmp_path / "cloud.tif", 1, rows=48, nodata=255)
    with rasterio.open(mask, "r+") as file:
        band = file.read(1)
        band[96:] = 255
        file.write(band, 1)
    result = map_damage(*dates, tmp_path / "map", model=model, footprints=footprints, cloud_mask=mask)
    reasons = result.buildings.set_index("building_id")["reason"]
    assert set(reasons[reasons == "cloud"].index) == {"00", "01", "02", "03"}


def test_clouds_over_most_of_the_map_are_told_and_over_all_of_it_refused(
    tmp_path: Path, model: Path, dates: tuple[Path, Path]
) -> None:
    most = clouds(tmp_path / "most.tif", 9, rows=144)
    with pytest.warns(DataWarning, match=r"most\.tif hides 75% of the map"):
        map_damage(*dates, tmp_path / "map", model=model, cloud_mask=most)
    all_ = clouds(tmp_path / "all.tif", 9, rows=192)
    with pytest.raises(RasterError, match=r"all\.tif hides all of the map"):
        map_damage(*dates, tmp_path / "other", model=model, cloud_mask=all_)


def test_coarse_pixels_and_old_datums_are_told_with_numbers(tmp_path: Path, model: Path) -> None:
    pre, post, _ = colours.town()
    grid = Grid(
        CRS.from_epsg(26715), Affine(10, 0, 380_000, 0, -10, 4_200_000), colours.SIZE_PX, colours.SIZE_PX
    )
    dates = [colours.write_image(tmp_path / f"{n}.tif", a, grid) for n, a in (("pre", pre), ("post", post))]
    with pytest.warns(DataWarning):
        result = map_damage(*dates, tmp_path / "map", model=model)
    assert any("pixels are 10.00 m wide" in m and "buildings cannot be told" in m for m in result.warnings)
    assert any(
        m.startswith(
            "buildings.geojson and the page: brought from NAD27 to WGS 84, coordinates may be off by up to "
        )
        for m in result.warnings
    )


@pytest.mark.parametrize("bits", [1, 4])
def test_values_of_fewer_bits_are_not_taken_for_eight(
    tmp_path: Path, model: Path, footprints: Path, bits: int
) -> None:
    pre, post, _ = colours.town()
    first = colours.write_image(tmp_path / "pre.tif", pre, colours.town_grid())
    second = colours.write_image(tmp_path / "post.tif", post >> (8 - bits), colours.town_grid(), nbits=bits)
    told = rf"post\.tif holds values of {bits} bits \(0 to {2**bits - 1}\), the model expects uint8 .*pass --stretch"
    with pytest.raises(RasterError, match=told):
        map_damage(first, second, tmp_path / "map", model=model, footprints=footprints)


def test_bands_are_read_by_the_colours_that_they_are_called(
    tmp_path: Path, model: Path, footprints: Path
) -> None:
    pre, post, _ = colours.town()
    first, second = (write(tmp_path / f"{n}.tif", a, RGB) for n, a in (("pre", pre), ("post", post)))
    named = [
        write(tmp_path / f"{n}.tif", a[::-1], RGB[::-1]) for n, a in (("pre-bgr", pre), ("post-bgr", post))
    ]
    expected = map_damage(first, second, tmp_path / "rgb", model=model, footprints=footprints).buildings
    told = r"the bands of \w+-bgr\.tif are called blue, green, red: they are read by their names; pass --bands 1,2,3"
    with pytest.warns(DataWarning, match=told):
        found = map_damage(*named, tmp_path / "bgr", model=model, footprints=footprints).buildings
    columns = ["damage", "p_no_damage", "p_minor", "p_major", "p_destroyed", "p_building", "seen"]
    assert found[columns].equals(expected[columns])
    np.testing.assert_array_equal(WholeImage.read(named[0]).rgb(), WholeImage.read(first).rgb())
    stored = map_damage(
        *named, tmp_path / "as-is", model=model, footprints=footprints, bands=(1, 2, 3)
    ).buildings
    assert not stored["p_building"].equals(expected["p_building"])


def test_four_named_bands_are_advised_in_the_order_of_the_colours(tmp_path: Path, model: Path) -> None:
    image = np.concatenate(
        [colours.town()[0][::-1], np.full((1, colours.SIZE_PX, colours.SIZE_PX), 90, np.uint8)]
    )
    path = write(tmp_path / "bgrn.tif", image, [*RGB[::-1], ColorInterp.undefined])
    with pytest.raises(RasterError, match=r"has 4 bands, the model expects 3 .*: pass --bands 3,2,1$"):
        map_damage(path, path, tmp_path / "map", model=model)


def test_one_image_for_both_dates_is_told(tmp_path: Path, model: Path, footprints: Path) -> None:
    pre, _ = colours.write_town(tmp_path)
    with pytest.warns(DataWarning, match=r"pre\.tif is given as the image from before and from after"):
        map_damage(pre, pre, tmp_path / "map", model=model, footprints=footprints)


def test_a_cloud_mask_of_another_place_is_refused(tmp_path: Path, model: Path) -> None:
    pair = colours.write_town(tmp_path)
    grid = colours.town_grid()
    away = Grid(grid.crs, Affine.translation(50_000, 0) @ grid.transform, 60, 60)
    mask = colours.write_image(tmp_path / "clouds.tif", np.zeros((1, 60, 60), np.uint8), away)
    with pytest.raises(GeoreferenceError, match=r"clouds\.tif does not touch the map"):
        map_damage(*pair, tmp_path / "map", model=model, cloud_mask=mask)


@pytest.mark.parametrize("stretch", [(-1, 200), (float("nan"), 98), (98, 2), (50, 50)])
def test_percentiles_that_are_none_are_refused(
    tmp_path: Path, model: Path, stretch: tuple[float, float]
) -> None:
    pair = colours.write_town(tmp_path)
    with pytest.raises(InputError, match="is not a pair of percentiles: pass two rising ones such as 2,98"):
        map_damage(*pair, tmp_path / "map", model=model, stretch=stretch)
