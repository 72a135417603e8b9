"""What came of a training run, in words, whatever its kind."""

import json
from pathlib import Path
from typing import Any

from aftermap.cli.output import print_json, say


def say_outcome(outcome: Any, folder: Path) -> int:
    """Print what came of a run of any kind, and where its model is.

    Returns:
        The exit code: 1 where the folder holds the model that the run began from.
    """
    from aftermap.workflows.adaptation.with_labels import AdaptedWithLabels
    from aftermap.workflows.adaptation.without_labels import AdaptedWithoutLabels
    from aftermap.workflows.incremental.run import LearnedIncrementally
    from aftermap.workflows.self_training.run import SelfTrained

    match outcome:
        case AdaptedWithLabels():
            _say_scores(outcome, folder)
        case AdaptedWithoutLabels():
            say(f"{outcome.verdict.reason}; the folder holds the {outcome.kept} model")
            before, after = outcome.truth_before, outcome.truth_after
            if before is not None and after is not None:
                known = f"the score went from {before['score']:.3f} to {after['score']:.3f}"
                say(f"by the event's labels, which neither the learning nor the verdict has seen, {known}")
            say(f"picture: {folder / 'before-after.png'}")
        case LearnedIncrementally():
            say((folder / "incremental.md").read_text())
            say(f"report: {folder / 'incremental.md'}")
        case SelfTrained():
            say(f"kept: the {outcome.kept} ({outcome.reason})\nreport: {folder / 'self-training.png'}")
        case _ if "held_out_loss" in outcome.metrics:
            say(f"loss of held-out images: {outcome.metrics['held_out_loss']:.4f}")
            say(f"encoder, for model.encoder_weights: {outcome.model}")
            return 0
        case _:
            say(_metrics(outcome.metrics))
    say(f"model: {outcome.model}")
    return 1 if getattr(outcome, "kept", "") in ("parent", "teacher") else 0


def print_adapted(outcome: Any) -> None:
    """An adaptation as JSON: what its report says."""
    report = json.loads((outcome.model.parent / "adaptation.json").read_text())
    print_json({"event": report["event"], **outcome.as_dict()})


def _metrics(metrics: dict[str, float]) -> str:
    """The evaluation of the step that was kept."""
    if "score_before" in metrics:
        before, after = metrics["score_before"], metrics["score"]
        return (
            f"best task set {metrics['step']}: held-out events score {before:.3f} before and {after:.3f} after "
            "adapting"
        )
    scores = ", ".join(
        f"{name} {value:.3f}"
        for name, value in metrics.items()
        if name not in ("step", "lr") and not name.startswith("loss")
    )
    return f"best step {metrics.get('step')}: {scores}"


def _say_scores(outcome: Any, folder: Path) -> None:
    """Scores before and after an adaptation with labels."""
    from rich.table import Table

    report = json.loads((folder / "adaptation.json").read_text())
    before, after = report["before"], report["after"]
    table = Table("metric", "before", "after", "change")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, first in before.items():
        second = after[name]
        known = first is not None and second is not None
        values = ["-" if v is None else f"{v:.3f}" for v in (first, second)]
        table.add_row(name.replace("_", " "), *values, f"{second - first:+.3f}" if known else "")
    say(table)
    scenes = ", ".join(report["scenes"])
    say(f"learned from {scenes}; scored on {report['evaluated']} others of {report['event']}")
    if outcome.kept == "parent":
        say(
            "adapting made it worse: the model folder holds the parent's weights (--force keeps the adapted ones)"
        )
    elif outcome.kept in ("localization", "damage"):
        other = "damage" if outcome.kept == "localization" else "localization"
        say(
            f"the adapted model is better at {outcome.kept} alone: the folder holds both, with the parent's {other}, "
            f"score {report['together']['score']:.3f}; it takes twice the time"
        )
    elif (after["score"] or 0) < (before["score"] or 0):
        say("adapting made it worse, and the adapted weights were kept as asked (--force)")
