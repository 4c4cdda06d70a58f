"""The verifier of bench/reasoning.py: trained on a tuned model's solutions of sums, beside the majority.

The generator is small and sampled hot, since otherwise there are next to no wrong solutions to learn from.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasoning_documents import LONGER, TRAINED, items

from camelid.base.json import read_table
from camelid.tasks.item import Item

RECIPE = Path(__file__).parents[1] / "recipes" / "reasoning" / "align-sums.yaml"
SMALLER = "small"
GENERATOR = f"{SMALLER}-sums-steps"
ASKED = {"trained": TRAINED, "longer": LONGER}
EACH, SAMPLES, TEMPERATURE = 60, 32, 1.6


def verifier(out: Path) -> list[dict[str, Any]]:
    """Best of n by the verifier, the vote of its best, and the majority, from the same samples; `out` is the
    folder of a seed.
    """
    generator, folder = out / GENERATOR / "model", out / "verifier"
    if not (folder / "model").exists():
        rows = _written(out / "verify-train.jsonl", items("sums", "train", TRAINED, 600))
        _camelid("align", RECIPE, "--model", generator, "--task", rows, "--out", folder)
    found = []
    for span, lengths in ASKED.items():
        asked = items("sums", "test", lengths, EACH * len(lengths))
        rows, answers = _written(out / f"verify-{span}.jsonl", asked), out / "answers" / f"verifier-{span}"
        ways = ["--samples", SAMPLES, "--temperature", TEMPERATURE, "--max-new-tokens", 100, "--allow-cut"]
        _camelid("eval", generator, "--task", rows, *ways, "--verifier", folder / "model", "--out", answers)
        measured = read_table(answers / f"verify-{span}.verifier.json")
        found += [{"span": span, "questions": measured["questions"], **row} for row in measured["rows"]]
        found[-1]["p"] = measured["p_value"]
    return found


def _written(path: Path, asked: Sequence[Item]) -> Path:
    """The questions as a task's rows."""
    kept = ("id", "question", "answer", "rationale")
    rows = ({**{key: getattr(item, key) for key in kept}, "grader": "numeric"} for item in asked)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _camelid(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "camelid", *map(str, arguments)], check=True)
