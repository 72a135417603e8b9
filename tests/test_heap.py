"""What a training step frees stays with the process until it is given back."""

import ctypes
import gc
import subprocess
import sys

import pytest

from aftermap import heap

SCRIPT = """
import resource, sys
import numpy as np
from aftermap import heap

def pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        np.ones(8 << 20)  # 64 MB, written to and freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

fresh = pages(4)
with heap.keeping():
    pages(1)
    kept, before = pages(4), held()
print(fresh, kept, before, held())
"""


def unset(monkeypatch):
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone"
)
def test_what_is_freed_is_taken_again_without_new_pages_and_can_be_given_back(monkeypatch):
    unset(monkeypatch)
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    fresh, kept, before, after = map(int, done.stdout.split())
    assert kept < 0.05 * fresh
    assert after < before - 32


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_who_has_set_the_allocator_is_left_alone(monkeypatch, name):
    asked = []
    monkeypatch.setattr(heap, "_function", asked.append)
    unset(monkeypatch)
    monkeypatch.setenv(name, "1")
    with heap.keeping():
        pass
    assert asked == []


def test_limits_are_what_glibc_comes_to_by_itself_afterwards_also_after_an_error(monkeypatch):
    said = []
    monkeypatch.setattr(heap, "_function", lambda name: lambda *values: said.append((name, *values)))
    unset(monkeypatch)
    with pytest.raises(KeyError), heap.keeping():
        raise KeyError
    assert said[-3:] == [("mallopt", -3, 32 << 20), ("mallopt", -1, 64 << 20), ("malloc_trim", 0)]


def test_the_outermost_of_several_gives_back(monkeypatch):
    said = []
    monkeypatch.setattr(heap, "_function", lambda name: lambda *values: said.append(name))
    unset(monkeypatch)
    with heap.keeping():
        with heap.keeping():
            pass
        assert "malloc_trim" not in said
    assert said.count("malloc_trim") == 1


def test_systems_without_glibc_are_passed_over(monkeypatch):
    monkeypatch.setattr(heap, "_function", lambda name: None)
    unset(monkeypatch)
    with heap.keeping():
        heap.give_back()


def test_circles_are_searched_for_again_when_the_last_has_left():
    first, second = heap.uncollected(), heap.uncollected()
    first.__enter__()
    second.__enter__()
    assert not gc.isenabled()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
