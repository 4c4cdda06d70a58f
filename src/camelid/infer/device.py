"""Where a model runs: a GPU where torch can use one, else the CPU."""

import torch

from camelid.errors import CamelidError, WrongCall

NAMES = "cpu, cuda or cuda:N"


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device of a name, by default the first GPU where there is one.

    Raises `WrongCall` where the name is none, `CamelidError` where the machine has no such device.
    """
    if name is None:
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
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
    return torch.device("cuda", device.index or 0)
