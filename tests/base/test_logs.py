"""What commands say goes to standard error; a library says no more than warnings unless it is asked to."""

import logging
import subprocess
import sys

import pytest

from camelid.base.logs import show_log

SCRIPT = """
import logging, sys
from camelid.base.logs import show_log
{shown}
logger = logging.getLogger("camelid.train.stages")
logger.debug("details")
logger.info("71 documents")
logger.warning("the damping grew")
print("a result")
"""


@pytest.mark.parametrize(
    ("shown", "errors"),
    [
        ("", "the damping grew\n"),
        ("show_log()", "71 documents\ncamelid: the damping grew\n"),
        ("show_log(); show_log(logging.WARNING)", "camelid: the damping grew\n"),
        ("logging.basicConfig(level=logging.INFO, format='%(message)s')", "71 documents\nthe damping grew\n"),
    ],
)
def test_what_a_program_shows(shown: str, errors: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(shown=shown)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("a result\n", errors)


def test_lines_go_to_what_standard_error_is_now(capsys: pytest.CaptureFixture[str]) -> None:
    show_log()
    show_log()
    logging.getLogger("camelid.anything").info("said once")
    assert capsys.readouterr().err == "said once\n"
