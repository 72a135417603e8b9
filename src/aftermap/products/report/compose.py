"""Writes what is known of a map in a language: counts, sentences and tables, all of it plain text."""

from collections.abc import Sequence

from aftermap.classes import DAMAGE, DESTROYED_OR_NOT, NOT_ASSESSED, NOT_ASSESSED_COLOUR
from aftermap.products.report.content import ClassRow, Content, Section
from aftermap.products.report.facts import Estimate, Facts
from aftermap.products.report.sources import dates_of, day_of, say, sources_of
from aftermap.products.report.wording import Wording, clean

MOST_AREAS = 12
_COLOURS = {
    name: colour
    for scheme in (DAMAGE, DESTROYED_OR_NOT)
    for name, colour in zip(scheme.names[1:], scheme.colours[1:], strict=True)
}


def compose(facts: Facts, words: Wording, *, most_areas: int = MOST_AREAS) -> Content:
    """Write a report in a language.

    Args:
        facts: what is known.
        words: the language.
        most_areas: rows of the table by areas; the rest is counted.
    """
    headings, rows = _classes(facts, words)
    area_headings, area_rows, note, texts = _areas(facts, words, most_areas)
    crs = facts.summary["coordinates"]
    is_plain = crs == "pixels"
    return Content(
        code=words.code,
        rtl=words.is_rtl,
        title=clean(facts.title) or "aftermap",
        organisation=clean(facts.organisation, 100),
        kicker=say(facts, words, "kicker"),
        status=_status(facts, words),
        created=str(facts.provenance.get("created") or ""),
        made_on=words.say("made_on", date=words.date(day_of(facts.provenance.get("created")))),
        facts=_facts(facts, words),
        numbers=_numbers(facts, words),
        estimate=_estimate(facts, words),
        bar=tuple(
            (_COLOURS[name], facts.summary["classes"][name]["share"])
            for name in _worst_first(facts)
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
        legend_heading=say(facts, words, "scale_name"),
        pair_heading=say(facts, words, "pair"),
        pair_captions=_captions(facts, words),
        area_heading=words.say("areas"),
        area_headings=area_headings,
        area_rows=area_rows,
        area_note=note,
        area_texts=texts,
        sections=(_method(facts, words), _limits(facts, words)),
        sources_heading=words.say("sources"),
        sources=sources_of(facts, words),
        page=words.tree["phrases"]["page"],
    )


def _worst_first(facts: Facts) -> tuple[str, ...]:
    return tuple(reversed((DESTROYED_OR_NOT if facts.is_post_only else DAMAGE).names[1:]))


def _is_fused(facts: Facts) -> bool:
    return bool(facts.provenance.get("mode") == "fused" and facts.provenance.get("sources"))


def _status(facts: Facts, words: Wording) -> str:
    if facts.totals is None:
        return words.say("status_rapid")
    return words.count("status_sampled", facts.totals.sample)


def _facts(facts: Facts, words: Wording) -> tuple[tuple[str, str], ...]:
    before, after = dates_of(facts)
    return (
        (words.say("what"), _what(facts, words)),
        (words.say("where"), _where(facts, words)),
        (
            words.say("when"),
            say(facts, words, "when_text", before=words.date(before), after=words.date(after)),
        ),
    )


def _what(facts: Facts, words: Wording) -> str:
    return (
        words.say("what_fused")
        if _is_fused(facts) and not facts.is_post_only
        else say(facts, words, "what_text")
    )


def _captions(facts: Facts, words: Wording) -> tuple[str, ...]:
    named = zip(("before", "after"), dates_of(facts), strict=True)
    captions = tuple(words.say(name) + words.tree["colon"] + words.date(day) for name, day in named)
    return captions[1:] if facts.is_post_only else captions


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
    assessed, missed = summary["assessed"], summary["not_assessed"]["buildings"]
    destroyed = summary["classes"]["destroyed"]["buildings"]
    if assessed and facts.is_post_only:
        found = [_headline("destroyed_post_only", destroyed, assessed, words, _COLOURS["destroyed"])]
    elif assessed:
        damaged = summary["damaged"]["buildings"]
        found = [
            _headline("damaged", damaged, assessed, words, "#17212b"),
            (words.number(destroyed), words.count("destroyed", destroyed), "", _COLOURS["destroyed"]),
        ]
    else:
        found = [("–", words.say("none_assessed"), "", "#17212b")]
    return (*found, (words.number(missed), words.count("not_assessed", missed), "", "#5a6875"))


def _headline(key: str, count: int, assessed: int, words: Wording, colour: str) -> tuple[str, str, str, str]:
    of_how_many = words.count("damaged_of", assessed, percent=words.percent(count / assessed))
    return words.number(count), words.count(key, count), of_how_many, colour


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
    for name in _worst_first(facts):
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
    areas = [summary["classes"][name]["area_m2"] for name in _worst_first(facts)]
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
        return (say(facts, words, "scale_note"),)
    listed = []
    for reason, number in missed["reasons"].items():
        key = f"reason_{_key(str(reason))}"
        known = words.say(key) if key in words.tree["phrases"] else words.given(str(reason), 40)
        listed.append(f"{known} ({words.number(number)})")
    return say(facts, words, "scale_note"), words.say("reasons", list=words.list(listed))


def _grey(facts: Facts, words: Wording) -> tuple[tuple[str, str], ...]:
    if not facts.summary["not_assessed"]["buildings"]:
        return ()
    return ((NOT_ASSESSED_COLOUR, _name(NOT_ASSESSED, words)),)


def _areas(
    facts: Facts, words: Wording, most: int
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], str, int]:
    """Headings, rows, what is left out, and how many columns are texts."""
    areas = facts.areas
    if areas is None or not areas.rows:
        return (), (), "", 1
    shown = areas.rows[:most]
    has_codes = any(row.code and row.code != row.name for row in shown)
    has_intervals = any(row.low is not None for row in shown)
    headings = [words.say("areas_name")]
    headings += [words.say("areas_code")] if has_codes else []
    headings += [words.say("buildings"), say(facts, words, "areas_damaged"), words.say("share")]
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
        said = [
            say(facts, words, "method_footprints", file=words.given(str(footprints.get("name", "?")), 60))
        ]
    else:
        said = [say(facts, words, "method_traced")]
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
    said = [words.say("limit_post_only")] if facts.is_post_only else []
    said += [words.say("limit_above"), words.say("limit_single")]
    if facts.summary["not_assessed"]["buildings"]:
        said.append(words.say("limit_not_assessed"))
    if facts.totals is None:
        said.append(words.say("limit_counts_fused" if _is_fused(facts) else "limit_counts"))
    if None in dates_of(facts)[1 if facts.is_post_only else 0 :]:
        said.append(words.say("limit_dates"))
    told = str(facts.provenance["model"].get("limits") or "").strip()
    foreign = [clean(told, 420)] if told else []
    if told:
        said.append(words.say("model_says") + words.tree["colon"].rstrip())
    return Section(words.say("limits"), tuple(said), tuple(foreign))


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
