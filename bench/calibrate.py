"""Choose a model's thresholds and correct its probabilities on events that its siblings have not seen; prints a table.

    python bench/calibrate.py /tmp/events 'runs/field-{event}/model' --write runs/field/model

    python bench/calibrate.py /tmp/free box --sets build/synthetic-7 build/painted-banepa build/painted-ggaba \
        --shares 313033,36860,29904,31560 --write src/aftermap/box

The siblings are models trained like the one to be corrected, each without one event: `{event}` in the template. What is
said of an event comes from its sibling, so the figures are those of unseen ground. For the table each event is judged by
what the *other* events chose; what is written into the card is chosen by all of them.

    building threshold   mean over events of the localization F1
    object threshold     mean over events of the F1 of buildings found
    calibration          mean over events of the log-likelihood of given buildings: a temperature, and a factor by class
    decision weights     the factors to the power of the temperature: the class is the most probable one

The second command is for a model that no real disaster may take part in: sets that it has not learned from stand for the
events, and their buildings are weighed so that the classes have the shares given (those of xBD as Gupta et al. 2019
publish them), because a generator strikes far more houses than a disaster does.

Predictions are those that `events.py` keeps; `--data` and the folder are the same.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

import aftermap
from aftermap.artefacts.card import Calibration
from aftermap.artefacts.edit import rewrite_card
from aftermap.artefacts.store import load_card
from aftermap.classes import IGNORE
from aftermap.data.scene import Scene, read_mask
from aftermap.scoring.instances import label_components, match_buildings, shares
from events import (
    BENEATH,
    MEASURES,
    SOURCE,
    auc,
    calibration,
    f1,
    kept_in,
    predicted,
    scenes_of,
    traced_shapes,
)

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
OBJECTS = (0.0, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Event:
    """What a sibling says of an event that it has not seen.

    Attributes:
        pixels: true and false positives and false negatives (thresholds, 3).
        objects: by threshold: mean p(building), phantom, matched of each traced shape (n, 3). buildings: true ones.
        own: probabilities of the given buildings (n, 4). truth: their classes (n,).
    """

    pixels: np.ndarray
    objects: tuple[np.ndarray, ...]
    buildings: int
    own: np.ndarray
    truth: np.ndarray

    def localization(self, threshold: int) -> float:
        return f1(*self.pixels[threshold])

    def found(self, threshold: int, limit: float) -> tuple[float, float]:
        """F1 of buildings found, and the share of phantoms, with shapes below `limit` left out."""
        mean, phantom, matched = self.objects[threshold].T
        kept = mean >= limit
        count, hits = int(kept.sum()), float(matched[kept].sum())
        return f1(hits, count - hits, self.buildings - hits), float(phantom[kept].sum()) / max(count, 1)


def looked_at(folder: Path, template: str, by_event: dict[str, list[Scene]]) -> dict[str, Event]:
    """Every event that has a sibling."""
    name = Path(template.replace("/model", "")).name.replace("-{event}", "")
    found = {}
    for event, scenes in by_event.items():
        if "{event}" in template and not Path(template.format(event=event)).exists():
            continue
        model = aftermap.open_model(template.format(event=event))
        kept = kept_in(folder, name, model) / ("" if event == scenes[0].event else event)
        pixels = np.zeros((len(THRESHOLDS), 3))
        objects: list[list[np.ndarray]] = [[] for _ in THRESHOLDS]
        buildings, own, truth = 0, [], []
        for scene in scenes:
            stored = predicted(model, scene, kept)
            p = stored["building"]
            mask = read_mask(scene, target="building")
            judged, target = mask != IGNORE, mask == 1
            true = label_components(target, min_area_px=4)
            buildings += int(true.max(initial=0))
            own.append(stored["own"])
            truth.append(stored["truth"])
            for place, threshold in enumerate(THRESHOLDS):
                mine = p > 255 * threshold
                pixels[place] += [
                    (mine & target).sum(),
                    (mine & ~target & judged).sum(),
                    (~mine & target).sum(),
                ]
                shapes = traced_shapes(p, threshold, scene)
                count = int(shapes.max(initial=0))
                sizes = np.bincount(shapes.ravel(), minlength=count + 1)[1:]
                mean = np.bincount(shapes.ravel(), weights=p.ravel(), minlength=count + 1)[1:] / 255 / sizes
                matched = np.zeros(count)
                matched[match_buildings(shapes, true)[:, 0] - 1] = 1
                known = shares(~judged, shapes) <= 0.5
                rows = np.stack([mean, shares(target, shapes) < BENEATH, matched], axis=1)
                objects[place].append(rows[known | (matched > 0)])
        found[event] = Event(
            pixels,
            tuple(np.concatenate(rows) for rows in objects),
            buildings,
            np.concatenate(own),
            np.concatenate(truth),
        )
    return found


def corrected(events: list[Event], shares: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Temperature and factors with the best mean log-likelihood over events; the largest factor is 1.

    Args:
        events: what is known of them.
        shares: of the classes, which buildings are weighed to; None takes buildings as they are.
    """
    weights = []
    for event in events:
        own = np.bincount(event.truth, minlength=4) / len(event.truth)
        weight = (
            np.ones(len(event.truth)) if shares is None else (shares / np.maximum(own, 1e-9))[event.truth]
        )
        weights.append(weight / weight.sum())

    def loss(values: np.ndarray) -> float:
        temperature, steps = np.exp(values[0]), np.array([0, *values[1:]])
        total = 0.0
        for event, weight in zip(events, weights, strict=True):
            scores = np.log(np.maximum(event.own, LEAST_SHARE)) / temperature + steps
            scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
            total -= float(weight @ scores[np.arange(len(event.truth)), event.truth])
        return total / len(events) + 0.002 * float((steps**2).sum())

    best = minimize(loss, np.zeros(4), method="L-BFGS-B", bounds=[(-1.5, 2.0), *[(-4, 4)] * 3])
    factors = np.exp(np.array([0, *best.x[1:]]))
    return float(np.exp(best.x[0])), factors / factors.max()


def chosen(events: list[Event], shares: np.ndarray | None = None) -> tuple[int, float, float, np.ndarray]:
    """Place of the building threshold, object threshold, temperature and factors by these events."""
    places = range(len(events[0].pixels))
    threshold = int(np.argmax([np.mean([e.localization(t) for e in events]) for t in places]))
    limit = OBJECTS[int(np.argmax([np.mean([e.found(threshold, o)[0] for e in events]) for o in OBJECTS]))]
    return threshold, limit, *corrected(events, shares)


def judged_by(event: Event, choice: tuple[int, float, float, np.ndarray]) -> dict[str, float]:
    """The measures of `events.py` of one event under a choice."""
    threshold, limit, temperature, factors = choice
    own = Calibration(temperature=temperature, factors=tuple(factors)).apply(
        np.maximum(event.own, LEAST_SHARE)
    )
    error, brier = calibration(own, event.truth)
    found, phantoms = event.found(threshold, limit)
    return {
        "localization": event.localization(threshold),
        "phantoms": phantoms,
        "found": found,
        "AUC": auc(1 - own[:, 0], event.truth > 0),
        "accuracy": float((own.argmax(axis=1) == event.truth).mean()),
        "none": float((event.truth == 0).mean()),
        "ECE": error,
        "Brier": brier,
        "AUC destroyed": auc(own[:, 3], event.truth == 3),
        "buildings": len(event.truth),
    }


def called(event: Event, weights: np.ndarray, shares: np.ndarray | None = None) -> tuple[float, float, float]:
    """Given buildings called damaged, damaged ones, and those that are both; as shares when `shares` weighs them."""
    decided, truth = (event.own * weights).argmax(axis=1) > 0, event.truth > 0
    weight = np.ones(len(truth))
    if shares is not None:
        weight = (shares * len(truth) / np.maximum(np.bincount(event.truth, minlength=4), 1))[event.truth]
        weight /= weight.sum()
    return float(weight @ decided), float(weight @ truth), float(weight @ (decided & truth))


def balanced(events: list[Event], weights: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    """These weights with one factor on the three degrees of damage: as many are called damaged as there are.

    That is the decision of somebody to whom the total matters and misses cost what false alarms do; found by bisection.
    """
    low, high = 1.0, 64.0
    for _ in range(40):
        factor = (low * high) ** 0.5
        pairs = np.mean(
            [called(e, weights * [1, factor, factor, factor], shares)[:2] for e in events], axis=0
        )
        low, high = (factor, high) if pairs[0] < pairs[1] else (low, factor)
    return weights * [1, high, high, high]


def print_called(events: dict[str, Event], rules: dict[str, np.ndarray]) -> None:
    """One row for each rule of decision and event: how many are called damaged, and what that is worth."""
    print("\n| decision | event | damaged | called | both | accuracy |\n|---|---|---:|---:|---:|---:|")
    for rule, weights in rules.items():
        sums = np.zeros(3)
        for name, event in events.items():
            counts = np.array(called(event, weights))
            right = float(((event.own * weights).argmax(axis=1) == event.truth).mean())
            print(
                f"| {rule} | {name} | {counts[1]:,.0f} | {counts[0]:,.0f} | {counts[2]:,.0f} | {right:.3f} |"
            )
            sums += counts
        print(f"| {rule} | all | {sums[1]:,.0f} | {sums[0]:,.0f} | {sums[2]:,.0f} | |")


def draw(events: dict[str, Event], path: Path) -> None:
    """Two panels: how far probabilities can be believed, and what object thresholds trade."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    believed, traded = figure.subplots(1, 2)
    edges = np.linspace(0, 1, 11)
    for corrected_too, colour, label in ((False, "#999999", "the model's"), (True, "#1f6fb4", "corrected")):
        sure, right = [], []
        for name, event in events.items():
            own = event.own
            if corrected_too:
                others = [e for n, e in events.items() if n != name]
                temperature, factors = corrected(others)
                fitted = Calibration(temperature=temperature, factors=tuple(factors))
                own = fitted.apply(np.maximum(own, LEAST_SHARE))
            sure.append(own.max(axis=1))
            right.append(own.argmax(axis=1) == event.truth)
        confidence, hits = np.concatenate(sure), np.concatenate(right)
        bins = np.clip(np.digitize(confidence, edges) - 1, 0, 9)
        points = [
            (confidence[bins == b].mean(), hits[bins == b].mean())
            for b in range(10)
            if (bins == b).sum() > 30
        ]
        believed.plot(*np.array(points).T, "o-", color=colour, label=label)
    believed.plot([0.25, 1], [0.25, 1], ":", color="black", label="as told")
    believed.set(
        xlabel="probability of the likeliest class", ylabel="share that is right", title="Given buildings"
    )
    believed.legend(frameon=False)
    for name, event in events.items():
        threshold = int(np.argmax([event.localization(t) for t in range(len(event.pixels))]))
        curve = np.array([event.found(threshold, limit)[::-1] for limit in OBJECTS])
        traded.plot(curve[:, 0], curve[:, 1], ".-", label=name)
    traded.set(
        xlabel="phantoms, share of traced buildings",
        ylabel="F1 of buildings found",
        title="Object thresholds, 0 to 0.8",
    )
    traded.legend(frameon=False, fontsize=8)
    for axes in (believed, traded):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="that of events.py")
    parser.add_argument("template", help="models by event, with {event}")
    parser.add_argument("--data", type=Path, default=SOURCE)
    parser.add_argument("--sets", type=Path, nargs="+", help="prepared sets in place of the events")
    parser.add_argument(
        "--shares",
        type=lambda text: np.array(text.split(","), float),
        help="of the four classes, to weigh by",
    )
    parser.add_argument(
        "--decisions", nargs="*", default=[], metavar="W,W,W,W", help="more decision weights to count by"
    )
    parser.add_argument(
        "--write", type=Path, metavar="MODEL", help="the model folder whose card takes the choice"
    )
    parser.add_argument(
        "--figure", type=Path, metavar="PNG", help="reliability, and phantoms against found buildings"
    )
    options = parser.parse_args()
    if options.sets:
        by_event = {path.name: list(aftermap.Manifest.load(path).scenes) for path in options.sets}
    else:
        by_event = scenes_of(options.folder, options.data)
    events = looked_at(options.folder, options.template, by_event)
    shares = None if options.shares is None else options.shares / options.shares.sum()
    print(
        "| unseen event | buildings | "
        + " | ".join(MEASURES)
        + " |\n|---"
        + "|---:" * (len(MEASURES) + 1)
        + "|"
    )
    table = {}
    for name, event in events.items():
        table[name] = judged_by(event, chosen([e for n, e in events.items() if n != name], shares))
    mean = {key: float(np.nanmean([v[key] for v in table.values()])) for key in (*MEASURES, "buildings")}
    total = sum(v["buildings"] for v in table.values())
    pooled = {k: sum(v[k] * v["buildings"] for v in table.values()) / total for k in ("accuracy", "none")}
    for name, values in {**table, "mean over events": mean}.items():
        print(
            f"| {name} | {values['buildings']:,.0f} | "
            + " | ".join(f"{values[k]:.3f}" for k in MEASURES)
            + " |"
        )
    print(f"\nall buildings: accuracy {pooled['accuracy']:.3f}, none {pooled['none']:.3f}")
    threshold, limit, temperature, factors = chosen(list(events.values()), shares)
    weights = factors**temperature
    print(
        f"\nchosen by all: threshold {THRESHOLDS[threshold]}, object threshold {limit}, temperature {temperature:.3f}, "
        f"factors {np.round(factors, 3).tolist()}, weights {np.round(weights, 3).tolist()}"
    )
    rules = {"chosen": weights, "balanced": balanced(list(events.values()), weights, shares)}
    rules |= {text: np.array(text.split(","), float) for text in options.decisions}
    print(f"balanced: weights {np.round(rules['balanced'], 3).tolist()}")
    print_called(events, rules)
    if options.figure is not None:
        draw(events, options.figure)
    if options.write is None:
        return
    card = load_card(options.write)
    figures = ("localization", "phantoms", "found", "AUC", "accuracy", "none", "ECE")
    what = "sets" if options.sets else "events"
    changes = {
        "building_threshold": THRESHOLDS[threshold],
        "object_threshold": limit,
        "damage_weights": tuple(round(float(w), 4) for w in weights),
        "calibration": Calibration(
            temperature=round(temperature, 4),
            factors=tuple(round(float(f), 4) for f in factors),
            events={name: round(values["ECE"], 4) for name, values in table.items()},
            fitted_on=f"{total:,.0f} buildings of {len(events)} {what} that the model, or its sibling, had not seen"
            + ("" if shares is None else f", weighed to class shares of {np.round(shares, 3).tolist()}"),
        ),
        "metrics": card.metrics
        if options.sets
        else {
            f"unseen: {name}": {key: round(values[key], 4) for key in figures}
            for name, values in table.items()
        },
    }
    rewrite_card(options.write, card.model_copy(update=changes))


if __name__ == "__main__":
    main()
