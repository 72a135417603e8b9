"""The first page and the live map: files that come along, answers by version, and both in a browser.

Uploads, a job that is followed to its end, signing in, a title that is no markup; two at once, a phone, a slow line.
"""

import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest

from aftermap.workflows.mapping.finished import open_map
from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.service.tiles.display import make_display
from aftermap.workflows.service.tokens import create_token
from served import add_map

BESIDE = re.compile(r"^(data|blob):")
SAVED = re.compile("^Saved$")
EVIL = "<img src=x onerror=document.title='taken'>"
PATIENCE_MS = 120_000
"""On busy cores, where maps are drawn by the processor, a second page took 60 s to begin."""


def test_files_of_the_pages_have_their_checksum_in_the_address_and_are_kept(shared):
    _, client = shared
    page = client.get("/maps/" + "0" * 32).text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len({address.split("/")[2] for address in addresses}) == 1 and len(addresses) >= 5
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
    plain = client.get(addresses[0], headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.text == client.get(addresses[0]).text
    folder = addresses[0].rpartition("/")[0]
    assert "MapLibre contributors" in client.get(f"{folder}/LICENSE.txt").text
    assert client.get("/static/000000000000/api.js").status_code == 404
    assert client.get(f"{folder}/start.html").status_code == 422


def test_answers_since_a_version_are_those_that_changed(service, client, number):
    journal = Journal(service.place.map(number))
    first = Answer(building_id="b3", verdict="destroyed", reviewer="Ana")
    journal.add([first, Answer(building_id="b4", verdict="no-damage", reviewer="Ana")])
    root = f"/api/maps/{number}/answers"
    begun = client.get(root).json()
    assert [(said["building_id"], said["row"]) for said in begun["answers"]] == [("b3", 3), ("b4", 4)]
    assert begun["withdrawn"] == []
    journal.add([Answer(building_id="b3", reviewer="Ana", withdraws=first.key)])
    journal.add([Answer(building_id="b7", verdict="minor-damage", reviewer="Ben")])
    later = client.get(root, params={"since": begun["version"]}).json()
    assert [said["building_id"] for said in later["answers"]] == ["b7"]
    assert later["withdrawn"] == [{"building_id": "b3", "row": 3}]
    last = client.get(root, params={"since": later["version"]}).json()
    assert last["answers"] == [] and last["withdrawn"] == []


def new_page(browser, **options):
    """A page, and what it does wrong: errors, what its policy forbids, and requests for what is elsewhere."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.wrong, page.root = [], ""
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda line: page.wrong.append(line.text) if "Security Policy" in line.text else None)
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith(page.root) or BESIDE.match(asked.url)
            else page.wrong.append(asked.url)
        ),
    )
    return page


@pytest.fixture(scope="module")
def desk(browser):
    """A page for one test after another, whose services have addresses of their own; its maps move at once."""
    return new_page(browser, reduced_motion="reduce")


@pytest.fixture
def page(running, desk):
    desk.root = running[1]
    desk.set_viewport_size({"width": 720, "height": 420})
    yield desk
    desk.unroute_all()
    desk.goto("about:blank")  # asks the service nothing more
    desk.context.clear_cookies()
    desk.wrong.clear()


def sign_in(page, root, secret):
    page.root = root
    page.context.request.post(f"{root}/api/session", data={"token": secret})


def ready(page, what="ready"):
    """A page in front, since one behind another is not drawn; `drawn` once every tile is there."""
    page.bring_to_front()
    page.wait_for_selector(f"body[data-{what}=yes]")
    return page


def shows(page, selector, text):
    page.locator(selector).filter(has_text=text).wait_for(state="attached")


def find(page, name):
    page.keyboard.press("/")
    page.fill("#text", name)
    page.keyboard.press("Enter")
    shows(page, "#mapped", "The map says")
    page.locator("#border").focus()


def put(root, number, name, secret, verdict):
    """An answer of somebody else."""
    bearer = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    asked = urllib.request.Request(f"{root}/api/maps/{number}/buildings/{name}", headers=bearer)
    with urllib.request.urlopen(asked) as answer:
        tag = answer.headers["etag"]
    asked = urllib.request.Request(
        f"{root}/api/maps/{number}/answers/{name}",
        json.dumps({"verdict": verdict}).encode(),
        bearer | {"if-match": tag},
        method="PUT",
    )
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200


@pytest.mark.browser
def test_two_who_answer_at_once_are_told_and_see_one_another(browser, running, page, made):
    service, root = running
    number = add_map(service, made)
    secrets = [
        create_token(service.database, name, ["read", "map", "review"]) for name in ("Ana", "Ben", "Eva")
    ]
    ana, ben = page, new_page(browser, viewport=page.viewport_size)
    for each, secret in zip((ana, ben), secrets, strict=False):
        sign_in(each, root, secret)
        each.goto(f"{root}/maps/{number}", wait_until="commit")
    for each in (ana, ben):
        find(ready(each), "b12")
    ana.keyboard.press("4")
    shows(ana, "#saving", SAVED)
    shows(ben, "#said", "Ana says destroyed")
    shows(ben, "#count", "1 of 25 buildings: 1 destroyed")
    # the map says no-damage of b12; what Ana said wins
    ben.uncheck("#legend [value=no-damage]")
    shows(ben, "#left", "20 of 25 buildings are left.")
    ben.uncheck("#legend [value=destroyed]")
    shows(ben, "#left", "13 of 25 buildings are left.")

    def overtake(route):
        put(root, number, "b12", secrets[2], "major-damage")
        route.continue_()

    ben.route("**/answers/b12", overtake, times=1)
    ben.keyboard.press("1")
    shows(ben, "#conflict", "Eva said major damage meanwhile. Your answer (no damage) was not saved")
    assert Journal(service.place.map(number)).answers()[-1].reviewer == "Eva"
    ben.keyboard.press("1")
    shows(ben, "#saving", SAVED)
    shows(ana, "#said", "Ben says no damage")
    given = Journal(service.place.map(number)).answers()
    assert {(said.reviewer, said.verdict) for said in given} == {
        ("Ana", "destroyed"),
        ("Eva", "major-damage"),
        ("Ben", "no-damage"),
    }
    shows(ana, "#totals", "the map counts")
    ben.keyboard.press("z")
    shows(ben, "#saving", "Taken back")
    ben.locator("#said").filter(has_not_text="Ben says").wait_for(state="attached")
    assert len(Journal(service.place.map(number)).answers()) == 2
    ben.click("#in-review")
    ben.fill("#name-text", "Ben")
    ben.keyboard.press("Enter")
    shows(ben, "#name", "building b12")
    assert ana.wrong == ben.wrong == []
    ben.context.close()


@pytest.mark.browser
def test_an_answer_of_the_server_that_a_later_one_overtook_is_not_shown(running, page, made):
    """Somebody's answer is looked up, which takes long; meanwhile one's own is saved."""
    service, root = running
    number = add_map(service, made)
    ana, eva = (create_token(service.database, name, ["read", "map", "review"]) for name in ("Ana", "Eva"))
    sign_in(page, root, ana)
    page.goto(f"{root}/maps/{number}", wait_until="commit")
    find(ready(page), "b12")
    held = []
    page.route("**/buildings/b12", lambda route: held.append((route, route.fetch())), times=1)
    put(root, number, "b12", eva, "major-damage")
    shows(page, "#count", "1 of 25 buildings: 1 major damage")
    while not held:
        page.wait_for_timeout(20)
    page.keyboard.press("4")  # of a version that is old: she is told, and says it again
    shows(page, "#conflict", "Eva said major damage meanwhile")
    page.keyboard.press("4")
    shows(page, "#saving", SAVED)
    route, answer = held[0]
    with page.expect_event("requestfinished", lambda asked: asked == route.request):
        route.fulfill(response=answer)
    page.keyboard.press("x")  # it is done after what came
    page.locator("#border[aria-valuetext='before alone']").wait_for()
    assert "Ana says destroyed" in page.inner_text("#said") and page.is_visible("#take-back")
    assert page.wrong == []


@pytest.mark.browser
def test_on_a_phone_with_a_slow_line_that_breaks(browser, running, made):
    service, root = running
    number = add_map(service, made)
    secret = create_token(service.database, "Ana", ["read", "review"])
    phone = {"viewport": {"width": 390, "height": 700}, "has_touch": True, "is_mobile": True}
    page = new_page(browser, color_scheme="dark", **phone)
    sign_in(page, root, secret)
    line = page.context.new_cdp_session(page)
    line.send("Network.enable")
    slow = {"offline": False, "latency": 100, "downloadThroughput": 300_000, "uploadThroughput": 60_000}
    line.send("Network.emulateNetworkConditions", slow)
    page.goto(f"{root}/maps/{number}")
    ready(page, "drawn")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("#stage").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 40)
    shows(page, "#mapped", "The map says")
    name = page.inner_text("#building-name").split()[-1]
    line.send("Network.emulateNetworkConditions", slow | {"offline": True})
    page.locator("[data-verdict=destroyed]").tap()
    shows(page, "#saving", "Not saved yet")
    line.send("Network.emulateNetworkConditions", slow)
    shows(page, "#saving", SAVED)
    (said,) = Journal(service.place.map(number)).answers()
    assert (said.building_id, said.verdict, said.reviewer) == (name, "destroyed", "Ana")
    page.keyboard.press("x")
    assert page.get_attribute("#border", "aria-valuetext") == "before alone"
    page.locator("#border").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#border", "aria-valuenow") == "2"
    page.keyboard.press("n")
    shows(page, "#building-name", "Building b")
    assert page.inner_text("#building-name").split()[-1] != name
    assert page.wrong == []
    page.context.close()


def work(service, made, number):
    """What a worker would have done: the map lies there, and the job says how far it is."""
    service.jobs.claim(number, "one")
    service.jobs.tell(number, "one", {"stage": "predicting", "done": 1, "total": 2})
    out = Path(shutil.copytree(made / "map", service.place.map(number)))
    shutil.copytree(made / "display", service.place.display(number))
    found = open_map(out)
    told = make_display(found, service.place.display(number), progress=lambda *_: None)
    service.maps.add(number, "local", service.jobs.find(number).wanted["title"], found, told)


@pytest.mark.browser
def test_from_a_token_to_a_map(running, page, made):
    service, root = running
    secret = create_token(service.database, "Ana", ["read", "map", "review"])
    page.set_viewport_size({"width": 390, "height": 844})
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
    assert not page.is_visible("#maps") and page.wrong == []
    page.goto(f"{root}/maps/{job.id}")
    page.wait_for_selector("#sign-in:not([hidden])")
    page.fill("#token", secret)
    page.click("#sign-in button")
    page.wait_for_url(f"{root}/maps/{job.id}")  # whole: the first page has it behind a #
