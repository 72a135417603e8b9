"""The layers of a graph, whatever its format: which come first and last, what follows them, and what 8 bits cost each."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aftermap.artefacts.card import Activation
from aftermap.errors import ModelError

Inputs = Mapping[str, np.ndarray]
Run = Callable[[Inputs], np.ndarray]
"""Logits (B, K, H, W) of a graph's inputs by name."""

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "Convolution", "GroupConvolution"}) | frozenset(
    {"ConvolutionBackpropData", "GroupConvolutionBackpropData"}
)
PRODUCTS = frozenset({"MatMul", "Gemm"})
LAYERS = CONVOLUTIONS | PRODUCTS
"""Kinds of nodes that hold weights, in the words of ONNX and OpenVINO."""

_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph.

    Attributes:
        name: unique in the graph.
        kind: its operation.
        inputs: names of the nodes that it takes values from.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]


class Nodes:
    """The nodes of a graph, each after those that it takes values from."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = list(nodes)
        layers = {node.name for node in nodes if node.kind in LAYERS}
        self._after: set[str] = set()  # nodes with a layer among those before them
        self._before: set[str] = set()  # nodes with a layer among those after them
        for node in self._nodes:
            if any(name in layers or name in self._after for name in node.inputs):
                self._after.add(node.name)
        for node in reversed(self._nodes):
            if node.name in layers or node.name in self._before:
                self._before.update(node.inputs)

    @property
    def layers(self) -> list[str]:
        """Convolutions and matrix products."""
        return [node.name for node in self._nodes if node.kind in LAYERS]

    @property
    def first(self) -> list[str]:
        """Layers that no other layer comes before."""
        return [name for name in self.layers if name not in self._after]

    @property
    def last(self) -> list[str]:
        """Layers that no other layer comes after: the heads."""
        return [name for name in self.layers if name not in self._before]

    @property
    def tail(self) -> list[str]:
        """What is done to the output of the heads."""
        return [
            node.name
            for node in self._nodes
            if node.name in self._after and node.name not in self._before and node.kind not in LAYERS
        ]

    @property
    def attends(self) -> bool:
        """Whether there is a softmax on the way to a layer, as in a transformer."""
        kinds = ("Softmax", "ScaledDotProductAttention")
        return any(node.kind in kinds and node.name in self._before for node in self._nodes)

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """The layers in whose name one of the regular expressions is found.

        Raises:
            ModelError: a pattern is found in no name, or is no regular expression.
        """
        found: list[str] = []
        for pattern in patterns:
            try:
                names = [name for name in self.layers if re.search(pattern, name)]
            except re.error as error:
                raise ModelError(f"{pattern!r} is no regular expression: {error}") from None
            if not names:
                some = ", ".join(self.layers[:_NAMES_SHOWN])
                raise ModelError(
                    f"no layer to keep in float is named like {pattern!r}: there are {some}, ..."
                )
            found += names
        return list(dict.fromkeys(found))


class Judge:
    """Measures how far the probabilities of a graph are from those of the float graph on some windows."""

    def __init__(self, original: Run, inputs: Sequence[Inputs], *, activation: Activation) -> None:
        self._inputs, self._activation = inputs, activation
        self._reference = [probabilities(original(each), activation) for each in inputs]

    def cost(self, run: Run) -> float:
        """Mean over pixels of the largest difference over channels."""
        differences = [
            np.abs(probabilities(run(each), self._activation) - reference).max(axis=1).mean()
            for each, reference in zip(self._inputs, self._reference, strict=True)
        ]
        return float(np.mean(differences))

    def costliest(self, whole: Run, trials: Iterable[tuple[str, Run]], count: int) -> list[str]:
        """The layers that 8 bits cost most.

        Args:
            whole: the graph with all of them in 8 bits.
            trials: by layer, the graph with this one in float.
            count: at most as many, and only such as cost anything.
        """
        least = self.cost(whole)
        gains = [(least - self.cost(run), name) for name, run in trials]
        return [name for gain, name in sorted(gains, reverse=True)[:count] if gain > 0]


def probabilities(logits: np.ndarray, activation: Activation) -> np.ndarray:
    """Activated logits (B, K, H, W): a softmax, or a sigmoid of each (always of a single one)."""
    if activation == "sigmoid" or logits.shape[1] == 1:
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
