"""DPO on real comparisons, scored by a reward model of other comparisons: docs/preferences_measured.md.

    python bench/preferred.py            # SmolLM2 and AlpacaEval's judgements, about 30 minutes of one core
    python bench/preferred.py write      # the table of docs/preferences_measured.md

AlpacaEval's judgements by GPT-4 are split by instruction into three parts: of the first a reward model is
trained, on the second the policy by DPO, both adapters on SmolLM2-135M-Instruct, and the third measures. The
policy and SmolLM2 answer its instructions greedily, and the reward model, which has seen neither these
instructions nor those of DPO, scores the answers. Everything lies in --out and is made once.
"""

import argparse
import json
import lzma
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from instruction import smollm2
from instruction_measure import mean_of
from instruction_rows import RATED, Row
from instruction_runs import answered, camelid, result_of, write_rows
from overoptimise_page import DATA, ranged, write_tables
from reasoning_page import table

from camelid import RewardModel
from camelid.base.json import write_json
from camelid.data.rows.holdout import uniform
from camelid.text.conversation import Conversation, Message

PARTS = {"measured": (0.0, 0.2), "reward": (0.2, 0.6), "dpo": (0.6, 1.0)}
"""By the hash of the instruction."""
PAIRS = {"measured": 200, "reward": 200, "dpo": 160}
INSTRUCTIONS, LONGEST_ANSWER = 80, 160
LONGEST = 1100
"""Most characters of both answers and twice the instruction, so that a pair fits 512 tokens."""
RATES = {"reward": 5e-4, "dpo": 1e-4}
TEXTS = ("instruction", "instruction", "output_1", "output_2")
CLAIM = "preferred"


def judgements(part: str) -> list[Row]:
    """The judgements of a part that are used."""
    return random.Random(0).sample(short_judgements(part), PAIRS[part])


def short_judgements(part: str) -> list[Row]:
    """Those that tell two answers apart and fit the context."""
    low, high = PARTS[part]
    with lzma.open(RATED, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        {key: row[key] for key in ("instruction", "output_1", "output_2", "preference")}
        for row in rows
        if row["preference"] in (1, 2)
        and sum(len(row[key]) for key in TEXTS) < LONGEST
        and row["output_1"].strip()
        and row["output_2"].strip()
        and row["output_1"] != row["output_2"]
        and low <= uniform(row["instruction"]) < high
    ]


def trained(out: Path, method: str, seed: int) -> Path:
    """The run of an adapter on SmolLM2, one pass over its part."""
    run = out / f"{method}-{seed}"
    if not (run / "report.html").exists():
        rows = write_rows(out / f"{method}.jsonl", judgements(method))
        how = ["--method", method, "--comparisons", rows, "--held-out", 0, "--too-long", "drop"]
        how += ["--skip-bad-rows", "true", "--lora.rank", 8, "--seed", seed]
        how += ["--training.context-length", 512, "--training.global-batch-tokens", 4096]
        how += ["--training.epochs", 1, "--training.learning-rate", RATES[method]]
        how += ["--training.dtype", "float32", "--training.compile", "false"]
        camelid("align", smollm2(out), *how, "--out", run)
    return run


def asked_of(text: str, answer: str) -> Conversation:
    return Conversation((Message("user", text), Message("assistant", answer)))


def accuracy(judge: RewardModel, rows: list[Row]) -> Row:
    """How often the judge prefers the better answer, beside the rule that the longer one wins."""
    scores = judge.score([asked_of(row["instruction"], row[f"output_{n}"]) for row in rows for n in (1, 2)])
    better = [int(row["preference"]) - 1 for row in rows]
    lengths = [[len(row["output_1"]), len(row["output_2"])] for row in rows]

    def right(values: list[list[float]]) -> list[float]:
        """Of each instruction, the share of its judgements."""
        found: dict[str, list[float]] = {}
        for row, pair, at in zip(rows, values, better, strict=True):
            one = 0.5 if pair[0] == pair[1] else float(pair[at] > pair[1 - at])
            found.setdefault(row["instruction"], []).append(one)
        return [fmean(each) for each in found.values()]

    pairs = np.array(scores).reshape(-1, 2).tolist()
    return {"judge": mean_of([right(pairs)]), "longer": mean_of([right(lengths)])}


def measured(out: Path, seed: int) -> Row:
    """The judge's accuracy, and its scores of both models' answers."""
    judge = RewardModel.load(trained(out, "reward", seed) / "model", rows=8)
    rows = judgements("measured")
    prompts = sorted({row["instruction"] for row in short_judgements("measured")})[:INSTRUCTIONS]
    models = {"before": {"path": smollm2(out)}, "after": result_of(trained(out, "dpo", seed), smollm2(out))}
    answers = {
        name: answered(
            out / f"answers-{name}-{seed}.jsonl",
            model,
            prompts,
            max_new_tokens=LONGEST_ANSWER,
            temperature=0,
        )
        for name, model in models.items()
    }
    scores = {
        name: judge.score([asked_of(row["prompt"], row["text"]) for row in found])
        for name, found in answers.items()
    }
    gains = [after - before for before, after in zip(scores["before"], scores["after"], strict=True)]
    tokens = {name: [row["tokens"] for row in found] for name, found in answers.items()}
    longer = [after > before for before, after in zip(tokens["before"], tokens["after"], strict=True)]
    ahead = [(0.5 if gain == 0 else float(gain > 0)) for gain in gains]
    spread = float(np.std(scores["before"]))
    return {
        "accuracy": accuracy(judge, rows),
        "ahead": mean_of([ahead]),
        "gain": mean_of([[gain / spread for gain in gains]]),
        "same": sum(gain == 0 for gain in gains),
        "ahead_if_not_longer": mean_of([[one for one, more in zip(ahead, longer, strict=True) if not more]]),
        "tokens": {name: mean_of([found]) for name, found in tokens.items()},
        "ended": {name: sum(row["ended"] for row in found) for name, found in answers.items()},
        "instructions": len(prompts),
    }


def between(row: Row) -> str:
    """A mean with its interval."""
    return ranged({**row, "value": row["mean"]}, 2)


def page(found: dict[str, Any]) -> str:
    """A row for each seed."""
    rows = [
        [
            seed,
            between(row["accuracy"]["judge"]),
            between(row["accuracy"]["longer"]),
            between(row["ahead"]),
            between(row["gain"]),
            f"{between(row['ahead_if_not_longer'])}, {row['ahead_if_not_longer']['n']}",
            row["same"],
            *(f"{row['tokens'][name]['mean']:.0f}" for name in ("before", "after")),
        ]
        for seed, row in found.items()
    ]
    head = ["seed", "judge's accuracy", "rule: longer wins", "DPO's answer ahead", "gain, spreads"]
    return table([*head, "ahead where not longer, of", "same answers", "tokens before", "tokens after"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", nargs="?", choices=["write"])
    parser.add_argument("--out", type=Path, default=Path("runs/preferred"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    if arguments.action != "write":
        DATA.mkdir(exist_ok=True)
        found = {str(seed): measured(arguments.out, seed) for seed in arguments.seeds}
        write_json(DATA / f"{CLAIM}.json", found)
    write_tables({CLAIM: page})


if __name__ == "__main__":
    main()
