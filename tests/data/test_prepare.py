import hashlib
import json
import pickle
import struct
import zlib

import pytest

from aftermap.data.checking.splits import assign_splits
from aftermap.data.preparing import prepare as preparing
from aftermap.data.preparing import scene_files
from aftermap.data.scene import Manifest
from aftermap.errors import DataError, DataWarning, OutputError
from aftermap.worklist.job import Outcome
from made_xbd import box, write_pair
from prepared_datasets import prepare_xbd

CLASSES = ("no-damage", "destroyed")
BOXES = [box(1, 1), box(12, 1)]


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for number in range(3):
        write_pair(root, number, BOXES, CLASSES)
    return root


@pytest.fixture
def drawn(monkeypatch):
    """Names of the masks that are written, in order."""
    written = []
    original = scene_files._write_mask

    def spy(path, mask):
        scene, kind = path.stem.rsplit("_", 1)
        written.append(f"{scene[-1]}-{kind}")
        return original(path, mask)

    monkeypatch.setattr(scene_files, "_write_mask", spy)
    return written


def test_the_manifest_holds_checksums_of_all_files(source, tmp_path):
    scene = prepare_xbd(source, tmp_path / "out").scenes[0]
    assert set(scene.checksums) == {"pre", "post", "pre_label", "post_label"}
    assert scene.checksums["pre"] == hashlib.sha256(scene.pre.read_bytes()).hexdigest()


def test_masks_are_named_relative_to_the_manifest(source, tmp_path):
    prepare_xbd(source, tmp_path / "out")
    tree = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert tree["scenes"][0]["damage_mask"] == "masks/storm_00000000_damage.png"


def test_a_second_run_draws_nothing_again(source, tmp_path, drawn):
    first = prepare_xbd(source, tmp_path / "out")
    drawn.clear()
    assert prepare_xbd(source, tmp_path / "out") == first
    assert drawn == []


def test_only_scenes_whose_files_changed_are_drawn_again(source, tmp_path, drawn):
    prepare_xbd(source, tmp_path / "out")
    write_pair(source, 1, BOXES[:1], CLASSES[:1])
    drawn.clear()
    manifest = prepare_xbd(source, tmp_path / "out")
    assert drawn == ["1-building", "1-damage"]
    assert manifest.scenes[1].polygons == {"no-damage": 1}


def test_other_options_draw_everything_again(source, tmp_path, drawn):
    prepare_xbd(source, tmp_path / "out")
    drawn.clear()
    prepare_xbd(source, tmp_path / "out", unclassified="drop")
    assert len(drawn) == 6


def test_a_mask_that_is_gone_is_drawn_again(source, tmp_path, drawn):
    prepare_xbd(source, tmp_path / "out").scenes[2].damage_mask.unlink()
    drawn.clear()
    prepare_xbd(source, tmp_path / "out")
    assert drawn == ["2-building", "2-damage"]


def test_an_interrupted_run_goes_on_where_it_stopped(source, tmp_path, drawn):
    def interrupt(done, _):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_xbd(source, tmp_path / "out", progress=interrupt)
    assert not (tmp_path / "out" / "manifest.json").exists()
    drawn.clear()
    manifest = prepare_xbd(source, tmp_path / "out")
    assert drawn == ["2-building", "2-damage"]
    assert manifest == prepare_xbd(source, tmp_path / "fresh").model_copy(update={"scenes": manifest.scenes})


def test_unreadable_scenes_are_reported_after_the_others_are_done(source, tmp_path, drawn):
    for number in (0, 1):
        (source / "images" / f"storm_{number:08d}_pre_disaster.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"storm_00000000_pre_disaster.png .*and 1 more .* finished scenes are kept"
    ):
        prepare_xbd(source, tmp_path / "out", strict=True)
    assert drawn == ["2-building", "2-damage"]


def test_scenes_that_cannot_be_used_are_left_out_with_a_line_each(source, tmp_path):
    for number in (0, 2):
        (source / "images" / f"storm_{number:08d}_pre_disaster.png").write_bytes(b"")
    with pytest.warns(DataWarning) as caught:
        manifest = prepare_xbd(source, tmp_path / "out")
    lines = [str(warning.message) for warning in caught]
    assert [line[:10] for line in lines] == ["left out: "] * 2
    assert [f"storm_{number:08d}_pre" in line for number, line in zip((0, 2), lines, strict=True)] == [
        True,
        True,
    ]
    assert [scene.name for scene in manifest.scenes] == ["storm_00000001"]
    assert manifest.options["left_out"] == "storm_00000000,storm_00000002"


def test_what_was_left_out_comes_in_once_it_is_mended(source, tmp_path, drawn):
    file = source / "images" / "storm_00000001_pre_disaster.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.warns(DataWarning, match="left out"):
        prepare_xbd(source, tmp_path / "out")
    file.write_bytes(whole)
    drawn.clear()
    manifest = prepare_xbd(source, tmp_path / "out")
    assert drawn == ["1-building", "1-damage"]
    assert len(manifest.scenes) == 3
    assert "left_out" not in manifest.options


def test_a_dataset_of_which_nothing_can_be_used_is_refused(source, tmp_path):
    for file in (source / "labels").iterdir():
        file.write_text("{")
    with pytest.raises(DataError, match=r"storm_00000000_pre_disaster.json .*2 more like it.* run again$"):
        prepare_xbd(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_processes_give_the_same_manifest(source, tmp_path):
    one, two = prepare_xbd(source, tmp_path / "one"), prepare_xbd(source, tmp_path / "two", workers=2)
    assert [scene.class_pixels for scene in one.scenes] == [scene.class_pixels for scene in two.scenes]
    for first, second in zip(one.scenes, two.scenes, strict=True):
        assert first.damage_mask.read_bytes() == second.damage_mask.read_bytes()


def test_what_the_workers_say_is_said_here_and_a_dead_worker_is_told_with_what_is_kept(
    source, tmp_path, monkeypatch
):
    def run_jobs(work, jobs, *, on_outcome, **rest):
        do = pickle.loads(pickle.dumps(work)).start()
        for number, job in enumerate(jobs):
            facts = do(job) | {"warned": [(DataWarning, f"{job.name} is odd")] if number == 0 else []}
            ended = Outcome(job.name, "done", facts=facts)
            on_outcome(ended if number != 1 else Outcome(job.name, "failed", reason="its worker died"))

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "run_jobs", run_jobs)
        with (
            pytest.warns(DataWarning, match="storm_00000000 is odd"),
            pytest.raises(OutputError, match="could not be prepared: its worker died: repeat the command"),
        ):
            prepare_xbd(source, tmp_path / "out", workers=2)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert len(prepare_xbd(source, tmp_path / "out").scenes) == len(
        prepare_xbd(source, tmp_path / "2").scenes
    )


def test_nothing_but_masks_and_manifest_is_left(source, tmp_path):
    prepare_xbd(source, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "masks"]
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 6


def test_a_folder_with_other_files_is_refused(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        prepare_xbd(source, tmp_path / "out")


def test_overwriting_keeps_the_other_files(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    prepare_xbd(source, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_a_file_in_the_place_of_the_folder_is_refused(source, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        prepare_xbd(source, tmp_path / "out")


def test_the_source_is_no_place_for_the_result(source):
    with pytest.raises(OutputError, match="source"):
        prepare_xbd(source, source, overwrite=True)


def test_splits_survive_a_second_preparation(source, tmp_path):
    assign_splits(prepare_xbd(source, tmp_path / "out"), by="random", seed=3).save(tmp_path / "out")
    before = Manifest.load(tmp_path / "out")
    assert prepare_xbd(source, tmp_path / "out") == before


def test_splits_are_dropped_with_a_warning_when_scenes_are_added(source, tmp_path):
    assign_splits(prepare_xbd(source, tmp_path / "out"), by="random").save(tmp_path / "out")
    write_pair(source, 9, BOXES, CLASSES)
    with pytest.warns(DataWarning, match="splits were dropped"):
        manifest = prepare_xbd(source, tmp_path / "out")
    assert {scene.split for scene in manifest.scenes} == {"unassigned"}


def test_an_image_that_claims_a_huge_size_is_refused(source, tmp_path):
    header = struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    chunks = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
    bomb = source / "images" / "storm_00000001_pre_disaster.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(DataError, match=r"1_pre_disaster.png (claims|is truncated)"):
        prepare_xbd(source, tmp_path / "out", strict=True)


def test_a_manifest_with_two_scenes_of_one_name_is_refused_with_both_places(source, tmp_path):
    ready = prepare_xbd(source, tmp_path / "out")
    first, second = ready.scenes[:2]
    twin = second.model_copy(update={"name": first.name})
    ready.model_copy(update={"scenes": [first, twin]}).save(tmp_path / "out")
    told = rf"two scenes of the name {first.name}, number 1 and number 2 \(.*{first.pre.name} and .*{second.pre.name}\)"
    with pytest.raises(DataError, match=told):
        Manifest.load(tmp_path / "out")
