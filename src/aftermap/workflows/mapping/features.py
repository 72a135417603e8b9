"""What `aftermap map --features` keeps of each building, for a model of the event that learns from a few answers.

    OUT/features.npz    building_id (n,), names (k,), values float16 (n, k)

Images are read once more after the table is made, piece by piece and only where buildings are.
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import geopandas
import numpy as np
import shapely

from aftermap.errors import InputError
from aftermap.files import replacing
from aftermap.geo.grid import Window
from aftermap.geo.polygons import to_pixels
from aftermap.inference.objects.features import MARGIN_PX, Features, FeatureSums
from aftermap.workflows.mapping.inputs.dates import Inputs
from aftermap.workflows.mapping.work import Rows

FILE = "features.npz"
_PIECE_PX = 512
_LARGEST = float(np.finfo(np.float16).max)


def keep_features(
    frame: geopandas.GeoDataFrame, rows: Sequence[Rows], inputs: Inputs, folder: Path
) -> Features:
    """Gather the features of the buildings of a map, and write them.

    Args:
        frame: `building_id` and geometry in the grid's reference system.
        rows: finished rows with `probabilities` and `missing`.
        inputs: the imagery of the map.
        folder: where to write.

    Raises:
        OutputError: they cannot be written.
    """
    grid = inputs.grid
    outlines = to_pixels(frame.geometry.to_numpy(), grid)
    sums = FeatureSums(list(outlines), grid.width, grid.resolution_m)
    tree = shapely.STRtree(outlines)
    reach = sums.ring_px
    for part in rows:
        stored, missing = part.load("probabilities", "missing")
        for piece in _pieces(part, grid.width):
            area = shapely.box(
                piece.col - reach,
                piece.row - reach,
                piece.col + piece.width + reach,
                piece.row + piece.height + reach,
            )
            if not len(tree.query(area)):
                continue
            top, left = max(piece.row - MARGIN_PX, 0), max(piece.col - MARGIN_PX, 0)
            bottom = min(piece.row + piece.height + MARGIN_PX, grid.height)
            right = min(piece.col + piece.width + MARGIN_PX, grid.width)
            here = slice(piece.row - part.start, piece.row - part.start + piece.height)
            across = slice(piece.col, piece.col + piece.width)
            sums.add(
                inputs.read(Window(top, left, bottom - top, right - left)).images,
                stored[:, here, across],
                missing[here, across],
                row=top,
                col=left,
                inner=(
                    slice(piece.row - top, piece.row - top + piece.height),
                    slice(piece.col - left, piece.col - left + piece.width),
                ),
            )
    found = sums.features()
    _write(folder / FILE, frame["building_id"].astype(str).to_numpy(), found)
    return found


def read_features(folder: Path, building_ids: Sequence[str]) -> Features | None:
    """The features that a map kept, in the order of some of its buildings; None where it kept none.

    Raises:
        InputError: the file cannot be read, or is of other buildings.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive of arrays")
        with np.load(path, allow_pickle=False) as stored:
            ids, names, values = stored["building_id"], stored["names"], stored["values"]
        place = {str(name): row for row, name in enumerate(ids.tolist())}
        order = [place[name] for name in building_ids]
        chosen = values[order].astype(np.float32)
        if chosen.shape != (len(order), len(names)):
            raise ValueError("its arrays differ in size")
    except KeyError as error:
        raise InputError(
            f"{path} is of other buildings: {error} is missing; map again with --features"
        ) from None
    except (OSError, ValueError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be used: {error}; map again with --features") from None
    return Features(tuple(str(name) for name in names.tolist()), chosen)


def _pieces(part: Rows, width: int) -> Iterator[Window]:
    """Finished rows in squares."""
    for row in range(part.start, part.stop, _PIECE_PX):
        height = min(_PIECE_PX, part.stop - row)
        for col in range(0, width, _PIECE_PX):
            yield Window(row, col, height, min(_PIECE_PX, width - col))


def _write(path: Path, building_ids: np.ndarray, features: Features) -> None:
    with np.errstate(over="ignore"):
        values = np.clip(features.values, -_LARGEST, _LARGEST).astype(np.float16)
    arrays = {
        "building_id": building_ids.astype(np.str_),
        "names": np.array(features.names, np.str_),
        "values": values,
    }
    with (
        replacing(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
