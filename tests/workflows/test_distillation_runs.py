"""Students trained under teachers end to end."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aftermap.artefacts.store import load_model
from aftermap.classes import IGNORE
from aftermap.cli.app import main
from aftermap.config import build_config, load_config
from aftermap.data.scene import Manifest, read_images
from aftermap.errors import RecipeError
from aftermap.inference.ensemble import open_predictor
from aftermap.synthetic.write import synthesise
from aftermap.workflows.kinds import interrupted_recipe
from aftermap.workflows.training import start
from aftermap.workflows.training.config import TrainRecipe
from aftermap.workflows.training.recipe_files import load_recipe
from aftermap.workflows.training.run import train
from saved_models import save_building, save_damage
from squares import make_dataset
from squares_teacher import alter, save_knowing, stripped, student

ROOT = Path(__file__).resolve().parents[2] / "recipes"
STEPS, BATCH = 6, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """A damage model and a localizer, wider than the mini student; they know nothing."""
    folder = tmp_path_factory.mktemp("teachers")
    return save_damage(folder / "damage", seed=3), save_building(folder / "building", seed=4)


@pytest.fixture(scope="module")
def knowing(tmp_path_factory):
    return save_knowing(tmp_path_factory.mktemp("knowing") / "teacher")


def mini(data, main, localizer, *words):
    """The mini recipe on the tiny data, with its teachers."""
    given = [
        f"data.manifests=[{data}]",
        f"objective.teachers.main.model={main}",
        f"objective.teachers.localization.model={localizer}",
        "sampling.crop_px=64",
        f"sampling.batch_size={BATCH}",
        "model.decoder_channels=[16, 16, 16, 16]",
        "optimizer.schedule.warmup_steps=2",
        "augment=null",
        'precision="no"',
        f"steps={STEPS}",
        "evaluate_every=3",
        "teacher_check=false",
        *words,
    ]
    return load_config(TrainRecipe, ROOT / "kd" / "dual-teacher-mini.yaml", given)


def bytes_of(*folders):
    files = sorted(f for folder in folders for f in folder.rglob("*") if f.is_file())
    return {file: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) for file in files}


class Watch:
    """What a run builds, and how many images went through its encoders while it learned."""

    def __init__(self, monkeypatch):
        self.images, self.masks = {}, []
        build = start.build_distillation

        def watched(config, student, **given):
            self.student, self.objective = student, build(config, student, **given)
            self.count("student", student.encoder, student)
            for name, teacher in self.objective.teachers.items():
                for part in (n.model for n in teacher.networks if hasattr(n.model, "encoder")):
                    self.count(name, part.encoder, student)
            self.objective.register_forward_pre_hook(
                lambda _, given: self.masks.append(given[1].mask.clone())
            )
            return self.objective

        monkeypatch.setattr(start, "build_distillation", watched)

    def count(self, name, encoder, student):
        self.images[name] = []
        seen = self.images[name]

        def note(module, given):
            if student.training:
                seen.append(len(given[0]))

        encoder.register_forward_pre_hook(note)

    @property
    def weights(self):
        """Weights of the student, and of its adapters."""
        parts = {"student": self.student, "adapters": self.objective.adapters}
        return {f"{p}.{n}": v.clone() for p, module in parts.items() for n, v in module.state_dict().items()}


@pytest.fixture(scope="module")
def distilled(data, teachers, tmp_path_factory):
    """The mini recipe, run through and watched."""
    before = bytes_of(*teachers)
    folder = tmp_path_factory.mktemp("runs") / "mini"
    with pytest.MonkeyPatch.context() as patch:
        watch = Watch(patch)
        done = train(mini(data, *teachers), folder)
    return done, watch, before


def test_the_mini_recipe_trains_a_student_that_stands_alone(distilled, data):
    done, _, _ = distilled
    scene = Manifest.load(data).scenes[0]
    found = open_predictor(done.model).predict(read_images(scene, dates=2)[None])
    assert found.shape == (1, 5, 64, 64) and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    names = load_model(done.model).model.state_dict()
    assert not [name for name in names if "teacher" in name or "adapter" in name]


def test_teachers_are_bit_identical_after_training_on_disk_and_in_memory(distilled, teachers):
    _, watch, before = distilled
    assert bytes_of(*teachers) == before and len(before) >= 4
    for name, folder in zip(("main", "localization"), teachers, strict=True):
        held = watch.objective.teachers[name].networks[0].model.state_dict()
        saved = load_model(folder).model.state_dict()
        assert held.keys() == saved.keys() and all(torch.equal(held[k].cpu(), saved[k]) for k in saved)


def test_every_image_goes_through_every_encoder_once_a_step(distilled):
    _, watch, _ = distilled
    sums = {name: sum(seen) for name, seen in watch.images.items()}
    per_date = STEPS * BATCH
    assert sums == {"student": 2 * per_date, "main": 2 * per_date, "localization": per_date}


def test_adapters_are_trained_with_the_student(distilled, data, teachers):
    _, watch, _ = distilled
    torch.manual_seed(0)
    recipe = mini(data, *teachers)
    model, _ = start.start_model(recipe)
    fresh = start.start_objective(recipe, model).adapters
    assert set(fresh) == set(watch.objective.adapters) == {"main"}
    for before, after in zip(
        fresh["main"].parameters(), watch.objective.adapters["main"].parameters(), strict=True
    ):
        assert before.shape == after.shape and not torch.equal(before, after.cpu())


TERMS = {
    "loss_cross-entropy",
    "loss_dice",
    "loss_soft-targets",
    "loss_normalised-feature-mse",
    "loss_soft-targets localization",
}


def test_the_means_of_all_terms_are_recorded_with_their_weights(data, teachers, tmp_path):
    seen = []
    recipe = mini(data, *teachers, "evaluate_every=4")
    train(recipe, tmp_path / "run", on_progress=lambda progress: seen.append(progress.step.terms))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 6]
    for line, steps in zip(lines, (seen[:4], seen[4:]), strict=True):
        recorded = {name: value for name, value in line.items() if name.startswith("loss_")}
        assert set(recorded) == TERMS
        means = {f"loss_{n}": np.mean([terms.get(n, 0.0) for terms in steps]) for n in seen[0]}
        assert recorded == pytest.approx(means, rel=1e-9)
    # the schedule of the features ends at 0: its last step leaves the term out
    assert "normalised-feature-mse" in seen[4] and "normalised-feature-mse" not in seen[5]


def test_an_interrupted_student_goes_on_to_the_same_bits_adapters_too(
    distilled, data, teachers, tmp_path, monkeypatch
):
    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step.number == 5:
            raise KilledError

    _, uninterrupted, _ = distilled
    recipe = mini(data, *teachers, "save_every=2")
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "run", on_progress=kill)
    assert json.loads((tmp_path / "run" / "resume" / "step.json").read_text())["step"] == 4
    watch = Watch(monkeypatch)
    stored = interrupted_recipe(tmp_path / "run", [])[1]
    assert stored == recipe
    train(stored, tmp_path / "run", resume=True)
    expected, found = uninterrupted.weights, watch.weights
    assert expected.keys() == found.keys() and any(name.startswith("adapters.main") for name in found)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# scenes without labels


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Squares whose training scenes have no labels."""
    return alter(make_dataset(tmp_path_factory.mktemp("bare") / "squares", scenes=8), stripped)


def agreement(model, teacher, data):
    """Share of the pixels of the validation scenes that two models put into the same class."""
    same = []
    for scene in Manifest.load(data).select("validation"):
        images = read_images(scene, dates=2)[None]
        first, second = (open_predictor(name).predict(images).argmax(axis=1) for name in (model, teacher))
        same.append((first == second).mean())
    return np.mean(same)


@pytest.fixture(scope="module")
def of_soft_targets(bare, knowing, tmp_path_factory):
    return train(student(bare, knowing), tmp_path_factory.mktemp("soft") / "run")


def test_soft_targets_alone_make_the_student_agree_with_its_teacher(of_soft_targets, knowing, bare):
    assert agreement(of_soft_targets.model, knowing, bare) > 0.9


def test_a_student_beats_the_student_alone_where_only_the_teacher_knows(of_soft_targets, tmp_path):
    def blanked(scene):
        for key in ("building_mask", "damage_mask"):
            file = tmp_path / "blank" / scene[key]
            cv2.imwrite(str(file), np.full((64, 64), IGNORE, np.uint8))
        scene["class_pixels"] = [0] * 5

    blank = alter(make_dataset(tmp_path / "blank", scenes=8), blanked)
    alone = student(
        blank,
        "",
        data={"manifests": [str(blank)]},
        objective={"terms": [{"loss": "cross-entropy"}, {"loss": "dice"}]},
        sampling={"crop_px": 64, "batch_size": 4, "class_share": 0},
        steps=2,  # there is nothing to learn, however long
        evaluate_every=2,
    )
    of_labels = train(alone, tmp_path / "run").metrics
    assert of_labels["loss_cross-entropy"] == of_labels["loss_dice"] == 0
    assert of_soft_targets.metrics["official_score"] > 0.8
    assert of_labels["official_score"] < 0.3


def test_scenes_without_labels_take_part_beside_those_that_have_some(knowing, tmp_path, monkeypatch):
    seen = iter(range(99))
    half = alter(
        make_dataset(tmp_path / "half", scenes=8),
        lambda scene: stripped(scene) if next(seen) % 2 else None,
    )
    watch = Watch(monkeypatch)
    mixed = {"kind": "distillation", "terms": [{"loss": "cross-entropy"}]}
    mixed |= {"teachers": {"main": {"model": str(knowing)}}, "distil": [{"loss": "soft-targets"}]}
    sampling = {"crop_px": 64, "batch_size": 8, "unlabelled_share": 0.5}
    recipe = student(half, knowing, objective=mixed, sampling=sampling, steps=4, evaluate_every=4)
    train(recipe, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training_scenes"] == 6
    unlabelled = torch.cat([(mask == IGNORE).flatten(1).all(dim=1) for mask in watch.masks])
    assert len(unlabelled) == 32 and 4 <= int(unlabelled.sum()) <= 28


def test_scenes_without_labels_are_refused_where_nobody_tells_about_them(bare, tmp_path, capsys):
    supervised = student(bare, "x").model_dump(mode="json") | {"objective": {"terms": [{"loss": "dice"}]}}
    with pytest.raises(RecipeError, match=r"data\.unlabelled gives images without labels: objective"):
        build_config(TrainRecipe, supervised)
    file = tmp_path / "supervised.yaml"
    file.write_text(json.dumps(supervised))
    code, _, said = run_cli(capsys, "train", file, "-o", tmp_path / "run")
    assert (
        code == 2
        and "data.unlabelled gives images without labels" in said
        and len(said.strip().splitlines()) == 1
    )


def run_cli(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    """Synthetic disasters of 128 px, the last of them for validation."""
    folder = tmp_path_factory.mktemp("towns") / "towns"
    synthesise(folder, scenes=4, size_px=128, seed=6, geotiff=False)
    file = folder / "manifest.json"
    tree = json.loads(file.read_text())
    for number, scene in enumerate(tree["scenes"]):
        scene["split"] = "train" if number < 3 else "validation"
    file.write_text(json.dumps(tree))
    return folder


def test_the_command_trains_the_mini_recipe_on_synthetic_disasters(towns, teachers, tmp_path, capsys):
    before = bytes_of(*teachers)
    out = tmp_path / "student"
    words = [
        f"data.manifests=[{towns}]",
        f"objective.teachers.main.model={teachers[0]}",
        f"objective.teachers.localization.model={teachers[1]}",
        "sampling.crop_px=96",
        "sampling.batch_size=2",
        "steps=2",
        "evaluate_every=2",
        "teacher_check=false",
    ]
    code, said, _ = run_cli(capsys, "train", ROOT / "kd" / "dual-teacher-mini.yaml", *words, "-o", out)
    assert code == 0
    assert bytes_of(*teachers) == before
    recipe = load_recipe(TrainRecipe, out / "recipe.yaml", [])
    assert recipe.name == "dual-teacher-mini" and recipe.objective.mixing == 0.2
    assert load_model(out / "model").card.training.steps == 2
    assert "best step 2: localization_f1 " in said and "loss" not in said


def test_a_teacher_that_is_not_there_is_one_line_and_no_run_folder(towns, teachers, tmp_path, capsys):
    words = [
        f"data.manifests=[{towns}]",
        "sampling.crop_px=96",
        "objective.teachers.main.model=nowhere",
        f"objective.teachers.localization.model={teachers[1]}",
    ]
    recipe = ROOT / "kd" / "dual-teacher-mini.yaml"
    code, _, said = run_cli(capsys, "train", recipe, *words, "-o", tmp_path / "run")
    assert code == 2 and "objective.teachers.main: no model at nowhere" in said
    assert len(said.strip().splitlines()) == 1 and not (tmp_path / "run").exists()
