"""Fixtures that every test can use."""

import importlib
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import torch
from hypothesis import settings

BENCH = Path(__file__).resolve().parents[1] / "bench"

# A machine that is busy is slow; what a property test finds must not depend on that.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    """Files go to the processes of pytest-xdist in the order below, not those with most tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: one at the end would keep one process while the others are idle."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Output with names that are not UTF-8 is escaped: it could not be sent from one process to another."""
    report.sections = [
        (name, content.encode("utf-8", "backslashreplace").decode()) for name, content in report.sections
    ]


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Where the tests are a script's background job, SIGINT is ignored, and their children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu() -> Iterator[None]:
    """Models run on the CPU unless a test names a GPU, so that results are the same bits on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_requests() -> None:
    """Requests without a timeout of their own wait for a minute, not for 5 seconds."""
    for part in ("connect", "read", "write", "pool"):
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, 60.0)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One thread for each process of pytest-xdist: sums have one order, and threads do not wait for cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models beside the repository; skips where it does not exist."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the repository: real data and weights are not here")
    return folder


@pytest.fixture
def bench_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of bench/ by its name; afterwards none of them is left imported."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").parent == BENCH:
            del sys.modules[name]
