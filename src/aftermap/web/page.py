"""The page of a review from its parts: as files that a server gives out, or with everything inside."""

import base64
import hashlib
import html
import re
from importlib import resources
from typing import Any

from aftermap import __version__
from aftermap.products.page.page import embed

SCRIPTS = (
    "dom",
    "store",
    "offline",
    "light",
    "picture",
    "pen",
    "queue",
    "ground",
    "review",
    "pointer",
    "keys",
    "start",
)
"""In the order in which they stand on each other."""


def script() -> str:
    """All scripts as one, in a scope of their own."""
    parts = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();\n'


def style() -> str:
    """The style sheet."""
    return _asset("review.css")


def served_page(title: str) -> str:
    """The page that loads script and style from its server."""
    return _filled(
        title, '<link rel="stylesheet" href="review.css">', '<script src="review.js" defer></script>', ""
    )


def offline_page(title: str, data: dict[str, Any]) -> str:
    """The page with everything inside; it may run its own script and load nothing.

    Args:
        title: of the map.
        data: what the server would have told.
    """
    code, sheet = script(), style()
    policy = (
        f"default-src 'none'; script-src '{_hash(code)}'; style-src '{_hash(sheet)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{sheet}</style>'
    inside = f'<script type="application/json" id="data">{embed(data)}</script>'
    return _filled(title, head, f"<script>{code}</script>", inside)


def _filled(title: str, head: str, scripts: str, data: str) -> str:
    parts = {
        "title": html.escape(title),
        "head": head,
        "script": scripts,
        "data": data,
        "version": html.escape(__version__),
    }
    # one pass, so that a title that looks like a placeholder stays a title
    return re.sub(r"@@(\w+)@@", lambda match: parts[match.group(1)], _asset("review.html"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (resources.files("aftermap.web") / "assets" / name).read_text(encoding="utf-8")
