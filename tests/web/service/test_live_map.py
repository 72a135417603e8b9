"""The live map: files that come along, answers by version; in a browser by two at once, on a phone, on a slow line."""

import json
import re
import urllib.request

import pytest

from aftermap.workflows.review.answers import Answer, Journal
from aftermap.workflows.service.tokens import create_token
from served import add_map

BESIDE = re.compile(r"^(data|blob):")
SAVED = re.compile("^Saved$")
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


def opened(browser, root, secret, number, **options):
    """A page with a map, signed in; what it did wrong."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    context.request.post(f"{root}/api/session", data={"token": secret})
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda line: page.wrong.append(line.text) if "Security Policy" in line.text else None)
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(root) or BESIDE.match(asked.url) else page.wrong.append(asked.url)
        ),
    )
    return page


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
def test_two_who_answer_at_once_are_told_and_see_one_another(browser, running, made):
    service, root = running
    number = add_map(service, made)
    secrets = [
        create_token(service.database, name, ["read", "map", "review"]) for name in ("Ana", "Ben", "Eva")
    ]
    small = {"viewport": {"width": 720, "height": 420}}
    ana, ben = (opened(browser, root, secret, number, **small) for secret in secrets[:2])
    for page in (ana, ben):
        page.goto(f"{root}/maps/{number}", wait_until="commit")
    for page in (ana, ben):
        find(ready(page), "b12")
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
    ana.context.close()
    ben.context.close()


@pytest.mark.browser
def test_an_answer_of_the_server_that_a_later_one_overtook_is_not_shown(browser, running, made):
    """Somebody's answer is looked up, which takes long; meanwhile one's own is saved."""
    service, root = running
    number = add_map(service, made)
    ana, eva = (create_token(service.database, name, ["read", "map", "review"]) for name in ("Ana", "Eva"))
    page = opened(browser, root, ana, number, viewport={"width": 720, "height": 420})
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
    page.context.close()


@pytest.mark.browser
def test_on_a_phone_with_a_slow_line_that_breaks(browser, running, made):
    service, root = running
    number = add_map(service, made)
    secret = create_token(service.database, "Ana", ["read", "review"])
    phone = {"viewport": {"width": 390, "height": 700}, "has_touch": True, "is_mobile": True}
    page = opened(browser, root, secret, number, color_scheme="dark", **phone)
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
