"""Learning to adapt: model-agnostic meta-learning (MAML) over tasks, on `torch.func`.

A task is a batch whose first images are its support and the others its query. The inner loop takes a few SGD steps on
the support; what is minimised is the loss of the query after them, as a function of the weights before them.

Source: Finn et al. 2017, algorithm 2; MetaDamageNet, which did the same with the library `higher`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value
from torch.nn.attention import SDPBackend, sdpa_kernel

from aftermap.data.batch import Batch
from aftermap.learning.configs.adapting import MetaConfig, NormPolicy
from aftermap.learning.objectives.base import Objective
from aftermap.models.networks.dense import DenseModel

Parameters = Mapping[str, Tensor]
Loss = Callable[[Parameters, Batch], Tensor]


class Maml(Objective):
    """The query's loss after adapting to the support, with its gradient for the weights before.

    One task is one batch, so that only one unrolled graph lives at a time; a set of tasks is one optimizer step that
    accumulates over `task_set_size` batches.
    """

    def __init__(self, objective: Objective, config: MetaConfig) -> None:
        super().__init__()
        self.objective = objective
        self.config = config

    def forward(self, model: DenseModel, batch: Batch) -> dict[str, Tensor]:
        """The term `query`; calling `backward` on it adds the meta-gradient to the model's parameters."""
        with norm_policy(model, self.config.norm):
            gradients, value = meta_gradient(model, self.objective, batch, self.config)
        named = dict(model.named_parameters())
        # a term of the right value whose derivative is the gradient found: the rest of the loop needs no other case
        pull = torch.stack([(named[name] * gradient).sum() for name, gradient in gradients.items()]).sum()
        count = self.config.task_set_size if self.config.reduction == "sum" else 1
        return {"query": count * (value + pull - pull.detach())}


def meta_gradient(
    model: DenseModel, objective: Objective, task: Batch, config: MetaConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Gradient and value of the query's loss after adaptation, for the weights before it.

    Args:
        model: its parameters that require gradients are adapted; none is changed.
        objective: the loss, of support and query alike.
        task: support first.
        config: inner steps and order of the derivative.
    """
    support, query = support_and_query(task, config.support_shots)
    loss = bound_loss(model, objective, images_per_pass=config.images_per_pass)
    start = learned_parameters(model)
    # fused attention has no second derivative
    with sdpa_kernel(SDPBackend.MATH):
        if config.first_order:
            adapted = inner_steps(loss, start, support, config)
            gradients, value = grad_and_value(loss)(adapted, query)
        else:

            def after_adapting(parameters: Parameters) -> Tensor:
                return loss(inner_steps(loss, parameters, support, config), query)

            gradients, value = grad_and_value(after_adapting)(start)
    return gradients, value.detach()


def inner_steps(loss: Loss, parameters: Parameters, support: Batch, config: MetaConfig) -> Parameters:
    """Weights after `config.inner_steps` steps of SGD on the support; differentiable in the weights given."""
    for _ in range(config.inner_steps):
        gradients = grad(loss)(parameters, support)
        parameters = {name: p - config.inner_lr * gradients[name] for name, p in parameters.items()}
    return parameters


@torch.no_grad()
def adapt_to_support(
    model: DenseModel, objective: Objective, support: Batch, config: MetaConfig
) -> dict[str, Tensor]:
    """The model's weights after the inner loop, by name; the model itself stays as it is."""
    with norm_policy(model, config.norm):
        loss = bound_loss(model, objective, images_per_pass=config.images_per_pass)
        return dict(inner_steps(loss, learned_parameters(model), support, config))


def learned_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that require gradients, cut off from any graph."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def support_and_query(task: Batch, support_shots: int) -> tuple[Batch, Batch]:
    """The two parts of a task's batch."""
    n = support_shots
    return Batch(task.image[:n], task.mask[:n]), Batch(task.image[n:], task.mask[n:])


def bound_loss(model: DenseModel, objective: Objective, *, images_per_pass: int = 0) -> Loss:
    """The sum of an objective's terms as a function of weights and batch.

    Args:
        model: gives the architecture, its buffers and the weights that are not asked for.
        objective: called once per pass.
        images_per_pass: the batch is cut into passes of so many images, and their losses averaged; 0 does not cut.
    """
    bound = _Bound(model, objective)

    def loss(parameters: Parameters, batch: Batch) -> Tensor:
        size = images_per_pass or len(batch.image)
        weights = {f"model.{name}": value for name, value in parameters.items()}
        passes = zip(torch.split(batch.image, size), torch.split(batch.mask, size), strict=True)
        losses = [functional_call(bound, weights, (Batch(image, mask),)) for image, mask in passes]
        return torch.stack(losses).mean()

    return loss


class _Bound(nn.Module):
    """Model and objective as one module, so that other weights reach the model through the objective."""

    def __init__(self, model: DenseModel, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> Tensor:
        return torch.stack(list(self.objective(self.model, batch).values())).sum()


@contextmanager
def norm_policy(model: nn.Module, policy: NormPolicy) -> Iterator[None]:
    """Batch normalisation by running statistics (`frozen`) or by those of the batch; the former never change."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    try:
        for layer in layers:
            layer.training = policy == "batch"
            layer.track_running_stats = layer.track_running_stats and policy == "frozen"
        yield
    finally:
        for layer, (training, tracked) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, tracked


@torch.no_grad()
def refresh_statistics(model: DenseModel, batches: Iterable[Batch]) -> None:
    """Set the running statistics of batch normalisation to their mean over batches."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(layer.training, layer.momentum) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.training, layer.momentum = True, None  # None: the mean over all batches
    for batch in batches:
        model(batch.image)
    for layer, (training, momentum) in zip(layers, before, strict=True):
        layer.training, layer.momentum = training, momentum
