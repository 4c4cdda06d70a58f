"""Starts functions in processes that are forked from a warm one, for the tests."""

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import psutil
import torch

WARM = ["camelid.train.stages", "camelid.report.figures", "pytest", "scipy.stats"]
"""What the process that all are forked from imports once, which takes longer than most tests."""


def start(function, size, *arguments):
    """Calls function(rank, *arguments) in `size` processes with torchrun's variables; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _warm()
    context = torch.multiprocessing.start_processes(
        _ranked, (function, size, port, arguments), size, join=False, start_method="forkserver"
    )
    for process in context.processes:
        if status(process.pid) == psutil.STATUS_STOPPED:
            process.kill()  # the others have ended
        process.join(300)
    return [process.exitcode for process in context.processes]


def status(pid):
    """What the process does, as psutil names it: dead where it is gone, also while it was looked at."""
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_DEAD


class Forked:
    """function(*arguments) in one process, which is used as a `subprocess.Popen` with pipes is."""

    def __init__(self, function, *arguments, environment):
        self._folder = Path(tempfile.mkdtemp())
        self._paths = [self._folder / name for name in ("out", "errors")]
        self._process = _warm().Process(target=_written, args=(function, arguments, self._paths, environment))
        self._process.start()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def communicate(self, timeout):
        """What the process has written when it has ended: to standard output, and to standard error."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"still running after {timeout} seconds: {self._paths[1].read_text()}")
        texts = [path.read_text() for path in self._paths]
        shutil.rmtree(self._folder)
        return texts


def command(words):
    """The command line, as `python -m camelid` runs it; here, where a forked process finds it by name."""
    from camelid.cli import main as cli

    sys.exit(cli.main(words))


def _warm():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(WARM)
    return context


def _written(function, arguments, paths, environment):
    for number, path in zip((1, 2), paths, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    _prepare()
    function(*arguments)


def _ranked(rank, function, size, port, arguments):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    _prepare()
    function(rank, *arguments)


def _prepare():
    """One thread, so that sums have one order, and no GPU; the machine's speed and plots are left out."""
    from camelid.report import figures
    from camelid.train import fit

    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: False
    fit.peak_flops = lambda device, dtype: 1e9
    figures.draw = lambda plot: "<svg></svg>"
    signal.signal(signal.SIGINT, signal.default_int_handler)
