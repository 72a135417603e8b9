"""Writes what is known of a map in a language: counts, sentences and tables, all of it plain text."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from aftermap import __version__
from aftermap.classes import DAMAGE, NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.products.report.content import ClassRow, Content, Section
from aftermap.products.report.facts import Areas, Estimate, Facts
from aftermap.products.report.wording import Wording, clean

MOST_AREAS = 12
_MOST_WARNINGS = 4
_WORST_FIRST = tuple(reversed(DAMAGE.names[1:]))
_COLOURS = dict(zip(DAMAGE.names[1:], DAMAGE.colours[1:], strict=True))


def compose(facts: Facts, words: Wording, *, most_areas: int = MOST_AREAS) -> Content:
    """Write a report in a language.

    Args:
        facts: what is known.
        words: the language.
        most_areas: rows of the table by areas; the rest is counted.
    """
    headings, rows = _classes(facts, words)
    area_headings, area_rows, note, texts = _areas(facts.areas, words, most_areas)
    crs = facts.summary["coordinates"]
    is_plain = crs == "pixels"
    return Content(
        code=words.code,
        rtl=words.is_rtl,
        title=clean(facts.title) or "aftermap",
        organisation=clean(facts.organisation, 100),
        kicker=words.say("kicker"),
        status=_status(facts, words),
        created=str(facts.provenance.get("created") or ""),
        made_on=words.say("made_on", date=words.date(_day(facts.provenance.get("created")))),
        facts=_facts(facts, words),
        numbers=_numbers(facts, words),
        estimate=_estimate(facts, words),
        bar=tuple(
            (_COLOURS[name], facts.summary["classes"][name]["share"])
            for name in _WORST_FIRST
            if facts.summary["classes"][name]["share"]
        ),
        class_headings=headings,
        class_rows=rows,
        class_notes=_class_notes(facts, words),
        map_heading=words.say("map"),
        map_caption=words.say("map_caption_pixels")
        if is_plain
        else words.say("map_caption", crs=words.given(str(crs), 60)),
        legend=tuple((row.colour, row.name) for row in rows[:-1]) + _grey(facts, words),
        legend_heading=words.say("scale_name"),
        pair_heading=words.say("pair"),
        pair_captions=_captions(facts, words),
        area_heading=words.say("areas"),
        area_headings=area_headings,
        area_rows=area_rows,
        area_note=note,
        area_texts=texts,
        sections=(_method(facts, words), _limits(facts, words)),
        sources_heading=words.say("sources"),
        sources=_sources(facts, words),
        page=words.tree["phrases"]["page"],
    )


def _is_fused(facts: Facts) -> bool:
    return bool(facts.provenance.get("mode") == "fused" and facts.provenance.get("sources"))


def _status(facts: Facts, words: Wording) -> str:
    if facts.totals is None:
        return words.say("status_rapid")
    return words.count("status_sampled", facts.totals.sample)


def _facts(facts: Facts, words: Wording) -> tuple[tuple[str, str], ...]:
    before, after = _dates(facts)
    return (
        (words.say("what"), words.say("what_fused" if _is_fused(facts) else "what_text")),
        (words.say("where"), _where(facts, words)),
        (words.say("when"), words.say("when_text", before=words.date(before), after=words.date(after))),
    )


def _captions(facts: Facts, words: Wording) -> tuple[str, str]:
    before, after = _dates(facts)
    return (
        words.say("before") + words.tree["colon"] + words.date(before),
        words.say("after") + words.tree["colon"] + words.date(after),
    )


def _where(facts: Facts, words: Wording) -> str:
    summary, size = facts.summary, facts.summary["size_px"]
    bounds = summary["bounds_lonlat"]
    if bounds is None:
        return words.say(
            "where_pixels", width=words.number(size["width"]), height=words.number(size["height"])
        )
    west, south, east, north = bounds
    area = size["width"] * size["height"] * summary["resolution_m"] ** 2 / 1e6
    return words.say(
        "where_text",
        south=words.degrees(south, "lat"),
        north=words.degrees(north, "lat"),
        west=words.degrees(west, "lon"),
        east=words.degrees(east, "lon"),
        area=words.number(area, 2 if area < 10 else 0),
        crs=words.given(str(summary["coordinates"]), 60),
    )


def _numbers(facts: Facts, words: Wording) -> tuple[tuple[str, str, str, str], ...]:
    summary = facts.summary
    damaged, assessed = summary["damaged"]["buildings"], summary["assessed"]
    destroyed, missed = summary["classes"]["destroyed"]["buildings"], summary["not_assessed"]["buildings"]
    if assessed:
        share = words.percent(damaged / assessed)
        found = [
            (
                words.number(damaged),
                words.count("damaged", damaged),
                words.count("damaged_of", assessed, percent=share),
                "#17212b",
            ),
            (words.number(destroyed), words.count("destroyed", destroyed), "", _COLOURS["destroyed"]),
        ]
    else:
        found = [("–", words.say("none_assessed"), "", "#17212b")]
    return (*found, (words.number(missed), words.count("not_assessed", missed), "", "#5a6875"))


def _estimate(facts: Facts, words: Wording) -> str:
    totals = facts.totals
    if totals is None:
        return ""
    return words.say(
        "estimate_line",
        estimate=words.number(round(totals.damaged.value)),
        confidence=words.percent(totals.level, 0),
        low=words.number(round(totals.damaged.low)),
        high=words.number(round(totals.damaged.high)),
    )


def _classes(facts: Facts, words: Wording) -> tuple[tuple[str, ...], tuple[ClassRow, ...]]:
    """Headings and rows of the table of classes, the sum of all last."""
    totals, summary = facts.totals, facts.summary
    headings = [words.say(key) for key in ("class", "meaning", "buildings", "share", "area")]
    if totals is not None and totals.classes:
        headings += [
            words.say("estimate"),
            words.say("interval", confidence=words.percent(totals.level, 0)),
        ]
    else:
        totals = None
    rows = []
    for name in _WORST_FIRST:
        found = summary["classes"][name]
        cells = [
            words.number(found["buildings"]),
            _percent(found["share"], words),
            _area(found["area_m2"], words),
        ]
        if totals is not None:
            cells += _interval(totals.classes.get(name), words)
        rows.append(
            ClassRow(_COLOURS[name], _name(name, words), words.say(f"look_{_key(name)}"), tuple(cells))
        )
    areas = [summary["classes"][name]["area_m2"] for name in _WORST_FIRST]
    whole = None if None in areas else sum(areas)
    cells = [
        words.number(summary["assessed"]),
        _percent(1.0 if summary["assessed"] else None, words),
        _area(whole, words),
    ]
    cells += ["", ""] if totals is not None else []
    return tuple(headings), (*rows, ClassRow("", words.say("total"), "", tuple(cells)))


def _class_notes(facts: Facts, words: Wording) -> tuple[str, ...]:
    missed = facts.summary["not_assessed"]
    if not missed["buildings"]:
        return (words.say("scale_note"),)
    listed = []
    for reason, number in missed["reasons"].items():
        key = f"reason_{_key(str(reason))}"
        known = words.say(key) if key in words.tree["phrases"] else words.given(str(reason), 40)
        listed.append(f"{known} ({words.number(number)})")
    return words.say("scale_note"), words.say("reasons", list=words.list(listed))


def _grey(facts: Facts, words: Wording) -> tuple[tuple[str, str], ...]:
    if not facts.summary["not_assessed"]["buildings"]:
        return ()
    return ((NOT_ASSESSED_COLOUR, _name(NOT_ASSESSED, words)),)


def _areas(
    areas: Areas | None, words: Wording, most: int
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], str, int]:
    """Headings, rows, what is left out, and how many columns are texts."""
    if areas is None or not areas.rows:
        return (), (), "", 1
    shown = areas.rows[:most]
    has_codes = any(row.code and row.code != row.name for row in shown)
    has_intervals = any(row.low is not None for row in shown)
    headings = [words.say("areas_name")]
    headings += [words.say("areas_code")] if has_codes else []
    headings += [words.say("buildings"), words.say("areas_damaged"), words.say("share")]
    headings += [words.say("interval", confidence=words.percent(0.95, 0))] if has_intervals else []
    rows = []
    for row in shown:
        cells = [words.given(row.name, 60) or "–"]
        cells += [words.given(row.code, 24)] if has_codes else []
        cells += [words.number(row.buildings), words.number(row.damaged), _percent(row.share, words)]
        if has_intervals:
            cells.append(_range(row.low, row.high, words))
        rows.append(tuple(cells))
    rest = len(areas.rows) - len(shown)
    note = words.count("areas_more", rest, file=words.given(areas.file)) if rest else ""
    return tuple(headings), tuple(rows), note, 2 if has_codes else 1


def _method(facts: Facts, words: Wording) -> Section:
    provenance = facts.provenance
    footprints = provenance["inputs"].get("footprints")
    sources = provenance.get("sources") if _is_fused(facts) else None
    if sources:
        listed = [f"{each['name']} ({words.number(each['weight'], 1)})" for each in sources]
        said = [words.say("method_fused", list=words.given(words.list(listed), 240))]
    elif footprints:
        said = [words.say("method_footprints", file=words.given(str(footprints.get("name", "?")), 60))]
    else:
        said = [words.say("method_traced")]
    shift = provenance.get("shift") or {}
    if shift.get("applied") and shift.get("dx_m") is not None:
        metres = (shift["dx_m"] ** 2 + shift["dy_m"] ** 2) ** 0.5
        said.append(words.say("method_shift", shift=words.number(metres, 1)))
    moved, resolution = provenance.get("footprint_shift") or {}, facts.summary.get("resolution_m")
    if moved.get("moved") and resolution:
        metres = words.number(moved["median_px"] * resolution, 1)
        said.append(words.count("method_moved", moved["moved"], shift=metres))
    learnt = provenance.get("learnt") or {}
    answers = sum((learnt.get("answers") or {}).values())
    if answers:
        said.append(words.count("method_learnt" if learnt.get("better") else "method_kept", answers))
    if facts.totals is not None:
        said.append(words.count("method_sample", facts.totals.sample))
    elif not sources and not answers:
        said.append(words.say("method_decision"))
    calibrated = facts.totals is not None and facts.totals.calibrated
    said.append(words.say("confidence_calibrated" if calibrated else "confidence_uncalibrated"))
    return Section(words.say("method"), tuple(said))


def _limits(facts: Facts, words: Wording) -> Section:
    said = [words.say("limit_above"), words.say("limit_single")]
    if facts.summary["not_assessed"]["buildings"]:
        said.append(words.say("limit_not_assessed"))
    if facts.totals is None:
        said.append(words.say("limit_counts_fused" if _is_fused(facts) else "limit_counts"))
    if None in _dates(facts):
        said.append(words.say("limit_dates"))
    told = str(facts.provenance["model"].get("limits") or "").strip()
    foreign = [clean(told, 420)] if told else []
    if told:
        said.append(words.say("model_says") + words.tree["colon"].rstrip())
    return Section(words.say("limits"), tuple(said), tuple(foreign))


def _sources(facts: Facts, words: Wording) -> tuple[tuple[str, str], ...]:
    provenance, model = facts.provenance, facts.provenance["model"]
    inputs = provenance["inputs"]
    rows = [
        (
            words.say("model"),
            words.say(
                "model_text",
                name=words.given(str(model.get("name", "?")), 60),
                version=words.given(str(model.get("version", "?")), 30),
                licence=words.given(str(model.get("licence") or "?"), 80),
            ),
        ),
        (words.say("training_data"), words.given(_training(model), 220)),
        (
            words.say("imagery"),
            words.say(
                "imagery_text",
                before=_files(inputs.get("pre"), words),
                after=_files(inputs.get("post"), words),
            ),
        ),
        (words.say("credit"), clean(facts.credit, 240) or words.say("credit_missing")),
    ]
    if inputs.get("footprints"):
        rows.append((words.say("footprints"), words.given(str(inputs["footprints"].get("name", "?")), 80)))
    if facts.organisation:
        rows.insert(0, (words.say("who"), clean(facts.organisation, 100)))
    rows.append(
        (
            words.say("software"),
            words.say(
                "software_text",
                version=__version__,
                checksum=words.given(str(model.get("sha256") or "?")[:12]),
            ),
        )
    )
    warnings = [clean(str(text), 200) for text in provenance.get("warnings") or ()][:_MOST_WARNINGS]
    if warnings:
        rows.append((words.say("warnings"), " · ".join(warnings)))
    return tuple(rows)


def _training(model: Mapping[str, Any]) -> str:
    data = str(model.get("training_data") or "?").replace("`", "")
    licence = str(model.get("training_data_licence") or "")
    return f"{data} ({licence})" if licence else data


def _files(described: Mapping[str, Any] | None, words: Wording) -> str:
    """The name of a single file, or how many there are (a folder of tiles counts its members), and the angle of view."""
    files = list((described or {}).get("files") or ())
    if len(files) == 1 and not files[0].get("files"):
        named = words.given(str(files[0].get("name", "?")), 60)
    else:
        named = words.count("files", sum(len(each.get("files") or (1,)) for each in files))
    angle = ((described or {}).get("imagery") or {}).get("off_nadir")
    if not isinstance(angle, (int, float)):
        return named
    return f"{named} ({words.say('off_nadir', angle=words.number(round(angle)))})"


def _dates(facts: Facts) -> tuple[date | None, date | None]:
    inputs = facts.provenance["inputs"]
    before, after = (_day((inputs.get(name) or {}).get("acquired")) for name in ("pre", "post"))
    return before, after


def _day(text: Any) -> date | None:
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        return None


def _interval(estimate: Estimate | None, words: Wording) -> Sequence[str]:
    if estimate is None:
        return ("", "")
    return (
        words.number(round(estimate.value)),
        words.span(estimate.low, estimate.high),
    )


def _range(low: float | None, high: float | None, words: Wording) -> str:
    if low is None or high is None:
        return ""
    return words.span(low, high)


def _percent(share: float | None, words: Wording) -> str:
    return "–" if share is None else words.percent(share)


def _area(area_m2: float | None, words: Wording) -> str:
    return "–" if area_m2 is None else words.number(area_m2)


def _name(damage: str, words: Wording) -> str:
    return words.say(f"class_{_key(damage)}")


def _key(text: str) -> str:
    return text.strip().lower().replace("-", "_").replace(" ", "_")
