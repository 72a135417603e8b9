import cv2
import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import from_origin
from shapely import LineString, MultiPolygon, Point, Polygon, box

from aftermap.errors import DataWarning, FootprintError
from aftermap.geo.grid import Grid
from aftermap.geo.polygons import area_m2, areas_m2, from_pixels, to_pixels, trace
from aftermap.geo.vectors import read_footprints

UTM = CRS.from_epsg(32615)
GRID = Grid(UTM, from_origin(367000, 4104000, 0.5, 0.5), 400, 400)
SQUARE = box(367020, 4103920, 367030, 4103930)
OTHER = box(367050, 4103920, 367060, 4103940)
BOW_TIE = Polygon([(367100, 4103900), (367110, 4103910), (367110, 4103900), (367100, 4103910)])


@pytest.fixture
def write_vector(tmp_path):
    def write(name, shapes, *, crs="EPSG:32615", layer=None, **columns):
        path = tmp_path / name
        frame = geopandas.GeoDataFrame(columns or {"n": range(len(shapes))}, geometry=list(shapes), crs=crs)
        frame.to_file(path, **({"layer": layer} if layer else {}))
        return path

    return write


@pytest.mark.parametrize("name", ["f.gpkg", "f.geojson", "f.shp", "f.fgb"])
def test_footprints_of_every_format_arrive_in_the_grids_reference_system(write_vector, name):
    degrees = geopandas.GeoSeries([SQUARE, OTHER], crs=32615).to_crs(4326)
    frame = read_footprints(write_vector(name, degrees, crs=4326), grid=GRID)
    assert list(frame.columns) == ["building_id", "geometry"]
    assert CRS.from_user_input(frame.crs) == UTM
    # FlatGeobuf sorts its features, so compare by place
    by_x = sorted(frame.geometry, key=lambda shape: shape.centroid.x)
    for found, expected in zip(by_x, (SQUARE, OTHER), strict=True):
        assert found.symmetric_difference(expected).area < 0.01


def test_self_intersecting_footprints_are_mended_and_counted(write_vector):
    path = write_vector("f.gpkg", [SQUARE, BOW_TIE])
    with pytest.warns(DataWarning, match=r"f\.gpkg: 1 self-intersecting or otherwise invalid ones mended"):
        frame = read_footprints(path, grid=GRID)
    assert frame.geometry.is_valid.all()
    assert frame.geometry.area.tolist() == pytest.approx([100, 50])  # the bow tie's two triangles of 25


def test_empty_footprints_and_lines_are_left_out_and_counted(write_vector):
    path = write_vector(
        "f.geojson", [SQUARE, None, Polygon(), LineString([(0, 0), (1, 1)]), OTHER], crs=32615
    )
    with pytest.warns(DataWarning, match="3 of 5 left out"):
        frame = read_footprints(path, grid=GRID)
    assert frame.geometry.area.tolist() == pytest.approx([100, 200])


def test_a_building_of_several_parts_stays_one(write_vector):
    frame = read_footprints(write_vector("f.gpkg", [MultiPolygon([SQUARE, OTHER])]), grid=GRID)
    assert len(frame) == 1
    assert frame.geometry[0].area == pytest.approx(300)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"building_id": ["a", "b"], "id": [1, 2]}, ["a", "b"]),
        ({"OBJECTID": [7, 9]}, ["7", "9"]),
        ({"osm_id": [12.0, 13.0]}, ["12", "13"]),
        ({"height": [3, 4]}, ["1", "2"]),
    ],
)
def test_ids_come_from_a_unique_column_or_are_numbered(write_vector, columns, expected):
    frame = read_footprints(write_vector("f.gpkg", [SQUARE, OTHER], **columns), grid=GRID)
    assert frame.building_id.tolist() == expected


def test_footprints_elsewhere_tell_both_places(write_vector):
    # Coordinates of zone 15 that claim to be zone 14: six degrees further west.
    with pytest.raises(FootprintError) as error:
        read_footprints(write_vector("f.gpkg", [SQUARE], crs="EPSG:32614"), grid=GRID)
    message = str(error.value)
    assert "no footprint lies on the image" in message
    assert "they span lon -100.4" in message and "the image lon -94.4" in message
    assert "WGS 84 / UTM zone 14N" in message and "is for another place" in message


@pytest.mark.parametrize(
    "shapes", [[Point(367010, 4103950)], [LineString([(367010, 4103950), (367020, 4103950)])]]
)
def test_a_file_without_polygons_says_what_it_holds(write_vector, shapes):
    with pytest.raises(FootprintError, match=f"no usable polygon \\(found {shapes[0].geom_type}\\)"):
        read_footprints(write_vector("f.gpkg", shapes), grid=GRID)


def test_a_file_with_nothing_in_it_is_an_error(write_vector):
    with pytest.raises(FootprintError, match="0 rows but no usable polygon"):
        read_footprints(write_vector("f.gpkg", []), grid=GRID)


def test_a_shapefile_without_prj_is_refused(write_vector):
    path = write_vector("f.shp", [SQUARE])
    path.with_suffix(".prj").unlink()
    with pytest.raises(FootprintError, match="names no reference system"):
        read_footprints(path, grid=GRID)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("f.geojson", "{not json", "cannot read footprints"),
        ("f.gpkg", "text", "cannot read footprints"),
        ("f.csv", "a,b", r"none of its columns \(a, b\) holds outlines"),
        ("f.xlsx", "a,b", r"ends in \.xlsx, expected footprints as one of \.gpkg"),
    ],
)
def test_unreadable_footprints_say_why(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(FootprintError, match=reason):
        read_footprints(tmp_path / name, grid=GRID)


def test_missing_footprints_say_so(tmp_path):
    with pytest.raises(FootprintError, match="no such file"):
        read_footprints(tmp_path / "f.gpkg", grid=GRID)


def test_footprints_for_a_plain_image_are_pixels(write_vector):
    path = write_vector("f.geojson", [box(10, 20, 30, 50)], crs=None)
    frame = read_footprints(path, grid=Grid.pixels(100, 100))
    assert frame.crs is None
    assert frame.geometry[0].bounds == (10, 20, 30, 50)


def test_the_layer_called_buildings_is_preferred(write_vector):
    write_vector("f.gpkg", [OTHER], layer="parcels")
    frame = read_footprints(write_vector("f.gpkg", [SQUARE], layer="buildings"), grid=GRID)
    assert frame.geometry[0].equals(SQUARE)


def test_pixels_and_coordinates_convert_both_ways_on_a_rotated_grid():
    grid = Grid(UTM, Affine(0.5, 0.2, 367000, 0.2, -0.5, 4104000), 100, 100)
    shape = box(3, 4, 10, 8)
    on_ground = from_pixels(shape, grid)
    assert on_ground.exterior.coords[0] == pytest.approx(
        (367000 + 0.5 * 10 + 0.2 * 4, 4104000 + 0.2 * 10 - 0.5 * 4)
    )
    assert to_pixels(on_ground, grid).symmetric_difference(shape).area < 1e-6


def test_areas_are_true_square_metres_in_every_reference_system():
    """On the central meridian UTM shrinks lengths by 0.9996, web mercator stretches them by 1 / cos(latitude)."""
    utm = box(499950, 4103950, 500050, 4104050)
    assert area_m2(utm, UTM) == pytest.approx(10_000 / 0.9996**2, rel=1e-5)
    for epsg in (4326, 3857):
        moved = geopandas.GeoSeries([utm], crs=UTM.to_wkt()).to_crs(epsg)[0]
        assert area_m2(moved, CRS.from_epsg(epsg)) == pytest.approx(10_000 / 0.9996**2, rel=1e-5)
    assert area_m2(utm, None) is None


def test_areas_of_many_shapes_are_those_of_each_with_holes_and_parts_taken_out():
    ring = shapely.box(0, 0, 100, 100).difference(shapely.box(40, 40, 60, 60))
    shapes = [
        shapely.affinity.translate(shape, 500_000, 4_100_000)
        for shape in (
            shapely.box(0, 0, 100, 100),
            ring,
            shapely.MultiPolygon([ring, shapely.box(200, 0, 210, 10)]),
            shapely.MultiPolygon([shapely.box(0, 0, 1, 1)]),
        )
    ]
    whole = area_m2(shapes[0], UTM)
    expected = whole * np.array([1, 0.96, 0.97, 0.0001])
    np.testing.assert_allclose(areas_m2(np.array(shapes, dtype=object), UTM), expected, rtol=1e-4)
    assert np.isnan(areas_m2(np.array(shapes, dtype=object), None)).all()
    assert areas_m2(np.array([], dtype=object), UTM).shape == (0,)


@pytest.mark.parametrize("lat", [0.0, 12.0, -45.0, 69.0, 87.0, 89.5])
@pytest.mark.parametrize("size", [6.0, 80.0, 290.0, 4_000.0])
def test_areas_are_those_of_the_ellipsoid_at_every_latitude_and_size(lat: float, size: float) -> None:
    rng = np.random.default_rng(5)
    turn = rng.uniform(0, 2 * np.pi, 40)
    corners = np.array([(-0.5, -0.3), (0.5, -0.3), (0.5, 0.3), (0, 0.1), (-0.5, 0.3)]) * size
    turned = corners @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).transpose(
        2, 0, 1
    )
    degrees = turned / (111_320 * np.cos(np.radians(lat)), 111_320) + np.array([12.0, lat])
    shapes = shapely.polygons(degrees)

    found = areas_m2(shapes, CRS.from_epsg(4326))

    expected = [abs(Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]) for shape in shapes]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=2e-4)


def test_holes_do_not_count_as_area():
    square = box(367000, 4103900, 367100, 4104000)
    ring = square.difference(box(367020, 4103920, 367040, 4103940))
    assert area_m2(ring, UTM) / area_m2(square, UTM) == pytest.approx(0.96, abs=1e-4)


def paint(shapes, side=200):
    return rasterize([(shape, 1) for shape in shapes], out_shape=(side, side)).astype(bool)


def iou(a, b):
    return a.intersection(b).area / a.union(b).area


@pytest.mark.parametrize("angle", [0, 10, 30, 45, 77])
def test_a_rectangle_comes_back_as_a_rectangle_at_any_angle(angle):
    truth = shapely.affinity.rotate(box(60, 80, 130, 110), angle)
    (found,) = trace(paint([truth]), GRID, min_area_px=20, simplify_px=1.0)
    assert len(found.exterior.coords) == 5
    assert iou(found, truth) > 0.95


@pytest.mark.parametrize("angle", [0, 25])
def test_an_l_shaped_building_keeps_its_corner_and_right_angles(angle):
    truth = box(50, 50, 130, 80).union(box(50, 50, 80, 130))
    truth = shapely.affinity.rotate(truth, angle, origin=(90, 90))
    (found,) = trace(paint([truth]), GRID, min_area_px=20, simplify_px=1.5)
    assert iou(found, truth) > 0.93
    steps = np.diff(np.asarray(found.exterior.coords), axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    assert len(steps) == 6
    assert np.abs(np.sum(steps * np.roll(steps, 1, axis=0), axis=1)).max() < 1e-6


def test_a_round_building_is_not_squared():
    truth = Point(100, 100).buffer(30)
    (found,) = trace(paint([truth]), GRID, min_area_px=20, simplify_px=1.0)
    assert iou(found, truth) > 0.93
    assert len(found.exterior.coords) > 6


def test_slivers_are_dropped_and_buildings_that_touch_by_a_corner_stay_two():
    mask = np.zeros((60, 60), bool)
    mask[10:20, 10:20] = mask[20:30, 20:30] = True
    mask[40:41, 5:15] = True
    found = trace(mask, GRID, min_area_px=20, simplify_px=1.0)
    assert [shape.bounds for shape in found] == [(10, 10, 20, 20), (20, 20, 30, 30)]


def test_small_holes_are_filled_and_courtyards_kept():
    mask = np.zeros((100, 100), bool)
    mask[10:90, 10:90] = True
    mask[30:33, 30:33] = False
    mask[50:70, 50:70] = False
    (found,) = trace(mask, GRID, min_area_px=20, simplify_px=1.0)
    (hole,) = found.interiors
    assert Polygon(hole).bounds == pytest.approx((50, 50, 70, 70))


def test_right_angles_hold_on_the_ground_where_pixels_are_oblong():
    """At 60 degrees north, pixels that are square in degrees are half as wide as high."""
    grid = Grid(CRS.from_epsg(4326), from_origin(10.0, 60.0, 1e-5, 1e-5), 200, 200)
    turned = shapely.affinity.rotate(
        box(60, 40, 140, 60), 30, origin=(100, 50)
    )  # on the ground, in pixel heights
    truth = shapely.transform(turned, lambda xy: xy * (2.0, 1.0))
    mask = paint([truth], side=300)
    (found,) = trace(mask, grid, min_area_px=20, simplify_px=1.0)
    assert len(found.exterior.coords) == 5
    assert iou(found, truth) > 0.93


def test_ragged_masks_give_valid_polygons_near_their_shape():
    rng = np.random.default_rng(0)
    field = cv2.GaussianBlur(rng.normal(size=(300, 300)), (0, 0), 4)
    mask = field > field.std() * 0.6
    found = trace(mask, GRID, min_area_px=30, simplify_px=1.5)
    assert len(found) > 20
    assert all(shape.is_valid and shape.area > 0 for shape in found)
    painted = paint(found, side=300)
    assert (painted & mask).sum() / (painted | mask).sum() > 0.85


def test_an_empty_mask_has_no_buildings():
    assert trace(np.zeros((10, 10), bool), GRID, min_area_px=1, simplify_px=1) == []


@pytest.mark.real
def test_joplin_footprints_lie_on_the_first_date(shared_data):
    grid = Grid(CRS.from_epsg(26915), from_origin(366642.6, 4104511.2, 0.6, 0.6), 2048, 2048)
    frame = read_footprints(shared_data / "joplin-geotiff" / "footprints" / "joplin.geojson", grid=grid)
    assert len(frame) == 2823 and frame.building_id.is_unique
    inside = frame.geometry.within(box(*grid.bounds))
    assert 500 < inside.sum() < 2823
    assert 100 < np.median([area_m2(shape, grid.crs) for shape in frame.geometry[inside]]) < 300
