"""The objective with teachers: what runs how often, what is learned, and the published totals."""

import copy

import pytest
import torch
import torch.nn.functional as F

from aftermap.classes import IGNORE
from aftermap.config import build_config
from aftermap.data.batch import Batch
from aftermap.data.loading.date_dropout import BOTH, POST_ONLY, PRE_ONLY
from aftermap.errors import RecipeError
from aftermap.learning.configs.distillation import DistillationConfig
from aftermap.learning.configs.optimizer import OptimizerConfig
from aftermap.learning.configs.terms import SupervisedConfig
from aftermap.learning.loop import Training, fit
from aftermap.learning.objectives.distillation import Distillation, build_distillation
from aftermap.learning.objectives.supervised import Supervised
from aftermap.models.build import build_model
from aftermap.models.configs import SiameseUnetConfig, UnetConfig, Xview2UnetConfig
from saved_models import PLAIN, SMALL, make_ensemble, opened, save_building, save_damage
from worked_distillation import NEAR, worked_damage, worked_localization

SOFT = {"loss": "soft-targets", "temperature": 2}
NORMALISED = {"loss": "normalised-feature-mse"}
HARD = [{"loss": "cross-entropy"}, {"loss": "dice"}]


@pytest.fixture(scope="module")
def damage(tmp_path_factory):
    return save_damage(tmp_path_factory.mktemp("teachers") / "damage", seed=7)


@pytest.fixture(scope="module")
def building(tmp_path_factory):
    return save_building(tmp_path_factory.mktemp("teachers") / "building", seed=8)


def config_of(teachers, distil, **given):
    tree = {"teachers": {name: {"model": str(path)} for name, path in teachers.items()}, "distil": distil}
    return build_config(DistillationConfig, tree | {"terms": HARD} | given)


def new_student(kind=SiameseUnetConfig, **given):
    torch.manual_seed(0)
    return build_model(kind(**SMALL | {"encoder_depth": 2, "decoder_channels": (16, 8)} | given))


def built(config, student, **given):
    torch.manual_seed(1)
    images = {"mean": PLAIN.mean, "std": PLAIN.std, "bands": PLAIN.bands, "dates": 2, "classes": 5}
    return build_distillation(config, student, **images | given)


def batch_of(samples=2, *, dates=2, seed=0, classes=5):
    g = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, classes, (samples, 4, 4), generator=g)
    mask = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return Batch(torch.randn(samples, dates, 3, 32, 32, generator=g), mask)


def unlabelled(batch):
    return Batch(batch.image, torch.full_like(batch.mask, IGNORE))


def counted(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def numbers(terms):
    return {name: value.item() for name, value in terms.items()}


def half_batches():
    class Source:
        def batch(self, index):
            batch = batch_of(seed=index)
            return unlabelled(batch) if index % 2 else batch

    return Source()


def test_every_model_runs_once_per_batch_and_every_encoder_once_per_date(damage, building):
    distil = [SOFT, NORMALISED, {"loss": "attention-transfer"}, {"loss": "true-class"}]
    distil += [
        {**SOFT, "teacher": "place", "classes": "building"},
        {**NORMALISED, "teacher": "place", "dates": "pre"},
    ]
    student = build_model(
        Xview2UnetConfig(encoder_name="resnet10t", decoder_channels=(16, 16, 16, 16, 16), classes=5)
    )
    objective = built(config_of({"main": damage, "place": building}, distil), student)
    networks = [objective.teachers[name].networks[0].model for name in ("main", "place")]
    models = [counted(model) for model in (student, *networks)]
    encoders = [counted(model.encoder) for model in (student, *networks)]
    objective(student, batch_of())
    assert [len(calls) for calls in models] == [1, 1, 1]
    # the student runs its encoder date by date, the siamese teacher both dates as one batch
    assert [len(calls) for calls in encoders] == [2, 1, 1]


def test_values_are_those_of_the_formulas(damage, building):
    """Every term computed again here, from one forward pass of each model."""
    distil = [
        {**SOFT, "weight": 3},
        {**NORMALISED, "weight": 0.5},
        {**SOFT, "teacher": "place", "classes": "building"},
    ]
    student, batch = new_student().eval(), batch_of()
    objective = built(config_of({"main": damage, "place": building}, distil, mixing=0.2), student)
    main, place = (objective.teachers[name].networks[0].model for name in ("main", "place"))
    with torch.no_grad():
        found = numbers(objective(student, batch))
        s, t, b = student(batch.image), main(batch.image), place(batch.image[:, :1])

        def kl(teacher, learner):
            return 4 * (teacher * (teacher.log() - learner.log())).sum(1).mean()

        p_s, p_t, p_b = (torch.softmax(z / 2, dim=1) for z in (s, t, b))
        merged = torch.stack([p_s[:, 0], p_s[:, 1:].sum(1)], dim=1)
        adapter, gaps = objective.adapters["main"], []
        for date in range(2):
            ours = adapter(student.encoder(batch.image[:, date])[-1])
            theirs = main.encoder(batch.image[:, date])[-1]
            theirs = (
                F.adaptive_avg_pool2d(theirs, ours.shape[-2:])
                if theirs.shape[-1] > ours.shape[-1]
                else theirs
            )
            theirs = F.interpolate(theirs, ours.shape[-2:], mode="bilinear")
            gaps.append((2 - 2 * F.cosine_similarity(ours, theirs, dim=1)).mean())
        hard = Supervised(build_config(SupervisedConfig, {"terms": HARD}))(student, batch)
    expected = numbers(hard) | {
        "soft-targets": 0.8 * 3 * kl(p_t, p_s).item(),
        "normalised-feature-mse": 0.8 * 0.5 * torch.stack(gaps).mean().item(),
        "soft-targets place": 0.2 * kl(p_b, merged).item(),
    }
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it(damage):
    twin = opened(damage).networks[0].model
    student = build_model(SiameseUnetConfig(**SMALL))
    student.load_state_dict(twin.state_dict())
    distil = [SOFT, NORMALISED, {"loss": "feature-mse"}, {"loss": "attention-transfer"}]
    objective = built(config_of({"main": damage}, distil, terms=[]), student)
    values = numbers(objective(student.eval(), batch_of()))
    assert not objective.adapters and len(values) == 4
    assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-5)


def test_training_moves_student_and_adapters_and_leaves_teachers_bit_identical(damage, building, tmp_path):
    distil = [SOFT, {"loss": "feature-mse"}, {**SOFT, "teacher": "place", "classes": "building"}]
    student = new_student()
    objective = built(config_of({"main": damage, "place": building}, distil, mixing=0.2), student)
    before = copy.deepcopy(
        (student.state_dict(), objective.adapters.state_dict(), objective.teachers.state_dict())
    )
    training = Training(
        student, objective, OptimizerConfig(lr=0.01, clip_norm=1.0), steps=4, seed=0, precision="no"
    )
    losses = [step.loss for step in fit(training, half_batches())]
    assert all(0 < loss < 100 for loss in losses)
    after = (student.state_dict(), objective.adapters.state_dict(), objective.teachers.state_dict())
    moved = [
        {n for n, v in b.items() if not torch.equal(v, a[n])} for b, a in zip(before, after, strict=True)
    ]
    assert {n for n, _ in student.named_parameters()} <= moved[0]
    assert moved[1] == {"main.weight", "main.bias"} and moved[2] == set()
    training.save(tmp_path / "resume")
    saved = torch.load(tmp_path / "resume" / "state.pt", weights_only=True)
    assert set(saved["adapters"]) == {"adapters.main.weight", "adapters.main.bias"}
    assert not [name for part in saved.values() for name in part if "teacher" in str(name)]


def test_adapters_are_made_where_widths_differ_and_channels_are_compared(damage):
    same = build_model(SiameseUnetConfig(**SMALL))
    other = new_student()
    attention = config_of({"main": damage}, [{"loss": "attention-transfer"}])
    compared = config_of({"main": damage}, [NORMALISED, {"loss": "feature-mse"}])
    idle = config_of({"main": damage}, [SOFT, {**NORMALISED, "weight": 0}])
    assert [len(built(c, m).adapters) for c, m in ((compared, same), (attention, other), (idle, other))] == [
        0
    ] * 3
    (adapter,) = built(compared, other).adapters.values()
    assert adapter.weight.shape == (48, 32, 1, 1)


def test_unlabelled_crops_teach_through_their_teacher_alone(damage):
    student = new_student()
    hard = [
        *HARD,
        {"loss": "focal"},
        {"loss": "tversky", "absent": "count"},
        {"loss": "binary-cross-entropy", "activation": "sigmoid"},
        {"loss": "lovasz", "per_image": True},
    ]
    distil = [SOFT, {**SOFT, "where": "buildings"}, {"loss": "true-class"}, {"loss": "hard-labels"}]
    config = config_of({"main": damage}, distil, terms=hard, targets={"dilation_px": 5})
    values = built(config, student)(student, unlabelled(batch_of()))
    of_labels = ["cross-entropy", "dice", "focal", "tversky", "binary-cross-entropy", "lovasz"]
    of_labels += ["true-class", "hard-labels"]
    assert {name: values[name].item() for name in of_labels} == dict.fromkeys(of_labels, 0.0)
    assert values["soft-targets"] > 0 and values["soft-targets 2"] > 0
    torch.stack(list(values.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters())


def test_a_batch_of_both_kinds_has_the_hard_terms_of_its_labelled_part(damage):
    student, batch = new_student().eval(), batch_of(3)
    batch.mask[1:] = IGNORE
    objective = built(config_of({"main": damage}, [SOFT]), student)
    mixed = numbers(objective(student, batch))
    first = numbers(objective(student, Batch(batch.image[:1], batch.mask[:1])))
    assert mixed["cross-entropy"] == pytest.approx(first["cross-entropy"], rel=1e-5)
    assert mixed["dice"] == pytest.approx(first["dice"], rel=1e-5)


def test_a_term_whose_weight_has_run_out_costs_nothing(damage, building):
    fading = {**SOFT, "schedule": {"kind": "linear", "start": 1, "end": 0, "finish": 0.5}}
    distil = [fading, {**SOFT, "teacher": "place", "classes": "building"}]
    student = new_student().eval()
    objective = built(config_of({"main": damage, "place": building}, distil), student)
    calls = [counted(objective.teachers[name].networks[0]) for name in ("main", "place")]
    batch, values = batch_of(), []
    for step in (0, 1, 2, 4):
        objective.before_step(step, 5)
        values.append(numbers(objective(student, batch)).get("soft-targets"))
    assert [len(c) for c in calls] == [2, 4]
    assert values[1] == pytest.approx(values[0] / 2) and values[2:] == [None, None]


def test_a_term_of_weight_0_is_left_out_with_its_features(damage):
    student = new_student()
    objective = built(config_of({"main": damage}, [SOFT, {**NORMALISED, "weight": 0}]), student)
    assert set(objective(student, batch_of())) == {"cross-entropy", "dice", "soft-targets"}


def test_a_step_at_which_nothing_counts_yet_has_a_loss_of_0(damage):
    rising = {**SOFT, "schedule": {"kind": "linear", "start": 0, "end": 1}}
    student = new_student()
    objective = built(config_of({"main": damage}, [rising], terms=[]), student)
    objective.before_step(0, 10)
    (value,) = objective(student, batch_of()).values()
    value.backward()
    assert value == 0 and all(p.grad is None or not p.grad.any() for p in student.parameters())


def test_a_pool_is_asked_about_once_however_long_the_run(damage, tmp_path):
    student = new_student().eval()
    config = config_of({"main": damage}, [SOFT, NORMALISED], cache=str(tmp_path / "cache"))
    objective = built(config, student)
    asked = counted(objective.teachers["main"].networks[0])
    pool = [batch_of(seed=n) for n in range(3)]
    first, second, third = ([numbers(objective(student, batch)) for batch in pool] for _ in range(3))
    assert len(asked) == 3 and first == second == third
    again = built(config, student)
    again.load_state_dict(objective.state_dict())
    asked = counted(again.teachers["main"].networks[0])
    assert [numbers(again(student, batch)) for batch in pool] == first and not asked


def test_cached_answers_teach_what_fresh_ones_do_to_half_precision(damage, tmp_path):
    student, batch = new_student().eval(), batch_of()
    plain = numbers(built(config_of({"main": damage}, [SOFT]), student)(student, batch))
    cached = numbers(
        built(config_of({"main": damage}, [SOFT], cache=str(tmp_path / "c")), student)(student, batch)
    )
    assert cached == pytest.approx(plain, rel=2e-3)


def test_an_ensemble_teaches_its_mean(damage, tmp_path):
    other = save_damage(tmp_path / "other", seed=3)
    folder = make_ensemble(tmp_path / "both", [damage, other])
    student, batch = new_student().eval(), batch_of()
    value = numbers(built(config_of({"main": folder}, [{**SOFT, "temperature": 1}]), student)(student, batch))
    with torch.no_grad():
        members = [
            torch.softmax(opened(path).networks[0].model(batch.image), dim=1) for path in (damage, other)
        ]
        mean, log_s = sum(members) / 2, torch.log_softmax(student(batch.image), dim=1)
        expected = (mean * (mean.log() - log_s)).sum(1).mean()
    assert value["soft-targets"] == pytest.approx(expected.item(), rel=1e-3)


def test_weights_per_class_reach_the_terms_of_distillation(damage):
    weights = {"class_weights": [0, 1, 2, 5, 1]}
    student, batch = new_student().eval(), batch_of()
    distil = [SOFT, {"loss": "hard-labels"}, {"loss": "hard-labels", **weights}]
    config = config_of({"main": damage}, distil, terms=[{"loss": "cross-entropy", **weights}])
    values = numbers(built(config, student)(student, batch))
    plain, weighted = (values[name] for name in ("hard-labels", "hard-labels 2"))
    assert weighted == pytest.approx(values["cross-entropy"], rel=1e-5)
    assert weighted != pytest.approx(plain, rel=1e-3)


def test_targets_are_those_of_labels_and_teachers_alike(damage):
    """The `hard-labels` term and the ordinary cross-entropy look at the same dilated classes."""
    student = new_student().eval()
    config = config_of(
        {"main": damage},
        [SOFT, {"loss": "hard-labels"}],
        targets={"dilation_px": 5},
        terms=[{"loss": "cross-entropy"}],
    )
    batch = batch_of()
    batch.mask[:, :, 16:] = 0
    values = numbers(built(config, student)(student, batch))
    assert values["hard-labels"] == pytest.approx(values["cross-entropy"], rel=1e-5)


def test_a_student_without_teachers_is_supervised(damage):
    student, batch = new_student().eval(), batch_of()
    config = build_config(DistillationConfig, {"terms": HARD, "teachers": None})
    plain = Supervised(build_config(SupervisedConfig, {"terms": HARD}))
    assert numbers(built(config, student)(student, batch)) == numbers(plain(student, batch))


def test_a_student_of_one_date_takes_the_features_of_a_teacher_of_two(damage):
    student = new_student(UnetConfig, classes=2)
    config = config_of({"main": damage}, [{**NORMALISED, "dates": "pre"}])
    objective = built(config, student, dates=1, classes=2)
    decoder = counted(objective.teachers["main"].networks[0].model.decoder)
    values = numbers(objective(student, batch_of(dates=1, classes=2)))
    assert 0 < values["normalised-feature-mse"] < 4 and not decoder


COMBO = {"activation": "sigmoid", "absent": "count"}
PER_CLASS = {"class_weights": [0.1, 0.1, 0.3, 0.3, 0.2], "reduction": "sum", **COMBO}
CLS_HARD = [
    {"loss": "dice", "weight": 0.5, **PER_CLASS},
    {"loss": "focal", "weight": 2, "compat_clamp": 1e-6, **PER_CLASS},
    {"loss": "cross-entropy", "weight": 11},
]
MEAN, PLACE = {"compat_class_mean": True}, {"teacher": "place", "classes": "building", "compat_floor": 1e-9}
FEATURES = {"loss": "feature-mse", "compat_norm_over_batch": True}
REVERSE = {"loss": "soft-targets", "temperature": 1, "direction": "reverse", **MEAN}
CLS_CE, CLS_LWF = {"loss": "hard-labels", **MEAN}, {"loss": "true-class", **MEAN}
CLS_PLACE = [
    {"loss": "true-class", "temperature": 2, "compat_channel_masks": True, **PLACE, **MEAN},
    {**FEATURES, "teacher": "place", "dates": "pre"},
    {**REVERSE, **PLACE},
]


@pytest.mark.parametrize(
    ("distil", "mixing", "five", "one"),
    [
        ([CLS_CE, CLS_LWF, FEATURES, REVERSE], None, 25.714458, 25.760567),
        ([CLS_CE, CLS_LWF, {**FEATURES, "weight": 0}], None, 24.731007, 25.357466),
        ([CLS_CE, CLS_LWF, FEATURES, REVERSE, *CLS_PLACE], 0.2, 25.682941, 25.847570),
    ],
    ids=["one teacher", "as launched", "two teachers"],
)
@pytest.mark.parametrize("samples", [5, 1])
def test_totals_of_the_published_damage_student(distil, mixing, five, one, samples):
    student, teachers, batch = worked_damage(samples, localizer="place")
    if mixing is None:
        del teachers["place"]
    tree = {
        "teachers": {n: {"model": n} for n in teachers},
        "distil": distil,
        "terms": CLS_HARD,
        "mixing": mixing,
    }
    objective = Distillation(build_config(DistillationConfig, tree), student, teachers)
    values = objective(student, batch)
    assert sum(numbers(values).values()) == pytest.approx(five if samples == 5 else one, abs=NEAR)


LOC_SEGMENTATION = {
    "loss": "supervised",
    "temperature": 2,
    "compat_double_sigmoid": True,
    "terms": [
        {"loss": "dice", "weight": 3, **COMBO},
        {"loss": "focal", "weight": 10, "compat_clamp": 1e-6, **COMBO},
    ],
}
LOC_SWITCHES = {"temperature": 2, "compat_broadcast": True, "compat_floor": 1e-9}
LOC_CE, LOC_LWF = {"loss": "hard-labels", **LOC_SWITCHES}, {"loss": "true-class", **LOC_SWITCHES}
LOC_KL = {**REVERSE, "compat_floor": 1e-9}


@pytest.mark.parametrize(
    ("distil", "mixing", "two", "one"),
    [
        ([LOC_SEGMENTATION, LOC_CE], None, 4.870964, 4.640395),
        ([LOC_SEGMENTATION, LOC_CE, LOC_LWF, FEATURES, LOC_KL], None, 5.409951, 5.111217),
        (
            [LOC_SEGMENTATION, LOC_CE, LOC_LWF, FEATURES, {**FEATURES, "teacher": "damage", "dates": "pre"}],
            0.2,
            4.735727,
            4.385781,
        ),
    ],
    ids=["student alone", "one teacher", "two teachers"],
)
@pytest.mark.parametrize("samples", [2, 1])
def test_totals_of_the_published_localization_student(distil, mixing, two, one, samples):
    student, teachers, batch = worked_localization(samples)
    used = {
        term.get("teacher", "main") for term in distil if term["loss"] not in ("supervised", "hard-labels")
    }
    teachers = {name: teacher for name, teacher in teachers.items() if name in used}
    tree = {"teachers": {n: {"model": n} for n in teachers}, "distil": distil, "terms": []}
    tree |= {"mixing": mixing, "compat_mix_hard": mixing is not None}
    objective = Distillation(build_config(DistillationConfig, tree), student, teachers)
    values = objective(student, batch)
    assert sum(numbers(values).values()) == pytest.approx(two if samples == 2 else one, abs=NEAR)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distil": [{**SOFT, "teacher": "mian"}]}, "a term looks at teacher 'mian', teachers are main"),
        ({"teachers": {"main": {"model": "a"}, "other": {"model": "b"}}}, "teacher other is never used"),
        ({"distil": [{**SOFT, "weight": 0}]}, "teacher main is never used"),
        ({"teachers": {"main": {"model": "a", "weight": 0}}}, "teacher main is never used"),
        ({"mixing": 0.2}, "mixing is between teacher main and others"),
        ({"compat_mix_hard": True}, "compat_mix_hard goes with mixing"),
        ({"teachers": {"a.b": {"model": "a"}}}, "teachers"),
        ({"teachers": {}, "distil": [], "terms": []}, "every term has weight 0"),
        ({"targets": {"channel_0": "building"}, "terms": []}, "which soft-targets compares as a softmax"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused(change, message):
    tree = {"teachers": {"main": {"model": "a"}}, "distil": [SOFT], "terms": HARD} | change
    with pytest.raises(RecipeError, match=message):
        build_config(DistillationConfig, tree)


def test_teachers_that_do_not_fit_their_terms_are_refused_before_the_first_step(damage, building, tmp_path):
    ensemble = make_ensemble(tmp_path / "one", [damage])
    one_date = {"dates": 1, "classes": 2}
    wrong = [
        ({"main": tmp_path / "nowhere"}, [SOFT], {}, r"objective\.teachers\.main: no model at"),
        ({"main": building}, [SOFT], {}, r"objective\.distil\[0\]: .*student has 5 classes, teacher main 2"),
        ({"main": ensemble}, [NORMALISED], {}, "teacher main is an ensemble, which has no features"),
        ({"main": building}, [NORMALISED], {}, r"looks at 1 date\(s\), the student at 2: .* dates: pre"),
        (
            {"main": damage},
            [SOFT],
            one_date,
            "looks at two dates, the student at one: it can lend its features",
        ),
        (
            {"main": damage},
            [{**NORMALISED, "where": "buildings"}],
            one_date,
            "cannot say where buildings are",
        ),
        (
            {"main": damage},
            [SOFT],
            {"crop_px": 100},
            "crop_px is 100, teacher main takes multiples of 8: such as",
        ),
        ({"main": damage}, [{**SOFT, "class_weights": [1, 2]}], {}, r"objective\.distil\[0\]: .*2 values"),
    ]
    for teachers, distil, given, message in wrong:
        student = new_student(UnetConfig, classes=2) if given.get("dates") == 1 else new_student()
        with pytest.raises(RecipeError, match=message):
            built(config_of(teachers, distil), student, **given)


def test_hard_terms_are_checked_against_the_students_classes():
    with pytest.raises(ValueError, match="class_weights has 2 values, the model has 5 classes"):
        config_of({}, [], terms=[{"loss": "dice", "class_weights": [1, 2]}]).check_classes(5)
    inner = {"loss": "supervised", "terms": [{"loss": "dice", "class_weights": [1, 2]}]}
    with pytest.raises(ValueError, match=r"objective\.distil\[0\]: .*2 values"):
        config_of({}, [inner]).check_classes(5)


def test_a_teacher_is_asked_about_samples_that_show_both_dates_alone(damage):
    config = config_of({"main": damage}, [SOFT | {"classes": "damage", "where": "buildings"}])
    student = new_student()
    objective = built(config, student)
    four = batch_of(4)
    some = Batch(four.image, four.mask, dates=torch.tensor([BOTH, POST_ONLY, BOTH, PRE_ONLY]))
    pairs = Batch(four.image[::2], four.mask[::2])
    student.eval()
    with torch.no_grad():
        values, of_pairs = objective(student, some), objective(student, pairs)
        plain = Supervised(build_config(SupervisedConfig, {"terms": HARD}))(student, some)
    torch.testing.assert_close(values["soft-targets"], of_pairs["soft-targets"])
    assert {name: values[name] for name in plain} == plain
    none = Batch(four.image, four.mask, dates=torch.full((4,), POST_ONLY))
    assert set(objective(student, none)) == {"cross-entropy", "dice"}
