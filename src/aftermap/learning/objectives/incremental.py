"""Learning new classes without forgetting the old ones: labels of the new ones, and the model of the step before.

The student runs once per batch, on images and turned images together where both are needed; the teacher once, or not
at all where no term asks it anything.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.distributed
from torch import Tensor

from aftermap.data.batch import Batch
from aftermap.errors import RecipeError
from aftermap.learning.configs.incremental import IncrementalConfig
from aftermap.learning.configs.incremental_terms import PseudoLabelConfig
from aftermap.learning.configs.segmentation import class_weights_of
from aftermap.learning.losses.incremental import feature_consistency
from aftermap.learning.losses.pseudo_labels import (
    PseudoLabels,
    ThresholdMeter,
    pseudo_label_cross_entropy,
    pseudo_labels,
)
from aftermap.learning.objectives.base import Objective
from aftermap.learning.objectives.colour_views import jittered
from aftermap.learning.objectives.held_knowledge import of_old_features, of_old_logits, regulariser_of
from aftermap.learning.objectives.incremental_passes import Needs, Seen, ask_student, ask_teacher
from aftermap.learning.objectives.segmentation_terms import segmentation_value
from aftermap.learning.objectives.turned_views import Turns, doubled, draw_turns
from aftermap.models.embedding import Outputs
from aftermap.models.growth import align, aligned
from aftermap.models.networks.dense import DenseModel
from aftermap.models.taps import unwrapped

_RANKS_APART = 0x9E3779B97F4A7C15  # far from any small number


class Incremental(Objective):
    """Terms of one step of a task, each by its own name and weighted.

    Attributes:
        step: of the task, from 0; there is nothing old at step 0.
        old: channels of the model before this step, the background included; 1 at step 0.
        unclear: labels below it may stand for any class of the steps before: `old`; 1, the background alone, in a step
            that adds no class, whose labels tell all of them.
        teacher: the model of the step before, frozen; None where no term asks it anything.
        thresholds: uncertainty (old,) up to which pseudo-labels are taken from it; 0 before `prepare`.
    """

    teacher: DenseModel | None
    class_weights: Tensor | None
    thresholds: Tensor

    def __init__(
        self,
        config: IncrementalConfig,
        *,
        step: int,
        heads: Sequence[int],
        teacher: DenseModel | None = None,
        carried: Mapping[str, Tensor] | None = None,
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
        class_rows: Sequence[str] = (),
        epoch_steps: int = 0,
    ) -> None:
        """Freeze the teacher.

        Args:
            config: method.
            step: of the task, from 0.
            heads: channels that each step added, this one's last, the background in the first; 0 in a step that adds
                places and no class.
            teacher: the model of the step before; it belongs to the objective from now on.
            carried: what the objective of the step before gave as `carried`.
            normalisation: mean and deviation that images are normalised with, where colours are jittered.
            class_rows: names of the model's weights with one row per class, where these are aligned.
            epoch_steps: optimizer steps of an epoch, where they are aligned after each.

        Raises:
            RecipeError: a term needs the step before and was not given it.
            ValueError: the heads are not those of the step, or of the teacher.
        """
        super().__init__()
        if len(heads) != step + 1:
            raise ValueError(f"step {step} has {step + 1} heads, found {len(heads)}")
        if teacher is not None and teacher.classes != sum(heads[:-1]):
            raise ValueError(
                f"the model of the step before has {teacher.classes} classes, its heads {sum(heads[:-1])}"
            )
        try:
            config.check_classes(sum(heads))
        except ValueError as error:
            raise RecipeError(str(error)) from None
        self.config = config
        self.step = step
        self.heads = tuple(heads)
        self.old = sum(heads[:-1]) or 1
        self.unclear = self.old if heads[-1] else 1
        self.needs = Needs.of(config, step)
        self._normalisation, self._class_rows = normalisation, tuple(class_rows)
        self._epoch_steps = epoch_steps
        if config.contrastive is not None and config.contrastive.colour is not None and normalisation is None:
            raise RecipeError("contrastive.colour needs to know how images are normalised")
        weights = class_weights_of(config.segmentation)
        weighed = None if weights is None else torch.tensor(weights[: sum(heads)])
        self.register_buffer("class_weights", weighed, persistent=False)
        self.register_buffer("thresholds", torch.zeros(self.old), persistent=False)
        self._thresholds_known = False
        asked = self.needs.teacher or self.needs.teacher_turned
        if step and teacher is None and (asked or config.regulariser is not None):
            raise RecipeError(f"step {step} with method {config.method} needs the model of step {step - 1}")
        self.regulariser = (
            None
            if config.regulariser is None
            else regulariser_of(config.regulariser, teacher, carried or {}, step)
        )
        self.teacher = None
        if asked and teacher is not None:
            # laid out as the loop lays out the student
            self.teacher = teacher.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Incremental":
        """The teacher is never in training."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    @property
    def is_prepared(self) -> bool:
        """False where `prepare` is still to be called, which a resumed step need not do again."""
        config = self.config.pseudo_labels
        return config is None or not config.has_thresholds or not self.step or self._thresholds_known

    @torch.no_grad()
    def prepare(self, model: DenseModel, batches: Iterator[Batch]) -> None:
        """Find the thresholds of pseudo-labels, once before a step begins; in the precision of the loop.

        Args:
            model: not looked at; for the sake of methods to come.
            batches: the training set of the step, or a fair share of it; in several processes each its own, of which
                the pixels are pooled. Read only where they are needed.
        """
        config = self.config.pseudo_labels
        if config is None or self.teacher is None or not config.has_thresholds:
            return
        meter = ThresholdMeter(
            self.old,
            sum(self.heads),
            kind="entropy" if config.kind == "entropy" else "median",
            least=config.least,
            most=config.threshold,
            bins=config.bins,
            compat_histogram=config.compat_histogram,
        )
        device = self.thresholds.device
        meter.counts = meter.counts.to(device)
        for batch in batches:
            moved = batch.to(device)
            meter.add(self.teacher(moved.image), moved.mask < self.unclear)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(meter.counts)
        self.thresholds.copy_(meter.tau)
        self._thresholds_known = True

    def kept(self) -> dict[str, Tensor]:
        """The thresholds, and what the regulariser has measured so far."""
        measured = {} if self.regulariser is None else self.regulariser.kept()
        return {"thresholds": self.thresholds} | {f"regulariser.{k}": v for k, v in measured.items()}

    def restore(self, kept: dict[str, Tensor]) -> None:
        """Take them back."""
        self.thresholds.copy_(kept["thresholds"])
        self._thresholds_known = bool(self.thresholds.any())
        if self.regulariser is not None:
            start = "regulariser."
            self.regulariser.restore(
                {k.removeprefix(start): v for k, v in kept.items() if k.startswith(start)}
            )

    def carried(self) -> dict[str, Tensor]:
        """What the objective of the next step has to be given; taken when the step is over."""
        return {} if self.regulariser is None else self.regulariser.state()

    def evaluated(self, model: DenseModel) -> DenseModel:
        """The network, its new classes' rows as long as the old ones' where the method says so."""
        if self.config.alignment is None or not self.step:
            return model
        return aligned(model, self._class_rows, old=self.old, to=self.config.alignment.to)

    def after_backward(self, model: DenseModel, step: int) -> None:
        """Measure the gradients."""
        if self.regulariser is not None:
            self.regulariser.after_backward(model, penalty_weight=self._penalty_weight)

    def after_step(self, model: DenseModel, step: int) -> None:
        """Measure how far the weights went, and align them where that is due."""
        if self.regulariser is not None:
            self.regulariser.after_step(model)
        config = self.config.alignment
        if config is None or config.every != "epoch" or not self.step or not self._epoch_steps:
            return
        if (step + 1) % self._epoch_steps == 0:
            align(model, self._class_rows, old=self.old, to=config.to)

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Terms by name. Pixels of earlier classes are background in the labels, or already of their class."""
        image = batch.image
        turns = self.turns_of(image) if self.needs.turned else None
        turned = None if turns is None else self._recoloured(turns.images(image))
        told = (
            Seen(None, None) if self.teacher is None else ask_teacher(self.teacher, image, turned, self.needs)
        )
        seen = ask_student(model, image, turned, self.needs)
        assert seen.plain is not None
        # no lower precision inside: probabilities near 0 and 1 would be rounded to them
        with torch.autocast(image.device.type, enabled=False):
            terms = self._of_labels(seen, told, batch.mask, turns)
            if told.plain is not None:
                terms |= of_old_logits(self.config.distillation, seen.plain, told.plain, batch.mask)
                terms |= of_old_features(self.config.features, seen.plain, told.plain, batch.mask, self.heads)
            if turns is not None:
                terms |= self._of_turns(seen, told, turns)
            if self.regulariser is not None and self.config.regulariser is not None and self._penalty_weight:
                penalty = self.regulariser.penalty(unwrapped(model)).to(image.device)
                terms[self.config.regulariser.kind] = self._penalty_weight * penalty
        return terms

    def turns_of(self, image: Tensor) -> Turns:
        """Draw how a batch is turned; every process draws for itself."""
        config = self.config.contrastive
        assert config is not None
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        # torch's generator is seeded alike in all processes
        seed = (int(torch.randint(2**62, ())) + rank * _RANKS_APART) % 2**63
        return draw_turns(
            len(image),
            square=image.shape[-2] == image.shape[-1],
            flips=config.flips,
            rotation=config.rotation,
            alike=config.draws == "per-batch",
            generator=torch.Generator().manual_seed(seed),
        )

    def _recoloured(self, turned: Tensor) -> Tensor:
        """Turned images in other colours, where the recipe says so."""
        config = self.config.contrastive
        if config is None or config.colour is None or self._normalisation is None:
            return turned
        return jittered(turned, config.colour, *self._normalisation, alike=config.draws == "per-batch")

    @property
    def _penalty_weight(self) -> float:
        """Factor of the regulariser's penalty; there is none at step 0."""
        return self.config.regulariser.weight if self.config.regulariser is not None and self.step else 0.0

    def _of_labels(self, seen: Seen, told: Seen, mask: Tensor, turns: Turns | None) -> dict[str, Tensor]:
        config, contrastive = self.config.segmentation, self.config.contrastive
        assert seen.plain is not None
        logits, taken = seen.plain.logits, self.config.pseudo_labels
        labels = None if taken is None or told.plain is None else self._completed(taken, mask, told.plain)
        teacher_logits = None if labels is None or told.plain is None else told.plain.logits
        if turns is not None and contrastive is not None and contrastive.supervise_transformed:
            assert seen.turned is not None
            logits = torch.cat([logits, seen.turned.logits])
            mask = torch.cat([mask, turns.masks(mask)])
            if labels is not None:
                labels = doubled(labels, turns)
            if teacher_logits is not None:
                teacher_logits = torch.cat([teacher_logits, turns.images(teacher_logits)])
        if labels is None or taken is None:
            value = segmentation_value(config, logits, mask, self.unclear, self.class_weights)
            return {config.loss: config.weight * value}
        value = pseudo_label_cross_entropy(
            logits,
            labels,
            weigh_by_certainty=taken.weigh_by_certainty and taken.kind == "entropy",
            teacher_logits=teacher_logits,
            soft_factor=taken.soft_factor,
            compat_mean_over_all=taken.compat_mean_over_all,
            compat_reversed=taken.compat_reversed,
        )
        return {"pseudo-label-cross-entropy": config.weight * value}

    def _completed(self, config: PseudoLabelConfig, mask: Tensor, told: Outputs) -> PseudoLabels:
        """Labels in which the background is what the teacher is sure of."""
        if not self.is_prepared:
            raise ValueError("pseudo-labels have no thresholds: call prepare before the first step")
        return pseudo_labels(
            mask,
            told.logits,
            self.thresholds,
            classes=sum(self.heads),
            unclear=self.unclear,
            kind=config.kind,
            threshold=config.threshold,
            soft=config.soft,
            compat_no_background=config.compat_no_background,
            compat_histogram=config.compat_histogram,
        )

    def _of_turns(self, seen: Seen, told: Seen, turns: Turns) -> dict[str, Tensor]:
        """Features of the turned images against turned features of the images."""
        config = self.config.contrastive
        assert config is not None and seen.plain is not None and seen.turned is not None
        ours = seen.turned.features
        terms: dict[str, Tensor] = {}
        if ours is None:
            return terms
        where = None if config.compat_corners else turns.inside(ours)
        if config.factor:
            assert seen.plain.features is not None
            goal = turns.images(seen.plain.features)
            goal = goal.detach() if config.stop_gradient else goal
            terms["invariance"] = config.factor * feature_consistency(ours, goal, where=where)
        if config.factor_old and self.step:
            theirs = told.turned.features if told.turned is not None else None
            if told.turned is None and told.plain is not None and told.plain.features is not None:
                theirs = turns.images(told.plain.features)
            assert theirs is not None
            terms["old-invariance"] = config.factor_old * feature_consistency(ours, theirs, where=where)
        return terms
