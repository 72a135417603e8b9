"""What varies between ways of learning: the forward passes and the terms they minimise."""

from abc import abstractmethod

from torch import Tensor, nn

from aftermap.data.batch import Batch
from aftermap.models.networks.dense import DenseModel


class Objective(nn.Module):
    """A way of learning. A module, so that class weights and teachers move with the device.

    Parameters of an objective that ask for a gradient, such as adapters between a student's and a teacher's features,
    are trained and saved with the model's.
    """

    @abstractmethod
    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Weighted scalar terms by name; the loop adds and logs them. The model runs at most once."""

    def before_step(self, step: int, steps: int) -> None:
        """Called before optimizer step `step` of `steps`, counted from 0; nothing by default."""

    def after_backward(self, model: DenseModel, step: int) -> None:
        """Called before every optimizer step, when the gradients are complete and not yet clipped; nothing by default.

        Not called where a gradient is not finite.
        """

    def after_step(self, model: DenseModel, step: int) -> None:
        """Called after every optimizer step; nothing by default."""

    def kept(self) -> dict[str, Tensor]:
        """What a run has to save besides the model to go on to the same end; nothing by default."""
        return {}

    def restore(self, kept: dict[str, Tensor]) -> None:
        """Take back what `kept` gave."""

    def evaluated(self, model: DenseModel) -> DenseModel:
        """The network that is scored and saved; by default the one that learns."""
        return model
