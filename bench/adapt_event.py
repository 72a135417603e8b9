"""What adapting to an event without labels is worth, and whether the guard rails' verdict is the truth's.

    OMP_NUM_THREADS=1 python bench/adapt_event.py \\
        --case box mexico-prepared mexico-earthquake --case without-michael/model xbd-prepared hurricane-michael

The model of a case should not have learned from its event. Every row is one way of adapting: labels of the event are
looked at for the score alone. Rows also go to a file as they are done; those that are there already are not made again.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from aftermap.artefacts.store import load_model
from aftermap.data.loading.loader import has_labels
from aftermap.inference.predictor import Predictor
from aftermap.workflows.adaptation.config import AdaptEventRecipe
from aftermap.workflows.adaptation.guard import gather_evidence, judge
from aftermap.workflows.adaptation.scenes import event_scenes
from aftermap.workflows.adaptation.without_labels import adapted_model, truth_of
from aftermap.workflows.scoring.evaluate import spread

WAYS = {
    "statistics, half": {"method": "batch-norm", "statistics": 0.5, "steps": 24},
    "statistics, all": {"method": "batch-norm", "statistics": 1.0, "steps": 24},
    "mean teacher": {},
    "mean teacher, sure pixels": {"objective.confidence": 0.8},
    "mean teacher, frozen statistics": {"objective.norm": "frozen"},
    "mean teacher, 20 times the rate": {"lr": 1e-2, "objective.decay": 0.9},
}
TITLES = (
    "event",
    "way",
    "localization F1",
    "official",
    "decisive score",
    "building macro F1",
    "evidence",
    "verdict",
)
TITLES += ("right", "CPU s")


def main() -> None:
    """Adapt, score, judge and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs=3, action="append", metavar=("MODEL", "DATA", "EVENT"), required=True)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--set", nargs="*", default=[], help="key=value of the recipe, for every way")
    parser.add_argument(
        "--scored", type=int, default=12, help="scenes with buildings that are scored; 0: all"
    )
    parser.add_argument("--judged", type=int, default=8, help="scenes that the guard looks at")
    parser.add_argument("--out", type=Path, default=Path("adapt-event.jsonl"))
    words = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line) for line in words.out.read_text().splitlines()] if words.out.exists() else []
    print(f"| {' | '.join(TITLES)} |\n{'|---' * len(TITLES)}|")
    for model, data, event in words.case:
        case(words, model, data, event, {(row["model"], row["event"], row["way"]): row for row in done})


def case(words, model: str, data: str, event: str, done: dict) -> None:
    """All ways of one model and event."""
    base = {"model": model, "data": [data], "event": event, "guard": {"scenes": words.judged}}
    base["objective"] = AdaptEventRecipe.model_fields["objective"].default.model_dump(mode="json")
    base = changed(base, dict(word.split("=", 1) for word in words.set))
    missing = [way for way in ("none", *words.ways) if (model, event, way) not in done]
    parent = load_model(model)
    recipe = AdaptEventRecipe.model_validate(base)
    given = event_scenes(recipe, parent.card)
    rich = [s for s in given.scenes if has_labels(s, given.target) and sum(s.class_pixels[1:])]
    scored = spread(rich, words.scored)
    predictor = Predictor(parent)
    before = truth = None
    if missing:
        before = gather_evidence(predictor, given.bare, recipe.guard)
        truth = truth_of(predictor, scored)
    for way in ("none", *words.ways):
        row = done.get((model, event, way))
        if row is None:
            started = time.process_time()
            row = {"model": model, "event": event, "way": way}
            if way == "none":
                row |= {"truth": truth, "evidence": before.as_dict(), "seconds": 0.0}
            else:
                wanted = AdaptEventRecipe.model_validate(changed(base, WAYS[way]))
                child = Predictor(adapted_model(wanted, given))
                row["seconds"] = time.process_time() - started
                after = gather_evidence(child, given.bare, wanted.guard, teacher=predictor)
                row |= {"truth": truth_of(child, scored), "evidence": after.as_dict()}
                row |= {"verdict": judge(before, after, wanted.guard).as_dict(), "truth_before": truth}
            with words.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(line_of(row), flush=True)


def changed(tree: dict, keys: dict) -> dict:
    """A tree of plain values with dotted keys laid over it."""
    tree = json.loads(json.dumps(tree))
    for key, value in keys.items():
        node = tree
        *parents, leaf = key.split(".")
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value
    return tree


def line_of(row: dict) -> str:
    """A row of the table."""
    truth, verdict = row["truth"], row.get("verdict")
    names = ("localization_f1", "official_score", "score", "building_macro_f1")
    numbers = [f"{truth[name]:.3f}" if name in truth else "-" for name in names]
    right = "-"
    if verdict:
        gained = truth["score"] > row["truth_before"]["score"]
        right = "yes" if gained == (verdict["kept"] == "student") else "no"
    said = [
        f"{row['evidence']['score']:.4f}",
        verdict["reason"] if verdict else "-",
        right,
        f"{row['seconds']:.0f}",
    ]
    return f"| {' | '.join([row['event'], row['way'], *numbers, *said])} |"


if __name__ == "__main__":
    main()
