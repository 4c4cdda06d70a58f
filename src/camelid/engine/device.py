"""Where a model runs: a GPU where torch can use one, else the CPU."""

import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.model.attention import leave_out_cudnn

CPU = torch.device("cpu")
NAMES = "cpu, cuda or cuda:N"
STEP_TOKENS, GPU_STEP_TOKENS = 512, 4096
"""Tokens of a step that keep a CPU or a GPU busy; answers wait while a longer one is computed."""


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device of a name, by default the first GPU where there is one; with a GPU, attention leaves out
    cuDNN.

    Raises `WrongCall` where the name is none, `CamelidError` where the machine has no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise WrongCall(f"device is {str(name)!r}; it is {NAMES}")
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        build = "" if torch.version.cuda else ": this build of torch is for the CPU alone"
        raise CamelidError(
            f"there is no device {name}; torch finds {count} GPUs{build}. The CPU is --device cpu"
        )
    leave_out_cudnn()
    return torch.device("cuda", device.index or 0)
