import json

import numpy as np
import pytest
import shapely

from aftermap.data.geotransform import fit_affine, fit_polygons, read_geotransforms, to_grid
from aftermap.data.scene import SceneGrid
from aftermap.errors import DataError

# Rotated and anisotropic, as xBD's tiles are in degrees: (a, b, c), (d, e, f).
LINEAR = np.array([[4.8e-6, -1.1e-7], [5.0e-8, -4.2e-6]])
ORIGIN = np.array([-85.61, 30.19])


def to_degrees(points):
    return points @ LINEAR.T + ORIGIN


def points(count=40, seed=0):
    return np.random.default_rng(seed).uniform(0, 1024, (count, 2))


def test_an_exact_affine_is_recovered():
    pixels = points()
    fit = fit_affine(pixels, to_degrees(pixels), height=1024, width=1024)
    t = fit.transform
    assert np.allclose([[t.a, t.b], [t.d, t.e]], LINEAR, rtol=1e-6, atol=1e-12)
    assert np.allclose([t.c, t.f], ORIGIN, atol=1e-9)
    assert fit.residual_px < 1e-4
    assert fit.is_usable


def test_the_residual_is_in_pixels():
    pixels = points(400)
    noise = np.random.default_rng(1).normal(0, 0.3, pixels.shape)
    fit = fit_affine(pixels + noise, to_degrees(pixels), height=1024, width=1024)
    # Root mean square of a two-dimensional normal error of 0.3 px each: 0.3 * sqrt(2).
    assert fit.residual_px == pytest.approx(0.3 * np.sqrt(2), rel=0.1)


def test_outliers_do_not_bend_the_fit():
    pixels = points()
    wrong = to_degrees(pixels)
    wrong[:6] += 1e-3
    fit = fit_affine(pixels, wrong, height=1024, width=1024)
    assert fit.points == 34
    assert np.allclose([fit.transform.c, fit.transform.f], ORIGIN, atol=1e-9)


@pytest.mark.parametrize(
    "pixels", [np.array([[1.0, 2], [30, 40]]), np.array([[0.0, 0], [10, 10], [20, 20], [30, 30]])]
)
def test_points_on_a_line_give_no_fit(pixels):
    assert fit_affine(pixels, to_degrees(pixels), height=64, width=64) is None


def test_a_fit_that_is_vague_at_the_corners_is_not_usable():
    pixels = 500 + points(8) / 200
    noise = np.random.default_rng(2).normal(0, 0.2, pixels.shape)
    fit = fit_affine(pixels + noise, to_degrees(pixels), height=1024, width=1024)
    assert fit is None or not fit.is_usable


def test_polygons_are_matched_by_uid():
    shapes = {
        "a": shapely.box(0, 0, 10, 10),
        "b": shapely.box(900, 50, 950, 90),
        "c": shapely.box(5, 800, 60, 900),
    }
    known = {uid: shapely.transform(shape, to_degrees) for uid, shape in reversed(shapes.items())}
    known["d"] = shapely.box(0, 0, 1, 1)
    fit = fit_polygons(shapes, known, height=1024, width=1024)
    assert fit.points == 12
    assert fit.residual_px < 1e-4


def test_polygons_with_another_number_of_vertices_are_left_out():
    shapes = {"a": shapely.box(0, 0, 10, 10), "b": shapely.box(900, 50, 950, 90)}
    known = {uid: shapely.transform(shape, to_degrees) for uid, shape in shapes.items()}
    known["a"] = shapely.Polygon(list(known["a"].exterior.coords)[:-2])
    assert fit_polygons(shapes, known, height=1024, width=1024).points == 4


def test_no_polygons_in_common_give_no_fit():
    assert (
        fit_polygons({"a": shapely.box(0, 0, 1, 1)}, {"b": shapely.box(0, 0, 1, 1)}, height=8, width=8)
        is None
    )


def test_geotransforms_are_read_in_gdal_order(tmp_path):
    file = tmp_path / "geotransforms.json"
    file.write_text(
        json.dumps({"storm_00000000_pre_disaster.png": [[500_000, 0.5, 0, 3_300_000, 0, -0.5], 32616]})
    )
    grid = read_geotransforms(file)["storm_00000000_pre_disaster"]
    assert grid == SceneGrid(crs="EPSG:32616", transform=(0.5, 0, 500_000, 0, -0.5, 3_300_000))
    assert to_grid(grid, height=10, width=10).resolution_m == pytest.approx(0.5, rel=2e-3)


def test_geotransforms_may_name_their_system_as_wkt(tmp_path):
    from rasterio.crs import CRS

    file = tmp_path / "geotransforms.json"
    file.write_text(json.dumps({"a.png": [[-85, 5e-6, 0, 30, 0, -5e-6], CRS.from_epsg(4326).to_wkt()]}))
    assert read_geotransforms(file)["a"].crs == "EPSG:4326"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "holds a list"),
        ('{"a.png": [[1, 2, 3], 4326]}', "six GDAL numbers"),
        ('{"a.png": [[1, 2, 3, 4, 5, 6], "nowhere"]}', "unknown reference system"),
        ("{", "is not JSON"),
    ],
)
def test_a_geotransforms_file_of_another_form_is_an_error(tmp_path, content, message):
    file = tmp_path / "geotransforms.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_geotransforms(file)
