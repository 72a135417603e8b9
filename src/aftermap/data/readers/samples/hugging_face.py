"""Adapter of Hugging Face `datasets`: what it saves to disk, Parquet files, and folders of images with metadata.

The files are read by pyarrow, from where they lie: the library itself is not needed, and its cache stays empty.
"""

import csv
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from aftermap.data.preparing.dataset import Dataset
from aftermap.data.readers.published.release import SPLITS
from aftermap.data.readers.samples.columns import Columns, Sample
from aftermap.data.readers.samples.dataset import Meaning, Part, samples_dataset
from aftermap.errors import DataError, InputError
from aftermap.extras import needs
from aftermap.files import read_json

_METADATA = ("metadata.csv", "metadata.jsonl")
_FILE = "file_name"
EXPECTED = (
    "a folder of datasets' save_to_disk (state.json, or dataset_dict.json), Parquet files, or images with a "
    "metadata.csv or metadata.jsonl of file names"
)


def hugging_face_dataset(
    source: Path,
    *,
    meaning: Meaning,
    columns: Columns | None = None,
    name_column: str | None = None,
    event_column: str | None = None,
    event: str | None = None,
    licence: str | None = None,
) -> Dataset:
    """Samples as Hugging Face `datasets` keeps them on disk.

    Args:
        source: one of `EXPECTED`, or a Parquet file. Sets are the folders of a saved `DatasetDict`, or what the names of
            Parquet files or of the folders of images begin with (`train-00000-of-00002.parquet`).
        meaning: what masks hold.
        columns: which columns are read.
        name_column: column with a name for each scene, unique; by default samples are counted.
        event_column: column with the event of each sample.
        event: of all; by default the source's name.
        licence: of the data, in words; by default what `dataset_info.json` says.

    Raises:
        DataError: nothing of the kind, or files that cannot be read.
        InputError: a column that there is not.
        MissingExtraError: pyarrow is not installed.
    """
    columns = columns or Columns()
    found: Mapping[str, Rows | Pictures] = _saved(source) or _parquet(source) or _pictures(source)
    if not found:
        raise DataError(f"{source} holds no samples: expected {EXPECTED}")
    wanted = [columns.image, columns.after, name_column, event_column]
    for name, samples in found.items():
        if lacking := [one for one in wanted if one is not None and one not in samples.columns]:
            of = f" of {name}" if name else ""
            raise InputError(
                f"{source} has no column {lacking[0]}{of}: it has {', '.join(samples.columns)}; name them with --image, "
                "--after and --mask"
            )
    if not any(columns.mask in samples.columns for samples in found.values()):
        shown = ", ".join(next(iter(found.values())).columns)
        raise InputError(
            f"{source} has no column {columns.mask} of masks: it has {shown}; name it with --mask"
        )
    parts = {
        name: Part(
            samples,
            None if name_column is None else [str(value) for value in samples.values(name_column)],
            None if event_column is None else [str(value) for value in samples.values(event_column)],
        )
        for name, samples in found.items()
    }
    return samples_dataset(
        parts,
        meaning=meaning,
        columns=columns,
        source=source,
        event=event or source.resolve().stem,
        licence=licence or _licence(source),
        kind="hugging_face",
        options={"names": name_column or "", "events": event_column or ""},
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of tables, one behind the other.

    Attributes:
        files: Arrow streams, or Parquet files.
        starts: number of the first row of each file.
        count: of all rows.
        columns: their names.
    """

    files: tuple[Path, ...]
    starts: tuple[int, ...]
    count: int
    columns: tuple[str, ...]

    @classmethod
    def of(cls, files: Sequence[Path]) -> "Rows":
        """The rows of some files.

        Raises:
            DataError: a file that cannot be read, or with other columns than the first.
        """
        starts, count, names = [], 0, None
        for path in files:
            starts.append(count)
            rows, columns = _shape(path)
            count += rows
            if names is not None and columns != names:
                raise DataError(
                    f"{path} has the columns {', '.join(columns)}, {files[0].name} {', '.join(names)}"
                )
            names = columns
        return cls(tuple(files), tuple(starts), count, names or ())

    def __len__(self) -> int:
        """How many there are."""
        return self.count

    def __getitem__(self, number: int) -> Sample:
        """One row."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        place = bisect_right(self.starts, number) - 1
        return _row(self.files[place], number - self.starts[place])

    def values(self, column: str) -> list[Any]:
        """A column of plain values."""
        return [value for path in self.files for value in _column(path, column)]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Rows of a metadata file, whose `file_name` and `..._file_name` are files beside it.

    Attributes:
        folder: of the file.
        rows: its rows; files are called without `_file_name`, and `file_name` itself is `image`.
        columns: their names.
    """

    folder: Path
    rows: tuple[Mapping[str, Any], ...]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.rows)

    def __getitem__(self, number: int) -> Sample:
        """One row."""
        return self.rows[number]

    def values(self, column: str) -> list[Any]:
        """A column of plain values."""
        return [row.get(column) for row in self.rows]


def _saved(source: Path) -> dict[str, Rows]:
    """Sets of a folder that `save_to_disk` made, by their names."""
    if (source / "dataset_dict.json").is_file():
        tree = read_json(source / "dataset_dict.json", error=DataError)
        names = tree.get("splits") if isinstance(tree, dict) else None
        if not isinstance(names, list) or not all(_is_plain(name) for name in names):
            raise DataError(f"{source / 'dataset_dict.json'} names no splits")
        return {name: _one_saved(source / name) for name in names}
    return {"": _one_saved(source)} if (source / "state.json").is_file() else {}


def _one_saved(folder: Path) -> Rows:
    tree = read_json(folder / "state.json", error=DataError)
    files = tree.get("_data_files") if isinstance(tree, dict) else None
    names = [one.get("filename") for one in files if isinstance(one, dict)] if isinstance(files, list) else []
    if not names or not all(_is_plain(name) for name in names):
        raise DataError(f"{folder / 'state.json'} names no files of data")
    if tree.get("_indices_files"):
        raise DataError(
            f"{folder} was saved by an old version, as a choice of rows: save it anew with save_to_disk"
        )
    needs("reading Arrow and Parquet", "parquet")
    return Rows.of([folder / str(name) for name in names])


def _is_plain(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", "..") and not set(name) & set("/\\\0")


def _parquet(source: Path) -> dict[str, Rows]:
    """Sets of Parquet files: one, or those in a folder and the folders in it."""
    files = [source] if source.suffix == ".parquet" else sorted(source.glob("**/*.parquet"))
    sets: dict[str, list[Path]] = {}
    for path in files:
        words = [path.stem.partition("-")[0].partition(".")[0], path.parent.name]
        sets.setdefault(next((word for word in words if word.lower() in SPLITS), ""), []).append(path)
    if sets:
        needs("reading Arrow and Parquet", "parquet")
    return {name: Rows.of(paths) for name, paths in sorted(sets.items())}


def _pictures(source: Path) -> dict[str, Pictures]:
    """Sets of folders of images with metadata files."""
    files = [path for name in _METADATA for path in sorted(source.glob(f"**/{name}"))]
    found: dict[str, Pictures] = {}
    for path in files:
        name = path.parent.name if path.parent.name.lower() in SPLITS else ""
        if name in found:
            raise DataError(f"{path} is a second list of one set: keep one metadata file in each folder")
        found[name] = _listed(path)
    return found


def _listed(path: Path) -> Pictures:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows: list[Any] = list(csv.DictReader(text.splitlines()))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not rows or not all(isinstance(row, dict) and isinstance(row.get(_FILE), str) for row in rows):
        raise DataError(f"{path} has no {_FILE} in every row, which names the images")
    named = tuple(dict.fromkeys(_entry(name) for row in rows for name in row if isinstance(name, str)))
    return Pictures(path.parent, tuple(dict(_entries(row, path.parent)) for row in rows), named)


def _entry(name: str) -> str:
    return "image" if name == _FILE else name.removesuffix(f"_{_FILE}")


def _entries(row: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(name, str) and name.endswith(_FILE):
            yield _entry(name), folder / value if isinstance(value, str) and value else None
        else:
            yield name, value


def _licence(source: Path) -> str | None:
    """What `dataset_info.json` says."""
    for path in sorted(source.glob("dataset_info.json")) + sorted(source.glob("*/dataset_info.json")):
        tree = read_json(path, error=DataError)
        told = tree.get("license") if isinstance(tree, dict) else None
        if isinstance(told, str) and told.strip():
            return told.strip()
    return None


def _stream(path: Path) -> Any:
    return _opened_stream(path, *_state(path))


def _file(path: Path) -> Any:
    return _opened_parquet(path, *_state(path))


def _state(path: Path) -> tuple[int, int]:
    """What changes with a file's content."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=8)
def _opened_stream(path: Path, _size: int, _changed: int) -> Any:
    """The table of an Arrow stream; its pages are read when they are asked for."""
    import pyarrow

    try:
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from None


@lru_cache(maxsize=8)
def _opened_parquet(path: Path, _size: int, _changed: int) -> Any:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from None


@lru_cache(maxsize=1)
def _group(path: Path, number: int, _size: int, _changed: int) -> Any:
    import pyarrow

    try:
        return _file(path).read_row_group(number)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from None


def _shape(path: Path) -> tuple[int, tuple[str, ...]]:
    """Rows, and names of columns."""
    if path.suffix == ".parquet":
        file = _file(path)
        return file.metadata.num_rows, tuple(file.schema_arrow.names)
    table = _stream(path)
    return table.num_rows, tuple(table.column_names)


def _column(path: Path, name: str) -> list[Any]:
    if path.suffix == ".parquet":
        values: list[Any] = _file(path).read(columns=[name]).column(0).to_pylist()
        return values
    listed: list[Any] = _stream(path).column(name).to_pylist()
    return listed


def _row(path: Path, number: int) -> Sample:
    table = _stream(path) if path.suffix != ".parquet" else None
    if table is None:
        metadata = _file(path).metadata
        group = 0
        while number >= (rows := metadata.row_group(group).num_rows):
            number, group = number - rows, group + 1
        table = _group(path, group, *_state(path))
    return {name: _value(table.column(name)[number], f"{path}, {name}") for name in table.column_names}


def _value(scalar: Any, where: str) -> Any:
    """A value as Python has it; nested lists as an array of their own shape."""
    import pyarrow

    if isinstance(scalar, pyarrow.ExtensionScalar):  # Array2D and others of `datasets`
        scalar = scalar.value
    if scalar is None or not scalar.is_valid or not isinstance(scalar, pyarrow.ListScalar):
        return None if scalar is None else scalar.as_py()
    values, shape = scalar.values, [len(scalar.values)]
    while pyarrow.types.is_list(values.type) or pyarrow.types.is_fixed_size_list(values.type):
        inner = values.flatten()
        if not len(values) or len(inner) % len(values):
            raise DataError(f"{where} holds rows of different lengths, expected an image")
        shape.append(len(inner) // len(values))
        values = inner
    if not pyarrow.types.is_primitive(values.type):
        return scalar.as_py()
    return values.to_numpy(zero_copy_only=False).reshape(shape)
