"""Losses of the user's own, which a recipe names by their function; see `configs.terms.CustomTerm`."""

import inspect
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aftermap.errors import RecipeError
from aftermap.learning.configs.terms import CustomTerm, Term
from aftermap.trust import function_named


def custom_value(
    term: CustomTerm, logits: Tensor, channels: Tensor, index: Tensor, known: Tensor, weights: Tensor | None
) -> Tensor:
    """What the function of a term says of a batch, without the term's weight.

    It is not asked where nothing is known, and its gradient flows into the logits alone.

    Args:
        term: which.
        logits: (B, K, H, W).
        channels: bool (B, K, H, W).
        index: class index (B, H, W), IGNORE where unknown.
        known: bool (B, H, W).
        weights: the term's, (K,), or None.

    Raises:
        RecipeError: the function fails, or answers something else than a scalar.
    """
    if not bool(known.any()):
        return logits.sum() * 0
    function = _function(term.target)
    try:
        value = function(logits, channels, index, known, **_keywords(term, weights))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())
        raise RecipeError(
            f"loss {term.target}: {type(error).__name__}: {said} ({Path(last.filename).name}, line {last.lineno})"
        ) from error
    if not isinstance(value, Tensor) or value.ndim:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.60}"
        raise RecipeError(f"loss {term.target} returned {found}, expected a scalar tensor: take its mean")
    return value


def require_custom(terms: Iterable[Term]) -> None:
    """Import the functions that terms name, and see that they take what they will be given.

    Raises:
        RecipeError: one is not there, or takes other arguments.
    """
    for term in terms:
        if isinstance(term, CustomTerm):
            weights = None if term.class_weights is None else torch.tensor(term.class_weights)
            _check_arguments(_function(term.target), term, _keywords(term, weights))


def _check_arguments(function: Callable[..., Any], term: CustomTerm, keywords: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some functions written in C
        return
    try:
        signature.bind(None, None, None, None, **keywords)
    except TypeError as error:
        raise RecipeError(
            f"loss {term.target}{signature}: {error}; it is given logits, channels, index and known"
            + (f", and {', '.join(keywords)}" if keywords else "")
        ) from None


def _keywords(term: CustomTerm, weights: Tensor | None) -> dict[str, Any]:
    return dict(term.arguments) if weights is None else {**term.arguments, "class_weights": weights}


@cache
def _function(target: str) -> Callable[..., Any]:
    return function_named(target, "loss target")
