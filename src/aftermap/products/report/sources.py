"""What a report says of where a map comes from: model, imagery, rights, days."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from aftermap import __version__
from aftermap.products.report.facts import Facts
from aftermap.products.report.wording import Wording, clean

_MOST_WARNINGS = 4


def say(facts: Facts, words: Wording, key: str, /, **values: str) -> str:
    """A phrase, in the form for a map of the image after alone where it is one."""
    return words.say(f"{key}_post_only" if facts.is_post_only else key, **values)


def sources_of(facts: Facts, words: Wording) -> tuple[tuple[str, str], ...]:
    """Rows of the table of sources and rights."""
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
            say(
                facts,
                words,
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


def dates_of(facts: Facts) -> tuple[date | None, date | None]:
    """Days of the image before and of the one after."""
    inputs = facts.provenance["inputs"]
    before, after = (day_of((inputs.get(name) or {}).get("acquired")) for name in ("pre", "post"))
    return before, after


def day_of(text: Any) -> date | None:
    """The day of a time (ISO 8601); None where it is none."""
    try:
        return date.fromisoformat(str(text)[:10])
    except ValueError:
        return None
