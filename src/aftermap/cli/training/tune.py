"""`aftermap tune-thresholds`, and `aftermap ensemble`, which makes one model of several."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aftermap.cli.checks import check_dataset, check_model, check_place
from aftermap.cli.options import Flag, Json, MaybeOut, Out, SplitName
from aftermap.cli.output import print_json, say
from aftermap.cli.progress import bar
from aftermap.cli.running import AS_IT_IS, Running, numbers
from aftermap.wording import counted

if TYPE_CHECKING:
    from aftermap.artefacts.ensemble import GateIngredient
    from aftermap.artefacts.ensemble_card import Role


def tune_thresholds(
    model: str,
    data: Path,
    *,
    split: SplitName = "validation",
    by: Literal["official", "present", "localization"] | None = None,
    what: Literal["both", "thresholds", "weights"] = "both",
    out: MaybeOut = None,
    overwrite: bool = False,
    running: Running = AS_IT_IS,
    json_output: Json = False,
) -> None:
    """Choose thresholds and class weights of a model on labelled scenes, and write them into its card.

    A pixel becomes a building where the probability of one is above the threshold of its likeliest damage class;
    class weights shift which class that is. Both are searched together for the best score:

        aftermap tune-thresholds runs/winner/model xbd-prepared -o tuned

    Scenes are predicted twice, before and after. The card stays as it was where nothing better is found. Scores on
    the scenes that were tuned on flatter; judge on others.

    Args:
        model: A model folder, an ensemble folder, or box (with -o).
        data: A prepared dataset.
        split: Which scenes.
        by: The official score (default for damage), the same over the classes that occur, or the F1 of buildings.
        what: Thresholds, class weights, or both.
        out: A new folder for a copy of the model; by default the card is changed where it is.
        overwrite: Replace a model at -o.
        running: How the model is run; run it alike afterwards.
        json_output: Print JSON.
    """
    check_model(model, whole=True)
    check_dataset(data, whole=True)
    check_place(out)

    from aftermap.data.scene import labelled_scenes
    from aftermap.errors import OutputError
    from aftermap.workflows.scoring.tune import tune_model

    if out is not None and out.exists() and not overwrite:
        raise OutputError(f"{out} exists: pass --overwrite to replace it, or choose another output folder")
    scenes = labelled_scenes(data, split)
    with bar("tuning", 2 * len(scenes)) as advance:
        tuned = tune_model(
            model, scenes, by=by, what=what, out=out, options=running.options(), on_scene=advance
        )
    if json_output:
        print_json(tuned.as_dict())
        return
    from rich.table import Table

    table = Table("score", "before", "after", title=f"{counted(tuned.scenes, 'scene')}, tuned by {tuned.by}")
    for name, value in tuned.before.items():
        table.add_row(name, f"{value:.4f}", f"{tuned.after[name]:.4f}")
    say(table)
    say("thresholds " + ", ".join(f"{value:g}" for value in tuned.thresholds))
    if tuned.damage_weights is not None:
        say("class weights " + ", ".join(f"{value:g}" for value in tuned.damage_weights))
    say(f"{'written to' if tuned.improved else 'nothing better was found; unchanged:'} {tuned.model}")


def ensemble(
    *models: str,
    out: Out,
    name: str | None = None,
    roles: str | None = None,
    weights: str | None = None,
    groups: str | None = None,
    averaging: Literal["probabilities", "logits"] = "probabilities",
    compat_uint8: Flag = False,
    class_thresholds: str | None = None,
    minor_dilation: Literal["none", "right", "compat"] = "none",
    gate: str | None = None,
    gate_threshold: float | None = None,
    gate_pixels: int | None = None,
    gate_data: Path | None = None,
    gate_split: SplitName = "validation",
    gate_loss: float = 0.5,
    overwrite: bool = False,
) -> None:
    """Make one model of several: a folder that map, predict, evaluate and tune-thresholds take like any other.

        aftermap ensemble loc-a loc-b damage-a damage-b -o both

    Localization members say where buildings are, damage members which damage they have. The winning xView2 entry's rule:

        aftermap ensemble ... --compat-uint8 --class-thresholds 0.38,0.13,0.13,0.14 --minor-dilation compat -o winner

    A gate, which is a cheap localization model of one date, looks at every window first and spares the members those in
    which it finds nothing; with labelled scenes its threshold is the largest, up to its own building threshold, that
    costs at most --gate-loss percent of the buildings' pixels:

        aftermap ensemble damage --gate small-localizer --gate-data prepared -o gated

    Args:
        models: Model folders; each is copied into the ensemble.
        out: Folder to make.
        name: On the card; by default that of the folder.
        roles: Localization or damage for each model, such as localization,damage; by default what each can tell.
        weights: For each model, such as 2,1; by default equal.
        groups: A word for each model, - for none; a group is averaged before it is cut to 8 bits.
        averaging: Probabilities, or logits before one activation.
        compat_uint8: Cut probabilities to 8 bits before they are averaged, as published systems did.
        class_thresholds: Of the probability of a building, by likeliest damage class.
        minor_dilation: What minor damage takes over in 5 x 5 pixels: no-damage (right), or major damage too (compat).
        gate: A localization model of one date that decides which windows the members are shown.
        gate_threshold: A pixel may be a building where the gate's p(building) is above this; 0.1 by default.
        gate_pixels: Windows with fewer such pixels are not shown to the members; 20 by default.
        gate_data: A prepared dataset on which the threshold is chosen instead.
        gate_split: Which of its scenes.
        gate_loss: Percent of the labelled building pixels that may lie in windows taken as empty.
        overwrite: Replace a model at -o.
    """
    from aftermap.artefacts.ensemble import Ingredient, compose, save_ensemble
    from aftermap.artefacts.store import model_folder
    from aftermap.errors import InputError, OutputError

    if not models:
        raise InputError("no models given: aftermap ensemble MODEL MODEL -o FOLDER")
    for model in models:
        check_model(model, whole=True)
    check_place(out)
    if out.exists():
        if not overwrite:
            raise OutputError(f"{out} exists: pass --overwrite to replace it, or choose another folder")
        if not any((out / card).is_file() for card in ("card.json", "ensemble.json")):
            raise OutputError(f"{out} is not a model folder, so --overwrite leaves it: choose another folder")
    factors = numbers("--weights", weights, "2,1") if weights else (1.0,) * len(models)
    if min(factors) <= 0:
        raise InputError(f"--weights {weights}: expected numbers above 0")
    words = {"--roles": _words(roles, models), "--groups": _words(groups, models)}
    for option, given in {**words, "--weights": factors}.items():
        if len(given) != len(models):
            raise InputError(
                f"{option} has {len(given)} entries for {counted(len(models), 'model')}: give one for each"
            )
    known: dict[str | None, Role | None] = {None: None, "localization": "localization", "damage": "damage"}
    ingredients = []
    for model, role, weight, group in zip(models, words["--roles"], factors, words["--groups"], strict=True):
        if role not in known:
            raise InputError(f"--roles {roles}: {role!r} is neither localization nor damage")
        ingredients.append(Ingredient(model_folder(model), role=known[role], weight=weight, group=group))
    thresholds = class_thresholds and numbers("--class-thresholds", class_thresholds, "0.38,0.13,0.13,0.14")
    card, members = compose(
        name or out.name,
        ingredients,
        averaging=averaging,
        compat_uint8=compat_uint8,
        class_thresholds=thresholds or None,
        minor_dilation=minor_dilation,
        gate=_gate(gate, gate_threshold, gate_pixels, gate_data, gate_split, gate_loss),
    )
    save_ensemble(out, card, members)
    counts = [sum(member.role == role for member in card.members) for role in ("localization", "damage")]
    guard = f" behind a gate at {card.gate.threshold:g}" if card.gate else ""
    say(f"{out}: {counts[0]} localization and {counts[1]} damage members{guard}")


def _gate(
    model: str | None,
    threshold: float | None,
    pixels: int | None,
    data: Path | None,
    split: SplitName,
    loss_percent: float,
) -> "GateIngredient | None":
    """The gate that the options describe, its threshold chosen on labelled scenes where there are any."""
    from aftermap.artefacts.ensemble import GateIngredient
    from aftermap.artefacts.store import model_folder
    from aftermap.data.scene import labelled_scenes
    from aftermap.errors import InputError

    if model is None:
        if threshold is not None or pixels is not None or data is not None:
            raise InputError("--gate-threshold, --gate-pixels and --gate-data go with --gate MODEL")
        return None
    if threshold is not None and not 0 <= threshold < 1:
        raise InputError(f"--gate-threshold {threshold:g} is no probability: pass one from 0 to below 1")
    if pixels is not None and pixels < 1:
        raise InputError(f"--gate-pixels {pixels} is no number of pixels: pass 1 or more")
    gate = GateIngredient(model_folder(model))
    if pixels is not None:
        gate = replace(gate, min_pixels=pixels)
    if data is None:
        return gate if threshold is None else replace(gate, threshold=threshold)
    if threshold is not None:
        raise InputError("--gate-threshold and --gate-data are two ways to the threshold: pass one of them")
    if not 0 <= loss_percent < 100:
        raise InputError(f"--gate-loss {loss_percent:g} is no share: pass percent from 0 to below 100")
    from aftermap.workflows.scoring.tune import choose_gate_threshold

    scenes = labelled_scenes(data, split)
    with bar("choosing", len(scenes)) as advance:
        choice = choose_gate_threshold(
            model, scenes, lose=loss_percent / 100, min_pixels=gate.min_pixels, on_scene=advance
        )
    say(
        f"gate: at {choice.threshold:g} it takes {choice.skipped:.1%} of {choice.windows} windows as empty, with "
        f"{choice.lost:.2%} of the labelled building pixels"
    )
    return replace(gate, threshold=choice.threshold)


def _words(text: str | None, models: tuple[str, ...]) -> list[str | None]:
    """One word per model; `-` stands for none."""
    if text is None:
        return [None] * len(models)
    return [None if word in ("", "-") else word for word in text.split(",")]
