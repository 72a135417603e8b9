"""`aftermap serve`: uploads, jobs and maps over HTTP; `aftermap worker`: a further worker of it."""

import ipaddress
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_place
from aftermap.cli.options import Flag, Json, Several
from aftermap.cli.output import print_json, say
from aftermap.cli.service import tokens

DATABASE_VARIABLE = "AFTERMAP_DATABASE"
DATA = Path("aftermap-data")

OPEN = Parameter(group=Group("Who may reach it", sort_key=1))
LIMITS = Parameter(group=Group("What may be sent", sort_key=2))
Gigabytes = Annotated[float, Parameter(group=LIMITS.group, validator=Number(gt=0, lte=1e6))]

app = App(name="serve")  # its help is that of `serve` below
app.command(tokens.app, name="token")


@app.default
def serve(
    data: Path = DATA,
    /,
    *,
    host: Annotated[str, OPEN] = "127.0.0.1",
    port: Annotated[int | None, Parameter(group=OPEN.group, validator=Number(gte=0, lte=65535))] = None,
    tokens: Annotated[Flag, OPEN] = False,
    allow_host: Annotated[Several, OPEN] = None,
    allow_origin: Annotated[Several, OPEN] = None,
    https: Annotated[Flag, OPEN] = False,
    workers: Annotated[int, Parameter(validator=Number(gte=0, lte=64))] = 1,
    database: str | None = None,
    allow_address: Annotated[list[str] | None, Parameter(group=LIMITS.group, negative="")] = None,
    max_upload: Gigabytes = 4.0,
    max_kept: Gigabytes = 50.0,
    max_pixels: Annotated[float, Parameter(group=LIMITS.group, validator=Number(gte=1))] = 2e9,
    requests: Annotated[float, Parameter(group=LIMITS.group, validator=Number(gt=0))] = 100.0,
    keep: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    log: Flag = False,
    json: Json = False,
) -> None:
    """Serve uploads, jobs, maps and their tiles over HTTP, with a page.

    On this machine alone it needs no tokens. Everything lies in DATA. Ctrl-C ends it; whatever was under way goes on
    when it is started again.

    Example: aftermap serve

    Example: aftermap serve token create ana --scope read --scope review

    Example: aftermap serve data --host 0.0.0.0 --allow-host maps.example.org --https

    Args:
        data: Folder for uploads, maps and what is known of them; made where there is none.
        host: Address to listen on. Any but this machine's own wants tokens.
        port: By default the first free one from 8765.
        tokens: Ask for tokens on this machine too.
        allow_host: Name under which browsers reach it, such as maps.example.org; may be repeated.
        allow_origin: Other site whose pages may use it, such as https://portal.example.org; none by default.
        https: A proxy on this machine speaks https for it: cookies go by https alone, and the proxy says who asks.
        workers: Worker processes that make maps; 0 where 'aftermap worker' runs elsewhere.
        database: Of a team, such as postgresql://user@host/name; better given as the environment variable
            AFTERMAP_DATABASE, which nobody sees. By default two files in DATA.
        allow_address: Host of whose addresses images are taken beside uploads, such as *.amazonaws.com or s3://maps; may
            be repeated. None by default. Private networks are never reached.
        max_upload: Largest upload, in gigabytes.
        max_kept: Of all uploads of one user, in gigabytes.
        max_pixels: Of one image.
        requests: A second of one user, over a longer time.
        keep: Days after which maps that nobody gave an answer to are deleted, with ended jobs and the uploads that
            nothing else needs. By default everything stays until somebody deletes it.
        log: Write a line of JSON on standard error for each request and job; the default where that is no terminal.
        json: Print the address as JSON.
    """
    from aftermap.errors import InputError
    from aftermap.extras import needs

    address = database or os.environ.get(DATABASE_VARIABLE)
    needs(
        "aftermap serve", "serve", *(("team",) if address else ()), *(("catalog",) if allow_address else ())
    )
    check_place(data)
    if data.exists() and not data.is_dir():
        raise InputError(f"{data} is a file, expected a folder for the service")

    from aftermap.files import Claim
    from aftermap.web import serving
    from aftermap.web.service.app import service_app
    from aftermap.web.service.log import be_quiet
    from aftermap.web.service.log import log as write_line
    from aftermap.web.service.service import Rules, Service
    from aftermap.workflows.service.checking import check_apart
    from aftermap.workflows.service.place import Limits, Place
    from aftermap.workflows.service.staff import Staff
    from aftermap.workflows.service.tokens import has_tokens

    check_database(address)
    wants = tokens or not _is_this_machine(host)
    limits = Limits(
        upload_bytes=int(max_upload * 1e9),
        kept_bytes=int(max_kept * 1e9),
        pixels=int(max_pixels),
        requests_per_second=requests,
        burst=int(requests * 10),
        address_hosts=tuple(allow_address or ()),
        keep_days=keep,
    )
    rules = Rules(
        tokens=wants,
        hosts=tuple(name.lower() for name in allow_host or ()),
        origins=tuple(allow_origin or ()),
        secure=https,
    )
    place = Place(data, limits)
    listener = serving.bind(host, port)
    taken = f"a server runs over {data} already ({{who}}): open its address, end it, or choose another folder"
    with closing(listener), Claim(place.made().folder / "server", taken=taken):
        staff: Staff | None = None
        told = (lambda: staff.running() if staff else 0) if workers else None
        service = Service.open(place, rules, database=address, workers=told, check=check_apart)
        if wants and not has_tokens(service.database):
            why = "--tokens asks for tokens" if tokens else f"--host {host} is open to others"
            raise InputError(
                f"{why}, and there are none: make one first by 'aftermap serve token create NAME --data {data}'"
            )
        where = serving.address(listener, "").rstrip("/")
        quiet = sys.stderr.isatty() and not log
        if quiet:
            be_quiet()
        staff = Staff(place, address, workers, service.jobs, write_line, quiet=quiet)
        staff.start()

        def begun() -> None:
            if json:
                print_json({"address": where, "data": data, "workers": workers, "tokens": wants})
                return
            say(f"aftermap serves {data}: open {where}/")
            say("every request needs a token" if wants else "for this machine alone; Ctrl-C ends it")

        try:
            serving.serve(service_app(service), listener, begun=begun, lifespan="on", proxied=https)
        finally:
            staff.stop()


def worker(
    data: Path = DATA,
    /,
    *,
    database: str | None = None,
    allow_address: Annotated[list[str] | None, Parameter(negative="")] = None,
) -> None:
    """Do the jobs of a service, one at a time, until Ctrl-C.

    'aftermap serve' starts its own workers. Start more of them here, or on further machines that see the same folder
    and the same PostgreSQL. Kill one whenever you like: what it did so far is gone on with.

    Example: aftermap worker data

    Args:
        data: Folder of the service.
        database: Of a team, as 'aftermap serve' has it, or the environment variable AFTERMAP_DATABASE.
        allow_address: As 'aftermap serve' has it.
    """
    from aftermap.errors import InputError
    from aftermap.extras import needs

    address = database or os.environ.get(DATABASE_VARIABLE)
    needs("aftermap worker", "serve", *(("team",) if address else ()))
    check_database(address)
    if not (data / "uploads").is_dir():
        raise InputError(f"{data} is no folder of a service: start 'aftermap serve {data}' first")

    from aftermap.workflows.service.place import Limits, Place
    from aftermap.workflows.service.staff import log_line, open_worker
    from aftermap.workflows.service.worker import work

    limits = Limits(address_hosts=tuple(allow_address or ()))
    work(open_worker(Place(data, limits), address, said=log_line))


def check_database(address: str | None) -> None:
    """Refuse an address that is none of PostgreSQL.

    Raises:
        InputError: it is none.
    """
    from aftermap.errors import InputError
    from aftermap.workflows.service.database import is_postgres

    if address is not None and not is_postgres(address):
        raise InputError("--database is no address of PostgreSQL: expected postgresql://user@host/name")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
