"""Learning with a part of a model: which weights change, and whether batch normalisation follows the new images."""

from typing import Any

from torch import Tensor, nn

from aftermap.data.batch import Batch
from aftermap.errors import ModelError
from aftermap.learning.configs.adapting import NormLearning, Part
from aftermap.learning.meta import norm_policy
from aftermap.learning.objectives.base import Objective
from aftermap.models.networks.dense import DenseModel


def tune_only(model: DenseModel, part: Part) -> int:
    """Let only the weights of a part change: all of them, all but the encoder's, or the head's.

    Returns:
        Number of weights that change.

    Raises:
        ModelError: the model has no part of that name.
    """
    parts = {name for name, _ in model.named_modules()}
    named = {"all": (), "decoder": model.encoder_parts, "head": model.head_parts}[part]
    missing = [name for name in named if name not in parts]
    if missing:
        children = sorted(name for name, _ in model.named_children())
        raise ModelError(
            f"this model has no part named {missing[0]} (it has {', '.join(children)}): tune all of it"
        )
    starts = tuple(f"{name}." for name in named)
    count = 0
    for name, parameter in model.named_parameters():
        learns = part == "all" or name.startswith(starts) == (part == "head")
        parameter.requires_grad_(learns)
        count += parameter.numel() if learns else 0
    return count


def fix_norm(model: DenseModel, objective: Objective, norm: NormLearning) -> Objective:
    """Keep batch normalisation as it is, and give the objective under which it stays so.

    Args:
        model: the factors and terms of its batch normalisation are no longer trained.
        objective: what is minimised.
        norm: `learned` changes nothing; `fixed` keeps statistics, factors and terms; `compat-fixed` factors and terms;
            `fixed-encoder` has the encoder behave as in use, and changes nothing else.

    Raises:
        ModelError: the model has no part named encoder.
    """
    if norm == "learned":
        return objective
    if norm == "fixed-encoder":
        if not isinstance(getattr(model, "encoder", None), nn.Module):  # further ones are never without it
            raise ModelError("this model has no part named encoder, so norm fixed-encoder has no meaning")
        return FrozenEncoder(objective)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
    return FrozenNorm(objective) if norm == "fixed" else objective


class FrozenNorm(Objective):
    """Another objective, under which batch normalisation keeps to its running statistics and they stay as they are.

    The statistics of a few crops are poor; those that the model was trained with stay better the fewer there are.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """The terms of the other objective."""
        with norm_policy(model, "frozen"):
            terms: dict[str, Tensor] = self.objective(model, batch)
        return terms

    def before_step(self, step: int, steps: int) -> None:
        """What the other objective does."""
        self.objective.before_step(step, steps)

    def after_backward(self, model: DenseModel, step: int) -> None:
        """What the other objective does."""
        self.objective.after_backward(model, step)

    def after_step(self, model: DenseModel, step: int) -> None:
        """What the other objective does."""
        self.objective.after_step(model, step)

    def kept(self) -> dict[str, Tensor]:
        """What the other objective keeps."""
        return self.objective.kept()

    def restore(self, kept: dict[str, Tensor]) -> None:
        """What the other objective takes back."""
        self.objective.restore(kept)

    def evaluated(self, model: DenseModel) -> DenseModel:
        """What the other objective gives."""
        return self.objective.evaluated(model)


class FrozenEncoder(FrozenNorm):
    """Another objective, under which every encoder behaves as in use: its statistics stay, and nothing is dropped out."""

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """The terms of the other objective."""
        bare: Any = getattr(model, "module", model)  # a model that processes share is wrapped
        encoders = [bare.get_submodule(name) for name in bare.encoder_parts]
        learning = [encoder.training for encoder in encoders]
        for encoder in encoders:
            encoder.eval()
        terms: dict[str, Tensor] = self.objective(model, batch)
        for encoder, mode in zip(encoders, learning, strict=True):
            encoder.train(mode)
        return terms
