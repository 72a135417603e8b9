"""Functions in processes of their own, which share one import of the package: a server of theirs forks them."""

import multiprocessing
import os
import socket

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["aftermap.workflows.incremental.run"])
RANKS = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}


def exit_code(function, *arguments):
    """How a process ended that did nothing but call a function of a module; -9 where it was killed."""
    return _codes([_started({}, function, arguments)])[0]


def exit_codes_of_two(function, *arguments):
    """How two processes of one training ended, as `accelerate launch` starts them; each calls the function."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = {"MASTER_PORT": str(free.getsockname()[1])}
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2))
    return _codes([_started(RANKS | port | rank, function, arguments) for rank in ranks])


def _started(environment, function, arguments):
    process = CONTEXT.Process(target=_call, args=(environment, function, arguments))
    process.start()
    return process


def _call(environment, function, arguments):
    os.environ.update(environment)
    function(*arguments)


def _codes(processes):
    for process in processes:
        process.join(120)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]
