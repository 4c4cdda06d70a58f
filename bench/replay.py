"""Replay of published generations: the verdicts of their authors beside ours.

    python bench/replay.py            # the table, as in docs/replays.md
    python bench/replay.py --write    # writes docs/replays.md
    python bench/replay.py --json     # one JSON object a line for each log

The logs (`bench/replay_logs.py`) are not part of this repository: `--logs FOLDER` is where they lie, by
default `../shared/data/reasoning` beside it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from replay_logs import CLASSES, LOGS, Replay, replays

PAGE = Path(__file__).resolve().parents[1] / "docs/replays.md"


def page(found: Sequence[Replay]) -> str:
    """The page of the documentation."""
    total = sum(each.replies for each in found)
    different = sum(each.different for each in found)
    lines = [
        "# Replays of published generations",
        "",
        "Accuracies of papers depend on how their authors read an answer out of a reply. "
        "Here the logs that they",
        "published are read again: by the reading of the paper, "
        "which a data set reports as `accuracy_paper`, and by",
        f"our own. Of {total:,} logged replies and votes the paper's reading and the log disagree on "
        f"{different}.",
        "",
        "| log | replies | published | paper's reading | different verdicts | strict | lenient |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {each.name} | {each.replies:,} | {each.published:.2f} | {each.paper:.2f} | {each.different} "
            "| "
            f"{_shown(each.strict)} | {_shown(each.lenient)} |"
            for each in found
        ),
        "",
        *NOTES,
        "## Where our strict reading differs",
        "",
        "Classes of replies on which the strict reading and the log disagree, with their counts.",
        "",
        "| log | " + " | ".join(CLASSES) + " |",
        "|---|" + "---|" * len(CLASSES),
        *(
            f"| {each.name} | " + " | ".join(str(each.classes.get(name, 0)) for name in CLASSES) + " |"
            for each in found
            if each.classes
        ),
        "",
    ]
    return "\n".join(lines)


NOTES = (
    "`python bench/replay.py --write` makes this page; the same comparisons are tests",
    "(`tests/tasks/test_replays.py`). Sources: the logs of text-davinci-002 of",
    "[Kojima et al.](https://arxiv.org/abs/2205.11916), the GSM8K solutions of",
    "[Cobbe et al.](https://arxiv.org/abs/2110.14168), the results of",
    "[program of thoughts](https://arxiv.org/abs/2211.12588) (a name with `sc` is the vote over 30 samples, "
    "`zs` is",
    "zero-shot), the answers of GPT-4 in [tree of thoughts](https://arxiv.org/abs/2305.10601), "
    "and 8 samples with",
    "rewards of [Qwen2.5-Math](https://arxiv.org/abs/2409.12122). Choices are read by their letters only: "
    "the logs'",
    "texts of choices are not given to our graders.",
    "",
    "`python bench/replay_programs.py --run` also runs the programs of the model themselves, "
    "in Camelid's limited",
    "process: on SVAMP all 999 results are those of the log, "
    "of 999 votes over 30 programs each all but 2 (88.09",
    "beside 88.19 % right), of 1,318 results on GSM8K all but 2 (71.55 % both).",
    "",
)


def _shown(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}"


def main() -> None:
    """Prints the table, or writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logs", type=Path, default=LOGS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", action="store_true")
    how = parser.parse_args()
    if not (how.logs / "outputs").is_dir():
        sys.exit(f"{how.logs} holds no outputs/; pass the folder of the logs with --logs")
    found = list(replays(how.logs))
    if how.json:
        print("\n".join(json.dumps(asdict(each)) for each in found))
    elif how.write:
        PAGE.write_text(page(found))
    else:
        print(page(found))


if __name__ == "__main__":
    main()
