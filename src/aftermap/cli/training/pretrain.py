"""`aftermap pretrain`: an encoder learns from images without labels."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from aftermap.cli.checks import check_dataset
from aftermap.cli.options import MaybeOut, Several
from aftermap.cli.training.outcomes import say_outcome
from aftermap.cli.training.train import run_recipe, wanted_recipe


def pretrain(
    data: Path,
    *overrides: str,
    event: Several = None,
    recipe: Annotated[Path, Parameter(name=["-r", "--recipe"])] = Path("pretrain.yaml"),
    out: MaybeOut = None,
) -> int:
    """Train an encoder on the images of a prepared dataset, whose labels play no part.

        aftermap pretrain event-prepared -o runs/encoder

    What comes out is a file of weights that recipes of that encoder begin with, by
    model.encoder_weights=runs/encoder/model.

    An interrupted run goes on with 'aftermap train --resume RUN'.

    Args:
        data: A prepared dataset; every date of a scene is an image of its own.
        overrides: Pairs of key=value for the recipe, such as steps=1000 or objective.kind=vicreg.
        event: Only scenes of this event; once for each.
        recipe: A recipe of kind pretrain.
        out: The run folder; by default runs/<date>-<name>.
    """
    from aftermap.errors import RecipeError
    from aftermap.extras import needs

    needs("aftermap pretrain", "train")
    check_dataset(data, whole=True)
    words = [f"data.manifests=[{data}]", *overrides]
    if event:
        words.append(f"data.events=[{','.join(event)}]")
    kind, settings = wanted_recipe(recipe, words, None, example="aftermap pretrain FOLDER -o runs/encoder")
    if kind != "pretrain":
        raise RecipeError(f"{recipe} is of kind {kind}, 'aftermap pretrain' takes recipes of kind pretrain")
    if getattr(settings.objective, "kind", "") == "vicreg":  # type: ignore[attr-defined]
        needs("objective vicreg", "ssl")
    return say_outcome(*run_recipe(settings, out=out))
