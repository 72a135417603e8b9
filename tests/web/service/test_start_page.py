"""The first page in a browser: uploads, a job that is followed to its end, signing in; and a title that is no markup."""

import shutil
from pathlib import Path

import pytest

from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.service.tiles.display import make_display
from aftermap.workflows.service.tokens import create_token

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=document.title='taken'>"


def work(service, made, number):
    """What a worker would have done: the map lies there, and the job says how far it is."""
    service.jobs.claim(number, "one")
    service.jobs.tell(number, "one", {"stage": "predicting", "done": 1, "total": 2})
    out = Path(shutil.copytree(made / "map", service.place.map(number)))
    shutil.copytree(made / "display", service.place.display(number))
    found = open_map(out)
    told = make_display(found, service.place.display(number), progress=lambda *_: None)
    service.maps.add(number, "local", service.jobs.find(number).wanted["title"], found, told)


def test_from_a_token_to_a_map(browser, running, made):
    service, root = running
    secret = create_token(service.database, "Ana", ["read", "map", "review"])
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(120_000)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security" in line.text else None)
    page.goto(root)
    page.wait_for_selector("#sign-in:not([hidden])")
    page.fill("#token", "wrong-token")
    page.click("#sign-in button")
    page.wait_for_selector("#told:not([hidden])")
    assert "not valid" in page.inner_text("#told")
    page.fill("#token", secret)
    page.click("#sign-in button")
    page.wait_for_selector("#new:not([hidden])")
    assert page.inner_text("#who") == "Ana"
    assert page.is_hidden("#jobs") and page.is_hidden("#ended")
    page.set_input_files("#pre", made / "before.tif")
    page.set_input_files("#post", made / "after.tif")
    page.fill("#title", EVIL)
    page.click("#go")
    page.wait_for_selector("#jobs li")
    (job,) = service.jobs.all()
    page.click("#jobs button:has-text('Cancel')")
    page.wait_for_selector("#ended li:has-text('Cancelled')")
    assert page.is_hidden("#jobs")
    page.click("#ended button:has-text('Try again')")
    page.wait_for_selector("#jobs li")
    assert page.is_hidden("#ended")
    service.jobs.claim(job.id, "one")
    service.jobs.tell(job.id, "one", {"stage": "predicting", "done": 1, "total": 2})
    page.wait_for_selector("#jobs progress")
    work(service, made, job.id)
    service.jobs.end(job.id, "one", "done")
    page.wait_for_selector("#maps li")
    page.wait_for_selector("#maps .counts")
    text = page.inner_text("#maps li")
    assert EVIL in text and "25 buildings: 6 no-damage" in text and page.title() == "aftermap"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("#maps a:has-text('Look')")
    page.wait_for_selector("#title:has-text('onerror')")
    page.go_back()
    page.click("#maps a:has-text('Review')")
    page.wait_for_url("**/review/")
    page.go_back()
    page.wait_for_selector("#maps li")
    page.click("#sign-out")
    page.wait_for_selector("#sign-in:not([hidden])")
    assert not page.is_visible("#maps") and wrong == []
    page.goto(f"{root}/maps/{job.id}")
    page.wait_for_selector("#sign-in:not([hidden])")
    page.fill("#token", secret)
    page.click("#sign-in button")
    page.wait_for_url(f"**/maps/{job.id}")
    page.close()
