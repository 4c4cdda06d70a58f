"""Loss and accuracy by skill against the aggregate loss, over the sizes of a finished `camelid scale sweep`.

For each size the longest run. The loss is that of the right answer in nats per token, accuracy whether greedy
decoding gives exactly it. `projected`: by the line through all sizes but the largest over ln N, as in PaLM's
section 6.2; `jump`: more than 10 points above it.

    python bench/uneven.py SWEEP [--questions 200]
"""

import argparse
from itertools import islice
from pathlib import Path

from camelid.data import world
from camelid.engine.engine import Engine
from camelid.scaling.reading import RunPoint, run_folders
from camelid.scaling.uneven import project

SKILLS = ("coin_flip", "last_letters", "comparison", "kinds", "weekdays", "months", "facts", "sums")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--questions", type=int, default=200)
    asked = parser.parse_args()
    longest: dict[float, RunPoint] = {}
    for run in sorted(run_folders(asked.sweep), key=lambda each: each.tokens):
        longest[run.parameters] = run
    runs = [longest[size] for size in sorted(longest)]
    measured = [measure(Path(run.name) / "model", asked.questions) for run in runs]
    print("| skill | " + " | ".join(f"{run.parameters:,.0f}" for run in runs) + " | projected | jump |")
    print("|---" * (len(runs) + 3) + "|")
    print("| all text, nats | " + " | ".join(f"{run.loss:.3f}" for run in runs) + " | | |")
    for skill in SKILLS:
        cells = [f"{found[skill][0]:.2f}, {found[skill][1]:.0f} %" for found in measured]
        gain = project([run.parameters for run in runs], [found[skill][1] for found in measured])
        jump = "yes" if gain.discontinuous else "no"
        print(f"| `{skill}` | " + " | ".join(cells) + f" | {gain.projected:.0f} % | {jump} |")


def measure(folder: Path, questions: int) -> dict[str, tuple[float, float]]:
    """Nats per token of the right answers of each skill, and the percentage that greedy decoding gives."""
    found = {}
    with Engine.load(folder, device="cpu") as engine:
        for skill in SKILLS:
            asked = [*islice(world.items(skill, "test", questions, 0, steps=False), questions)]
            prompts = [f"Q: {item.question}\nA:" for item in asked]
            scores = engine.score(prompts, [f" {item.reply}" for item in asked])
            nats = -sum(score.logprob for score in scores) / sum(score.tokens for score in scores)
            found[skill] = nats, 100 * sum(bool(score.is_greedy) for score in scores) / len(scores)
    return found


if __name__ == "__main__":
    main()
