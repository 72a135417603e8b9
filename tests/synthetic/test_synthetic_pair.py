"""Pairs in memory: the same seed gives the same pixels, and the truth is where the polygons are."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from aftermap.cli.app import main
from aftermap.errors import InputError
from aftermap.synthetic import KINDS, Pair, make_pair
from aftermap.synthetic.pair import MARGIN_PX, Footprint, draw_masks, sample_shift
from aftermap.synthetic.style import TOWNS, sample_style


def suburb(seed: int, kind: str, size_px: int = 128) -> Pair:
    """A pair of a suburb at whatever resolution the seed draws."""
    return make_pair(
        seed, size_px=size_px, kind=kind, style=sample_style(np.random.default_rng(seed), town="suburb")
    )


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[Pair]]:
    return {kind: [suburb(seed, kind) for seed in range(4)] for kind in KINDS}


@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS))
def test_the_same_seed_gives_the_same_bytes(seed: int, kind: str) -> None:
    first, second = (make_pair(seed, size_px=48, kind=kind) for _ in range(2))
    for name in ("pre", "post", "building_mask", "damage_mask", "cloud"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert [f.polygon.wkb for f in first.footprints] == [f.polygon.wkb for f in second.footprints]
    assert first.shift_px == second.shift_px


def test_another_seed_gives_another_town() -> None:
    assert (make_pair(1, size_px=48).pre != make_pair(2, size_px=48).pre).mean() > 0.9


def test_images_are_rgb_bytes_and_masks_hold_known_values(pairs: dict[str, list[Pair]]) -> None:
    for pair in (pair for group in pairs.values() for pair in group):
        assert pair.pre.shape == pair.post.shape == (3, 128, 128)
        assert pair.pre.dtype == pair.post.dtype == np.uint8
        assert set(np.unique(pair.building_mask)) <= {0, 1}
        assert set(np.unique(pair.damage_mask)) <= {0, 1, 2, 3, 4}


def test_both_masks_cover_the_same_buildings(pairs: dict[str, list[Pair]]) -> None:
    for pair in (pair for group in pairs.values() for pair in group):
        np.testing.assert_array_equal(pair.damage_mask > 0, pair.building_mask > 0)


def test_masks_agree_with_the_polygons(pairs: dict[str, list[Pair]]) -> None:
    """Boundary pixels are filled, as in xBD, so the mask is the polygon grown by half a pixel."""
    for pair in (pair for group in pairs.values() for pair in group):
        if not pair.footprints:
            continue
        grown = shapely.union_all([f.polygon.buffer(0.5, join_style="mitre") for f in pair.footprints])
        centres = shapely.points(*np.meshgrid(np.arange(128), np.arange(128)))
        inside = shapely.contains(grown, centres)
        iou = (inside & (pair.building_mask > 0)).sum() / (inside | (pair.building_mask > 0)).sum()
        assert iou > 0.93


def test_a_hand_drawn_footprint_fills_its_boundary_and_erases_its_hole() -> None:
    ring = shapely.Polygon([(2, 2), (8, 2), (8, 8), (2, 8)], [[(4, 4), (6, 4), (6, 6), (4, 6)]])
    building, damage = draw_masks([Footprint(ring, 3)], 12)
    assert building.sum() == 7 * 7 - 3 * 3
    assert damage[2, 2] == 3 and damage[5, 5] == 0 and damage[9, 9] == 0


def test_roofs_lie_inside_their_outlines(pairs: dict[str, list[Pair]]) -> None:
    """In a first image the outline's edge is an edge of brightness: roofs differ from their surroundings."""
    sharp = 0
    built = [*pairs["wind"], suburb(4, "wind"), suburb(5, "wind")]
    built = [pair for pair in built if pair.building_mask.mean() > 0.05]
    assert len(built) >= 2
    for pair in built:
        grey = pair.pre.mean(axis=0)
        edge = cv2.morphologyEx(pair.building_mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        strength = np.hypot(cv2.Sobel(grey, cv2.CV_64F, 1, 0), cv2.Sobel(grey, cv2.CV_64F, 0, 1))
        sharp += strength[edge].mean() > 1.3 * strength[~edge].mean()
    assert sharp == len(built)


def test_all_levels_of_damage_occur(pairs: dict[str, list[Pair]]) -> None:
    found = {f.damage for group in pairs.values() for pair in group for f in pair.footprints}
    assert found == {1, 2, 3, 4}


def test_kinds_differ_in_their_second_image_only(pairs: dict[str, list[Pair]]) -> None:
    by_kind = {kind: pairs[kind][2] for kind in KINDS}
    assert len({pair.pre.tobytes() for pair in by_kind.values()}) == 1
    assert len({pair.post.tobytes() for pair in by_kind.values()}) == len(KINDS)
    outlines = {shapely.MultiPolygon([f.polygon for f in pair.footprints]).wkb for pair in by_kind.values()}
    assert len(outlines) == 1


def test_some_scenes_are_spared_and_then_nothing_is_damaged() -> None:
    spared = [pair for pair in (make_pair(seed, size_px=32) for seed in range(11)) if not pair.struck]
    assert spared
    assert all(f.damage == 1 for pair in spared for f in pair.footprints)


def test_shifts_stay_within_three_pixels() -> None:
    rng = np.random.default_rng(0)
    lengths = [float(np.hypot(*sample_shift(rng))) for _ in range(500)]
    assert max(lengths) <= 3.0 + 1e-9
    assert np.median(lengths) < 2


def test_polygons_stay_inside_the_frame(pairs: dict[str, list[Pair]]) -> None:
    for pair in (pair for group in pairs.values() for pair in group):
        for footprint in pair.footprints:
            left, top, right, bottom = footprint.polygon.bounds
            assert left >= 0 and top >= 0 and right <= 128 and bottom <= 128
            assert footprint.polygon.is_valid
    assert MARGIN_PX > 3


@pytest.mark.parametrize("town", sorted(TOWNS))
def test_every_kind_of_town_can_be_built(town: str) -> None:
    pair = make_pair(7, size_px=64, style=sample_style(np.random.default_rng(7), town=town))
    assert pair.pre.std() > 2


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(
        InputError, match="no disaster of kind 'meteor': choose from wind, flood, fire, earthquake"
    ):
        make_pair(0, size_px=64, kind="meteor")


def test_too_small_scenes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        make_pair(0, size_px=16)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenes", "0"], "0 scenes of 1024 px: at least 1 scene of 32 px is needed"),
        (["--kind", "tornado"], "no disaster of kind 'tornado': choose from wind"),
    ],
)
def test_the_command_refuses_scenes_that_cannot_be_in_one_line(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(["data", "synth", "-o", str(tmp_path / "towns"), *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err
