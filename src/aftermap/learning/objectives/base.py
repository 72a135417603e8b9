"""What varies between ways of learning: the forward passes and the terms they minimise."""

from abc import abstractmethod

from torch import Tensor, nn

from aftermap.data.batch import Batch
from aftermap.models.dense import DenseModel


class Objective(nn.Module):
    """A way of learning. A module, so that class weights and teachers move with the device."""

    @abstractmethod
    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """Weighted scalar terms by name; the loop adds and logs them. The model runs at most once."""

    def after_step(self, model: DenseModel, step: int) -> None:
        """Called after every optimizer step; nothing by default."""
