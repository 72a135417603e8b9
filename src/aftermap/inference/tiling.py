"""A city through a model: overlapping windows in, blended rows of probabilities out.

Windows are run in row order. Neighbours overlap by at least twice the halo; in the middle of each overlap
their weights ramp from 0 to 1 so that they sum to 1 everywhere, and the outer half of the halo, where a
convolution has seen padding instead of ground, has weight 0. At the scene's edges the only window there has
weight 1. As soon as no later window can touch a row it is handed on, so peak memory depends on the width and
the window, never on height. While the model runs, a thread reads the windows that come next.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from aftermap.geo.grid import Grid, Window

DEFAULT_WINDOW_PX = 1024
DEFAULT_HALO_PX = 64


class Predicts(Protocol):
    """What the tiling needs of a predictor."""

    multiple: int
    """Heights and widths must be multiples of this."""

    def predict(self, images: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities (B, K, H, W) of raw images (B, T, C, H, W) with their masks (B, T, H, W)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a window holds.

    Attributes:
        images: raw pixel values (T, C, H, W), all dates on one grid.
        valid: (T, H, W) bool, True where a date has data.
        missing: (H, W) uint8, 0 where a pixel is assessed, else a code that says why not.
    """

    images: np.ndarray
    valid: np.ndarray
    missing: np.ndarray


@dataclass(frozen=True, slots=True)
class Band:
    """Finished rows of a scene.

    Attributes:
        row: the first row, counted in the scene.
        probabilities: float32 (K, h, W); zeros where `missing` is not 0.
        missing: uint8 (h, W), 0 where the pixel was assessed.
    """

    row: int
    probabilities: np.ndarray
    missing: np.ndarray

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.row + len(self.missing)


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one direction of a scene.

    Attributes:
        length: pixels of the scene.
        size: pixels of every window; the last may reach beyond the scene by less than the model's multiple.
        starts: first pixel of each window.
        weights: (number of windows, size) float32; over the scene the weights of all windows sum to 1.
    """

    length: int
    size: int
    starts: tuple[int, ...]
    weights: np.ndarray

    @classmethod
    def plan(cls, length: int, *, window_px: int, halo_px: int, multiple: int = 32) -> "Axis":
        """Cover `length` pixels by the fewest windows of at most `window_px` that overlap by twice `halo_px`.

        Windows start at multiples of `multiple`, so that the strides of an encoder fall on the same pixels
        whatever the window size; windows are no longer than the number of them demands.

        Raises:
            ValueError: the window is too small for its halo.
        """
        longest = window_px // multiple * multiple
        step = (longest - 2 * halo_px) // multiple * multiple
        if step < max(halo_px, 1):
            least = -(-max(halo_px, 1) // multiple) * multiple + 2 * halo_px
            least = -(-least // multiple) * multiple
            raise ValueError(
                f"window of {window_px} px with a halo of {halo_px} px: at least {least} px needed"
            )
        padded = -(-length // multiple) * multiple
        if padded <= longest:
            return cls(length, padded, (0,), np.ones((1, padded), np.float32))
        count = -(-(padded - longest) // step) + 1

        def stride(size: int) -> int:
            return -(-(padded - size) // ((count - 1) * multiple)) * multiple

        size = longest
        while size - multiple >= stride(size - multiple) + 2 * halo_px:
            size -= multiple
        starts = tuple(min(i * stride(size), padded - size) for i in range(count))
        return cls(length, size, starts, _ramps(starts, size, halo_px))

    def touched(self, index: int) -> tuple[int, int]:
        """First pixel and pixel after the last where window `index` has any weight."""
        used = np.flatnonzero(self.weights[index])
        start = self.starts[index]
        return start + int(used[0]), min(start + int(used[-1]) + 1, self.length)


def predict_rows(
    read_window: Callable[[Window], Sample],
    predictor: Predicts,
    grid: Grid,
    *,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    batch: int = 1,
    start_row: int = 0,
    reuse: bool = False,
) -> Generator[Band, None, None]:
    """Run a model over a scene of any size and yield its rows from top to bottom.

    Windows in which nothing is assessed are not run. Close the iterator (`contextlib.closing`) where it may be left
    before its end, so that nothing is read behind your back.

    Args:
        read_window: reads a window, which never reaches beyond the grid; called from one thread.
        predictor: the model.
        grid: the scene.
        window_px: largest window; rounded down to the model's multiple.
        halo_px: half the overlap of neighbouring windows. A model that sees no further than half of it gives
            the same result for every window size.
        batch: windows per call of the model.
        start_row: rows above are not yielded. Where it is the end of a band of an earlier run with the same
            options, the bands that follow are those of that run, bit for bit.
        reuse: a band is written over as soon as the next one is asked for, which saves the memory of making each anew.

    Raises:
        ValueError: the window is too small for its halo.
    """
    rows = Axis.plan(grid.height, window_px=window_px, halo_px=halo_px, multiple=predictor.multiple)
    cols = Axis.plan(grid.width, window_px=window_px, halo_px=halo_px, multiple=predictor.multiple)
    probabilities = np.zeros(
        (0, 0, 0), np.float32
    )  # (K, rows not yet finished and further ones, padded width)
    held = 0  # rows of it that are not yet finished
    missing = np.zeros((0, grid.width), np.uint8)
    top = start_row
    todo = [index for index in range(len(rows.starts)) if rows.touched(index)[1] > start_row]
    windows = [_window(rows, cols, grid, index, col) for index in todo for col in cols.starts]
    with closing(read_ahead(read_window, windows, count=batch)) as samples:
        for index in todo:
            start = rows.starts[index]
            height = min(start + rows.size, grid.height) - top
            skip = max(top - start, 0)
            inside = slice(start + skip - top, height)
            missing = _grown(missing[None], height, len(missing))[0]
            for col, sample, predicted in _window_row(samples, predictor, rows, cols, batch):
                missing[inside, col : col + sample.missing.shape[1]] = sample.missing[skip:]
                if predicted is None:
                    continue
                if probabilities.shape[0] == 0:
                    width = cols.starts[-1] + cols.size
                    probabilities, held = np.zeros((len(predicted), 0, width), np.float32), 0
                if held != height:
                    probabilities, held = _grown(probabilities, height, held), height
                used = slice(skip, skip + inside.stop - inside.start)
                _blend(
                    probabilities[:, inside, col : col + cols.size],
                    predicted[:, used],
                    rows.weights[index][used],
                    cols.weights[cols.starts.index(col)],
                )
            del sample, predicted  # the last window need not be held while a band is stored
            last = index + 1 == len(rows.starts)
            stop = grid.height if last else rows.touched(index + 1)[0]
            if stop > top:
                if held != height:
                    probabilities, held = _grown(probabilities, height, held), height
                yield _finished(top, probabilities[:, : stop - top, : grid.width], missing[: stop - top])
                begun, missing = probabilities[:, stop - top : held], missing[stop - top :].copy()
                held -= stop - top
                if reuse:
                    probabilities[:, :held] = begun
                else:
                    probabilities = begun.copy()
                top = stop


def read_ahead(
    read_window: Callable[[Window], Sample], windows: Sequence[Window], *, count: int
) -> Generator[tuple[Window, Sample], None, None]:
    """Read windows in order, in a thread that stays up to `count` of them ahead of whoever takes them.

    What goes wrong in the thread is raised here, when its window is asked for. Closing the iterator waits for the
    window that is being read, and reads no other.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="windows") as reader:
        waiting: deque[tuple[Window, Future[Sample]]] = deque()
        try:
            for window in windows:
                waiting.append((window, reader.submit(read_window, window)))
                if len(waiting) > count:
                    first, sample = waiting.popleft()
                    yield first, sample.result()
            while waiting:
                first, sample = waiting.popleft()
                yield first, sample.result()
        finally:
            for _, sample in waiting:
                sample.cancel()


def _window(rows: Axis, cols: Axis, grid: Grid, index: int, col: int) -> Window:
    """The window of row `index` at column `col`, cut at the grid's edges."""
    row = rows.starts[index]
    return Window(row, col, min(rows.size, grid.height - row), min(cols.size, grid.width - col))


def predict_scene(
    predictor: Predicts,
    images: np.ndarray,
    *,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    batch: int = 1,
) -> np.ndarray:
    """Class probabilities float32 (K, H, W) of images (T, C, H, W) held in memory; see `predict_rows`."""
    bands = predict_held(predictor, images, window_px=window_px, halo_px=halo_px, batch=batch)
    rows = [band.probabilities for band in bands]
    return np.ascontiguousarray(rows[0]) if len(rows) == 1 else np.concatenate(rows, axis=1)


def predict_held(
    predictor: Predicts, images: np.ndarray, *, window_px: int, halo_px: int, batch: int = 1
) -> Generator[Band, None, None]:
    """`predict_rows` of images (T, C, H, W) held in memory, all of whose pixels show ground."""

    def read_window(window: Window) -> Sample:
        part = images[(..., *window.slices)]
        shape = part.shape[-2:]
        return Sample(part, np.ones((len(images), *shape), bool), np.zeros(shape, np.uint8))

    grid = Grid.pixels(images.shape[-1], images.shape[-2])
    return predict_rows(read_window, predictor, grid, window_px=window_px, halo_px=halo_px, batch=batch)


def _window_row(
    samples: Iterator[tuple[Window, Sample]], predictor: Predicts, rows: Axis, cols: Axis, batch: int
) -> Iterator[tuple[int, Sample, np.ndarray | None]]:
    """The next row of windows: first column, what was read, probabilities or None."""
    waiting: list[tuple[int, Sample]] = []
    for window, sample in islice(samples, len(cols.starts)):
        if sample.missing.all():
            yield window.col, sample, None
        else:
            waiting.append((window.col, sample))
        if len(waiting) == batch:
            yield from _run(predictor, waiting, rows.size, cols.size)
            waiting = []
    if waiting:
        yield from _run(predictor, waiting, rows.size, cols.size)


def _run(
    predictor: Predicts, waiting: list[tuple[int, Sample]], height: int, width: int
) -> Iterator[tuple[int, Sample, np.ndarray]]:
    images = np.stack([padded(sample.images, height, width) for _, sample in waiting])
    valid = np.stack([padded(sample.valid, height, width) for _, sample in waiting])
    for (col, sample), predicted in zip(waiting, predictor.predict(images, valid), strict=True):
        yield col, sample, predicted


def padded(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mirror the last rows and columns of (T, ..., H, W) until it is `height` by `width`."""
    down, right = height - array.shape[-2], width - array.shape[-1]
    if not down and not right:
        return array
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, down), (0, right)], mode="symmetric")


def _grown(array: np.ndarray, height: int, held: int) -> np.ndarray:
    """(K, H, W) with its first `held` rows and zeros below them down to `height`: in place where it is so high."""
    if array.shape[1] >= height:
        array[:, held:height] = 0
        return array
    grown = np.zeros((array.shape[0], height, array.shape[2]), array.dtype)
    grown[:, :held] = array[:, :held]
    return grown


def _blend(kept: np.ndarray, added: np.ndarray, down: np.ndarray, across: np.ndarray) -> None:
    """Add a window (K, h, w) times the weights of its rows and columns; where both are 1 no other has any weight."""
    rows, cols = (_whole(weights) for weights in (down, across))
    sides = (slice(0, rows.start), rows, slice(rows.stop, None))
    parts = (slice(0, cols.start), cols, slice(cols.stop, None))
    for here in sides:
        for there in parts:
            if here is rows and there is cols:
                kept[:, here, there] = added[:, here, there]
                continue
            weight = down[here, None] * across[there]
            if weight.size:
                for one, other in zip(kept, added, strict=True):  # class by class, for the cache's sake
                    one[here, there] += other[here, there] * weight


def _whole(weights: np.ndarray) -> slice:
    """The run of ones in weights that rise to 1 and fall."""
    ones = np.flatnonzero(weights == 1)
    return slice(int(ones[0]), int(ones[-1]) + 1) if len(ones) else slice(0, 0)


def _finished(row: int, probabilities: np.ndarray, missing: np.ndarray) -> Band:
    if probabilities.shape[0]:
        if missing.any():
            probabilities[:, missing != 0] = 0
    else:  # no window has been run yet, so the number of classes is not known and nothing is assessed
        probabilities = np.zeros((0, *missing.shape), np.float32)
    return Band(row, probabilities, missing)


def _ramps(starts: tuple[int, ...], size: int, halo_px: int) -> np.ndarray:
    """Weights (n, size): a linear ramp of `halo_px` around the middle of each overlap."""
    weights = np.ones((len(starts), size), np.float32)
    for left in range(len(starts) - 1):
        right = left + 1
        middle = (starts[left] + size + starts[right]) / 2
        position = np.arange(starts[right], starts[left] + size) + 0.5
        rise = np.clip((position - middle) / max(halo_px, 1) + 0.5, 0, 1).astype(np.float32)
        overlap = len(position)
        weights[right, :overlap] *= rise
        weights[left, size - overlap :] *= 1 - rise
    return weights
