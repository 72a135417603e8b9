"""Sets a report as one HTML page that opens offline: everything stands inside it, and it runs nothing."""

import base64
import html
from collections.abc import Iterable, Sequence
from importlib import resources

from aftermap import __version__
from aftermap.products.report.content import Content
from aftermap.products.report.map_picture import Pictures


def html_page(content: Content, pictures: Pictures) -> str:
    """The report as HTML.

    Args:
        content: what it says.
        pictures: the map and the two images.
    """
    colours = {row.colour for row in content.class_rows if row.colour}
    colours |= {colour for colour, _ in (*content.legend, *content.bar)}
    colours |= {number[3] for number in content.numbers}
    names = {colour: f"c{n}" for n, colour in enumerate(sorted(colours))}
    painted = "".join(
        f".ink-{name} {{ color: {colour}; }} .fill-{name} {{ background: {colour}; fill: {colour}; }}\n"
        for colour, name in names.items()
    )
    style = (resources.files("aftermap.products.report") / "report.css").read_text(encoding="utf-8")
    direction = "rtl" if content.rtl else "ltr"
    head = (
        f'<!doctype html>\n<html lang="{content.code}" dir="{direction}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
        f'<meta name="generator" content="aftermap {_t(__version__)}">\n<title>{_t(content.title)}</title>\n'
        f"<style>\n{style}{painted}</style>\n</head>\n"
    )
    parts = [
        f'<header><span class="kicker">{_t(content.kicker)}</span><bdi>{_t(content.organisation)}</bdi></header>',
        f'<h1 dir="auto">{_t(content.title)}</h1>',
        f'<p><span class="status">{_t(content.status)}</span><span class="made">{_t(content.made_on)}</span></p>',
        '<section class="facts">'
        + "".join(f"<div><b>{_t(name)}</b>{_t(text)}</div>" for name, text in content.facts)
        + "</section>",
        '<section class="numbers">'
        + "".join(_number(each, names) for each in content.numbers)
        + "</section>",
        f'<p class="estimate">{_t(content.estimate)}</p>' if content.estimate else "",
        _bar(content, names),
        _class_table(content, names),
        *(f'<p class="note">{_t(note)}</p>' for note in content.class_notes),
        f"<h2>{_t(content.map_heading)}</h2>",
        _figure(pictures.map, content.map_caption, _legend(content, names)),
        *_areas(content),
        f'<h2>{_t(content.pair_heading)}</h2><div class="pair">'
        + "".join(map(_figure, pictures.dates, content.pair_captions))
        + "</div>",
    ]
    for section in content.sections:
        items = "".join(f"<li>{_t(text)}</li>" for text in section.sentences)
        parts.append(f"<h2>{_t(section.heading)}</h2><ul>{items}</ul>")
        parts += [f'<blockquote lang="en" dir="ltr">{_t(text)}</blockquote>' for text in section.foreign]
    rows = "".join(f"<dt>{_t(name)}</dt><dd>{_t(text)}</dd>" for name, text in content.sources)
    parts += [
        f"<h2>{_t(content.sources_heading)}</h2><dl>{rows}</dl>",
        f"<footer>{_t(content.status)}</footer>",
    ]
    return (
        head
        + "<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _t(text: str) -> str:
    return html.escape(text, quote=True)


def _number(number: Sequence[str], names: dict[str, str]) -> str:
    figures, words, whole, colour = number
    small = f"<small>{_t(whole)}</small>" if whole else ""
    return f'<div><strong class="ink-{names[colour]}">{_t(figures)}</strong><span>{_t(words)}{small}</span></div>'


def _bar(content: Content, names: dict[str, str]) -> str:
    """Shares of the classes as one bar, worst first where reading begins."""
    if not content.bar:
        return ""
    whole, at, parts = sum(share for _, share in content.bar), 0.0, []
    for colour, share in content.bar:
        width = 1000 * share / whole
        x = 1000 - at - width if content.rtl else at
        parts.append(f'<rect class="fill-{names[colour]}" x="{x:.2f}" y="0" width="{width:.2f}" height="8"/>')
        at += width
    inner = "".join(parts)
    return (
        f'<svg class="bar" viewBox="0 0 1000 8" preserveAspectRatio="none" aria-hidden="true">{inner}</svg>'
    )


def _class_table(content: Content, names: dict[str, str]) -> str:
    rows = []
    for row in content.class_rows:
        swatch = f'<span class="swatch fill-{names[row.colour]}"></span>' if row.colour else ""
        cells = "".join(f'<td class="number">{_t(cell)}</td>' for cell in row.cells)
        kind = "" if row.colour else ' class="all"'
        rows.append(
            f'<tr{kind}><td>{swatch}{_t(row.name)}</td><td class="look">{_t(row.meaning)}</td>{cells}</tr>'
        )
    looks = ("", ' class="look"')
    heads = [f"<th{kind}>{_t(each)}</th>" for kind, each in zip(looks, content.class_headings, strict=False)]
    heads += [f'<th class="number">{_t(each)}</th>' for each in content.class_headings[2:]]
    return _table(heads, rows)


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    return (
        f'<div class="scroll"><table><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _areas(content: Content) -> list[str]:
    if not content.area_rows:
        return []
    texts = content.area_texts

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = ("" if column < texts else ' class="number"' for column in range(len(row)))
        return "".join(f"<{tag}{kind}>{_t(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    rows = [f"<tr>{cells('td', row)}</tr>" for row in content.area_rows]
    note = f'<p class="note">{_t(content.area_note)}</p>' if content.area_note else ""
    return [f"<h2>{_t(content.area_heading)}</h2>", _table([cells("th", content.area_headings)], rows), note]


def _legend(content: Content, names: dict[str, str]) -> str:
    entries = "".join(
        f'<span><span class="swatch fill-{names[colour]}"></span>{_t(name)}</span>'
        for colour, name in content.legend
    )
    return f'<p class="legend"><span class="scale">{_t(content.legend_heading)}</span>{entries}</p>'


def _figure(picture: bytes, caption: str, between: str = "") -> str:
    source = base64.b64encode(picture).decode("ascii")
    return (
        f'<figure><img alt="{_t(caption)}" src="data:image/jpeg;base64,{source}">{between}'
        f"<figcaption>{_t(caption)}</figcaption></figure>"
    )
