"""`aftermap review`: people look at the buildings of a map, one at a time, and say what happened to each."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_images, check_place
from aftermap.cli.options import Json
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import bar
from aftermap.wording import counted

if TYPE_CHECKING:
    from aftermap.workflows.mapping.finished import FinishedMap
    from aftermap.workflows.review.session import Review

WHAT = Parameter(group=Group("What is looked at", sort_key=1))
PAGE = Parameter(group=Group("The page", sort_key=2))
EXCHANGE = Parameter(group=Group("Answers in and out", sort_key=3))
Share = Annotated[float | None, Parameter(group=WHAT.group, validator=Number(gte=0, lte=1))]


def review(
    folder: Path,
    /,
    *,
    pre: Annotated[Path | None, WHAT] = None,
    post: Annotated[Path | None, WHAT] = None,
    budget: Annotated[int | None, Parameter(group=WHAT.group, validator=Number(gte=1))] = None,
    active: Share = None,
    double: Share = None,
    seed: Annotated[int | None, Parameter(group=WHAT.group, validator=Number(gte=0))] = None,
    port: Annotated[int | None, Parameter(group=PAGE.group, validator=Number(gte=0, lte=65535))] = None,
    host: Annotated[str, PAGE] = "127.0.0.1",
    show: Annotated[bool, Parameter(group=PAGE.group, name="--open", negative="")] = False,
    offline: Annotated[Path | None, PAGE] = None,
    take_in: Annotated[Path | None, Parameter(group=EXCHANGE.group, name="--import")] = None,
    reviewer: Annotated[str, EXCHANGE] = "",
    column: Annotated[str | None, EXCHANGE] = None,
    ids: Annotated[str | None, EXCHANGE] = None,
    mapping: Annotated[str | None, EXCHANGE] = None,
    export: Annotated[Path | None, EXCHANGE] = None,
    json: Json = False,
) -> None:
    """Look at the buildings of a finished map, one at a time, and say what happened to each.

    Opens a page on this machine. It shows a random sample of the buildings, from which totals can be estimated, mixed
    with buildings from which the map's own model would learn most. Every answer is on the disk before it counts as saved;
    the same command goes on where it stopped. Ctrl-C ends it. Answers lie in FOLDER/review.

    The images that the map was made of are looked for near it, by name and checksum. Of a map of the image after alone
    the page shows that image, and asks for destroyed or not destroyed; nothing is picked for a model.

    Example: aftermap review out

    Example: aftermap review out --pre before.tif --post after.tif

    Example: aftermap review out --offline review.html

    Example: aftermap review out --import answers.json

    Example: aftermap review out --export answers.gpkg

    Args:
        folder: The output folder of a map of damage.
        pre: Image from before that the map was made of, or its folder of tiles, where it does not lie near the map. It is
            remembered, for this machine alone. The address that the map was made of is read online, as far as the map
            needs it.
        post: Image from after.
        budget: Buildings to look at, sample and picks together; 100 at first. A larger one goes on.
        active: Share of the budget that is picked for the model; 0.3 at first.
        double: Share of the random sample that two people look at, to see how far they agree; 0.1 at first.
        seed: Which random sample; 0 at first.
        port: Of the page; by default the first free one from 8765.
        host: Address to listen on. The page is for this machine alone; give an address of this machine in your network
            to review on a phone. The connection is not encrypted, and whoever has the printed address can answer.
        show: Open the page in the browser.
        offline: Write what is left of the budget as one page instead, for a machine without aftermap; its answers come
            back with --import.
        take_in: Take in answers: those of an offline page, or a table or layer from another tool (GeoPackage, GeoJSON,
            CSV), matched by building id, or by position where it has none.
        reviewer: Whose answers they are, where the file does not say; or for whom an offline page is.
        column: Column of the file that holds the answer; by default damage, verdict, answer or similar.
        ids: Column that holds the building's id; by default building_id or similar.
        mapping: What the values of that column mean, such as "0=no-damage,1=destroyed,?=cannot-tell".
        export: Write all answers as GeoPackage, GeoJSON or CSV, by the ending of the file.
        json: Print what was done as JSON.
    """
    from aftermap.errors import InputError
    from aftermap.extras import needs

    chosen = [
        name for name, given in (("--offline", offline), ("--import", take_in), ("--export", export)) if given
    ]
    if len(chosen) > 1:
        raise InputError(f"{chosen[0]} and {chosen[1]} are two tasks: give one at a time")
    if not chosen:
        needs("aftermap review", "serve")
    check_images(pre, post)
    check_place(offline, is_file=True)
    check_place(export, is_file=True)

    from aftermap.workflows.mapping.finished import open_map

    found = open_map(folder, also=("post-only",))
    if export is not None:
        _export(found, export, json)
        return
    if take_in is not None:
        _import(found, take_in, reviewer, column, ids, mapping, json)
        return
    from aftermap.workflows.review.opened import open_review

    with _claim(found):  # before anything is planned, so that nobody changes the plan of a review under way
        opened = open_review(
            found, pre=pre, post=post, budget=budget, active=active, double=double, seed=seed
        )
        if opened.remark and not json:
            say(opened.remark)
        if offline is not None:
            _offline(opened, offline, reviewer, json)
            return
        _serve(opened, host, port, show, json)


@contextmanager
def _claim(found: "FinishedMap") -> Iterator[None]:
    """The review of a map, which one process at a time has; a folder that stayed empty is not left behind."""
    from aftermap.errors import OutputError
    from aftermap.files import Claim
    from aftermap.workflows.review.answers import FOLDER

    try:
        claim = Claim(found.folder / FOLDER)
    except OutputError as error:
        if "is being written" not in str(error):
            raise
        raise OutputError(
            f"{found.folder} is being reviewed by another 'aftermap review' already: open the address that it printed in "
            "a further browser, or end it first"
        ) from None
    try:
        with claim:
            yield
    finally:
        with suppress(OSError):
            claim.folder.rmdir()


def _serve(review: "Review", host: str, port: int | None, show: bool, json: bool) -> None:
    from aftermap.web.app import review_app
    from aftermap.web.guard import new_token
    from aftermap.web.serving import address, bind, serve

    token = new_token()
    listener = bind(host, port)
    place = address(listener, token)

    def begun() -> None:
        if json:
            print_json({"address": place})
        else:
            say(
                f"review {review.found.folder}: open {place}",
                "Ctrl-C ends it; every answer is saved at once",
            )
        if show:
            import webbrowser

            webbrowser.open(place)

    serve(review_app(review, token), listener, begun=begun)
    state = review.state()
    done, wanted = state["sample"][0] + state["active"][0], state["sample"][1] + state["active"][1]
    if not json:
        say(
            f"{counted(state['answered'], 'building')} answered, {done} of {wanted} of the budget; answers are in "
            f"{review.found.folder / 'review'}",
            f"go on with: aftermap review {review.found.folder}",
        )


def _offline(review: "Review", path: Path, reviewer: str, json: bool) -> None:
    from aftermap.web.offline import write_offline

    with bar("pictures", review.plan.budget) as step:
        written = write_offline(review, path, reviewer=reviewer, progress=lambda done, total: step())
    if json:
        print_json(written)
        return
    say(
        f"wrote {path}: {counted(written.buildings, 'building')}, {written.megabytes:.1f} MB",
        f"take its answers in with: aftermap review {review.found.folder} --import ANSWERS.json",
    )


def _import(
    found: "FinishedMap",
    path: Path,
    reviewer: str,
    column: str | None,
    ids: str | None,
    mapping: str | None,
    json: bool,
) -> None:
    from aftermap.workflows.review.exchange import import_answers

    taken = import_answers(found, path, reviewer=reviewer, column=column, ids=ids, mapping=mapping)
    if json:
        print_json(taken)
        return
    say(
        f"took in {counted(taken.answers, 'answer')} of {counted(taken.rows, 'row')} of {path}"
        + (f", and {counted(taken.marks, 'mark')} of ground" if taken.marks else ""),
        *taken.left_out,
    )


def _export(found: "FinishedMap", path: Path, json: bool) -> None:
    from aftermap.workflows.review.exchange import export_answers

    count = export_answers(found, path)
    if json:
        print_json({"path": path, "answers": count})
        return
    say(f"wrote {path}: {counted(count, 'answer')}")
