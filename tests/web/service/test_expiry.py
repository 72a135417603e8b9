"""What `--keep DAYS` deletes: maps that nobody answered, ended jobs, and uploads that nothing else needs."""

import shutil
import time

import pytest

from aftermap.web.service.app import service_api
from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.review.images import open_images
from aftermap.workflows.service.uploads import Upload
from served import add_map

DAY = 86_400.0


def sent(service, name, days=10.0):
    """An upload of some days ago."""
    number = name * 32
    folder = service.place.upload(number)
    folder.mkdir(parents=True)
    (folder / "a.tif").write_bytes(b"x")
    service.uploads.keep(Upload(number, "local", "a.tif", 1, "image", {}, time.time() - days * DAY))
    return number


def asked(service, pre, post, state, days=10.0):
    job = service.jobs.add("local", "map", {"pre": pre, "post": post})
    old = time.time() - days * DAY
    service.database.run(
        "UPDATE jobs SET state=?, created=?, finished=? WHERE id=?", (state, old, old, job.id)
    )
    return job.id


def old_map(service, made, days=10.0):
    number = add_map(service, made)
    service.database.run("UPDATE maps SET created=? WHERE id=?", (time.time() - days * DAY, number))
    return number


@pytest.fixture
def expiry(service):
    return service_api(service).state.expiry


def test_old_uploads_go_unless_a_job_under_way_or_a_new_one_wants_them(service, expiry):
    one, two, three, four, new = (
        sent(service, name, days) for name, days in zip("abcde", (9, 9, 9, 9, 1), strict=True)
    )
    waiting = asked(service, one, two, "queued")
    failed = asked(service, two, three, "failed")
    fresh = asked(service, four, four, "failed", days=1.0)
    gone = expiry.sweep(time.time() - 7 * DAY)
    assert gone == {"maps": [], "jobs": [failed], "uploads": [three]}
    assert {job.id for job in service.jobs.all()} == {waiting, fresh}
    assert {upload.id for upload in service.uploads.all()} == {one, two, four, new}
    assert not service.place.upload(three).exists() and three in service.place.audit.read_text()


def test_maps_that_somebody_answered_stay_with_their_images(service, expiry, made):
    answered, looked, new = old_map(service, made), old_map(service, made), old_map(service, made, days=1.0)
    Journal(service.place.map(answered)).add([Answer(building_id="b3", verdict="destroyed", reviewer="Ana")])
    images = []
    for name, number in (("a", answered), ("b", looked)):
        folder = service.place.upload(sent(service, name))
        for date in ("before.tif", "after.tif"):
            shutil.copy(made / date, folder)
        open_images(open_map(service.place.map(number)), folder / "before.tif", folder / "after.tif").close()
        images.append(folder)
    gone = expiry.sweep(time.time() - 7 * DAY)
    assert gone == {"maps": [looked], "jobs": [], "uploads": ["b" * 32]}
    assert {record.id for record in service.maps.all()} == {answered, new}
    assert [folder.exists() for folder in images] == [True, False]
    assert not service.place.map(looked).exists() and not service.place.display(looked).exists()
