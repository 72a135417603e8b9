"""`aftermap serve token`: who may use a service, for what, and where."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from aftermap.cli.checks import check_outlines
from aftermap.cli.options import Json
from aftermap.cli.output import print_json, say

if TYPE_CHECKING:
    from aftermap.workflows.service.database import Database

app = App(name="token", help="Make, list and revoke the tokens of a service.")

Data = Annotated[Path, Parameter(name="--data")]
DATA = Path("aftermap-data")


@app.command
def create(
    name: str,
    /,
    *,
    scope: Annotated[list[Literal["read", "map", "review", "admin"]] | None, Parameter(negative="")] = None,
    aoi: Path | None = None,
    days: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    data: Data = DATA,
    database: str | None = None,
    json: Json = False,
) -> None:
    """Make a token. It is printed once; only a checksum of it is kept.

    Example: aftermap serve token create ana --scope read --scope review --aoi district.geojson --days 30

    Args:
        name: Whose it is; it stands in the audit log and beside answers.
        scope: What it may do, may be repeated: read maps and tiles; map: upload and ask for maps; review: say what
            happened to buildings; admin: everything, of everybody. read by default.
        aoi: Polygons outside of which nothing is shown, any vector file, or FILE:LAYER.
        days: After which it ends; by default never.
        data: Folder of the service.
        database: Of a team, as 'aftermap serve' has it.
        json: Print it as JSON.
    """
    check_outlines(None, aoi)
    tables = _tables(data, database, "aftermap serve token create")
    from aftermap.workflows.service.areas import area_of
    from aftermap.workflows.service.tokens import create_token

    area = None if aoi is None else area_of(aoi)
    scopes = list(dict.fromkeys(scope or ["read"]))
    secret = create_token(tables, name, scopes, area=area, days=days)
    if json:
        print_json({"name": name, "token": secret, "scopes": scopes})
        return
    say(secret)
    say(f"token of {name}: {', '.join(scopes)}; keep it, it is not shown again", error=True)


@app.command(name="list")
def listed(*, data: Data = DATA, database: str | None = None, json: Json = False) -> None:
    """List tokens, without their secrets.

    Args:
        data: Folder of the service.
        database: Of a team.
        json: Print them as JSON.
    """
    tables = _tables(data, database, "aftermap serve token list", there=True)
    from aftermap.workflows.service.tokens import list_tokens

    found = list_tokens(tables)
    if json:
        print_json(found)
        return
    if not found:
        say("there are no tokens: make one by 'aftermap serve token create NAME'")
    for token in found:
        until = f", until {_day(token['expires'])}" if token["expires"] else ""
        area = ", an area" if token["area"] else ""
        say(f"{token['name']}: {', '.join(token['scopes'])}{area}; {token['state']}{until}")


@app.command
def revoke(name: str, /, *, data: Data = DATA, database: str | None = None) -> None:
    """Let a token count no more; a server that runs notices within five seconds.

    Example: aftermap serve token revoke ana

    Args:
        name: Whose it is.
        data: Folder of the service.
        database: Of a team.
    """
    tables = _tables(data, database, "aftermap serve token revoke", there=True)
    from aftermap.workflows.service.tokens import revoke_token

    revoke_token(tables, name)
    say(f"the token of {name} counts no more")


def _tables(data: Path, database: str | None, command: str, *, there: bool = False) -> "Database":
    """Where tokens are; where they are to be `there` already, no folder is made for them."""
    from aftermap.errors import InputError
    from aftermap.extras import needs

    address = database or os.environ.get("AFTERMAP_DATABASE")
    needs(command, "serve", *(("team",) if address else ()))
    from aftermap.workflows.service.database import Database, is_postgres
    from aftermap.workflows.service.place import Place

    if address is not None and not is_postgres(address):
        raise InputError("--database is no address of PostgreSQL: expected postgresql://user@host/name")
    if data.exists() and not data.is_dir():
        raise InputError(f"{data} is a file, expected a folder for the service")
    if there and address is None and not Place(data).database.is_file():
        raise InputError(f"{data} is no folder of a service: pass its folder by --data")
    return Database(address or Place(data).made().database)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
