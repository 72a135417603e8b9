"""What each method minimises, against references written here; who runs, who is frozen, and what is passed on."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from aftermap.classes import IGNORE
from aftermap.config import build_config
from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import PRESETS, IncrementalConfig
from aftermap.learning.objectives.incremental import Incremental
from aftermap.learning.objectives.turned_views import Turns
from aftermap.models.networks.dense import DenseModel
from incremental_stub import Counted, Stub, worked_batch

OLD, ALL = 2, 3
STUDENT, TEACHER = Stub(ALL), Stub(OLD, shift=0.25)


def config(**tree):
    return build_config(IncrementalConfig, tree)


def objective(step=1, teacher=None, carried=None, **tree):
    heads = [OLD] if step == 0 else [OLD, ALL - OLD]
    given = (teacher or copy.deepcopy(TEACHER)) if step else None
    return Incremental(config(**tree), step=step, heads=heads, teacher=given, carried=carried)


def terms_of(made, model=None, batch=None):
    model = model or Stub(OLD if made.step == 0 else ALL)
    batch = batch or worked_batch(ALL - 1 if made.step else 1)
    return {name: value.item() for name, value in made(model, batch).items()}


def answers():
    """Student's and teacher's logits of the worked batch, by pixel: (N, 3), (N, 2); labels (N,)."""
    batch = worked_batch()
    rows = (m(batch.image).detach().permute(0, 2, 3, 1).reshape(-1, m.classes) for m in (STUDENT, TEACHER))
    return *rows, batch.mask.flatten()


def softmax(logits):
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def cross_entropy():
    z, _, mask = answers()
    seen = mask != IGNORE
    return -softmax(z)[seen, mask[seen]].log().mean().item()


def unbiased_cross_entropy():
    z, _, mask = answers()
    p = softmax(z)
    q = torch.stack([p[:, :OLD].sum(1), p[:, :OLD].sum(1), p[:, 2]], 1)
    seen = mask != IGNORE
    return -q[seen, mask[seen]].log().mean().item()


def binary(p, wanted):
    return -(wanted * p.log() + (1 - wanted) * (1 - p).log())


def binary_cross_entropy():
    z, _, mask = answers()
    seen = mask != IGNORE
    wanted = torch.nn.functional.one_hot(mask[seen], ALL).double()
    return binary(torch.sigmoid(z[seen]), wanted).sum(1).mean().item()


def distillation(alpha=1.0):
    z, y, _ = answers()
    return -(softmax(alpha * y) * softmax(z[:, :OLD]).log()).mean().item()


def unbiased_distillation():
    z, y, _ = answers()
    p = softmax(z)
    merged = torch.stack([p[:, 0] + p[:, 2], p[:, 1]], 1)
    return -(softmax(y) * merged.log()).mean().item()


def binary_distillation():
    z, y, _ = answers()
    return OLD * binary(torch.sigmoid(z[:, :OLD]), torch.sigmoid(y)).mean().item()


def encoder_mse():
    image = worked_batch().image[:, 0]
    return (STUDENT.encoder(image) - TEACHER.encoder(image)).square().mean().item()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("fine-tuning", {"cross-entropy": (1, cross_entropy)}),
        ("unbiased-fine-tuning", {"unbiased-cross-entropy": (1, unbiased_cross_entropy)}),
        ("lwf", {"cross-entropy": (1, cross_entropy), "knowledge-distillation": (100, distillation)}),
        (
            "lwf-mc",
            {
                "binary-cross-entropy": (1, binary_cross_entropy),
                "binary-distillation": (10, binary_distillation),
            },
        ),
        (
            "ilt",
            {
                "cross-entropy": (1, cross_entropy),
                "knowledge-distillation": (100, distillation),
                "feature-mse": (100, encoder_mse),
            },
        ),
        (
            "mib",
            {
                "unbiased-cross-entropy": (1, unbiased_cross_entropy),
                "unbiased-distillation": (10, unbiased_distillation),
            },
        ),
    ],
)
def test_the_terms_of_a_later_step_are_those_of_the_paper(method, expected):
    wanted = {name: factor * reference() for name, (factor, reference) in expected.items()}
    assert terms_of(objective(method=method)) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("method", PRESETS)
def test_the_first_step_learns_from_labels_alone(method):
    terms = terms_of(objective(step=0, method=method))
    batch = worked_batch(1)
    z = Stub(OLD)(batch.image).detach().permute(0, 2, 3, 1).reshape(-1, OLD)
    mask = batch.mask.flatten()
    seen = mask != IGNORE
    if method == "lwf-mc":
        wanted = torch.nn.functional.one_hot(mask[seen], OLD).double()
        value = binary(torch.sigmoid(z[seen]), wanted).sum(1).mean()
    else:
        value = -softmax(z)[seen, mask[seen]].log().mean()
    assert next(iter(terms.values())) == pytest.approx(value.item(), abs=1e-9)
    assert set(terms) - {next(iter(terms))} == ({"invariance"} if method == "mib-cd" else set())


def test_alpha_sharpens_the_teacher():
    made = objective(method="lwf", distillation={"alpha": 2.0, "weight": 1.0})
    assert terms_of(made)["knowledge-distillation"] == pytest.approx(distillation(alpha=2.0), abs=1e-9)


def test_distillation_can_leave_out_what_is_labelled_as_new():
    z, y, mask = answers()
    per_pixel = -(softmax(y) * softmax(z[:, :OLD]).log()).mean(1)
    made = objective(method="lwf", distillation={"where": "not-new", "weight": 1.0})
    expected = (per_pixel * (mask != 2)).mean().item()
    assert terms_of(made)["knowledge-distillation"] == pytest.approx(expected, abs=1e-9)


def test_class_weights_weigh_the_pixels_of_their_class():
    z, _, mask = answers()
    seen = mask != IGNORE
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)[mask[seen]]
    expected = (weight * -softmax(z)[seen, mask[seen]].log()).sum() / weight.sum()
    made = objective(method="fine-tuning", segmentation={"class_weights": [1, 2, 3, 9]})
    assert terms_of(made)["cross-entropy"] == pytest.approx(expected.item(), abs=1e-6)


def test_the_mean_over_all_pixels_counts_unknown_ones():
    made = objective(method="mib", segmentation={"compat_mean_over_all": True})
    known = 31 / 32
    assert terms_of(made)["unbiased-cross-entropy"] == pytest.approx(
        known * unbiased_cross_entropy(), abs=1e-9
    )


def test_a_batch_without_labels_is_distilled_nevertheless():
    batch = replace(worked_batch(), mask=torch.full((2, 4, 4), IGNORE))
    terms = terms_of(objective(method="mib"), batch=batch)
    assert terms["unbiased-cross-entropy"] == 0
    assert terms["unbiased-distillation"] == pytest.approx(10 * unbiased_distillation(), abs=1e-9)


# PLOP


def entropies():
    _, y, _ = answers()
    p = softmax(y)
    return -(p * p.log()).mean(1) / math.log(OLD) / math.log(ALL), y.argmax(1)


def test_thresholds_are_the_medians_of_the_uncertainty_on_the_background():
    made = objective(method="plop")
    made.prepare(Stub(ALL), iter([worked_batch()]))
    u, kinds = entropies()
    background = worked_batch().mask.flatten() < OLD
    for kind in range(OLD):
        chosen = u[background & (kinds == kind)]
        expected = chosen.quantile(0.5).item() if len(chosen) else 0.001
        assert made.thresholds[kind].item() == pytest.approx(max(expected, 0.001), abs=1e-4)


def test_plop_learns_what_the_teacher_is_sure_of():
    made = objective(method="plop", pseudo_labels={"compat_mean_over_all": True}, features=None)
    made.restore({"thresholds": torch.full((OLD,), entropies()[0].median().item())})
    z, _, mask = answers()
    u, kinds = entropies()
    limit = made.thresholds[0].double()
    background, sure = mask < OLD, u < limit
    labels = torch.where(background, kinds.where(sure, torch.tensor(IGNORE)), mask)
    per_pixel = torch.where(
        labels != IGNORE, -softmax(z).log().gather(1, labels.clamp(max=ALL - 1)[:, None])[:, 0], 0.0
    ).reshape(2, 16)
    share = (sure & background).reshape(2, 16).sum(1) / (background.reshape(2, 16).sum(1) + 1e-6)
    expected = (share[:, None] * per_pixel).mean().item()
    assert 0 < int((sure & background).sum()) < int(background.sum())
    assert terms_of(made) == pytest.approx({"pseudo-label-cross-entropy": expected}, abs=1e-7)


def pod_means(values):
    """Means along rows and columns of the whole, and of its quarters."""
    squares = values.square()
    parts = [squares, *(q for half in squares.chunk(2, 2) for q in half.chunk(2, 3))]
    return torch.cat([m.flatten(1) for p in parts for m in (p.mean(3), p.mean(2))], 1)


def test_local_pod_compares_encoder_trunk_and_logits():
    made = objective(method="plop", features={"scales": [1, 2]}, pseudo_labels=None)
    image = worked_batch().image
    layers = [(m.encoder(image[:, 0]), m.forward_features(image), m(image)) for m in (STUDENT, TEACHER)]
    z = layers[0][2]
    merged = torch.stack([z[:, 0] + z[:, 2], z[:, 1]], 1)
    pairs = zip((*layers[0][:2], merged), layers[1], (0.01, 0.01, 0.0005), strict=True)
    values = [f * (pod_means(a) - pod_means(b)).norm(dim=1).mean() for a, b, f in pairs]
    expected = math.sqrt(ALL / (ALL - OLD)) * sum(values).item() / 3
    assert terms_of(made)["local-pod"] == pytest.approx(expected, abs=1e-9)


def test_pseudo_labels_without_thresholds_are_refused():
    with pytest.raises(ValueError, match="call prepare"):
        objective(method="plop")(Stub(ALL), worked_batch())


def test_a_resumed_step_has_its_thresholds():
    first, second = objective(method="plop"), objective(method="plop")
    first.prepare(Stub(ALL), iter([worked_batch()]))
    second.restore(first.kept())
    assert second.is_prepared and terms_of(first) == terms_of(second)


@pytest.mark.parametrize("method", [m for m in PRESETS if m not in ("plop", "ewc", "pi", "rw")])
def test_other_methods_need_no_preparation(method):
    made = objective(method=method)
    made.prepare(Stub(ALL), iter(()))
    assert made.is_prepared


# regularisers


def one_step(made, model, batch):
    """One step of gradient descent as the training loop takes it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    terms = made(model, batch)
    torch.stack(list(terms.values())).sum().backward()
    made.after_backward(model, 0)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer.step()
    optimizer.zero_grad()
    made.after_step(model, 0)
    return gradients


def test_ewc_holds_weights_by_their_squared_gradients():
    first, model = objective(step=0, method="ewc"), Stub(OLD)
    gradients = one_step(first, model, worked_batch(1))
    later = objective(teacher=model, carried=first.carried(), method="ewc", regulariser={"weight": 7.0})
    student = Stub(ALL)
    expected = 0.0
    for name, old in model.named_parameters():
        fisher = 0.9 * gradients[name].square()
        importance = (fisher - fisher.min()) / (fisher.max() - fisher.min() + 1e-8)
        now = dict(student.named_parameters())[name][: len(old)]
        expected += (importance * (now - old).square()).sum().item()
    terms = terms_of(later, student)
    assert terms["ewc"] == pytest.approx(7 * expected, abs=1e-9) and expected > 0
    assert terms["cross-entropy"] == pytest.approx(cross_entropy(), abs=1e-9)


def test_ewc_does_not_run_the_old_model():
    first, model = objective(step=0, method="ewc"), Stub(OLD)
    one_step(first, model, worked_batch(1))
    assert objective(teacher=model, carried=first.carried(), method="ewc").teacher is None


def test_a_grown_model_that_did_not_move_pays_nothing():
    first, model = objective(step=0, method="ewc"), Stub(OLD)
    one_step(first, model, worked_batch(1))
    student = Stub(ALL)
    with torch.no_grad():
        for name, value in model.named_parameters():
            dict(student.named_parameters())[name][: len(value)] = value
    assert terms_of(objective(teacher=model, carried=first.carried(), method="ewc"), student)["ewc"] == 0


@pytest.mark.parametrize("kind", ["ewc", "pi", "rw"])
def test_regularisers_go_on_after_an_interruption_as_if_there_was_none(kind):
    whole, model = objective(step=0, method=kind), Stub(OLD)
    one_step(whole, model, worked_batch(1))
    resumed = objective(step=0, method=kind)
    resumed.restore({name: value.clone() for name, value in whole.kept().items()})
    twin = copy.deepcopy(model)
    for made, network in ((whole, model), (resumed, twin)):
        for _ in range(10):
            one_step(made, network, worked_batch(1))
    ours, theirs = whole.carried(), resumed.carried()
    assert ours.keys() == theirs.keys() and ours
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(("kind", "measured"), [("ewc", "pi"), ("pi", "ewc"), ("rw", "pi")])
def test_a_regulariser_without_measurements_of_its_kind_is_refused(kind, measured):
    first, model = objective(step=0, method=measured), Stub(OLD)
    one_step(first, model, worked_batch(1))
    with pytest.raises(RecipeError, match=f"regulariser of kind {kind} and step 0 measured nothing"):
        objective(teacher=model, carried=first.carried(), method=kind)


# turned images


def test_the_student_runs_once_and_the_teacher_once():
    teacher, student = copy.deepcopy(TEACHER), Stub(ALL)
    made = objective(teacher=teacher, method="mib-cd")
    counted = Counted(student, teacher)
    made(student, worked_batch())
    assert counted.rows == [[4], [2]]


@pytest.mark.parametrize(
    ("tree", "student_rows", "teacher_rows"),
    [
        ({"method": "fine-tuning"}, [2], []),
        ({"method": "unbiased-fine-tuning"}, [2], []),
        ({"method": "mib"}, [2], [2]),
        ({"method": "mib", "distillation": {"weight": 0}}, [2], []),
        ({"method": "mib-cd", "contrastive": {"compat_two_passes": True}}, [2, 2], [2]),
        ({"method": "mib-cd", "contrastive": {"teacher_view": "transformed"}}, [4], [4]),
        ({"method": "fine-tuning", "contrastive": {"teacher_view": "transformed"}}, [4], [2]),
        ({"method": "fine-tuning", "contrastive": {"factor_old": 0}}, [4], []),
        ({"method": "ilt", "contrastive": {}}, [4], [2]),
        (
            {"method": "mib", "contrastive": {"factor": 0, "factor_old": 0, "supervise_transformed": True}},
            [4],
            [2],
        ),
    ],
)
def test_nothing_runs_that_no_term_looks_at(tree, student_rows, teacher_rows):
    teacher, student = copy.deepcopy(TEACHER), Stub(ALL)
    made = objective(teacher=teacher, **tree)
    counted = Counted(student, teacher)
    made(student, worked_batch())
    assert counted.rows == [student_rows, teacher_rows]


def test_turned_images_are_not_looked_at_where_only_an_old_model_could_be_asked():
    made = objective(step=0, method="mib", contrastive={"factor": 0})
    student = Stub(OLD)
    counted = Counted(student)
    made(student, worked_batch(1))
    assert counted.rows == [[2]]


def test_a_teacher_of_turned_images_is_compared_as_it_is():
    made = objective(method="mib-cd", contrastive={"factor": 0, "teacher_view": "transformed"})
    turns = Turns((1, 6))
    made.turns_of = lambda image: turns
    turned = turns.images(worked_batch().image)
    expected = (STUDENT.forward_features(turned) - TEACHER.forward_features(turned)).square().mean().item()
    assert terms_of(made)["old-invariance"] == pytest.approx(0.1 * expected, abs=1e-9)


def test_every_sample_is_compared_under_its_own_turn():
    made = objective(method="fine-tuning", contrastive={"factor": 1.0, "factor_old": 0})
    made.turns_of = lambda image: Turns((3, 5))
    image = worked_batch().image
    total = 0.0
    for row, element in enumerate((3, 5)):
        turn, one = Turns((element,)), image[row : row + 1]
        gap = STUDENT.forward_features(turn.images(one)) - turn.images(STUDENT.forward_features(one))
        total += gap.square().mean().item() / 2
    assert terms_of(made)["invariance"] == pytest.approx(total, abs=1e-9)


def test_corners_from_outside_are_not_compared_unless_asked_for():
    values = {}
    turns = Turns((0, 0), (45.0, 45.0))
    for corners in (False, True):
        made = objective(
            method="fine-tuning",
            contrastive={"rotation": "free", "factor": 1.0, "factor_old": 0, "compat_corners": corners},
        )
        made.turns_of = lambda image: turns
        values[corners] = terms_of(made)["invariance"]
    image = worked_batch().image
    gap = STUDENT.forward_features(turns.images(image)) - turns.images(STUDENT.forward_features(image))
    squares = gap.square().mean(1)
    inside = turns.inside(gap)
    assert values[True] == pytest.approx(squares.mean().item(), abs=1e-9)
    assert values[False] == pytest.approx(squares[inside].mean().item(), abs=1e-9)


def test_draws_repeat_with_the_seed_and_differ_between_batches():
    made, image = objective(method="mib-cd"), torch.zeros(8, 1, 3, 4, 4)
    torch.manual_seed(5)
    first, second = made.turns_of(image), made.turns_of(image)
    torch.manual_seed(5)
    assert made.turns_of(image) == first != second


def test_one_draw_per_batch_where_asked_for():
    made = objective(method="mib-cd", contrastive={"draws": "per-batch"})
    assert len(set(made.turns_of(torch.zeros(8, 1, 3, 4, 4)).elements)) == 1


class TwoDates(DenseModel):
    """An encoder that sees both dates as one batch; logits of their difference."""

    dates, stride = 2, 1

    def __init__(self, classes):
        super().__init__()
        torch.manual_seed(classes)
        self.classes = classes
        self.encoder = nn.Conv2d(3, 4, 3, padding=1).double()
        self.head = nn.Conv2d(4, classes, 1).double()

    def forward_features(self, image):
        pre, post = self.encoder(image.transpose(0, 1).flatten(0, 1)).chunk(2)
        return torch.tanh(post - pre)

    def forward_head(self, features, size):
        return self.head(features)


@pytest.mark.parametrize("method", ["ilt", "plop"])
def test_one_pass_tells_two_dates_and_two_views_apart(method):
    batch = worked_batch()
    batch = replace(batch, image=torch.stack([batch.image[:, 0], batch.image[:, 0].flip(-1)], 1))
    values = []
    for two_passes in (False, True):
        made = objective(
            method=method,
            teacher=TwoDates(OLD),
            contrastive={"compat_two_passes": two_passes, "factor": 0.3},
        )
        made.prepare(TwoDates(ALL), iter([batch]))
        made.turns_of = lambda image: Turns((1, 7))
        values.append(terms_of(made, TwoDates(ALL), batch))
    assert values[0] == pytest.approx(values[1], abs=1e-12) and len(values[0]) > 3


# the teacher


class Normed(Stub):
    """The stub behind a batch normalisation, with dropout."""

    def __init__(self, classes, shift=0.2):
        super().__init__(classes, shift)
        self.encoder = nn.Sequential(nn.BatchNorm2d(3).double(), self.encoder, nn.Dropout(0.5))


def test_the_teacher_stays_as_it_was_to_the_bit():
    teacher = Normed(OLD, 0.25)
    before = copy.deepcopy(teacher.state_dict())
    made = objective(teacher=teacher, method="mib-cd", contrastive={"teacher_view": "transformed"})
    student = Normed(ALL)
    for _ in range(3):
        made.train()
        torch.stack(list(made(student, worked_batch()).values())).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training and student.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_a_teacher_without_questions_is_let_go():
    assert objective(method="fine-tuning").teacher is None
    assert not list(objective(method="fine-tuning").parameters())


def test_two_passes_have_batch_statistics_of_their_own():
    """Turned images have the statistics of the images, so that means of channels tell nothing: count the updates."""
    student = Normed(ALL)
    made = objective(method="mib-cd", teacher=Normed(OLD), contrastive={"compat_two_passes": True})
    made(student, worked_batch())
    assert int(student.encoder[0].num_batches_tracked) == 2


# wrong use


@pytest.mark.parametrize("method", ["lwf", "mib", "ilt", "plop", "mib-cd", "ewc"])
def test_a_later_step_without_its_old_model_is_refused(method):
    with pytest.raises(RecipeError, match=r"step 1 with method .* needs the model of step 0"):
        Incremental(config(method=method), step=1, heads=[2, 1])


def test_fine_tuning_needs_no_old_model():
    assert Incremental(config(method="fine-tuning"), step=1, heads=[2, 1]).teacher is None


def test_an_old_model_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="has 2 classes, its heads 4"):
        Incremental(config(method="mib"), step=1, heads=[4, 1], teacher=Stub(2))


def test_heads_of_another_step_are_refused():
    with pytest.raises(ValueError, match="step 1 has 2 heads, found 3"):
        Incremental(config(method="mib"), step=1, heads=[2, 1, 1], teacher=Stub(2))


def test_too_few_class_weights_are_refused():
    with pytest.raises(RecipeError, match="class_weights has 2 values, the model has 3 classes"):
        objective(method="mib", segmentation={"class_weights": [1, 2]})


def test_unlabelled_batches_of_every_method_cost_something_finite():
    batch = Batch(worked_batch().image, torch.full((2, 4, 4), IGNORE))
    for method in ("fine-tuning", "lwf", "lwf-mc", "ilt", "mib", "mib-cd"):
        assert all(math.isfinite(v) for v in terms_of(objective(method=method), batch=batch).values())
