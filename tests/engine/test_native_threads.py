"""The decoder's threads: phases are kept apart whether they wait awake or asleep."""

import shutil
import subprocess
from pathlib import Path

import pytest
from native_models import NEEDS_COMPILER

from camelid.engine.native import build

pytestmark = NEEDS_COMPILER

CHECK = Path(__file__).with_name("native_threads_check.c")


@pytest.mark.parametrize("waits", [(), ("-DBARRIER_WAIT=0", "-DCALL_WAIT=0")], ids=["awake", "asleep"])
def test_no_phase_begins_before_the_one_before_it_ends(waits: tuple[str, ...], tmp_path: Path) -> None:
    program, include = tmp_path / "check", build.SOURCES[0].parent
    compiler = next(name for name in ("cc", "gcc", "clang") if shutil.which(name))
    flags = ["-O2", "-std=gnu11", "-pthread", f"-I{include}", *waits]
    subprocess.run([compiler, *flags, "-o", program, CHECK], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "0\n"
