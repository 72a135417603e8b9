"""Exported models: a graph that runs without PyTorch, with its card inside the file and beside it.

A folder holds `model.onnx`, or `model.xml` with `model.bin`, besides `exported.json` and `README.md`. The same card
is in the graph's own metadata, so that the bare `.onnx` or `.xml` file is a model too.

The graph takes `images` (B, T, C, H, W): uint8 raw values in the order of `card.given_bands` where normalisation is
inside, else float32 normalised by the card in the order of `card.bands`. It gives `logits` (B, K, H, W) float32. B, H
and W are free; H and W are multiples of `card.graph.multiple`.
"""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from aftermap.artefacts.card import Activation, BaseCard, Channel0, Normalisation, describe_parts
from aftermap.artefacts.graphs.onnx_file import external_tensor, read_metadata, write_metadata
from aftermap.artefacts.graphs.probe import Answer
from aftermap.artefacts.store import model_folder
from aftermap.config import Config
from aftermap.errors import ModelError
from aftermap.files import markdown_table, replacing, sha256_of

EXPORTED_NAME = "exported.json"
KEY = "aftermap"
"""Of the card in the metadata of an ONNX file, and in the `rt_info` of an OpenVINO file."""

GRAPH_NAMES = {"onnx": "model.onnx", "openvino": "model.xml"}
MOST_BYTES = 2 * 2**30
"""The largest graph: what one protobuf message can hold."""

_XML_HEAD = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>)?\s*<net[\s>]")

GraphFormat = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]
Execution = Literal["f32", "bf16"]


class Source(Config):
    """The model or ensemble that a graph was made from."""

    name: str
    version: str
    sha256: str


class Graph(Config):
    """The graph of an exported model.

    Attributes:
        format: which runtime reads it: ONNX Runtime and others, or OpenVINO.
        precision: of the stored weights; `int8` computes in 8 bits too.
        file: its name in the folder.
        files: SHA-256 of all files that make it up, by name. In the card inside a graph, of the others only.
        bytes: of all these files.
        inside: whether it takes raw uint8 values, and orders bands and normalises by itself.
        multiple: heights and widths must be multiples of this.
        least_px: the smallest height and width.
        parameters: of the model or of all members.
        gmacs: multiply-accumulates in 1e9 of one image or pair of 1024 px.
        source: what it was made from.
        parity: how far it is from the source on real tiles; None before it was compared.
        execution: arithmetic on the processor with which it was compared; `bf16` is faster where the processor has
            it, and allowed only where it passed.
        answer: what it says of a made-up image; compared when it is opened. None in files of an earlier time.
    """

    format: GraphFormat
    precision: Precision = "fp32"
    file: str
    files: dict[str, str] = Field(default_factory=dict)
    bytes: int = 0
    inside: bool
    multiple: int = Field(ge=1)
    least_px: int = 1
    parameters: int = 0
    gmacs: float = 0.0
    source: Source
    parity: dict[str, Any] | None = None
    execution: Execution = "f32"
    answer: Answer | None = None

    @model_validator(mode="after")
    def _files_are_plain_names(self) -> Self:
        odd = [name for name in (self.file, *self.files) if Path(name).name != name or name.startswith(".")]
        if odd:
            raise ValueError(f"files must be plain names in the model's folder, found {odd[0]!r}")
        if Path(self.file).suffix != Path(GRAPH_NAMES[self.format]).suffix:
            raise ValueError(f"{self.file} is no name of an {self.format} graph")
        return self


class ExportedCard(BaseCard):
    """`exported.json`: a card like that of the source, and what the graph is.

    An ensemble is one graph whose logits are logarithms of its mean probabilities, so that a softmax gives these.

    Attributes:
        normalisation: in the order of `bands`; what the caller must do where the graph does not.
        temperature: logits are divided by this before the activation.
        activation: what turns logits into channels.
        channel_0: what channel 0 holds.
    """

    normalisation: Normalisation = Normalisation()
    temperature: float = Field(default=1.0, gt=0)
    activation: Activation = "softmax"
    channel_0: Channel0 = "background"
    graph: Graph


@dataclass(frozen=True, slots=True)
class LoadedExport:
    """An exported model whose files were checked.

    Attributes:
        path: the `.onnx` or `.xml` file.
        sha256: of that file.
    """

    card: ExportedCard
    path: Path
    sha256: str


def is_exported(name: str | Path) -> bool:
    """Whether a name leads to an exported model: its folder, or a bare `.onnx` or `.xml` file."""
    if Path(name).suffix.lower() in (".onnx", ".xml") and Path(name).is_file():
        return True
    return (model_folder(name) / EXPORTED_NAME).is_file()


def load_exported_card(name: str | Path) -> ExportedCard:
    """The card of an exported model, its files unchecked.

    Raises:
        ModelError: no exported model there, or a card of another format.
    """
    return _locate(name)[0]


def load_exported(name: str | Path) -> LoadedExport:
    """Find an exported model and check its files: present, whole, not too large, and nothing outside of them.

    Raises:
        ModelError: one of these does not hold, or the file was not exported by aftermap.
    """
    card, path = _locate(name)
    files = {path.name, *card.graph.files}
    if card.graph.format == "openvino":
        files.add(path.with_suffix(".bin").name)
    sizes = {file: _size(path.with_name(file)) for file in sorted(files)}
    _check_total(path, sum(sizes.values()))
    digests = {file: _sha256(path.with_name(file)) for file in sizes}
    for file, expected in card.graph.files.items():
        if digests[file] != expected:
            raise ModelError(
                f"{path.with_name(file)} was altered or cut short: its SHA-256 is "
                f"{digests[file][:12]}..., the card expects {expected[:12]}...: export the model again"
            )
    _check_contained(path)
    if _reading(card) != _reading(_parse(_embedded(path), path)):
        raise ModelError(
            f"{EXPORTED_NAME} beside {path} describes another graph than the card inside it: export the model again"
        )
    return LoadedExport(card, path, digests[path.name])


def seal(folder: Path, card: ExportedCard) -> ExportedCard:
    """Put the card into the graph file of a folder and beside it, with sizes and checksums; may be repeated.

    Args:
        folder: holds the graph file(s) under the names in `GRAPH_NAMES`.
        card: its `graph.file`, `files` and `bytes` are filled in.

    Returns:
        The card as it stands beside the graph.

    Raises:
        ModelError: a file is missing, too large, or keeps weights in a file of its own.
    """
    path = folder / GRAPH_NAMES[card.graph.format]
    _check_contained(path)
    others = [path.with_suffix(".bin")] if card.graph.format == "openvino" else []
    card = _with_files(card, path, {other.name: _sha256(other) for other in others}, 0)
    _embed(path, card)
    files = [path, *others]
    size = sum(_size(file) for file in files)
    _check_total(path, size)
    card = _with_files(card, path, {file.name: _sha256(file) for file in files}, size)
    (folder / EXPORTED_NAME).write_text(card.model_dump_json(indent=1) + "\n")
    (folder / "README.md").write_text(describe_exported(card))
    return card


def describe_exported(card: ExportedCard) -> str:
    """The card as Markdown, for the README of the folder."""
    graph = card.graph
    kind = {"onnx": "ONNX", "openvino": "OpenVINO"}[graph.format]
    given = "uint8" if graph.inside else "float32, normalised by the caller"
    order = ", ".join(card.given_bands if graph.inside else card.bands)
    parts = [
        f"- {kind} graph `{graph.file}`, weights {graph.precision}, made from {graph.source.name} (version "
        f"{graph.source.version}, SHA-256 {graph.source.sha256[:12]}...)",
        f"- Input `images` (batch, {card.dates}, {len(card.bands)}, height, width) {given}, bands {order}; height "
        f"and width multiples of {graph.multiple}, at least {max(graph.least_px, graph.multiple)}",
        f"- Output `logits` (batch, classes, height, width) float32: activation {card.activation}, channel 0 "
        f"{card.channel_0}, temperature {card.temperature:g}",
    ]
    if not graph.inside:
        values = (card.normalisation.mean, card.normalisation.std)
        mean, std = (", ".join(f"{v:g}" for v in each) for each in values)
        parts.append(f"- Normalise by mean {mean} and standard deviation {std}")
    figures = [
        f"- Parameters: {graph.parameters:,}; {graph.gmacs:.1f} G multiply-accumulates per 1024 px",
        f"- File size: {graph.bytes / 1e6:.1f} MB",
    ]
    text = describe_parts(card, parts, figures)
    if graph.parity is None:
        return text
    return text + "\n" + _describe_parity(graph.parity, graph.execution) + "\n"


def _describe_parity(parity: dict[str, Any], execution: Execution) -> str:
    """What the comparison found as Markdown; the whole report is in the card."""
    lines = [
        f"Compared with the original on {parity.get('scenes', 'its')} scenes ({parity.get('on', 'not named')}), "
        f"arithmetic {execution}: {parity.get('reason', '')}."
    ]
    classes = parity.get("classes", {})
    if classes:
        titles = ("class", "F1 of the original", "exported", "F1 against the original")
        keys = ("f1_original", "f1_exported", "f1_against_original")
        figures = {name: [row.get(key) for key in keys] for name, row in classes.items()}
        rows = [(name, *(None if v is None else f"{v:.4f}" for v in row)) for name, row in figures.items()]
        lines += ["", *markdown_table(titles, rows)]
    return "\n".join(lines)


def _with_files(card: ExportedCard, path: Path, files: dict[str, str], size: int) -> ExportedCard:
    graph = card.graph.model_copy(update={"file": path.name, "files": files, "bytes": size})
    return card.model_copy(update={"graph": graph})


def _locate(name: str | Path) -> tuple[ExportedCard, Path]:
    """The card and the graph file; the card beside a file goes before the one inside."""
    path = Path(name)
    if path.suffix.lower() in (".onnx", ".xml") and not path.is_dir():
        _size(path)
        beside = path.with_name(EXPORTED_NAME)
        if beside.is_file():
            card = _parse(beside.read_bytes(), beside)
            if card.graph.file == path.name:
                return card, path
        return _parse(_embedded(path), path), path
    folder = model_folder(name)
    file = folder / EXPORTED_NAME
    if not file.is_file():
        raise ModelError(f"{name} is not an exported model: it has no {EXPORTED_NAME}")
    card = _parse(file.read_bytes(), file)
    if not card.graph.files:
        raise ModelError(f"{file} names no checksums of its files: export the model again")
    return card, folder / card.graph.file


def _reading(card: ExportedCard) -> dict[str, Any]:
    """What a card says of how its graph is to be fed and read; thresholds, scores and words may be edited."""
    tree = card.model_dump(
        include={
            "dates",
            "scheme",
            "legend",
            "bands",
            "dtype",
            "normalisation",
            "activation",
            "channel_0",
            "temperature",
        }
    )
    return tree | card.graph.model_dump(exclude={"files", "bytes", "parity"})


def _parse(text: str | bytes, where: Path) -> ExportedCard:
    try:
        tree = json.loads(text)
        if isinstance(tree, dict) and tree.get("format", 1) != 1:
            raise ModelError(
                f"{where} holds a card of format {tree['format']}, this aftermap reads format 1: update aftermap"
            )
        return ExportedCard.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"the card in {where} cannot be understood: {place}: {first['msg']}") from None
    except ValueError as error:
        raise ModelError(f"the card in {where} cannot be understood: {error}") from None


def _embedded(path: Path) -> str:
    try:
        if path.suffix.lower() == ".onnx":
            found = read_metadata(path).get(KEY)
        else:
            element = _read_xml(path).getroot().find(f"rt_info/{KEY}")
            found = None if element is None else element.get("value")
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if found is None:
        raise ModelError(
            f"{path} was not exported by aftermap: it holds no card; see 'aftermap export --help'"
        )
    return found


def _embed(path: Path, card: ExportedCard) -> None:
    text = card.model_dump_json()
    if path.suffix == ".onnx":
        write_metadata(path, KEY, text)
        return
    tree = _read_xml(path)
    root = tree.getroot()
    info = root.find("rt_info")
    info = ElementTree.SubElement(root, "rt_info") if info is None else info
    element = info.find(KEY)
    element = ElementTree.SubElement(info, KEY) if element is None else element
    element.set("value", text)
    with replacing(path, sync=False) as part:
        tree.write(part, encoding="utf-8", xml_declaration=True)


def _read_xml(path: Path) -> "ElementTree.ElementTree[ElementTree.Element]":
    with path.open("rb") as file:
        if not _XML_HEAD.match(file.read(4096)):  # nothing before the root, so no entities that grow
            raise ValueError("it is no OpenVINO model: expected <net> first")
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise ValueError(f"it is cut short or no OpenVINO model ({error})") from None
    return tree


def _check_contained(path: Path) -> None:
    """Refuse graphs that keep weights in files of their own choice."""
    if path.suffix.lower() != ".onnx":
        return
    try:
        outside = external_tensor(path)
    except (ValueError, FileNotFoundError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if outside is not None:
        raise ModelError(
            f"{path} keeps weights outside of itself, in {outside!r}: such files are not read; export the model whole"
        )


def _check_total(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise ModelError(
            f"{path} has {size / 2**30:.1f} GiB with its weights, at most {MOST_BYTES / 2**30:.0f} GiB are read"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        raise ModelError(f"{path.parent} is incomplete: {path.name} is missing") from None


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        raise ModelError(f"{path.parent} is incomplete: {path.name} is missing") from None
