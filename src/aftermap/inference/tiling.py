"""A city through a model: overlapping windows in, blended probabilities out.

Windows are run in row order. Neighbours overlap by at least twice the halo; in the middle of each overlap
their weights ramp from 0 to 1 so that they sum to 1 everywhere, and the outer half of the halo, where a
convolution has seen padding instead of ground, has weight 0. At the scene's edges the only window there has
weight 1. What no later window can touch is handed on with the window that finishes it, so that only what
neighbours share is held: peak memory hardly depends on the width, and never on the height. While the model
runs, a thread reads the windows that come next.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise
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
        """Class probabilities (B, K, H, W) of raw images (B, T, C, H, W) with their masks (B, T, H, W).

        They are the caller's to write over.
        """


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
    """Finished rows of a scene, or a part of them.

    Attributes:
        row: the first row, counted in the scene.
        probabilities: float32 (K, h, w); zeros where `missing` is not 0. K is 0 as long as no window has been run.
        missing: uint8 (h, w), 0 where the pixel was assessed.
        col: the first column.
    """

    row: int
    probabilities: np.ndarray
    missing: np.ndarray
    col: int = 0

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


def predict_parts(
    read_window: Callable[[Window], Sample],
    predictor: Predicts,
    grid: Grid,
    *,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    batch: int = 1,
    start_row: int = 0,
) -> Generator[Band, None, None]:
    """Run a model over a scene of any size and yield what each window finishes.

    The parts of a row of windows follow each other from left to right, and the rows from top to bottom; together they
    are the scene. Only what neighbouring windows share is held from one to the next. A part is written over as soon as
    the next one is asked for. Windows in which nothing is assessed are not run. Close the iterator
    (`contextlib.closing`) where it may be left before its end, so that nothing is read behind your back.

    Args:
        read_window: reads a window, which never reaches beyond the grid; called from one thread.
        predictor: the model.
        grid: the scene.
        window_px: largest window; rounded down to the model's multiple.
        halo_px: half the overlap of neighbouring windows. A model that sees no further than half of it gives
            the same result for every window size.
        batch: windows per call of the model.
        start_row: rows above are not yielded. Where it is the end of a row of parts of an earlier run with the same
            options, the parts that follow are those of that run, bit for bit.

    Raises:
        ValueError: the window is too small for its halo.
    """
    rows = Axis.plan(grid.height, window_px=window_px, halo_px=halo_px, multiple=predictor.multiple)
    cols = Axis.plan(grid.width, window_px=window_px, halo_px=halo_px, multiple=predictor.multiple)
    # (K, rows, width) that windows have begun and the next row of them goes on with; `held` of its rows, from `top` on
    below = np.zeros((0, 0, 0), np.float32)
    held, top = 0, start_row
    todo = [index for index in range(len(rows.starts)) if rows.touched(index)[1] > start_row]
    windows = [_window(rows, cols, grid, index, col) for index in todo for col in cols.starts]
    with closing(read_ahead(read_window, windows, count=batch)) as samples:
        for index in todo:
            start = rows.starts[index]
            is_last = index + 1 == len(rows.starts)
            stop = grid.height if is_last else max(rows.touched(index + 1)[0], top)
            begun = 0 if is_last else rows.touched(index)[1] - stop
            inside = slice(top - start, min(rows.size, grid.height - start))
            # columns that windows of this row have touched, and what they say of those right of the last window's part
            reach, beside = 0, None
            for number, sample, predicted in _window_row(samples, predictor, cols, batch, rows.size):
                col, (_, touched) = cols.starts[number], cols.touched(number)
                end = cols.starts[number + 1] if number + 1 < len(cols.starts) else grid.width
                codes = sample.missing[inside][: stop - top, : end - col]
                if predicted is not None:
                    _weigh(predicted, rows.weights[index], cols.weights[number])
                    if not len(below):
                        below = np.zeros((len(predicted), _most_begun(rows), grid.width), np.float32)
                elif len(below):
                    predicted = np.zeros((len(below), rows.size, cols.size), np.float32)
                else:  # no window has been run yet, so the number of classes is not known and nothing is assessed
                    predicted = np.zeros((0, rows.size, cols.size), np.float32)
                values = predicted[:, inside]
                if beside is not None and len(beside):
                    values[:, :, : beside.shape[2]] += beside
                if held and len(below):
                    values[:, :held, reach - col : touched - col] += below[:, :held, reach:touched]
                reach = touched
                beside = values[:, :, end - col : touched - col].copy()
                if len(below):
                    below[:, :begun, col:end] = values[:, stop - top : stop - top + begun, : end - col]
                if stop > top:
                    done = values[:, : stop - top, : end - col]
                    if codes.any():
                        done[:, codes != 0] = 0
                    yield Band(top, done, codes, col)
                    del done
                del sample, predicted, values, codes  # the window need not be held while the next one is run
            held, top = begun, stop


def predict_rows(
    read_window: Callable[[Window], Sample],
    predictor: Predicts,
    grid: Grid,
    *,
    window_px: int = DEFAULT_WINDOW_PX,
    halo_px: int = DEFAULT_HALO_PX,
    batch: int = 1,
    start_row: int = 0,
) -> Generator[Band, None, None]:
    """`predict_parts` put together to whole rows, for whoever can hold them."""
    options = {"window_px": window_px, "halo_px": halo_px, "batch": batch, "start_row": start_row}
    with closing(predict_parts(read_window, predictor, grid, **options)) as parts:
        for _, row in groupby(parts, key=lambda part: part.row):
            whole: Band | None = None
            for part in row:
                count, height, width = part.probabilities.shape
                if whole is None:
                    whole = Band(
                        part.row,
                        np.zeros((count, height, grid.width), np.float32),
                        np.zeros((height, grid.width), np.uint8),
                    )
                elif count > len(whole.probabilities):
                    whole = replace(whole, probabilities=np.zeros((count, height, grid.width), np.float32))
                cols = slice(part.col, part.col + width)
                whole.probabilities[:, :, cols], whole.missing[:, cols] = part.probabilities, part.missing
            assert whole is not None
            yield whole


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
    samples: Iterator[tuple[Window, Sample]], predictor: Predicts, cols: Axis, batch: int, height: int
) -> Iterator[tuple[int, Sample, np.ndarray | None]]:
    """The next row of windows, from left to right: its number, what was read, probabilities (K, H, W) or None."""
    waiting: list[tuple[int, Sample]] = []
    seen = 0
    for number, (_, sample) in enumerate(islice(samples, len(cols.starts))):
        waiting.append((number, sample))
        seen += not sample.missing.all()
        if seen in (0, batch):
            yield from _run(predictor, waiting, height, cols.size)
            waiting, seen = [], 0
        del sample
    yield from _run(predictor, waiting, height, cols.size)


def _run(
    predictor: Predicts, waiting: Sequence[tuple[int, Sample]], height: int, width: int
) -> Iterator[tuple[int, Sample, np.ndarray | None]]:
    shown = [sample for _, sample in waiting if not sample.missing.all()]
    predicted: Iterator[np.ndarray] = iter(())
    if shown:
        images = _stacked([padded(sample.images, height, width) for sample in shown])
        valid = _stacked([padded(sample.valid, height, width) for sample in shown])
        predicted = iter(predictor.predict(images, valid))
        del images, valid
    for number, sample in waiting:
        yield number, sample, None if sample.missing.all() else next(predicted)


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays as one with an axis before theirs, without a copy where it is one."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def padded(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mirror the last rows and columns of (T, ..., H, W) until it is `height` by `width`."""
    down, right = height - array.shape[-2], width - array.shape[-1]
    if not down and not right:
        return array
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, down), (0, right)], mode="symmetric")


def _most_begun(rows: Axis) -> int:
    """The most rows that two rows of windows share."""
    ends = [rows.touched(index) for index in range(len(rows.starts))]
    return max((above[1] - below[0] for above, below in pairwise(ends)), default=0)


def _weigh(window: np.ndarray, down: np.ndarray, across: np.ndarray) -> None:
    """Multiply a window (K, h, w) by the weights of its rows and columns, in place; where both are 1 it stays."""
    rows, cols = (_whole(weights) for weights in (down, across))
    for here in (slice(0, rows.start), rows, slice(rows.stop, None)):
        for there in (slice(0, cols.start), cols, slice(cols.stop, None)):
            if here is not rows or there is not cols:
                weight = down[here, None] * across[there]
                for plane in window:  # class by class, for the cache's sake
                    plane[here, there] *= weight


def _whole(weights: np.ndarray) -> slice:
    """The run of ones in weights that rise to 1 and fall."""
    ones = np.flatnonzero(weights == 1)
    return slice(int(ones[0]), int(ones[-1]) + 1) if len(ones) else slice(0, 0)


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
