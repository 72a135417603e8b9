import threading
from contextlib import closing

import numpy as np
import pytest

from aftermap.geo.grid import Grid, Window
from aftermap.inference.tiling import Sample, predict_rows, read_ahead

WINDOWS = [Window(0, col, 8, 8) for col in range(0, 48, 8)]


def sample(window):
    shape = window.height, window.width
    return Sample(
        np.full((2, 3, *shape), window.col, np.uint8), np.ones((2, *shape), bool), np.zeros(shape, np.uint8)
    )


class Recorder:
    """Reads windows, and tells which; one of them may fail."""

    def __init__(self, fails_at=None):
        self.read, self.threads, self.fails_at = [], set(), fails_at
        self.done = threading.Condition()

    def __call__(self, window):
        if window.col == self.fails_at:
            raise OSError("the disk is gone")
        with self.done:
            self.read.append(window.col)
            self.threads.add(threading.get_ident())
            self.done.notify_all()
        return sample(window)

    def wait_for(self, count):
        with self.done:
            assert self.done.wait_for(lambda: len(self.read) >= count, timeout=30)


class Half:
    """Two classes, each with half of the probability."""

    multiple = 8

    def predict(self, images, valid=None):
        return np.full((len(images), 2, *images.shape[-2:]), 0.5, np.float32)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_windows_arrive_in_order_with_their_own_pixels(count):
    found = list(read_ahead(Recorder(), WINDOWS, count=count))

    assert [window for window, _ in found] == WINDOWS
    assert [int(s.images[0, 0, 0, 0]) for _, s in found] == [window.col for window in WINDOWS]


def test_reading_stays_so_many_windows_ahead_and_no_more():
    recorder = Recorder()
    with closing(read_ahead(recorder, WINDOWS, count=2)) as samples:
        next(samples)
        recorder.wait_for(3)

        assert recorder.read == [0, 8, 16]


def test_all_windows_are_read_in_one_thread_that_is_not_the_callers():
    recorder = Recorder()

    list(read_ahead(recorder, WINDOWS, count=3))

    assert len(recorder.threads) == 1
    assert threading.get_ident() not in recorder.threads


def test_an_error_of_the_thread_is_raised_where_its_window_is_asked_for():
    samples = read_ahead(Recorder(fails_at=16), WINDOWS, count=2)

    assert [next(samples)[0].col, next(samples)[0].col] == [0, 8]
    with pytest.raises(OSError, match="the disk is gone"):
        next(samples)


def test_an_error_while_a_map_is_read_reaches_the_caller():
    with pytest.raises(OSError, match="the disk is gone"):
        list(predict_rows(Recorder(fails_at=16), Half(), Grid.pixels(48, 8), window_px=8, halo_px=0))


def test_closing_stops_the_thread():
    recorder = Recorder()
    rows = predict_rows(recorder, Half(), Grid.pixels(8, 80), window_px=8, halo_px=0)

    with closing(rows):
        next(rows)

    assert len(recorder.read) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("windows")]


def test_rows_without_data_are_zero_and_others_are_not():
    def half_missing(window):
        read = sample(window)
        read.missing[:, :4] = 2
        return read

    (band,) = predict_rows(half_missing, Half(), Grid.pixels(8, 8), window_px=8, halo_px=0)

    assert (band.probabilities[:, :, :4] == 0).all()
    assert (band.probabilities[:, :, 4:] == 0.5).all()
