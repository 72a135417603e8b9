"""A queue tells of jobs: huey's in a file, procrastinate's in PostgreSQL."""

import threading
import time

from aftermap.workflows.service.queues import open_queue


def listened(queue, until, seconds=15.0):
    """What a queue tells until so many were told."""
    told, idle, stop = [], [], threading.Event()

    def handle(number):
        told.append(number)
        if len(told) >= until:
            stop.set()

    thread = threading.Thread(
        target=queue.work, args=(handle,), kwargs={"idle": lambda: idle.append(1), "stop": stop}, daemon=True
    )
    thread.start()
    yield told, idle, stop
    thread.join(seconds)
    assert not thread.is_alive()


def test_jobs_are_told_in_order_once_also_when_they_come_later(queue, address, tmp_path):
    for number in ("one", "two"):
        queue.put(number)
    listening = listened(queue, 4)
    told, idle, _ = next(listening)
    end = time.monotonic() + 10
    while not idle and time.monotonic() < end:
        time.sleep(0.02)
    other = open_queue(
        address if isinstance(address, str) else tmp_path / "queue.db"
    )  # as the server has one
    other.put("three")
    other.put("four")
    next(listening, None)
    assert told == ["one", "two", "three", "four"]
    if hasattr(other, "close"):
        other.close()


def test_a_queue_stops_when_it_is_told(queue):
    listening = listened(queue, 99)
    _, _, stop = next(listening)
    stop.set()
    next(listening, None)
