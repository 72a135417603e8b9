"""Pretraining from a recipe: images without labels in, a file of encoder weights out, which any recipe may begin with."""

import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from aftermap.artefacts.encoder_folder import EncoderCard, save_encoder
from aftermap.data.loading.loader import CropSource
from aftermap.data.loading.sampling import ClassSampling
from aftermap.data.scene import Scene
from aftermap.errors import DataError, RecipeError
from aftermap.learning.loop import Training
from aftermap.learning.objectives.pretraining import build_pretraining
from aftermap.learning.run import Run, data_checksum
from aftermap.models.networks.dense import DenseModel
from aftermap.models.networks.encoder_model import EncoderModel
from aftermap.models.networks.encoders import Encoder
from aftermap.models.weights.brought import brought_encoder
from aftermap.wording import counted
from aftermap.workflows.pretraining.config import PretrainRecipe
from aftermap.workflows.training.run_folder import check_folder
from aftermap.workflows.training.scenes import checked_manifest
from aftermap.workflows.training.start import RunLength
from aftermap.workflows.training.training_kind import (
    OnProgress,
    Trained,
    TrainingKind,
    run_training,
    training_record,
    unseen,
)

MEASURED = 4
"""Batches of held-out images that an evaluation looks at, the same every time."""


def pretrain(
    recipe: PretrainRecipe,
    folder: Path,
    *,
    resume: bool = False,
    command: str = "",
    on_progress: OnProgress = unseen,
) -> Trained:
    """Train an encoder on images without labels and keep it in `folder/model`.

    Args:
        recipe: what to do.
        folder: the run folder; new, or that of an interrupted run with `resume`.
        resume: go on from the saved state, to the same weights as without the interruption.
        command: how the user asked for it; goes to the card.
        on_progress: called after every step.

    Raises:
        DataError: the data did not pass its check, or there are too few images.
        RecipeError: sizes that do not go together, or nobody says the licence of a file.
        TrainingError: a loss is not finite, or there is nothing to resume.
        OutputError: the run folder exists or cannot be written.
    """
    started = time.monotonic()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    check_folder(folder, resume=resume)
    kind = Pretraining(recipe, command)
    return run_training(kind, folder, resume=resume, started=started, on_progress=on_progress)


class Pretraining(TrainingKind):
    """Learning from images alone; an encoder is judged by its loss on images that it has not learned from."""

    def __init__(self, recipe: PretrainRecipe, command: str) -> None:
        self.recipe, self.command = recipe, command
        self.name, self.tree = recipe.name, recipe.model_dump(mode="json")
        self.records, self.notify = recipe.records, recipe.notify
        self.save_every, self.keep = recipe.save_every, recipe.keep
        self._began_with = brought_encoder(recipe, recipe.encoder_licence)
        self._learned, self._held_out = unlabelled_images(recipe)
        torch.manual_seed(recipe.seed)
        model = EncoderModel(
            Encoder(
                recipe.encoder_name,
                depth=recipe.encoder_depth,
                weights=recipe.encoder_weights,
                options=recipe.encoder_options,
            )
        )
        if recipe.crop_px % model.stride:
            near = max(1, round(recipe.crop_px / model.stride)) * model.stride
            raise RecipeError(
                f"crop_px is {recipe.crop_px}, this encoder takes multiples of {model.stride}, such as {near}"
            )
        self._objective = build_pretraining(
            recipe.objective, channels=model.channels, stride=model.stride, bands=3
        )
        self.length = RunLength(recipe.steps, 0, recipe.evaluate_every, recipe.evaluate_every)
        self.training = Training(
            model,
            self._objective,
            recipe.optimizer,
            steps=recipe.steps,
            seed=recipe.seed,
            precision=recipe.precision,
        )
        crops = self.source = self._crops(self._learned, ahead=2)
        crops.device = self.training.accelerator.device

    def _crops(self, scenes: list[Scene], *, ahead: int) -> CropSource:
        recipe = self.recipe
        return CropSource(
            scenes,
            target="building",
            dates=1,
            sampling=ClassSampling(
                crop_px=recipe.crop_px, batch_size=recipe.batch_size, unlabelled_share=1.0
            ),
            augment=recipe.augment,
            mean=recipe.normalisation.mean,
            std=recipe.normalisation.std,
            seed=recipe.seed,
            ahead=ahead,
        )

    def facts(self) -> dict[str, Any]:
        """Seed, images and events."""
        return {
            "seed": self.recipe.seed,
            "task": "pretrain",
            "training_images": len(self._learned),
            "held_out_images": len(self._held_out),
            "events": sorted({scene.event for scene in self._learned}),
            "data": [str(path) for path in self.recipe.data.manifests],
            "data_checksum": data_checksum(self._learned),
        }

    def assess(
        self, model: DenseModel, run: Run, step: int, minutes: float
    ) -> tuple[dict[str, float], EncoderCard]:
        """The loss on held-out images, as `held_out_loss`; `score` is its negative."""
        loss = self._held_out_loss(model)
        recipe = self.recipe
        record = training_record(
            recipe.data, command=self.command, parent_sha256=None, steps=step, minutes=minutes
        )
        card = EncoderCard(
            name=recipe.name,
            encoder_name=recipe.encoder_name,
            encoder_depth=recipe.encoder_depth,
            encoder_options=recipe.encoder_options,
            normalisation=recipe.normalisation,
            method=recipe.objective.kind,
            began_with=self._began_with or ("imagenet" if recipe.encoder_weights == "imagenet" else None),
            training=record,
            metrics={"loss": round(loss, 4)},
            licence=recipe.licence,
        )
        return {"score": -loss, "held_out_loss": loss}, card

    @torch.no_grad()
    def _held_out_loss(self, model: DenseModel) -> float:
        device = self.training.accelerator.device
        was = model.training
        model.eval(), self._objective.eval()
        source = self._crops(self._held_out, ahead=0)
        total = 0.0
        with torch.random.fork_rng(devices=[]):
            for number in range(MEASURED):
                torch.manual_seed(number)
                terms = self._objective(model, source.batch(number).to(device))
                total += sum(float(value) for value in terms.values())
        source.close()
        model.train(was)
        return total / MEASURED

    def save(self, folder: Path, model: DenseModel, card: EncoderCard) -> None:
        """Write the encoder under timm's names."""
        assert isinstance(model, EncoderModel)
        save_encoder(folder, model.encoder.body.state_dict(), card)

    def told(self, metrics: Any) -> str:
        """The loss of held-out images."""
        return f"held-out loss {metrics['held_out_loss']:.4f}"


def unlabelled_images(recipe: PretrainRecipe) -> tuple[list[Scene], list[Scene]]:
    """Every date of the recipe's scenes as a scene of one image without labels: those learned from, those held out.

    Which scenes are held out follows from a hash of their names, whatever the order; both dates go together.

    Raises:
        DataError: no such event, or fewer than two scenes.
    """
    wanted = recipe.data
    scenes = [
        scene
        for path in wanted.manifests
        for scene in checked_manifest(path, unlabelled=True).scenes
        if not wanted.splits or scene.split in wanted.splits
    ]
    known = sorted({scene.event for scene in scenes})
    if unknown := [event for event in wanted.events if event not in known]:
        raise DataError(f"no scene is of event {unknown[0]}: there are {', '.join(known) or 'none'}")
    chosen = [scene for scene in scenes if not wanted.events or scene.event in wanted.events]
    if len(chosen) < 2:
        raise DataError(f"pretraining takes two scenes or more, there is {counted(len(chosen), 'scene')}")
    ranked = sorted(
        chosen, key=lambda scene: hashlib.sha256(f"{recipe.seed}:{scene.name}".encode()).hexdigest()
    )
    count = min(len(ranked) - 1, max(1, round(wanted.held_out * len(ranked))))
    return _images(ranked[count:]), _images(ranked[:count])


def _images(scenes: list[Scene]) -> list[Scene]:
    found = []
    for scene in sorted(scenes, key=lambda scene: scene.name):
        bare = scene.without_labels()
        found.append(bare.model_copy(update={"post": None}))
        if bare.post is not None:
            found.append(
                bare.model_copy(update={"name": f"{bare.name}-post", "pre": bare.post, "post": None})
            )
    return found
