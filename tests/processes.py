"""Starts a function in several processes that torch.distributed can join, for the tests."""

import multiprocessing
import os
import socket

import psutil
import torch


def start(function, size, *arguments):
    """Calls function(rank, *arguments) in `size` processes with torchrun's variables; their exit codes."""
    # One process imports everything once, and all are forked from it.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["camelid.train.stages"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.start_processes(
        _prepared, (function, size, port, arguments), size, join=False, start_method="forkserver"
    )
    for process in context.processes:
        if process.is_alive() and psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
            process.kill()  # the others have ended
        process.join(240)
    return [process.exitcode for process in context.processes]


def _prepared(rank, function, size, port, arguments):
    torch.set_num_threads(1)
    torch.cuda.is_available = lambda: False
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    function(rank, *arguments)
