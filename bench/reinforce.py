"""GRPO with a task's grader on sums, beside as long a tuning on worked answers to the same questions.

    python bench/reasoning.py train --sizes middle          # the model, 147,776 parameters
    python bench/reinforce.py --model runs/reasoning/seed-0/middle/model --out runs/reinforce

Both learn from questions of the training split. Test questions and longer ones are asked once, at the end:
600 and 400, with three exemplars in steps, greedily; differences are paired, with McNemar's p. With --direct
both learn and are asked without steps; --tuning-steps 0 leaves the tuning out.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruction_runs import camelid
from reasoning_claims import LONG, directly, in_steps, paired, right, shown
from reasoning_documents import LONGER, TRAINED, items

from camelid import LM, evaluate
from camelid.align.questions import asked_by
from camelid.base.json import read_json, write_json
from camelid.evals.evaluate import Evaluation
from camelid.prompting.attempt import Program
from camelid.tasks.graders import GRADERS
from camelid.tasks.item import Item
from camelid.tasks.task import Task

QUESTIONS, TESTED, LONG_TESTED = 6000, 600, 400
ROWS, CONTEXT = 128, 384
"""Answers in each update of both, and tokens of a row in tuning, which holds one."""


def task(name: str, asked: Sequence[Item]) -> Task:
    return Task(name, "1", tuple(asked), GRADERS["numeric"])


def program(direct: bool) -> Program:
    """How sums are asked, with exemplars."""
    return directly("sums") if direct else in_steps("sums")


def write_files(out: Path, direct: bool) -> None:
    """Training questions and exemplars as rows, and the questions with their answers as pairs."""
    examples = shown("sums")
    shown_already = {each.question for each in examples}
    found = items("sums", "train", TRAINED, QUESTIONS)
    asked = [each for each in found if each.question not in shown_already]
    for name, rows in (("questions", asked), ("exemplars", examples)):
        lines = (
            {"question": each.question, "answer": each.answer, "rationale": each.rationale} for each in rows
        )
        (out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (out / "worked.jsonl").open("w") as file:
        for each in asked_by(program(direct), task("sums", asked)):
            question = str(each.prompt).removesuffix("\nA:")
            steps = f"{each.item.rationale} The answer is {each.item.answer}."
            answer = f"A: {each.item.answer if direct else steps}"
            file.write(json.dumps({"input": question, "target": answer}) + "\n")


def timed(out: Path, name: str, *arguments: object) -> Path:
    """Runs a stage and notes its minutes, over all of its calls."""
    notes, began = out / f"{name}-minutes.json", time.monotonic()
    before = read_json(notes) if notes.exists() else 0.0
    if not (out / name / "model").exists():
        try:
            camelid(*arguments, "--out", out / name)
        finally:
            write_json(notes, before + (time.monotonic() - began) / 60)
    return out / name / "model"


def training(steps: int, rate: float) -> list[object]:
    """The settings that both trainings share."""
    words: list[object] = ["--training.steps", steps, "--training.learning-rate", rate]
    words += ["--training.schedule", "linear", "--training.dtype", "float32"]
    return [*words, "--training.weight-decay", 0]


def learned(out: Path, model: Path, steps: int, rate: float, direct: bool) -> Path:
    """The model after GRPO."""
    way = "few_shot" if direct else "chain_of_thought"
    words = ["--task", out / "questions.jsonl", "--exemplars", out / "exemplars.jsonl", "--shots", 3]
    words += ["--program", way, "--max-new-tokens", LONG.max_new_tokens, "--held-out", 0.02]
    words += ["--grpo.questions", ROWS // 8, "--grpo.kl", 0.01]
    words += ["--training.validate-every", 25, "--training.checkpoint-every", 25]
    return timed(out, "grpo", "align", model, "--method", "grpo", *words, *training(steps, rate))


def tuned(out: Path, model: Path, steps: int, rate: float) -> Path:
    """The model after tuning on worked answers."""
    words = ["--task", "pairs", "--data.train", out / "worked.jsonl"]
    words += ["--training.context-length", CONTEXT, "--training.global-batch-tokens", ROWS * CONTEXT]
    words += ["--training.compile", "false", "--training.checkpoint-every", 50]
    return timed(out, "tuned", "tune", model, *words, *training(steps, rate))


def asked(model: Path, name: str, out: Path, direct: bool) -> dict[str, Evaluation]:
    """The test questions and the longer ones, answered."""
    questions = {
        "test": task("sums-test", items("sums", "test", TRAINED, TESTED)),
        "longer": task("sums-longer", items("sums", "longer", LONGER, LONG_TESTED)),
    }
    lm = LM(model)
    return {
        which: evaluate(each, program(direct), lm, out / "answers" / name, allow_cut=True)
        for which, each in questions.items()
    }


def main() -> None:
    """Trains both, measures, and writes results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("runs/reasoning/seed-0/middle/model"))
    parser.add_argument("--out", type=Path, default=Path("runs/reinforce"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--tuning-steps", type=int, default=100)
    parser.add_argument("--tuning-rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    out: Path = arguments.out
    direct: bool = arguments.direct
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "worked.jsonl").exists():
        write_files(out, direct)
    before, results = asked(arguments.model, "before", out, direct), dict[str, Any]()
    learners = {"grpo": lambda: learned(out, arguments.model, arguments.steps, arguments.rate, direct)}
    if arguments.tuning_steps:
        learners["tuned"] = lambda: tuned(out, arguments.model, arguments.tuning_steps, arguments.tuning_rate)
    results["before"] = counted(before, before)
    for name, learner in learners.items():
        results[name] = counted(asked(learner(), name, out, direct), before)
        results[name]["minutes"] = read_json(out / f"{name}-minutes.json")
        write_json(out / "results.json", results)
    print(json.dumps(results, indent=1))


def counted(found: dict[str, Evaluation], before: dict[str, Evaluation]) -> dict[str, Any]:
    """Right answers of each kind of question, and the paired change."""
    return {
        which: {
            "right": sum(right(evaluation)),
            "n": len(right(evaluation)),
            "change": paired(before[which], evaluation),
        }
        for which, evaluation in found.items()
    }


if __name__ == "__main__":
    main()
