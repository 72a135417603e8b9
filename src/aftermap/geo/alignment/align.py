"""How far the second date lies beside the first: measured on many patches, believed only where it helps.

Each patch is compared by phase correlation of its gradient directions, which survive changes of sensor, season and
light (Fitch et al. 2002, orientation correlation). The median over patches is the shift; patches that took no part
in the measurement decide whether removing it brings the dates closer together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from aftermap.geo.grid import Grid, Window
from aftermap.geo.raster import Patch

PATCH_PX = (256, 128, 64)
"""Sides tried, largest first: at least three patches have to fit along the shorter side of the overlap."""

MAX_MEASURED = 25
MAX_HELD_OUT = 16
LIMIT_PX = 24.0
"""A longer shift is a wrong georeference rather than a residual, and is not removed."""

MIN_SHIFT_PX = 0.25
"""Below this, resampling costs more than it gains."""

MAX_SPREAD_PX = 2.0
MIN_GAIN = 0.005
MIN_PEAK = 7.0
"""Correlation peak over the noise around it, in standard deviations; unrelated images stay below 6."""

_MIN_PATCHES = 3
_MIN_VALID = 0.75
_INLIER_PX = 3.0
_PER_AXIS = 9
_BESIDE_PX = 4  # of what holds no data, where gradients are not believed
_UPSAMPLING = 20
_LOW_PASS = 0.15  # cycles per pixel; gives the peak a smooth top to interpolate

ReadFirst = Callable[[Window], Patch]
"""Reads a window of the first date."""

ReadSecond = Callable[[Window, float, float], Patch]
"""Reads a window of the second date with a shift (dx_px, dy_px) taken out."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the content of the second date lies relative to the first.

    Attributes:
        dx_px: pixels of the common grid along columns; positive where the second date lies further right.
        dy_px: pixels along rows; positive where it lies further down. Both are 0 where nothing was measured.
        dx_m: the same in metres, or None without georeference.
        dy_m: the same in metres, or None without georeference.
        spread_px: robust standard deviation over the patches (1.4826 x median absolute deviation), or None.
        patches: patches that agree on the shift; 0 where it could not be measured.
        agreement_before: mean correlation of gradient strength on held-out patches (-1 to 1), or None.
        agreement_after: the same with the shift taken out, or None.
        applied: the shift is taken out when the pair is read.
        reason: why it is applied or not, in words.
    """

    dx_px: float
    dy_px: float
    dx_m: float | None
    dy_m: float | None
    spread_px: float | None
    patches: int
    agreement_before: float | None
    agreement_after: float | None
    applied: bool
    reason: str


def measure_shift(first: ReadFirst, second: ReadSecond, overlap: Window, grid: Grid) -> Shift:
    """Measure the shift between two dates and decide whether to take it out.

    Args:
        first: reads the first date on `grid`; every window once.
        second: reads the second date on `grid`.
        overlap: the part of `grid` that both dates cover.
        grid: the common grid.
    """
    measured, held_out = _patches(overlap)
    if not measured:
        return _unknown(
            f"the overlap of {overlap.width} x {overlap.height} px is too small to measure a shift"
        )
    limit = min(LIMIT_PX, measured[0].width / 4)
    fields = _Fields(first, second)
    coarse = _estimate(fields, measured, (0.0, 0.0), limit)
    if isinstance(coarse, str):
        return _unknown(coarse)
    # The window that damps a patch's edges pulls long shifts towards 0, so the rest is measured once more.
    start = float(np.rint(coarse.dx)), float(np.rint(coarse.dy))
    fine = _estimate(fields, measured, start, limit) if any(start) else coarse
    if isinstance(fine, str):
        return _unknown(fine)

    dx, dy, length = fine.dx, fine.dy, float(np.hypot(fine.dx, fine.dy))
    before, after = _agreement(fields, held_out, dx, dy)
    if not len(before):
        return _unknown("no patches were left to check the measured shift on")
    gain = after - before
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else 0.0
    if length < MIN_SHIFT_PX:
        verdict = f"a shift of {length:.2f} px needs no correction (below {MIN_SHIFT_PX} px)"
    elif length > limit:
        verdict = f"a shift of {length:.1f} px is more than a residual (limit {limit:.0f} px): check the georeference"
    elif fine.spread > MAX_SPREAD_PX:
        verdict = f"the patches disagree (spread {fine.spread:.1f} px, limit {MAX_SPREAD_PX:.1f} px)"
    elif gain.mean() < MIN_GAIN or gain.mean() < error or np.mean(gain > 0) <= 0.5:
        verdict = f"removing {length:.1f} px would not bring the dates closer (agreement {gain.mean():+.3f})"
    else:
        verdict = ""
    across, along = grid.pixel_size_m or (None, None)
    return Shift(
        dx_px=round(dx, 3),
        dy_px=round(dy, 3),
        dx_m=None if across is None else round(dx * across, 3),
        dy_m=None if along is None else round(dy * along, 3),
        spread_px=round(fine.spread, 3),
        patches=fine.patches,
        agreement_before=round(float(before.mean()), 4),
        agreement_after=round(float(after.mean()), 4),
        applied=not verdict,
        reason=verdict or f"agreement on held-out patches rises by {gain.mean():.3f}",
    )


def phase_shift(pre: np.ndarray, post: np.ndarray, limit: float) -> tuple[float, float, float]:
    """Displacement of `post` relative to `pre` by phase correlation.

    Args:
        pre: complex64 gradient field (H, W), as `gradient_field` gives it.
        post: the same of the second date.
        limit: longest shift looked for along each axis, in pixels.

    Returns:
        (dx, dy, peak): pixels, and the height of the peak over the noise in standard deviations.

    Source: Fitch et al. 2002 (orientation correlation); Guizar-Sicairos et al. 2008 (upsampled peak).
    """
    # in single precision, which moves no peak by a twentieth of a pixel, in half the time
    window, low_pass = _windows(*pre.shape)
    second, first = (cv2.dft(_as_pairs(field * window)) for field in (post, pre))
    cross: np.ndarray = cv2.mulSpectrums(second, first, 0, conjB=True)
    strength = cv2.magnitude(cross[..., 0], cross[..., 1])
    cross *= (low_pass / (strength + np.float32(1e-3) * strength.mean() + np.float32(1e-12)))[..., None]
    surface = cv2.idft(cross, flags=cv2.DFT_SCALE | cv2.DFT_COMPLEX_OUTPUT)[..., 0]
    reach = int(np.ceil(limit))
    rows, cols = np.arange(-reach, reach + 1), np.arange(-reach, reach + 1)
    near = surface[np.ix_(rows, cols)]
    row, col = np.unravel_index(int(near.argmax()), near.shape)
    noise = np.ones(surface.shape, bool)
    noise[np.ix_(rows[row] + np.arange(-5, 6), cols[col] + np.arange(-5, 6))] = False
    peak = (near[row, col] - surface[noise].mean()) / (surface[noise].std() + 1e-12)
    steps = np.arange(-_UPSAMPLING, _UPSAMPLING + 1) / _UPSAMPLING
    dys, dxs = rows[row] + steps, cols[col] + steps
    fy, fx = np.fft.fftfreq(pre.shape[0])[:, None], np.fft.fftfreq(pre.shape[1])[None, :]
    down, across = (np.exp(2j * np.pi * dys[:, None] * fy.T), np.exp(2j * np.pi * fx.T * dxs[None, :]))
    finer = (down.astype(np.complex64) @ cross.view(np.complex64)[..., 0] @ across.astype(np.complex64)).real
    i, j = np.unravel_index(int(finer.argmax()), finer.shape)
    return float(dxs[j]), float(dys[i]), float(peak)


def _as_pairs(field: np.ndarray) -> np.ndarray:
    """Complex64 (H, W) as float32 (H, W, 2)."""
    return field.astype(np.complex64, copy=False).view(np.float32).reshape(*field.shape, 2)


@cache
def _windows(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """What damps the edges of a patch, and what gives the peak a smooth top, in the order of its frequencies; float32."""
    window = np.outer(np.hanning(height), np.hanning(width))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    low_pass = np.exp(-(fx**2 + fy**2) / (2 * _LOW_PASS**2))
    return window.astype(np.float32), low_pass.astype(np.float32)


def gradient_field(patch: Patch) -> np.ndarray | None:
    """Gradients of the log brightness as complex64 (H, W), strong edges damped; None for a flat patch."""
    if np.count_nonzero(patch.valid) < _MIN_VALID * patch.valid.size:
        return None
    tone = _tones(patch)
    if tone is None:
        return None
    if not patch.valid.all():
        tone[~patch.valid] = tone[patch.valid].mean()
    smooth, slope = _gaussian(1.0)
    tone = tone.astype(np.float32)
    field = np.empty(tone.shape, np.complex64)
    field.real, field.imag = _filtered(tone, slope, smooth), _filtered(tone, smooth, slope)
    if not patch.valid.all():
        away = np.abs(np.arange(-_BESIDE_PX, _BESIDE_PX + 1))
        near = (away[:, None] + away <= _BESIDE_PX).astype(np.uint8)
        field[cv2.dilate((~patch.valid).astype(np.uint8), near) != 0] = 0
    strength = np.abs(field)
    typical = _median(strength[strength > 0]) if strength.any() else 0.0
    return None if typical < 1e-6 else field / (strength + typical)


def _median(values: np.ndarray) -> float:
    """NumPy's median of float32 values, none of them not a number, in a tenth of its time.

    NumPy partitions at several places at once, for which it has no vector code; for one it has.
    """
    middle = values.size // 2
    parted = np.partition(values, middle)
    if values.size % 2:
        return float(parted[middle])
    return float(np.mean(np.array([parted[:middle].max(), parted[middle]])))


def _tones(patch: Patch) -> np.ndarray | None:
    """Log brightness (H, W), 0 at its 1st and log 1.2 less log 0.2 above at its 99th percentile; None for a flat patch.

    Pixels of 8 bits have few brightnesses: each is looked up, to the same result.
    """
    bands = patch.array[:3]
    if bands.dtype == np.uint8:
        total = bands.sum(axis=0, dtype=np.uint16)
        counts = np.bincount(total[patch.valid], minlength=255 * len(bands) + 1)
        levels = np.arange(len(counts)) / len(bands)
        low, high = (_percentile(levels, counts, share) for share in (0.01, 0.99))
    else:
        levels = bands.astype(np.float64).mean(axis=0)
        low, high = np.percentile(levels[patch.valid], (1, 99))
    if high - low <= 1e-6 * max(abs(high), abs(low), 1e-6):
        return None
    tones: np.ndarray = np.log(np.clip((levels - low) / (high - low), 0, 1) + 0.2)
    return tones[total] if bands.dtype == np.uint8 else tones


def _percentile(levels: np.ndarray, counts: np.ndarray, share: float) -> float:
    """The quantile, as NumPy interpolates it, of rising levels that occur so many times each."""
    ends = np.cumsum(counts)
    place = share * (ends[-1] - 1)
    below, above = levels[np.searchsorted(ends, [math.floor(place), math.ceil(place)], side="right")]
    part = place - math.floor(place)
    rise = above - below
    return float(below + rise * part if part < 0.5 else above - rise * (1 - part))


@cache
def _gaussian(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian of four standard deviations to either side, and its slope, to be correlated with."""
    reach = int(4 * sigma + 0.5)
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    bell = np.exp(-0.5 * (x / sigma) ** 2)
    bell /= bell.sum()
    return bell, bell * x / sigma**2


def _filtered(values: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Values (H, W) correlated along rows and along columns, mirrored at the edges."""
    return np.asarray(cv2.sepFilter2D(values, cv2.CV_32F, across, down, borderType=cv2.BORDER_REFLECT))


class _Fields:
    """Gradient fields of both dates; the first, from which no shift is taken, is read and measured once."""

    def __init__(self, first: ReadFirst, second: ReadSecond) -> None:
        self._read_first, self._read_second = first, second
        self._first: dict[Window, tuple[np.ndarray | None, np.ndarray]] = {}

    def __call__(
        self, window: Window, shift: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The fields of a window and where both dates hold data (H, W); None where a date is flat or empty."""
        if window not in self._first:
            pre = self._read_first(window)
            self._first[window] = gradient_field(pre), pre.valid
        first, valid = self._first[window]
        if first is None:
            return None
        post = self._read_second(window, *shift)
        second = gradient_field(post)
        return None if second is None else (first, second, valid & post.valid)


@dataclass(frozen=True, slots=True)
class _Estimate:
    dx: float
    dy: float
    spread: float
    patches: int


def _estimate(
    fields: _Fields, windows: list[Window], start: tuple[float, float], limit: float
) -> _Estimate | str:
    """Robust median over the patches, or the reason why there is none."""
    found, tried = [], 0
    for window in windows:
        pair = fields(window, start)
        if pair is None:
            continue
        tried += 1
        dx, dy, peak = phase_shift(*pair[:2], limit)
        if peak >= MIN_PEAK:
            found.append((dx + start[0], dy + start[1]))
        if tried == MAX_MEASURED:
            break
    if tried < _MIN_PATCHES:
        return f"only {tried} patches hold enough data and structure at both dates to measure a shift"
    if len(found) < _MIN_PATCHES:
        return f"the dates look too different to measure a shift ({len(found)} of {tried} patches match)"
    shifts = np.array(found)
    inliers = shifts[np.abs(shifts - np.median(shifts, axis=0)).max(axis=1) <= _INLIER_PX]
    if len(inliers) < max(_MIN_PATCHES, 0.4 * len(shifts)):
        return f"the patches disagree about the shift ({len(inliers)} of {len(shifts)} lie together)"
    centre = np.median(inliers, axis=0)
    spread = 1.4826 * float(np.median(np.abs(inliers - centre), axis=0).max())
    return _Estimate(float(centre[0]), float(centre[1]), spread, len(inliers))


def _agreement(fields: _Fields, windows: list[Window], dx: float, dy: float) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of gradient strength per patch, before and after taking the shift out."""
    before, after = [], []
    for window in windows:
        pair = [correlation(fields(window, shift)) for shift in ((0.0, 0.0), (dx, dy))]
        if pair[0] is not None and pair[1] is not None:
            before.append(pair[0])
            after.append(pair[1])
        if len(before) == MAX_HELD_OUT:
            break
    return np.array(before), np.array(after)


def correlation(pair: tuple[np.ndarray, np.ndarray, np.ndarray] | None) -> float | None:
    """How alike the gradient strengths of two dates are, -1 to 1; None where that cannot be said.

    Args:
        pair: gradient fields (H, W) of both dates, and where both hold data.
    """
    if pair is None:
        return None
    # Blurred, so that the smoothing of a resampled date does not pass for agreement.
    blur, _ = _gaussian(1.5)
    a, b = (_filtered(np.abs(field), blur, blur)[pair[2]] for field in pair[:2])
    a, b = (part - part.mean() for part in (a.astype(np.float64), b.astype(np.float64)))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else None


def _patches(overlap: Window) -> tuple[list[Window], list[Window]]:
    """Patches to measure on and patches to check on, like the squares of a chessboard, in a spread-out order."""
    shorter = min(overlap.height, overlap.width)
    side = next((side for side in PATCH_PX if shorter >= 3 * side), PATCH_PX[-1] if shorter >= 96 else 0)
    if not side:
        return [], []
    rows, cols = (
        np.linspace(0, length - side, min(_PER_AXIS, 2 * (length // side) - 1)).astype(int)
        if length < 4 * side
        else np.linspace(0, length - side, min(_PER_AXIS, length // side)).astype(int)
        for length in (overlap.height, overlap.width)
    )
    if len(rows) * len(cols) < 2 * _MIN_PATCHES:
        rows = cols = np.linspace(0, shorter - side, 3).astype(int)
    boards: tuple[list[Window], list[Window]] = ([], [])
    for i, row in enumerate(rows.tolist()):
        for j, col in enumerate(cols.tolist()):
            boards[(i + j) % 2].append(Window(overlap.row + row, overlap.col + col, side, side))
    order = np.random.default_rng(0)
    return tuple([board[k] for k in order.permutation(len(board))] for board in boards)  # type: ignore[return-value]


def _unknown(reason: str) -> Shift:
    return Shift(0.0, 0.0, None, None, None, 0, None, None, False, reason)
