"""`aftermap adapt` and `aftermap meta-train`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from aftermap.cli.checks import check_event, check_images, check_map, check_model, check_place
from aftermap.cli.options import Json, MaybeOut
from aftermap.cli.training.outcomes import print_adapted, say_outcome
from aftermap.cli.training.train import run_recipe, wanted_recipe


def adapt(
    model: str,
    data: Path | None = None,
    /,
    *,
    event: str | None = None,
    parent: str | None = None,
    pre: Path | None = None,
    post: Path | None = None,
    labels: Annotated[bool, Parameter(negative="--no-labels")] = True,
    scenes: int | None = None,
    scene: list[str] | None = None,
    steps: int | None = None,
    lr: float | None = None,
    tune: Literal["all", "decoder", "head"] = "all",
    norm: Literal["frozen", "updated"] | None = None,
    evaluated: int = 0,
    seed: int = 0,
    device: str = "cpu",
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto",
    force: bool = False,
    out: MaybeOut = None,
    json_output: Json = False,
) -> int:
    """Adapt a trained model to an event, and say whether that helped.

    With the answers of a review of a map: single buildings are known, everything else is not. The map stays as it is:

        aftermap adapt out -o runs/out

    With a few of its labelled scenes; the others are scored before and after:

        aftermap adapt box xbd-prepared --event hurricane-harvey --scenes 3 -o runs/harvey

    From its images alone, as the recipe adapt-event says; guard rails judge:

        aftermap adapt box xbd-prepared --event hurricane-harvey --no-labels -o runs/harvey

    Where the adapted model is no better, the folder gets the parent's weights and the command exits with 1.

    Args:
        model: A model folder, or box; without data the folder of a reviewed map.
        data: A prepared dataset.
        event: Whose scenes; their splits do not matter.
        parent: Of a map: the model to adapt; by default the one in the box.
        pre: Of a map: its image from before, where that does not lie near it.
        post: Of a map: its image from after.
        labels: Learn from labels; --no-labels learns from images alone.
        scenes: How many labelled scenes are learned from, drawn with the seed so that they show many classes; by
            default 3.
        scene: Learn from the scene of this name instead; can be given several times.
        steps: Optimizer steps; by default 80, without labels 60.
        lr: Their learning rate; by default 1e-3, without labels 5e-4.
        tune: Which weights change: all, all but the encoder's (decoder), or those of the head.
        norm: Whether the running statistics of batch normalisation stay frozen or are updated; by default frozen.
            Only with labels.
        evaluated: Score at most so many of the other scenes; 0 scores all.
        seed: Of the scenes, the crops and their turns.
        device: Where scenes are scored: cpu, cuda or cuda:n; steps are taken on the GPU where there is one.
        precision: Of the steps; auto takes bf16 where the machine multiplies it.
        force: Keep the adapted weights even where they are no better.
        out: The run folder; by default runs/<date>-adapt-<event>.
        json_output: Print JSON.
    """
    from aftermap.errors import InputError
    from aftermap.extras import needs

    needs("aftermap adapt", "train")
    if data is None and (not labels or scenes is not None or scene or event):
        raise InputError(
            "--event, --scenes, --scene and --no-labels are of a dataset: aftermap adapt MODEL DATA --event EVENT"
        )
    if data is not None and (parent or pre or post):
        raise InputError("--parent, --pre and --post are of a reviewed map: aftermap adapt MAP")
    if data is not None and event is None:
        raise InputError(f"--event says to which event of {data} the model is adapted")
    said: dict[str, Any] = {
        "steps": steps,
        "lr": lr,
        "tune": tune,
        "evaluated": evaluated,
        "seed": seed,
        "device": device,
        "precision": precision,
        "force": force,
    }
    if data is None:
        return _adapt_map(Path(model), parent, pre, post, said | {"norm": norm}, out, json_output)
    assert event is not None, "it was asked for"
    if labels:
        wanted = 3 if scenes is None else scenes
        said |= {"scenes": len(scene) if scene else wanted, "norm": norm}
    elif scenes is not None or norm is not None:
        raise InputError(
            "--scenes and --norm are of an adaptation with labels: leave them out, or --no-labels"
        )
    check_model(model, whole=True)
    check_event(data, event)
    check_place(out)
    said |= {"event": event, "names": tuple(scene or ())}
    given = {key: value for key, value in said.items() if value is not None}
    from aftermap.workflows.adaptation.config import wanted_adaptation

    config = wanted_adaptation(model, data, labels=labels, **given)
    return _adapt(config, event, out, json_output)


def _adapt_map(
    folder: Path,
    parent: str | None,
    pre: Path | None,
    post: Path | None,
    said: dict[str, Any],
    out: Path | None,
    json_output: bool,
) -> int:
    """Adapt the network of a map with the answers to it."""
    check_map(folder)
    check_images(pre, post)
    if parent is not None:
        check_model(parent, whole=True)
    check_place(out)
    from aftermap.workflows.adaptation.answer_scenes import adaptation_of_map

    given = {key: value for key, value in said.items() if value is not None}
    config = adaptation_of_map(folder, parent=parent, pre=pre, post=post, **given)
    return _adapt(config, config.event, out, json_output)


def _adapt(config: Any, event: str, out: Path | None, json_output: bool) -> int:
    """Run an adaptation and say what came of it."""
    outcome, folder = run_recipe(config, out=out, name=f"adapt-{event}")
    if not json_output:
        return say_outcome(outcome, folder)
    print_adapted(outcome)
    return 1 if outcome.kept == "parent" else 0


def meta_train(
    recipe: Path | None = None,
    *overrides: str,
    out: MaybeOut = None,
    resume: Path | None = None,
) -> int:
    """Learn a start from which a model adapts to a new event in a few steps (second-order MAML).

    Keys of the recipe are overridden by key=value words:

        aftermap meta-train recipes/metadamagenet/maml.yaml data.manifests='[xbd-prepared]' -o runs/maml

    An interrupted run goes on with:

        aftermap meta-train --resume runs/maml

    Args:
        recipe: A YAML file; see docs/meta-learning.md.
        overrides: Pairs of dotted.key=value.
        out: The run folder; by default runs/<date>-<name>.
        resume: Folder of an interrupted run to go on with, instead of a recipe.
    """
    from aftermap.extras import needs

    needs("aftermap meta-train", "train")
    example = "aftermap meta-train recipes/metadamagenet/maml.yaml data.manifests='[FOLDER]'"
    _, settings = wanted_recipe(recipe, overrides, resume, example=example, kind="meta-train")
    return say_outcome(*run_recipe(settings, out=out, resume=resume))
