"""A benchmark as one HTML page that opens offline: the leaderboard, every fold, curves, and how to read them."""

import base64
import html
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from typing import Any

from aftermap import __version__
from aftermap.products.figures.benchmark_figure import draw_benchmark, draw_shots
from aftermap.wording import counted

_MEANINGS = (
    "localization F1: building pixels. xView2 score: 0.3 of it and 0.7 of the harmonic mean of four classes, by pixel.",
    "buildings found: F1 of outlines that overlap by more than half. phantoms: share of traced buildings that touch no "
    "true one.",
    "All others have the true buildings given (connected parts of one class of the mask). AUC: that a damaged building "
    "ranks above an undamaged one; 0.5 is chance. accuracy of “none”: what “no damage” for every building would reach.",
    "ECE and Brier: how far probabilities are from what is right; AURC: the mean error when the surest are told first. "
    "Of these and of phantoms less is better.",
    "Means are over folds: a fold with many buildings counts no more than others. Below a figure stand the edges of 95 % "
    "of the draws: of folds, and of the scenes within each. With few folds they are wide, and rightly so.",
)


def leaderboard(
    report: Mapping[str, Any], figures: Mapping[str, str], lower_is_better: Collection[str] = ()
) -> str:
    """The page of a `benchmark.json`.

    Args:
        report: what the file holds.
        figures: title of every figure, in the order of the columns.
        lower_is_better: names of those of which less is better.
    """
    entrants, protocol = report["entrants"], report["protocol"]
    folds = protocol["folds"]
    tested = sum(size["test"] for size in folds.values())
    style = (resources.files("aftermap.products") / "leaderboard.css").read_text(encoding="utf-8")
    leaking = [entrant["name"] for entrant in entrants if entrant.get("leaks")]
    title = f"{_t(protocol['kind'])}: {len(entrants)} compared on {tested} scenes"
    picture = base64.b64encode(draw_benchmark(entrants)).decode("ascii")
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="faint">{counted(len(folds), "fold")}, seed {protocol["seed"]}; protocol {protocol["sha256"][:12]}, '
        f"data {protocol['data'][:12]} ({_t(report['data_licence'])}); aftermap {_t(report['aftermap'])}, "
        f"{_t(report['machine'])}</p>",
        *(
            [f"<p><b>Not to be compared: {_t(', '.join(leaking))} learned from tested events.</b></p>"]
            if leaking
            else []
        ),
        "<h2>Mean over folds</h2>",
        _table(_mean_rows(entrants), figures, lower_is_better, extra=("CPU s / Mpx", _costs(entrants))),
        "<ul>" + "".join(f"<li>{_t(meaning)}</li>" for meaning in _MEANINGS) + "</ul>",
        *_by_scenes(entrants, protocol),
        f"<h2>Against {'the same model without scenes' if 'shots' in protocol else 'the first'}</h2>",
        _against(_gaps(entrants), figures, lower_is_better),
        f'<h2>Curves</h2><p><img alt="reliability and risk-coverage curves" src="data:image/png;base64,{picture}"></p>',
    ]
    for fold in folds:
        rows = {e["name"]: e["folds"][fold] for e in entrants if fold in e["folds"]}
        size = next(iter(rows.values()), {"scenes": 0, "buildings": 0})
        parts.append(f"<h2>{_t(fold)}: {size['scenes']} scenes, {size['buildings']:,} buildings</h2>")
        parts.append(_table(rows, figures, lower_is_better))
        if "shots" in protocol:
            parts.append(_against(_gaps(entrants, fold), figures, lower_is_better))
    parts.append("<h2>Who took part</h2><ul>")
    parts += [
        f"<li>{_t(e['name'])} ({_t(e['kind'])}): {_leak(e)}{_seeds(e)}{_trained(e)}</li>" for e in entrants
    ]
    parts.append("</ul>")
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
        f'<meta name="generator" content="aftermap {_t(__version__)}">\n<title>{title}</title>\n'
        f"<style>{style}</style>\n</head>\n"
    )
    return f"{head}<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"


def _t(text: object) -> str:
    return html.escape(str(text))


def _mean_rows(entrants: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {entrant["name"]: entrant["mean"] for entrant in entrants}


def _costs(entrants: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {entrant["name"]: f"{entrant['cpu_seconds_per_mpx']:.3f}" for entrant in entrants}


def _leak(entrant: Mapping[str, Any]) -> str:
    """What is known of whether it has seen the tested scenes; in bold where it has."""
    return f"<b>{_t(entrant['leak'])}</b>" if entrant.get("leaks") else _t(entrant["leak"])


def _trained(entrant: Mapping[str, Any]) -> str:
    """How long a training took."""
    seconds = entrant.get("training_cpu_seconds")
    return "" if seconds is None else f"; {seconds:,.0f} CPU s of training a fold"


def _seeds(entrant: Mapping[str, Any]) -> str:
    """How far the seeds of a recipe lie apart."""
    runs = entrant["seeds"]
    if len(runs) < 2:
        return ""
    scores = sorted(run["localization_f1"] for run in runs.values() if run["localization_f1"] is not None)
    return f"; {len(runs)} seeds, localization F1 {scores[0]:.3f} to {scores[-1]:.3f}" if scores else ""


def _table(
    rows: Mapping[str, Any],
    figures: Mapping[str, str],
    lower_is_better: Collection[str],
    extra: tuple[str, Mapping[str, str]] | None = None,
) -> str:
    """A row for each name, a column for each figure; the best of a column is set in bold."""
    heads = "".join(f"<th>{_t(title)}</th>" for title in figures.values())
    heads += f"<th>{_t(extra[0])}</th>" if extra else ""
    best = {name: _best(rows, name, name in lower_is_better) for name in figures}
    body = []
    for name, row in rows.items():
        cells = "".join(_cell(row, figure, row["values"].get(figure) == best[figure]) for figure in figures)
        cells += f"<td>{extra[1][name]}</td>" if extra else ""
        body.append(f"<tr><td>{_t(name)}</td>{cells}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{heads}</tr>{"".join(body)}</table></div>'


def _best(rows: Mapping[str, Any], figure: str, lower: bool) -> float | None:
    found = [row["values"].get(figure) for row in rows.values()]
    known = [float(value) for value in found if value is not None]
    if len(known) < 2 or figure == "none_accuracy":
        return None
    return min(known) if lower else max(known)


def _cell(row: Mapping[str, Any], figure: str, is_best: bool) -> str:
    value = row["values"].get(figure)
    if value is None:
        return "<td>–</td>"
    shown = f"<b>{value:.3f}</b>" if is_best else f"{value:.3f}"
    edges = row["intervals"].get(figure)
    small = f"<small>{edges[0]:.3f} to {edges[1]:.3f}</small>" if edges else ""
    return f"<td>{shown}{small}</td>"


def _by_scenes(entrants: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any]) -> list[str]:
    """What labelled scenes of the event are worth, as curves; nothing by other protocols."""
    if "shots" not in protocol:
        return []
    picture = base64.b64encode(draw_shots(entrants)).decode("ascii")
    left_out = protocol.get("left_out")
    missing = f" Left out, as they have too few scenes: {_t(', '.join(left_out))}." if left_out else ""
    drawn = "to show every kind of damage" if protocol.get("informed") else "by hash"
    return [
        "<h2>What labelled scenes of the event are worth</h2>",
        f"<p>A row “+5” is the model adapted with five labelled scenes of the event, drawn {drawn} from places with "
        "buildings; more scenes are those of fewer and others. The "
        f"tested scenes are the same whatever their number, and show other ground.{missing}</p>",
        f'<p><img alt="figures by number of scenes" src="data:image/png;base64,{picture}"></p>',
    ]


Gaps = tuple[str, Mapping[str, Any]]


def _gaps(entrants: Sequence[Mapping[str, Any]], fold: str | None = None) -> list[Gaps]:
    """What is less what, and the differences by figure: of the means, or in one fold."""
    found = []
    for entrant in entrants:
        against = entrant["against"]
        if not against:
            continue
        gaps = against["differences"] if fold is None else against.get("folds", {}).get(fold)
        if gaps is not None:
            found.append((f"{entrant['name']} less {against['name']}", gaps))
    return found


def _against(rows: Sequence[Gaps], figures: Mapping[str, str], lower_is_better: Collection[str]) -> str:
    """Paired differences; bold where 0 lies outside the interval."""
    lines = []
    for name, gaps in rows:
        cells = []
        for figure in figures:
            gap = gaps.get(figure)
            if gap is None:
                cells.append("<td>–</td>")
                continue
            value = f"{gap['difference']:+.3f}"
            edges = gap["interval"]
            small = f"<small>{edges[0]:+.3f} to {edges[1]:+.3f}</small>" if edges else ""
            cells.append(f"<td>{f'<b>{value}</b>' if gap['clear'] else value}{small}</td>")
        lines.append(f"<tr><td>{_t(name)}</td>{''.join(cells)}</tr>")
    if not lines:
        return '<p class="faint">One row alone: there is nothing to compare it with.</p>'
    heads = "".join(
        f"<th>{_t(title)}{' (less is better)' if name in lower_is_better else ''}</th>"
        for name, title in figures.items()
    )
    return (
        "<p>The same draws of scenes and folds for both; bold where 95 % of the differences have one sign.</p>"
        f'<div class="scroll"><table><tr><th></th>{heads}</tr>{"".join(lines)}</table></div>'
    )
