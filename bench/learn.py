"""What a few answers are worth: simulated analysts on real truth, every event unseen by the model of the map.

    python bench/learn.py /tmp/learn                              # features of all buildings once, then the tables
    python bench/learn.py /tmp/learn --redraws 10 --figure docs/images/learn.png

Buildings are those of xBD scenes of five events (`--data`, by default ../shared/data/xbd-real), given as footprints to
the model in the box. What `aftermap map --features` keeps of them is gathered once, scene by scene, into the folder. Then
an analyst answers with the truth:

    half of an event's buildings may be asked about, the other half is never shown to anybody and is what scores count
    random      the answers are drawn at random
    active      20 at random, then 20 at a time by `review.picking.pick`, the event's own model learnt in between
    half ...    the same, every second one at random; only these are compared, as answers of a random sample are
    before      macro F1 of the map's classes on the other half, over the levels that are there
    after       of the event's own model where its check calls it better, else of the map; `raw`: without the check

Also a model of four events used on the fifth, with the same numbers (`--transfer`). The data is non-commercial: nothing
of it goes into the project.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely
from PIL import Image

import aftermap
from aftermap.classes import DAMAGE
from aftermap.data.readers.xbd import read_label_file
from aftermap.files import replacing
from aftermap.inference.objects.buildings import Evidence
from aftermap.inference.objects.features import FeatureSums
from aftermap.inference.objects.painting import Painter
from aftermap.inference.postprocess import to_bytes
from aftermap.inference.predictor import AnyPredictor
from aftermap.inference.tiling import predict_scene
from aftermap.products.vectors import PROBABILITIES
from aftermap.workflows.event_model.check import check_model, macro_f1
from aftermap.workflows.event_model.described import Described, of_numbers
from aftermap.workflows.event_model.model import fit_levels, softened, unknown_levels
from aftermap.workflows.event_model.run import FEWEST
from aftermap.workflows.review.picking import pick

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "xbd-real"
LEVELS = DAMAGE.names[1:]
BATCH = 20
COUNTS = (40, 60, 80, 100, 140, 200, 240, 300)
CHECKED = (100, 300)
FAR_PX = 5000  # between scenes, so that no two share a neighbour or a block


@dataclass(frozen=True)
class Event:
    """Buildings of an event.

    Attributes:
        described: as a model takes them; `table`: the same without kept features.
        decided: level by the map (n,).
        truth: level (n,).
        frame: what `pick` looks at.
    """

    described: Described
    table: Described
    decided: np.ndarray
    truth: np.ndarray
    frame: geopandas.GeoDataFrame
    features: np.ndarray


def gathered(label: Path, model: AnyPredictor, kept: Path) -> dict[str, np.ndarray] | None:
    """What a map with --features keeps of the buildings of a scene, from the folder or the images."""
    name = label.stem.removesuffix("_post_disaster")
    path = kept / f"{name}.npz"
    if path.exists():
        with np.load(path) as stored:
            return dict(stored)
    content = read_label_file(label)
    known = [
        (polygon, LEVELS.index(subtype))
        for polygon, subtype in zip(content.polygons, content.subtypes, strict=True)
        if subtype in LEVELS
    ]
    if not known:
        return None
    folder = label.parent.parent / "images"
    images = np.stack(
        [
            np.asarray(Image.open(folder / f"{name}_{date}_disaster.webp").convert("RGB")).transpose(2, 0, 1)
            for date in ("pre", "post")
        ]
    )
    outlines = [polygon for polygon, _ in known]
    probabilities = predict_scene(model, images)
    height, width = images.shape[-2:]
    missing = np.zeros((height, width), np.uint8)
    evidence = Evidence(len(known), model.damage_weights)
    for labels in Painter(outlines, width).paint(0, height):
        evidence.add(labels, probabilities, missing)
    begun = time.process_time()
    sums = FeatureSums(outlines, width, 0.5 * 1024 / width)
    whole = (slice(0, height), slice(0, width))
    sums.add(images, to_bytes(probabilities, missing), missing, row=0, col=0, inner=whole)
    features = sums.features().values.astype(np.float16)
    seconds = time.process_time() - begun
    pixels = np.maximum(evidence.pixels[:, :1], 1)
    arrays = {
        "decided": (evidence.levels / pixels)[:, :4].argmax(axis=1),
        "own": (evidence.levels / pixels)[:, 4:8],
        "present": (evidence.levels / pixels)[:, 8],
        "seen": evidence.pixels[:, 0] > 0,
        "truth": np.array([level for _, level in known]),
        "outlines": np.array([shapely.to_wkb(outline, hex=True) for outline in outlines]),
        "features": features,
        "seconds": np.array([seconds]),
    }
    with replacing(path, parents=True) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return arrays


def events_of(folder: Path, data: Path) -> dict[str, Event]:
    """Every event, gathered at the first call."""
    model = aftermap.open_model("box")
    kept = folder / f"features-{model.sha256[:12]}"
    return {place.name: event_of(place, model, kept) for place in sorted(data.iterdir()) if place.is_dir()}


def event_of(place: Path, model: AnyPredictor, kept: Path) -> Event:
    parts, shapes = [], []
    for number, label in enumerate(sorted((place / "labels").glob("*_post_disaster.json"))):
        arrays = gathered(label, model, kept)
        if arrays is None:
            continue
        outlines = shapely.from_wkb(arrays.pop("outlines"))
        away = np.array([FAR_PX * (number % 12), FAR_PX * (number // 12)])
        shapes.append(shapely.transform(outlines, lambda xy, away=away: xy + away))
        parts.append(arrays)
    seen = np.concatenate([part["seen"] for part in parts])
    joined = {
        key: np.concatenate([part[key] for part in parts])[seen]
        for key in ("decided", "own", "present", "truth", "features")
    }
    outlines = np.concatenate(shapes)[seen]
    assessed, features = np.ones(len(outlines), bool), joined["features"].astype(np.float64)
    described = [
        of_numbers(joined["own"], joined["present"], outlines, assessed, values)
        for values in (features, features[:, :0])
    ]
    print(f"{place.name}: {np.bincount(joined['truth'], minlength=4).tolist()}", file=sys.stderr)
    frame = geopandas.GeoDataFrame(
        {"building_id": [str(n) for n in range(len(outlines))]}
        | dict(zip(PROBABILITIES, joined["own"].T, strict=True))
        | {"p_building": joined["present"], "area_m2": shapely.area(outlines)},
        geometry=outlines,
    )
    frame["damage"] = [LEVELS[level] for level in joined["decided"]]
    return Event(*described, joined["decided"], joined["truth"], frame, features)


def scored(event: Event, decided: np.ndarray, rows: np.ndarray) -> float:
    return float(macro_f1(event.truth[None, rows], decided[None, rows])[0])


def answered(
    event: Event, described: Described, rows: np.ndarray, test: np.ndarray, drawn: np.ndarray | None = None
) -> dict[str, float]:
    """Macro F1 on the other half after these answers; and accuracy and log loss."""
    levels = event.truth[rows]
    before = scored(event, event.decided, test)
    row = {"before": before, "raw": before, "after": before, "better": 0.0}
    if len(rows) < FEWEST or len(np.unique(levels)) < 2:
        return row
    model = fit_levels(described, rows, levels)
    few = unknown_levels(event.decided, rows)[event.decided]
    row["raw"] = scored(event, np.where(few, event.decided, model.decided), test)
    if len(rows) not in CHECKED:
        return row
    check = check_model(described, event.decided, rows, levels, rows[:0], drawn)
    row["after"] = row["raw"] if check.better else before
    row["better"] = float(check.better)
    shares = softened(model.probabilities, check.temperature)[test]
    for name, told in (("loss before", event.described.own[test]), ("loss after", shares)):
        row[name] = float(-np.log(np.clip(told[np.arange(len(test)), event.truth[test]], 1e-3, 1)).mean())
    return row


def actively(
    event: Event, pool: np.ndarray, most: int, seed: int, share: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows answered so far, a batch at a time: a share is picked, the rest drawn. Also which were drawn."""
    order = np.random.default_rng(seed).permutation(pool).tolist()
    rows, drawn = order[:BATCH], [True] * BATCH
    frame, outside = event.frame.copy(), np.setdiff1d(np.arange(len(event.truth)), pool)
    frame.loc[outside, "damage"] = "not-assessed"
    while True:
        yield np.array(rows), np.array(drawn)
        if len(rows) >= most:
            return
        if len(np.unique(event.truth[rows])) > 1:
            model = fit_levels(event.described, np.array(rows), event.truth[rows])
            frame.loc[:, list(PROBABILITIES)] = model.probabilities
        wanted = round(share * BATCH)
        picked = pick(frame, event.features, [str(row) for row in rows], wanted, seed + len(rows))
        taken = {*rows, *map(int, picked)}
        fresh = [row for row in order if row not in taken][: BATCH - wanted]
        rows, drawn = (
            [*rows, *map(int, picked), *fresh],
            [*drawn, *[False] * len(picked), *[True] * len(fresh)],
        )


def simulate(events: dict[str, Event], redraws: int, first: int) -> pd.DataFrame:
    """One line for each event, redraw, way and number of answers."""
    lines = []
    for name, event in events.items():
        for seed in range(first, first + redraws):
            shuffled = np.random.default_rng(1000 + seed).permutation(len(event.truth))
            pool, test = np.sort(shuffled[: len(shuffled) // 2]), shuffled[len(shuffled) // 2 :]
            order = np.random.default_rng(seed).permutation(pool)
            ways: dict[tuple[str, int], tuple[np.ndarray, np.ndarray | None]]
            ways = {("random", n): (order[:n], None) for n in COUNTS}
            for way, share in (("active", 1.0), ("half and half", 0.5)):
                for rows, drawn in actively(event, pool, max(COUNTS), seed, share):
                    if len(rows) in COUNTS:
                        ways[way, len(rows)] = (rows, None if share == 1 else drawn)
            for (way, count), (rows, drawn) in ways.items():
                line = {"event": name, "seed": seed, "way": way, "answers": count}
                lines.append(line | answered(event, event.described, rows, test, drawn))
                if way == "random" and count in CHECKED:
                    line["way"] = "random, no features"
                    lines.append(line | answered(event, event.table, rows, test))
        print(f"{name}: done", file=sys.stderr)
    return pd.DataFrame(lines)


def table(frame: pd.DataFrame) -> str:
    """Gains by event, way and number of answers."""
    lines = [
        "| answers | " + " | ".join(frame["event"].unique()) + " | mean | worst redraw | called better |"
    ]
    lines.append("|---" + "|---:" * (frame["event"].nunique() + 3) + "|")
    for way in ("random, no features", "random", "half and half", "active"):
        for count in CHECKED:
            chosen = frame[(frame["way"] == way) & (frame["answers"] == count)]
            gains = (chosen["after"] - chosen["before"]).groupby(chosen["event"], sort=False).mean()
            worst = (chosen["after"] - chosen["before"]).min()
            lines.append(
                f"| {count}, {way} | "
                + " | ".join(f"{gain:+.3f}" for gain in gains)
                + f" | {gains.mean():+.3f} | {worst:+.3f} | {chosen['better'].mean():.0%} |"
            )
    return "\n".join(lines)


def curve(frame: pd.DataFrame, way: str, column: str = "raw") -> pd.Series:
    """Mean over events of macro F1 (without the check), by number of answers."""
    chosen = frame[frame["way"] == way]
    return chosen.groupby(["answers", "event"])[column].mean().groupby("answers").mean()


def needed(active: pd.Series, goal: float) -> float:
    """Answers at which a curve first reaches a goal, between its points by a straight line."""
    xs, ys = active.index.to_numpy(float), np.maximum.accumulate(active.to_numpy())
    xs, ys = xs[np.r_[True, np.diff(ys) > 0]], ys[np.r_[True, np.diff(ys) > 0]]
    return float(np.interp(goal, ys, xs)) if ys[-1] >= goal else float("nan")


def transferred(events: dict[str, Event]) -> str:
    """A model of the other four events on the fifth, beside the map's own probabilities."""
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression

    def auc(score: np.ndarray, positive: np.ndarray) -> float:
        ones = int(positive.sum())
        ranks = rankdata(score)[positive].sum() - ones * (ones + 1) / 2
        return float(ranks / (ones * (len(positive) - ones)))

    def error(told: np.ndarray, truth: np.ndarray) -> float:
        best, sure = told.argmax(axis=1), told.max(axis=1)
        bins = np.minimum((sure * 15).astype(int), 14)
        return float(
            sum(
                abs(sure[bins == b].mean() - (best == truth)[bins == b].mean()) * (bins == b).mean()
                for b in set(bins)
            )
        )

    head = "| event | AUC map | AUC head | accuracy map | none | accuracy head | ECE map | ECE head |"
    lines = [head, "|---" + "|---:" * 7 + "|"]
    rows = []
    for name, event in events.items():
        others = [each for other, each in events.items() if other != name]
        values = np.concatenate([each.described.values for each in others])
        truth = np.concatenate([each.truth for each in others])
        weight = np.concatenate([np.full(len(each.truth), 1 / len(each.truth)) for each in others])
        model = LogisticRegression(C=0.01, max_iter=300).fit(
            values, truth, sample_weight=weight * len(truth) / len(others)
        )
        told = model.predict_proba(event.described.values)
        own, damaged = event.described.own, event.truth > 0
        rows.append(
            [
                auc(1 - own[:, 0], damaged),
                auc(1 - told[:, 0], damaged),
                float((event.decided == event.truth).mean()),
                float((event.truth == 0).mean()),
                float((told.argmax(axis=1) == event.truth).mean()),
                error(own, event.truth),
                error(told, event.truth),
            ]
        )
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in rows[-1]) + " |")
    lines.append("| mean | " + " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0)) + " |")
    return "\n".join(lines)


def draw(frame: pd.DataFrame, path: Path) -> None:
    from matplotlib.figure import Figure

    names = list(frame["event"].unique())
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, len(names) + 1, sharex=True)
    for axis, name in zip(axes, ["mean", *names], strict=True):
        chosen = frame if name == "mean" else frame[frame["event"] == name]
        for way, colour in (("random", "#8a94a0"), ("half and half", "#2f7fe0"), ("active", "#c2410c")):
            mean = curve(chosen, way)
            axis.plot(mean.index, mean, color=colour, marker="o", markersize=3, label=way)
        before = chosen.groupby("event")["before"].mean().mean()
        axis.axhline(before, color="#17212b", linestyle=":", label="map")
        axis.set_title("mean of events" if name == "mean" else name, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.set_xlabel("answers", fontsize=8)
    axes[0].set_ylabel("macro F1, other buildings", fontsize=8)
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for what is kept of the scenes")
    parser.add_argument("--data", type=Path, default=SOURCE)
    parser.add_argument("--redraws", type=int, default=5)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first redraw: others than were looked at"
    )
    parser.add_argument("--figure", type=Path)
    parser.add_argument(
        "--transfer", action="store_true", help="a model of four events on the fifth, instead"
    )
    options = parser.parse_args()
    events = events_of(options.folder, options.data)
    if options.transfer:
        print(transferred(events))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = simulate(events, options.redraws, options.first)
    frame.to_csv(options.folder / "redraws.csv", index=False)
    print(table(frame))
    random, active = curve(frame, "random"), curve(frame, "active")
    for count in (100, 200, 300):
        goal = random[count]
        print(f"macro F1 {goal:.3f}: {count} answers at random, {needed(active, goal):.0f} picked")
    if options.figure is not None:
        draw(frame, options.figure)


if __name__ == "__main__":
    main()
