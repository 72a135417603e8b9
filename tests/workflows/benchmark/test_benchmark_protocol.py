"""Protocols: folds that do not leak, whatever the order of scenes."""

import numpy as np
import pytest

from aftermap.data.scene import Manifest, Scene, SceneGrid
from aftermap.errors import DataError
from aftermap.workflows.benchmark.protocol import Fold, Protocol, check_protocol, make_protocol


def scene(event, n, *, same_as=None, lon=None):
    grid = None
    if lon is not None:
        grid = SceneGrid(crs="EPSG:4326", transform=(1e-5, 0, lon, 0, -1e-5, 10))
    sums = {"pre": same_as or f"{event}{n}pre", "post": f"{event}{n}post"}
    files = {role: f"{event}_{n}_{role}.png" for role in ("pre", "post", "damage_mask")}
    return Scene(name=f"{event}_{n}", event=event, width=64, height=64, grid=grid, checksums=sums, **files)


def manifest(*scenes):
    return Manifest(kind="folder", scheme="joint-damage-scale", scenes=list(scenes))


EVENTS = manifest(
    *(scene(event, n, lon=10 * k + n) for k, event in enumerate(("fire", "flood", "quake")) for n in range(8))
)


def test_every_event_is_tested_by_what_has_not_seen_it():
    protocol = make_protocol(EVENTS, "leave-one-event-out")
    assert [fold.name for fold in protocol.folds] == ["fire", "flood", "quake"]
    for fold in protocol.folds:
        assert {name.split("_")[0] for name in fold.test} == {fold.name}
        learned = {*fold.train, *fold.validation}
        assert len(learned) == 16 and not {n for n in learned if n.startswith(fold.name)}
        assert len(fold.validation) == round(0.15 * 16)


def test_the_order_of_scenes_plays_no_part():
    shuffled = [EVENTS.scenes[i] for i in np.random.default_rng(0).permutation(len(EVENTS.scenes))]
    for kind in ("leave-one-event-out", "block"):
        assert make_protocol(manifest(*shuffled), kind).sha256 == make_protocol(EVENTS, kind).sha256
    other = make_protocol(EVENTS, "leave-one-event-out", seed=1)
    assert other.folds[0].validation != make_protocol(EVENTS, "leave-one-event-out").folds[0].validation


def test_ground_that_is_shared_with_the_tested_event_is_not_learned_from():
    scenes = [scene("fire", n, lon=n) for n in range(3)] + [scene("flood", n, lon=n + 0.5) for n in range(3)]
    twin = scene("flood", 9, lon=1)  # the ground of fire_1
    protocol = make_protocol(manifest(*scenes, twin), "leave-one-event-out")
    fire = next(fold for fold in protocol.folds if fold.name == "fire")
    assert "flood_9" not in {*fire.train, *fire.validation}
    assert len({*fire.train, *fire.validation}) == 3


def test_a_protocol_that_leaks_is_refused():
    data = manifest(scene("fire", 0), scene("flood", 0), scene("flood", 1, same_as="fire0pre"))
    made = make_protocol(manifest(*data.scenes), "leave-one-event-out")
    leaking = made.model_copy(
        update={"folds": (Fold(name="fire", train=("flood_0", "flood_1"), validation=(), test=("fire_0",)),)}
    )
    with pytest.raises(
        DataError, match="fold fire leaks: flood_1, which is learned from, shows the same as fire_0"
    ):
        check_protocol(leaking, data)


def test_other_data_is_refused(tmp_path):
    protocol = make_protocol(EVENTS, "block")
    file = protocol.save(tmp_path / "protocol.json")
    assert Protocol.load(file) == protocol and check_protocol(Protocol.load(file), EVENTS)
    with pytest.raises(DataError, match="the protocol was made of other scenes"):
        check_protocol(protocol, manifest(*EVENTS.scenes[:-1]))


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (manifest(scene("fire", 0), scene("fire", 1)), "leave-one-event-out", "all scenes are of fire"),
        (EVENTS, "split", "no labelled scene is in split test"),
        (
            manifest(*(s.without_labels() for s in EVENTS.scenes)),
            "block",
            "no scene has two dates and labels",
        ),
    ],
)
def test_what_cannot_be_made_says_why(data, kind, words):
    with pytest.raises(DataError, match=words):
        make_protocol(data, kind)
