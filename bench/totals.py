"""Whether the intervals of `aftermap totals` cover, and how wide they are: simulated analysts on real and made-up truth.

    python bench/totals.py build/totals                             # five real events, none of which the box has seen
    python bench/totals.py build/totals --figures docs/images

Analysts answer the truth for the first 50, 100 and 200 buildings of a sample that `aftermap.workflows.totals` draws by
what the box says of true footprints; everything is drawn again 1,000 times. Then towns of 4,000 buildings with 620
damaged ones and a model that ranks them with a chosen AUC, well calibrated and twice too sure. Columns:

    coverage    share of redraws whose 95 % interval holds the truth
    no error    share of redraws in which the sample holds nobody of that class
    width       mean width, in buildings; against a simple random sample of the same size, its interval by the same method
    best        mean width against the allocation to the same strata that knew the truth
    scatter     standard deviation of the cross-fitted PPI++ estimate against that of the stratified one
    PPI++, Wald coverage of its logit interval, and of the stratified estimate +- 1.96 standard errors

Predictions are kept in the folder (225 scenes, about ten minutes of a core once). The data is non-commercial: nothing of
it goes into the project.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import norm

import aftermap
from aftermap.data.readers.xbd import read_label_file
from aftermap.files import replacing
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.objects.painting import Painter
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.workflows.totals.estimate import KINDS
from aftermap.workflows.totals.estimators import Drawn, logit_interval, model_assisted, tuned_weight
from aftermap.workflows.totals.intervals import stratified_interval
from aftermap.workflows.totals.sampling import timetable
from aftermap.workflows.totals.strata import stratify
from events import LEVELS, SOURCE, auc

ANSWERS = (50, 100, 200)
CLASSES = ("damaged", "major or destroyed", "minor-damage", "major-damage", "destroyed")
PER_STRATUM, MOST_STRATA = 8, 24
CLOSE = 1e-6


@dataclass(frozen=True)
class Town:
    """Buildings with what a model says and the truth.

    Attributes:
        name: of it.
        own: the model's probabilities (N, 4). decided: its class (N,). truth: class (N,). area: of each (N,).
    """

    name: str
    own: np.ndarray
    decided: np.ndarray
    truth: np.ndarray
    area: np.ndarray

    @property
    def auc(self) -> float:
        """That a damaged building ranks above an undamaged one."""
        return auc(1 - self.own[:, 0], self.truth > 0)


@dataclass(frozen=True)
class Result:
    """What redraws of one town, class and number of answers gave."""

    town: str
    kind: str
    answers: int
    true: int
    coverage: float
    below: float
    above: float
    empty: float
    width: float
    plain: float
    best: float


def real_towns(folder: Path, data: Path) -> Iterator[Town]:
    """One town for each event; predicted at the first call."""
    model = None
    for event in sorted(path for path in data.iterdir() if path.is_dir()):
        kept = folder / f"{event.name}.npz"
        if not kept.exists():
            model = model or aftermap.open_model("box")
            parts = [part for scene in scenes(event) if (part := predicted(model, scene)) is not None]
            arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
            with replacing(kept, parents=True) as part, part.open("wb") as file:
                np.savez_compressed(file, own=arrays[0], decided=arrays[1], truth=arrays[2], area=arrays[3])
        with np.load(kept) as stored:
            yield Town(event.name, *(stored[key] for key in ("own", "decided", "truth", "area")))


def scenes(event: Path) -> list[Path]:
    """Images after the event."""
    return sorted((event / "images").glob("*_post_disaster.*"))


def predicted(model: AnyPredictor, post: Path) -> tuple[np.ndarray, ...] | None:
    """What the model says of a scene's true footprints; None where there are none."""
    label = read_label_file(post.parent.parent / "labels" / f"{post.stem}.json")
    pairs = zip(label.polygons, label.subtypes, strict=True)
    known = [(polygon, LEVELS.index(subtype)) for polygon, subtype in pairs if subtype in LEVELS]
    if not known:
        return None
    pre = post.with_name(post.name.replace("_post_", "_pre_"))
    images = np.stack(
        [np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in (pre, post)]
    )
    probabilities = predict_scene(model, images)
    height, width = probabilities.shape[-2:]
    evidence = Evidence(len(known), model.damage_weights)
    for labels in Painter([polygon for polygon, _ in known], width).paint(0, height):
        evidence.add(labels, probabilities, np.zeros((height, width), np.uint8))
    seen = evidence.pixels[:, 0] > 0
    means = evidence.levels[seen] / evidence.pixels[seen, :1]
    truth = np.array([level for _, level in known])[seen]
    area = np.array([polygon.area for polygon, _ in known])[seen]
    print(f"{post.stem}: {len(truth)} buildings", file=sys.stderr)
    return means[:, 4:8], means[:, :4].argmax(axis=1), truth, area


def made_up(target: float, *, sure: float = 1.0, count: int = 4000, rate: float = 0.155) -> Town:
    """A town whose model ranks its buildings with an AUC, its logits multiplied by `sure`."""
    generator = np.random.default_rng(0)
    damaged = np.arange(count) < round(rate * count)
    apart = np.sqrt(2) * norm.ppf(target)
    score = generator.normal(size=count) + apart * damaged
    prior = np.log(rate / (1 - rate))
    logit = prior + apart * score - apart**2 / 2 if target > 0.5 else prior + generator.normal(size=count)
    p = 1 / (1 + np.exp(-sure * logit))
    own = np.stack([1 - p, 0.2 * p, 0.3 * p, 0.5 * p], axis=1)
    truth = np.where(damaged, generator.choice([1, 2, 3], count, p=[0.2, 0.3, 0.5]), 0)
    name = f"made up, AUC {target}{', too sure' if sure > 1 else ''}"
    return Town(name, own, np.where(p > 0.5, 3, 0), truth, generator.lognormal(5, 0.6, count))


@dataclass(frozen=True)
class Plan:
    """Strata of a town and how many answers each gets."""

    sizes: np.ndarray
    stratum: np.ndarray
    looked: np.ndarray

    @classmethod
    def of(cls, town: Town, answers: int) -> "Plan":
        """As `draw_sample` makes it."""
        at_most = max(1, min(MOST_STRATA, answers // PER_STRATUM))
        parts, stratum = stratify(town.decided, 1 - town.own[:, 0], town.area, at_most=at_most)
        sizes = np.array([part.buildings for part in parts])
        spreads = np.array([part.spread for part in parts])
        return cls(sizes, stratum, allocated(sizes, spreads, answers))


def allocated(sizes: np.ndarray, spreads: np.ndarray, answers: int) -> np.ndarray:
    """Answers of each stratum."""
    return np.bincount(timetable(sizes, spreads, answers, np.zeros(len(sizes), int)), minlength=len(sizes))


def redrawn(town: Town, answers: int, draws: int) -> Iterator[Result]:
    """Every class of a town, from `draws` samples."""
    generator = np.random.default_rng(answers)
    plan = Plan.of(town, answers)
    holds = np.stack(
        [np.bincount(plan.stratum, weights=town.truth == c, minlength=len(plan.sizes)) for c in range(4)],
        axis=1,
    ).astype(int)
    found = np.stack(
        [
            generator.multivariate_hypergeometric(held, looked, size=draws)
            for held, looked in zip(holds, plan.looked, strict=True)
        ],
        axis=1,
    )
    plain = generator.multivariate_hypergeometric(holds.sum(axis=0), answers, size=draws)
    for kind in CLASSES:
        levels = list(KINDS[kind])
        true, mine = int(holds[:, levels].sum()), found[:, :, levels].sum(axis=-1)
        low, high = stratified_interval(plan.sizes, plan.looked, mine)
        numbers, which = np.unique(plain[:, levels].sum(axis=1), return_inverse=True)
        plain_low, plain_high = stratified_interval([len(town.truth)], [answers], numbers[:, None])
        yield Result(
            town.name,
            kind,
            answers,
            true,
            float(((low <= true + CLOSE) & (high >= true - CLOSE)).mean()),
            float((low > true + CLOSE).mean()),
            float((high < true - CLOSE).mean()),
            float((mine.sum(axis=1) == 0).mean()),
            float((high - low).mean()),
            float((plain_high - plain_low)[which].mean()),
            best_width(plan, holds[:, levels].sum(axis=1), answers, draws) if kind == "damaged" else np.nan,
        )


def best_width(plan: Plan, holds: np.ndarray, answers: int, draws: int) -> float:
    """Mean width with the allocation that knows the truth."""
    share = holds / plan.sizes
    looked = allocated(plan.sizes, np.sqrt(share * (1 - share)) + 1e-9, answers)
    generator = np.random.default_rng(answers + 1)
    found = generator.hypergeometric(holds, plan.sizes - holds, looked, size=(draws, len(holds)))
    low, high = stratified_interval(plan.sizes, looked, found)
    return float((high - low).mean())


def others(town: Town, answers: int, kind: str, draws: int) -> list[str]:
    """Cells: scatter of PPI++ against the stratified estimate, then coverage of PPI++ and of Wald."""
    generator = np.random.default_rng(answers)
    plan = Plan.of(town, answers)
    rows = [np.flatnonzero(plan.stratum == part) for part in range(len(plan.sizes))]
    took = np.stack(
        [
            np.concatenate(
                [generator.choice(r, n, replace=False) for r, n in zip(rows, plan.looked, strict=True)]
            )
            for _ in range(draws)
        ]
    )
    levels = list(KINDS[kind])
    truth, chance = np.isin(town.truth, levels).astype(float), town.own[:, levels].sum(axis=1)
    sums = np.bincount(plan.stratum, weights=chance)
    drawn = Drawn(
        plan.sizes, sums, np.repeat(np.arange(len(plan.sizes)), plan.looked), truth[took], chance[took]
    )
    point, variance, freedom = model_assisted(drawn, tuned_weight(drawn))
    low, high = logit_interval(point, variance, freedom, float(len(truth)), level=0.95)
    plain, spread, _ = model_assisted(drawn, np.zeros(took.shape))
    wald = np.abs(plain - truth.sum()) <= 1.96 * np.sqrt(spread)
    covers = (low <= truth.sum()) & (high >= truth.sum())
    return [f"{point.std() / plain.std():.2f}", f"{covers.mean():.3f}", f"{wald.mean():.3f}"]


def table(headings: list[str], rows: list[list[str]]) -> None:
    print("\n| " + " | ".join(headings) + " |\n|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def draw(folder: Path, real: list[Result], towns: dict[str, float], made: list[Result]) -> None:
    """The figure: coverage of all classes, and width against AUC."""
    from aftermap.products.figures.sheet import COLOURS, FAINT, dress, panels, write_figure

    notes = ["Five real events that the model has not seen; 1,000 redraws each. Grey: 93 to 97 %."]
    figure, (left, right) = panels("Intervals of totals", 2, columns=2, panel_in=(4.6, 3.6), notes=notes)
    left.axhspan(0.93, 0.97, color="#e8e8e8")
    for column, answers in enumerate(ANSWERS):
        mine = [result for result in real if result.answers == answers]
        spots = column + np.linspace(-0.3, 0.3, len(mine))
        left.plot(spots, [result.coverage for result in mine], "o", ms=4, color=COLOURS[column])
        for results, mark in ((real, "o"), (made, "x")):
            few = [r for r in results if r.answers == answers and r.kind == "damaged"]
            right.plot(
                [towns[r.town] for r in few], [r.width / r.plain for r in few], mark, color=COLOURS[column]
            )
        right.plot([], [], "o", color=COLOURS[column], label=f"{answers} answers")
    left.set_xticks(range(len(ANSWERS)), [f"{answers} answers" for answers in ANSWERS])
    left.set_ylim(0.88, 1.005)
    right.axhline(1, color=FAINT, lw=1)
    right.set_ylim(0, 1.15)
    right.legend(frameon=False, fontsize=8)
    dress(left, "Coverage of 95 % intervals, five classes of five events")
    dress(right, "Width against a simple random sample", "AUC of p(damaged); dots real, crosses made up")
    write_figure(folder / "totals.png", figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the predictions")
    parser.add_argument("--data", type=Path, default=SOURCE)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--figures", type=Path)
    options = parser.parse_args()
    towns = list(real_towns(options.folder, options.data))
    begun = time.process_time()
    real = [result for town in towns for n in ANSWERS for result in redrawn(town, n, options.draws)]
    aucs = {town.name: town.auc for town in towns}
    headings = [
        "event",
        "class",
        "true",
        *(f"{n}: coverage" for n in ANSWERS),
        *(f"{n}: no error" for n in ANSWERS),
    ]
    rows = []
    for town in towns:
        for kind in CLASSES:
            mine = [r for r in real if r.town == town.name and r.kind == kind]
            cells = [f"{r.coverage:.3f}" for r in mine] + [f"{r.empty:.2f}" for r in mine]
            rows.append([town.name, kind, f"{mine[0].true:,}", *cells])
    table(headings, rows)
    made_towns = [made_up(a, sure=s) for a in (0.5, 0.7, 0.85, 0.95, 0.99) for s in (1.0, 2.0)]
    made = [
        r
        for town in made_towns
        for n in ANSWERS
        for r in redrawn(town, n, options.draws)
        if r.kind == "damaged"
    ]
    aucs |= {town.name: town.auc for town in made_towns}
    headings = ["town", "AUC", *(f"{n}: {what}" for what in ("coverage", "width", "best") for n in ANSWERS)]
    rows = []
    for town in towns + made_towns:
        mine = [r for r in real + made if r.town == town.name and r.kind == "damaged"]
        cells = [f"{r.coverage:.3f}" for r in mine]
        cells += [f"{r.width / r.plain:.2f}" for r in mine] + [f"{r.width / r.best:.2f}" for r in mine]
        rows.append([town.name, f"{aucs[town.name]:.3f}", *cells])
    table(headings, rows)
    headings = ["event", "class", *(f"{n}: {what}" for n in ANSWERS for what in ("scatter", "PPI++", "Wald"))]
    rows = []
    for town in towns:
        for kind in ("damaged", "destroyed"):
            cells = [cell for n in ANSWERS for cell in others(town, n, kind, options.draws // 4)]
            rows.append([town.name, kind, *cells])
    table(headings, rows)
    print(f"\n{time.process_time() - begun:.0f} s of processor time", file=sys.stderr)
    if options.figures:
        draw(options.figures, real, aucs, made)


if __name__ == "__main__":
    main()
