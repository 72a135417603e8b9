"""Recipes of the published systems against their run tables (`published_runs`)."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from aftermap.config import load_config
from aftermap.data.augment.chain import effective_probabilities
from aftermap.data.augment.operations import Elastic, OneOf, geometric, is_eight_bit, leaves, photometric
from aftermap.data.loading.sampling import draw_windows, post_chance
from aftermap.learning.optimizer import lr_factor
from aftermap.models.weights.published import published
from aftermap.workflows.plans.plan import load_plan
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.start import RunLength
from published_runs import (
    CLASS_WEIGHTS,
    ELASTIC_MASK,
    FOCAL,
    LAST_RATE,
    METADAMAGENET,
    METADAMAGENET_DAMAGE_TERMS,
    METADAMAGENET_ODDS,
    ONE_COLOUR,
    RUNS,
    WINDOWS,
    XVIEW2,
    XVIEW2_DAMAGE_TERMS,
    XVIEW2_GATES,
    alike,
)

ROOT = Path(__file__).resolve().parents[2] / "recipes"
SCENE = 1024
BATCHES = 7  # of an epoch, in these tests


@cache
def recipe_of(system: str, name: str) -> TrainRecipe:
    return load_config(TrainRecipe, ROOT / system / f"{name}.yaml", [])


def task_and_encoder(name: str) -> tuple[str, str]:
    task, encoder = name.removeprefix("tune-").split("-")
    return task, encoder


every_run = pytest.mark.parametrize(("system", "name"), list(RUNS), ids="/".join)
every_winner = pytest.mark.parametrize("name", list(XVIEW2))
every_metadamagenet = pytest.mark.parametrize("name", list(METADAMAGENET))


@every_run
def test_crop_batch_and_seed(system, name):
    recipe, run = recipe_of(system, name), RUNS[system, name]
    found = recipe.sampling.crop_px, recipe.sampling.batch_size, recipe.seed
    assert found == (run.crop, run.batch, run.seed)


@every_run
def test_learning_rate_in_every_epoch(system, name):
    recipe, run = recipe_of(system, name), RUNS[system, name]
    length = RunLength.of(recipe, BATCHES)
    assert length.steps == run.epochs * BATCHES
    used = [
        recipe.optimizer.lr
        * lr_factor(
            recipe.optimizer.schedule, step, steps=length.steps, steps_per_epoch=length.steps_per_epoch
        )
        for step in range(length.steps)
    ]
    wanted = [
        run.lr * 0.5 ** sum(at <= step // BATCHES for at in run.halved)
        for step in range(run.epochs * BATCHES)
    ]
    assert used == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("tune-localization-dpn92", [4e-5, 4e-5, 2e-5, 1e-5, 5e-6, 2.5e-6, 1.25e-6, 1.25e-6]),
        ("tune-damage-resnet34", [8e-6, 8e-6, 4e-6]),
        ("tune-damage-seresnext50", [1e-5, 1e-5]),
    ],
)
def test_the_winners_learning_rates_as_listed(name, rates):
    optimizer = recipe_of("xview2", name).optimizer
    used = [
        optimizer.lr * lr_factor(optimizer.schedule, epoch, steps=len(rates), steps_per_epoch=1)
        for epoch in range(len(rates))
    ]
    assert used == pytest.approx(rates, rel=1e-12)


@every_metadamagenet
def test_milestones_and_the_last_learning_rate(name):
    recipe = recipe_of("metadamagenet", name)
    schedule, epochs = recipe.optimizer.schedule, METADAMAGENET[name].epochs
    assert schedule.milestones == METADAMAGENET[name].halved
    last = recipe.optimizer.lr * lr_factor(schedule, epochs - 1, steps=epochs, steps_per_epoch=1)
    assert last == pytest.approx(LAST_RATE[name], rel=5e-3)


@every_run
def test_evaluated_epochs(system, name):
    run = RUNS[system, name]
    length = RunLength.of(recipe_of(system, name), BATCHES)
    # the winner counts from 0 and looks at epoch 0 first; here the end is always evaluated as well
    first = 0 if system == "xview2" else run.every - 1
    wanted = {*range(first, run.epochs, run.every), run.epochs - 1}
    evaluated = [step for step in range(1, length.steps + 1) if length.is_evaluated(step)]
    assert evaluated == [(epoch + 1) * BATCHES for epoch in sorted(wanted)]


@every_run
def test_clipping_precision_and_weight_decay(system, name):
    recipe, run = recipe_of(system, name), RUNS[system, name]
    optimizer = recipe.optimizer
    assert optimizer.clip_norm == run.clip
    assert recipe.precision == ("auto" if run.mixed else "no")
    assert (optimizer.weight_decay, optimizer.decay_all, optimizer.accumulate) == (1e-6, True, 1)
    assert (optimizer.betas or (0.9, 0.999), optimizer.epsilon) == ((0.9, 0.999), 1e-8)
    assert optimizer.compat_epsilon == (system == "xview2")


@every_run
def test_loss_terms_and_their_weights(system, name):
    task, encoder = task_and_encoder(name)
    damage = XVIEW2_DAMAGE_TERMS if system == "xview2" else METADAMAGENET_DAMAGE_TERMS
    wanted = [("dice", 1.0), ("focal", FOCAL[encoder])] if task == "localization" else damage[encoder]
    terms = recipe_of(system, name).objective.terms
    assert [(term.loss, term.weight) for term in terms] == wanted
    weighted = [t for t in terms if task == "damage" and t.loss != "cross-entropy"]
    assert {t.class_weights for t in weighted} <= {CLASS_WEIGHTS[encoder]}
    assert all(t.class_weights is None for t in terms if t not in weighted)
    assert all(t.reduction == "sum" for t in weighted)


@every_run
def test_form_of_dice_and_focal(system, name):
    task, _ = task_and_encoder(name)
    epsilon = 1e-6 if system == "xview2" else 1e-8
    for term in recipe_of(system, name).objective.terms:
        if term.loss == "dice":
            form = term.activation, term.absent, term.smooth, term.per_image
            assert form == ("sigmoid", "count", epsilon, False)
        elif term.loss == "focal" and (system == "xview2" or task == "localization"):
            form = term.activation, term.absent, term.compat_clamp, term.gamma, term.alpha
            assert form == ("sigmoid", "count", epsilon, 2.0, None)
        elif term.loss == "focal":
            form = term.activation, term.compat_clamp, term.gamma, term.alpha
            assert form == ("softmax", 1e-8, 2.0, None)


@every_run
def test_network_bands_and_what_its_logits_mean(system, name):
    recipe = recipe_of(system, name)
    task, encoder = task_and_encoder(name)
    network = published(f"{system}-{encoder}-{task}").config
    assert recipe.model.model_copy(update={"encoder_weights": None}) == network
    # only a localization network starts from ImageNet; all others from an earlier run
    assert recipe.model.encoder_weights == ("imagenet" if name.startswith("localization") else None)
    assert recipe.bands == (("blue", "green", "red") if system == "xview2" else ("red", "green", "blue"))
    scale = (127.0,) * 3 if system == "xview2" else (127.5,) * 3
    assert (recipe.normalisation.mean, recipe.normalisation.std) == (scale, scale)
    winner_r34 = (system, task, encoder) == ("xview2", "damage", "resnet34")
    assert recipe.activation == ("sigmoid" if task == "localization" or winner_r34 else "softmax")
    assert recipe.channel_0 == ("building" if winner_r34 else "background")


@every_winner
def test_the_winners_damage_targets(name):
    targets = recipe_of("xview2", name).objective.targets
    if "damage" in name:
        assert (targets.dilation_px, targets.priority) == (5, (2, 3, 4, 1))
    else:
        assert targets is None


@every_run
def test_scenes_learned_from_and_how_the_best_epoch_is_chosen(system, name):
    recipe = recipe_of(system, name)
    holdout, sampling, selection = recipe.data.holdout, recipe.sampling, recipe.selection
    tuned = name.startswith("tune")
    repeat = "none"
    if system == "xview2":
        assert (holdout.fraction, holdout.seed, holdout.compat_train_on_all) == (0.1, 0, tuned)
        if "damage" in name:
            repeat = "tune" if tuned else "train"
    else:
        assert (holdout, recipe.data.validation_split) == (None, "test")
    # one loader of the originals neither shuffles nor drops the last batch
    whole = (system, name) != ("metadamagenet", "tune-damage-dpn92")
    assert (sampling.kind, sampling.repeat, sampling.drop_last) == ("epochs", repeat, whole)
    assert sampling.shuffle == whole
    assert (selection.metric, selection.keep, selection.tune) == (system, "best", False)
    assert recipe.validation_scenes == 0


@every_run
def test_chance_of_the_post_image(system, name):
    chance = 0.0
    if "localization" in name:
        winner = {"localization-senet154": 0.04}.get(name, 0.0 if name.startswith("tune") else 0.015)
        chance = winner if system == "xview2" else 0.985
    assert post_chance(recipe_of(system, name).sampling) == pytest.approx(chance)


class _Ends:
    """A generator whose draws are all at one end of their range, and whose gates all fire."""

    def __init__(self, high: bool) -> None:
        self.high = high

    def random(self) -> float:
        return 0.0

    def integers(self, low: int, high: int | None = None) -> int:
        first, last = (0, low - 1) if high is None else (low, high - 1)
        return last if self.high else first


@every_winner
def test_the_winners_windows(name):
    sampling, gates = recipe_of("xview2", name).sampling, XVIEW2_GATES[name]
    most = 5 if "localization" in name else 10
    for high, side, tries in ((False, gates.low, 1), (True, gates.high, most)):
        windows: Any = draw_windows(sampling.crop, sampling.crop_px, _Ends(high), height=SCENE, width=SCENE)  # type: ignore[arg-type]
        assert [w.side for w in windows] == [side] * tries
    assert sampling.crop.p == pytest.approx(1 - gates.crop)
    weights = (0, 1) if "localization" in name else (0, 1, 5, 5, 2)
    assert (sampling.crop.class_weights, sampling.crop.relative_to) == (weights, "crop")
    assert (sampling.compat_mask, sampling.compat_steps) == ("per-class", True)


@every_metadamagenet
def test_windows_of_metadamagenet(name):
    sampling, (task, encoder) = recipe_of("metadamagenet", name).sampling, task_and_encoder(name)
    crop = sampling.crop
    tries, weights = (5, (0, 1)) if task == "localization" else (10, (0, 1, 2, 3, 4))
    assert (crop.p, crop.size, crop.relative_to) == (1, WINDOWS[task, encoder], "scene")
    assert (crop.tries, crop.class_weights, crop.compat_corners) == ((tries, tries), weights, True)
    assert (sampling.compat_mask, sampling.compat_steps) == ("truncated", False)


@every_run
def test_chances_of_the_geometric_operations(system, name):
    if system == "xview2":
        wanted = tuple(1 - threshold for threshold in XVIEW2_GATES[name][:4])
    else:
        wanted = METADAMAGENET_ODDS[name][:4]
    found = geometric(recipe_of(system, name).augment)
    assert [operation.op for operation in found] == ["flip", "rotate90", "shift", "rotate-scale"]
    assert [operation.p for operation in found] == pytest.approx(wanted)


@every_run
def test_ranges_of_the_geometric_operations(system, name):
    flip, turn, shift, rotate = geometric(recipe_of(system, name).augment)
    winner = system == "xview2"
    assert (flip.direction, turn.turns) == ("vertical", (0, 1, 2, 3))
    moved = (-320 / SCENE, 320 / SCENE) if winner else (0.2, 0.8)
    about = ((512 - 320) / SCENE, (512 + 320) / SCENE) if winner else (0.3, 0.7)
    assert (shift.x, shift.y, shift.whole_px, shift.compat_swapped_axes) == (moved, moved, winner, not winner)
    assert (rotate.degrees, rotate.scale, rotate.center) == ((-10, 10), (0.9, 1.1), about)
    assert (rotate.whole_degrees, rotate.compat_swapped_axes) == (winner, not winner)


def _chain(found, members, reached):
    """Note the chance of each (name, date) of a chain that is reached with a chance; returns what is left of it."""
    for key, p in members:
        found[key] = found.get(key, 0.0) + reached * p
        reached *= 1 - p
    return reached


def _block(found, date, inner, outer, inner_2, outer_2):
    """Two groups of three, the second tried where the first did not come up."""
    _chain(found, zip([(n, date) for n in ("clahe", "noise", "box-blur")], inner, strict=True), outer)
    names = [(n, date) for n in ("saturation", "brightness", "contrast")]
    _chain(found, zip(names, inner_2, strict=True), (1 - outer) * outer_2)


@every_run
def test_chances_of_the_photometric_operations(system, name):
    if system == "xview2":
        gates = XVIEW2_GATES[name]
        channels, hsv, elastic = 1 - gates.channels, 1 - gates.hsv, 1 - gates.elastic
        blocks = [alike(1 - gates.q, 1 - gates.p)] * 2
    else:
        odds = METADAMAGENET_ODDS[name]
        channels, hsv, elastic, blocks = odds.channels, odds.hsv, odds.elastic, [odds.first, odds.second]
    wanted: dict[tuple[str, int], float] = {}
    dates = 2 if "damage" in name else 1
    if dates == 2:
        for operation, p in (("channel-shift", channels), ("hsv-shift", hsv)):
            _chain(wanted, [((operation, 0), p), ((operation, 1), p)], 1.0)
    else:
        left = _chain(wanted, [(("channel-shift", 0), channels)], 1.0)
        _chain(wanted, [(("hsv-shift", 0), hsv)], left if (system, name) in ONE_COLOUR else 1.0)
    for date in range(dates):
        _block(wanted, date, *blocks[date])
        wanted["elastic", date] = elastic
    if dates == 2 and system == "metadamagenet":
        wanted["dilation", 0] = 0.9
    chances = effective_probabilities(photometric(recipe_of(system, name).augment), dates=dates)
    found = {(c.operation.op, c.date): c.probability for c in chances}
    assert len(found) == len(chances)
    assert found == pytest.approx(wanted, rel=1e-9)


@every_run
def test_ranges_of_the_photometric_operations(system, name):
    recipe = recipe_of(system, name)
    winner = system == "xview2"
    for leaf in (leaf for operation in photometric(recipe.augment) for leaf in leaves(operation)):
        assert is_eight_bit(leaf) == (winner and leaf.op not in ("elastic", "dilation"))
        match leaf.op:
            case "channel-shift":
                assert (round(leaf.amount * 255) == 5) if winner else (leaf.amount == 0.01)
            case "hsv-shift":
                found = leaf.hue, leaf.saturation, leaf.value
                steps = [round(a * b) for a, b in zip(found, (180, 255, 255), strict=True)]
                assert steps == [5, 5, 5] if winner else found == (0.01,) * 3
            case "clahe":
                assert (leaf.clip_limit, leaf.grid) == (2.0, 5)
            case "noise":
                assert winner or leaf.std == 0.1
            case "saturation":
                assert leaf.factor == ((0.9, 1.1) if winner else (0.5, 1.5))
            case "brightness":
                wanted = ((0.9, 1.1), (0, 0)) if winner else ((1, 1), (-0.1, 0.1))
                assert (leaf.factor, leaf.add) == wanted
            case "contrast":
                assert (leaf.factor, leaf.about) == ((0.9, 1.1), "mean" if winner else "zero")
            case "elastic":
                # MetaDamageNet: half of half the frame
                amount, sigma = ((0.25, 1.2), 0.2) if winner else ((RUNS[system, name].crop / 4,) * 2, 10)
                assert (leaf.amount_px, leaf.sigma_px, leaf.compat_rows_only) == (amount, sigma, not winner)
                assert leaf.compat_image_only == ((system, name) not in ELASTIC_MASK)
            case "dilation":
                assert leaf.size_px == 5
            case "box-blur":
                pass
            case _:
                raise AssertionError(leaf.op)


@every_run
def test_groups_are_chosen_per_batch_in_metadamagenet_and_per_date_by_the_winner(system, name):
    for operation in photometric(recipe_of(system, name).augment):
        if isinstance(operation, OneOf):
            nested = isinstance(operation.of[0], OneOf)
            assert operation.compat_per_batch == (nested and system == "metadamagenet")
            assert not any(member.compat_per_batch for member in operation.of if isinstance(member, OneOf))
            if "damage" in name and system == "xview2":
                assert operation.dates == ("independent" if nested else "both")
        elif isinstance(operation, Elastic) and "damage" in name:
            assert operation.dates == "independent"


def test_stages_of_the_winners_plan():
    plan, _ = load_plan(ROOT / "xview2" / "plan.yaml", [])
    assert plan.seeds == (0, 1, 2)
    loc = ["res50-loc", "res50-loc-tuned", "dpn92-loc", "dpn92-loc-tuned", "se154-loc", "res34-loc"]
    damage = [f"{e}-cls{t}" for e in ("res50", "dpn92", "res34", "se154") for t in ("", "-tuned")]
    names = [stage.name for stage in plan.stages]
    assert names == [*loc, "loc-validation", *damage, "winner", "submission"]
    files = {"res50": "seresnext50", "dpn92": "dpn92", "se154": "senet154", "res34": "resnet34"}
    for stage in plan.stages:
        if stage.kind == "train":
            encoder, task, *tuned = stage.name.split("-")
            file = f"{'localization' if task == 'loc' else 'damage'}-{files[encoder]}.yaml"
            assert str(stage.recipe) == ("tune-" if tuned else "") + file
            start = None if task == "loc" else f"{encoder}-loc"
            assert stage.init_from == (f"{encoder}-{task}" if tuned else start)
            assert stage.localization == (None if task == "loc" else "loc-validation")
            assert (stage.seeds, stage.overrides) == (None, {})


def test_ensemble_and_decision_of_the_winners_plan():
    plan, _ = load_plan(ROOT / "xview2" / "plan.yaml", [])
    stages = {stage.name: stage for stage in plan.stages}
    maps, ensemble, submission = stages["loc-validation"], stages["winner"], stages["submission"]
    assert set(maps.members) == {"res50-loc", "dpn92-loc", "se154-loc", "res34-loc"} and maps.half_turn
    assert set(ensemble.localization) == {"res34-loc", "res50-loc-tuned", "dpn92-loc-tuned", "se154-loc"}
    assert set(ensemble.damage) == {f"{e}-cls-tuned" for e in ("res34", "res50", "dpn92", "se154")}
    assert ensemble.class_thresholds == (0.38, 0.13, 0.13, 0.14)
    assert (ensemble.minor_dilation, ensemble.compat_uint8) == ("compat", True)
    assert (submission.model, submission.split, submission.tta) == ("winner", "test", "flips")


SUGGESTED = (
    "suggested-localization-efficientunet-b0",
    "suggested-damage-efficientunet-b0",
    "suggested-damage-segformer-b0",
)


@pytest.mark.parametrize("name", SUGGESTED)
def test_suggested_recipes_repeat_no_mistake(name):
    def switches(tree):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            if isinstance(key, str) and key.startswith("compat"):
                yield key, value
            elif isinstance(value, dict | list):
                yield from switches(value)

    tree = recipe_of("metadamagenet", name).model_dump(mode="json")
    assert [key for key, value in switches(tree) if value] == []


@pytest.mark.parametrize("name", SUGGESTED)
def test_suggested_recipes_train_the_published_networks(name):
    _, task, *network = name.split("-")
    recipe = recipe_of("metadamagenet", name)
    wanted = published(f"metadamagenet-{'-'.join(network)}-{task}").config
    kept = {"encoder_weights": None, "internal_px": None, "drop_path": 0, "dropout": 0}
    blank = {key: value for key, value in kept.items() if key in type(wanted).model_fields}
    assert recipe.model.model_copy(update=blank) == wanted.model_copy(update=blank)
