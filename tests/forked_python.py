"""`python` for programs of tests that need all that the tests import: forked from them, so that imports are paid once.

    subprocess.run([forked_python(), "-c", "import torch; ..."])    # or a script, or -m MODULE, with what follows
    monkeypatch.setattr(sys, "executable", forked_python())         # for what starts processes of its own

What runs is a process of its own with the folder, the environment, the arguments and the open files that it was started
with. It differs from a new one in what it finds imported; and as the process that it is forked from was forked
before the first test ran, nothing has been computed, trained or compiled in it. Tests of what is imported, of the
number of a process, or of what ends with its parent (which is not the stand-in) start Python itself, as all do where the
system has no `pidfd`.

Run as a script, this file is the stand-in: it hands its files to the process that forks, passes signals on, and ends as
its program ends. If it is killed, so is the program.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from fcntl import F_DUPFD, fcntl
from pathlib import Path

STAND_IN = "AFTERMAP_TESTS_PYTHON"


def forked_python():
    """The executable; what follows it is as with Python's own."""
    return os.environ.get(STAND_IN, sys.executable)


def begin_forking(folder):
    """Fork the process that forks all others, which has its socket in a folder; returns its number, or nothing."""
    if not hasattr(os, "pidfd_open"):
        return None
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen(16)
    parent = os.getpid()
    server = os.fork()
    if server:
        listening.close()
        script = folder / "python"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {__file__} {folder}/socket "$@"\n')
        script.chmod(0o755)
        os.environ[STAND_IN] = str(script)
        return server
    try:
        _serve(listening, parent)
    finally:
        os._exit(70)


def _serve(listening, parent):
    listening.settimeout(1)
    kept = 0
    while os.getppid() == parent:
        while kept and os.waitpid(-1, os.WNOHANG)[0]:  # their processor time counts as that of the tests
            kept -= 1
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listening.close()
            connection.setblocking(True)
            _keep(connection)
        connection.close()
        kept += 1


def _keep(connection):
    """Fork the program, tell how it ended, and end it where nobody listens any more."""
    import select

    try:
        text, files, _, _ = socket.recv_fds(connection, 1 << 20, 100)
        while not text.endswith(b"\n"):
            text += connection.recv(1 << 20)
        wanted = json.loads(text)
        child = os.fork()
        if child == 0:
            _program(connection, files, **wanted)
        for file in files:
            os.close(file)
        connection.sendall(f"{child}\n".encode())
        ended = os.pidfd_open(child)
        ready, _, _ = select.select([ended, connection], [], [])
        if ended not in ready:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    finally:
        os._exit(70)


def _program(connection, files, numbers, words, folder, environment):
    code = 70
    try:
        connection.close()
        for file, number in zip([fcntl(file, F_DUPFD, 1000) for file in files], numbers, strict=True):
            os.dup2(file, number)
            os.close(file)
        _forget_the_tests()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.executable = forked_python()
        code = _run(words)
    finally:
        os._exit(code)


def _forget_the_tests():
    """Set what pytest changes in its own process as a new one has it."""
    import atexit
    import faulthandler
    import gc
    import importlib
    import logging
    import multiprocessing.util
    import tempfile
    import warnings
    import weakref

    gc.enable()
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit._clear()
    weakref.finalize._registry.clear()  # folders of the tests, which would be removed
    weakref.finalize._registered_with_atexit = False
    multiprocessing.util._finalizer_registry.clear()
    atexit.register(multiprocessing.util._exit_function)
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)
    importlib.reload(warnings)
    tempfile.tempdir = None
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def _run(words):
    """Run a program as Python would, up to and with what it has registered for its end."""
    import atexit
    import runpy
    import traceback
    from types import ModuleType

    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = paths
    code = 0
    try:
        while words[0] not in ("-c", "-m") and words[0].startswith(
            "-"
        ):  # how Python is to run is as it runs here
            words = words[1:]
        how, *rest = words
        if how == "-c":
            program, *arguments = rest
            sys.argv, sys.path[:0] = ["-c", *arguments], [""]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(program, "<string>", "exec"), main.__dict__)
        elif how == "-m":
            sys.argv, sys.path[:0] = rest, [str(Path.cwd())]
            sys.modules.pop(rest[0], None)
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[:0] = [how, *rest], [str(Path(how).resolve().parent)]
            main = sys.modules["__main__"] = ModuleType("__main__")
            main.__file__ = how
            exec(compile(Path(how).read_bytes(), how, "exec"), main.__dict__)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):  # the program has closed it
            stream.flush()
    return code & 0xFF


def _is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _stand_in():
    passed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)  # those that come early are passed on, too
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    files = [number for number in range(256) if number != connection.fileno() and _is_open(number)]
    wanted = {"numbers": files, "words": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    socket.send_fds(connection, [json.dumps(wanted).encode() + b"\n"], files)
    told = connection.makefile()
    program = int(told.readline())
    for number in passed_on:
        signal.signal(number, lambda number, _: os.kill(program, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    code = int(told.readline() or 70)
    if code < 0:
        if -code in passed_on:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    _stand_in()
