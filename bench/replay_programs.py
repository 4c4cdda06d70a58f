"""Runs the programs that a published model wrote and compares results and votes with the log.

    python bench/replay_programs.py --run

Programs of code-davinci-002 for SVAMP (one, and 30 samples an item) and GSM8K, by Chen et al.
(arXiv:2211.12588). They run in Camelid's limited process; without `--run` nothing does. Programs that import
sympy (AQuA) are refused there. One JSON object a line: items, programs, programs without a result, items
whose result differs from the logged one, and both accuracies in per cent.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from replay_logs import LOGS, jsonl

from camelid.prompting.ensembles import elect
from camelid.prompting.program_of_thoughts import result_of
from camelid.tasks.item import Item
from camelid.tasks.reasoning.cleansing import PROGRAM_OF_THOUGHTS

FILES = {
    "svamp_s0_e-1_11_24_14_38": True,
    "svamp_sc_s0_e-1_11_08_14_02": False,
    "gsm8K_s0_e-1_11_17_10_20": False,
}
"""The logs, and whether the authors' script took absolute values: that of SVAMP came to between its two
logs."""


def replay(path: Path, absolute: bool) -> dict[str, Any]:
    """The figures of one log."""
    rows = [row for row in jsonl(path) if "answer" in row]
    programs = failed = different = ours = theirs = 0
    for row in rows:
        results = [as_logged(result_of(code), absolute) for code in row["generated"]]
        winner = elect(results, [1.0] * len(results))
        found = None if winner is None else results[winner]
        item = Item("1", row["question"], str(row["answer"]))
        programs += len(results)
        failed += results.count(None)
        different += str(found) != str(row["executed"])
        ours += PROGRAM_OF_THOUGHTS.grade(item, str(found)).correct
        theirs += PROGRAM_OF_THOUGHTS.grade(item, str(row["executed"])).correct
    return {
        "log": path.name.removesuffix(".jsonl.gz"),
        "items": len(rows),
        "programs": programs,
        "no_result": failed,
        "different": different,
        "ours": round(100 * ours / len(rows), 2),
        "published": round(100 * theirs / len(rows), 2),
    }


def as_logged(result: str | None, absolute: bool) -> str | None:
    """A result as the log writes it: numbers as floats."""
    if result is None:
        return None
    try:
        return str(abs(float(result)) if absolute else float(result))
    except ValueError:
        return result


def main() -> None:
    """Runs the programs of each log."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logs", type=Path, default=LOGS)
    parser.add_argument("--run", action="store_true", help="permit to run programs that a model wrote")
    how = parser.parse_args()
    folder = how.logs / "outputs/program_of_thoughts"
    if not how.run or not folder.is_dir():
        sys.exit("pass --run to run the programs of the logs" if not how.run else f"{folder}: no such folder")
    for name, absolute in FILES.items():
        print(json.dumps(replay(folder / f"{name}.jsonl.gz", absolute)), flush=True)


if __name__ == "__main__":
    main()
