"""Functions in processes of their own, in which nothing has run; see forked_python."""

import os
import pickle
import socket
import subprocess
import sys

from forked_python import forked_python

RANKS = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true"}
CALL = "import pickle, sys; function, arguments = pickle.load(sys.stdin.buffer); function(*arguments)"


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
    found = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [forked_python(), "-c", CALL], stdin=subprocess.PIPE, env=os.environ | found | environment
    )
    pickle.dump((function, arguments), process.stdin)
    process.stdin.close()
    return process


def _codes(processes):
    for process in processes:
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return [process.returncode for process in processes]
