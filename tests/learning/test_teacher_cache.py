import os
import time

import pytest
import torch
from torch import nn

from aftermap.errors import OutputError
from aftermap.learning.configs.distillation import TeacherConfig
from aftermap.learning.objectives.distillation_terms import TeacherOutput
from aftermap.learning.teacher_cache import TeacherCache, TeacherCacheWarning, remembered, sample_keys
from aftermap.learning.teachers import StudentImages, Teacher
from saved_models import PLAIN, as_student, opened, raw, save_building, save_damage

ENTRY = {"logits": torch.arange(1000).half()}
ENTRY_BYTES = 2000


def calls_of(teacher):
    """How many samples each run of the teacher's model saw."""
    seen = []
    teacher.networks[0].model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    return seen


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "cache", gigabytes=1)


@pytest.fixture
def teacher(tmp_path):
    return opened(save_damage(tmp_path / "damage"))


def files(cache):
    return sorted(cache._folder.glob("??/*.safetensors"))


def test_what_was_asked_once_is_not_asked_again(teacher, cache):
    calls, image = calls_of(teacher), as_student(raw())
    first = remembered(teacher, image, cache, features=True)
    second = remembered(teacher, image, cache, features=True)
    assert calls == [2] and (cache.hits, cache.misses) == (2, 2)
    assert torch.equal(first.logits, second.logits)
    assert all(torch.equal(a, b) for a, b in zip(first.features, second.features, strict=True))


def test_kept_answers_are_the_teachers_to_half_precision(teacher, cache):
    image = as_student(raw())
    plain, kept = teacher(image, features=True), remembered(teacher, image, cache, features=True)
    assert kept.logits.dtype == torch.float32
    assert torch.equal(kept.logits, plain.logits.half().float())
    for a, b in zip(kept.features, plain.features, strict=True):
        assert torch.equal(a, b.half().float())


def test_the_teacher_runs_on_new_crops_alone(teacher, cache):
    calls, image = calls_of(teacher), as_student(raw())
    remembered(teacher, image[:1], cache, features=False)
    both = remembered(teacher, image, cache, features=False)
    assert calls == [1, 1]
    assert torch.allclose(both.logits, teacher(image).logits, atol=5e-3)


def test_another_process_finds_what_this_one_kept(teacher, cache):
    image = as_student(raw())
    remembered(teacher, image, cache, features=False)
    calls, other = calls_of(teacher), TeacherCache(cache._folder, gigabytes=1)
    remembered(teacher, image, other, features=False)
    assert calls == [] and other.hits == 2


def test_a_teacher_of_one_date_does_not_care_about_the_post_image(tmp_path, cache):
    teacher, image = opened(save_building(tmp_path / "building")), as_student(raw())
    remembered(teacher, image, cache, features=False)
    changed = image.clone()
    changed[:, 1] = 0
    remembered(teacher, changed, cache, features=False)
    assert cache.hits == 2


def test_entries_differ_by_pixels_teacher_views_contents_and_precision(tmp_path, teacher):
    image = as_student(raw())
    folder = save_damage(tmp_path / "other", seed=1)
    images = StudentImages(PLAIN.bands, PLAIN.mean, (100.0,) * 3, 2)
    teachers = [teacher, opened(folder), opened(folder, tta="flips"), opened(folder, images)]
    keys = [key for t in teachers for key in sample_keys(t, image, features=False)]
    keys += sample_keys(teacher, image, features=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        keys += sample_keys(teacher, image, features=False)
    assert len(set(keys)) == len(keys) == 12
    assert sample_keys(teacher, image.flip(0), features=False) == keys[1::-1]


def test_a_damaged_entry_is_made_again(teacher, cache):
    image = as_student(raw())
    first = remembered(teacher, image, cache, features=False)
    files(cache)[0].write_bytes(b"\x08\x00")
    again = remembered(teacher, image, cache, features=False)
    assert cache.misses == 3 and torch.allclose(first.logits, again.logits, atol=5e-3)
    remembered(teacher, image, cache, features=False)
    assert cache.misses == 3


def test_values_beyond_half_precision_stay_finite(cache):
    class Loud(nn.Module):
        dates, identity = 1, "loud"

        def forward(self, image, *, features):
            return TeacherOutput(torch.full((len(image), 2, 4, 4), 1e6))

    found = remembered(Loud(), torch.zeros(1, 1, 3, 4, 4), cache, features=False)
    assert found.logits.max() == 65504


def test_a_full_cache_keeps_what_this_run_made_and_says_that_it_is_full(tmp_path):
    cache = TeacherCache(tmp_path, gigabytes=2.5 * ENTRY_BYTES / 1e9)
    cache.write("a" * 40, ENTRY)
    with pytest.warns(TeacherCacheWarning, match=r"is full .*: raise objective\.cache_gb"):
        cache.write("b" * 40, ENTRY), cache.write("c" * 40, ENTRY)
    cache.write("d" * 40, ENTRY)
    assert cache.read("a" * 40) is not None
    assert sum(file.stat().st_size for file in files(cache)) <= 2.5 * ENTRY_BYTES


def test_entries_of_earlier_runs_make_room_the_longest_unused_first(tmp_path):
    before = TeacherCache(tmp_path, gigabytes=1)
    for number, key in enumerate("abc"):
        before.write(key * 40, ENTRY)
        os.utime(before._path(key * 40), (1000 + number, 1000 + number))
    size = files(before)[0].stat().st_size
    cache = TeacherCache(tmp_path, gigabytes=3.5 * size / 1e9)
    assert cache.read("a" * 40) is not None  # so that b is the oldest now
    cache.write("d" * 40, ENTRY)
    assert [file.stem[0] for file in files(cache)] == ["a", "c", "d"]
    cache.write("e" * 40, ENTRY)
    assert [file.stem[0] for file in files(cache)] == ["a", "d", "e"]


def test_what_another_process_uses_is_not_dropped(tmp_path):
    cache = TeacherCache(tmp_path, gigabytes=1.5 * 2100 / 1e9)
    other = TeacherCache(tmp_path, gigabytes=1)
    other.write("a" * 40, ENTRY)
    later = time.time() + 5
    os.utime(other._path("a" * 40), (later, later))
    with pytest.warns(TeacherCacheWarning, match="is full"):
        cache.write("b" * 40, ENTRY)
    assert [file.stem[0] for file in files(cache)] == ["a"]


def test_only_entries_are_ever_deleted(tmp_path):
    mine = tmp_path / "aa" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("x" * 5000)
    left = [tmp_path / "aa" / f"{name}.part" for name in ("old", "new")]
    for file in left:
        file.write_bytes(b"half")
    os.utime(left[0], (1000, 1000))
    cache = TeacherCache(tmp_path, gigabytes=3000 / 1e9)
    cache.write("a" * 40, ENTRY)
    assert mine.exists() and not left[0].exists() and left[1].exists() and len(files(cache)) == 1


def test_no_half_written_entry_is_left(tmp_path, monkeypatch):
    cache = TeacherCache(tmp_path, gigabytes=1)

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.warns(TeacherCacheWarning, match="the disk is full"):
        cache.write("a" * 40, ENTRY)
    assert cache.read("a" * 40) is None and not list(tmp_path.glob("??/*"))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot keep teachers' outputs .* change objective\.cache"):
        TeacherCache(tmp_path / "file" / "cache", gigabytes=1)


def test_features_alone_are_kept_without_logits(tmp_path, cache):
    images = StudentImages(PLAIN.bands, PLAIN.mean, PLAIN.std, 1)
    folder = save_damage(tmp_path / "damage")
    teacher, image = Teacher.open("damage", TeacherConfig(model=folder), images), as_student(raw(), images)
    first = remembered(teacher, image, cache, features=True)
    second = remembered(teacher, image, cache, features=True)
    assert first.logits.shape == second.logits.shape == (2, 0, 32, 32)
    assert cache.hits == 2 and torch.equal(first.features[0], second.features[0])
    assert first.features[0].shape[1] == 48
