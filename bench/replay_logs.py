"""The verdicts of published logs beside ours, log by log: what `bench/replay.py` tabulates.

Each log holds what a model said and what its authors made of it. A reply is read as the paper does
(`camelid.tasks.reasoning.cleansing`), and by our own graders; nothing is generated.
"""

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from camelid.lm.interface import Prompt
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.asking import Question
from camelid.prompting.attempt import Attempt, Program
from camelid.prompting.ensembles import best_of_n, self_consistency
from camelid.prompting.programs import TRIGGERS, direct
from camelid.tasks.graders import LENIENT, STRICT, choice, letters, numeric
from camelid.tasks.item import Grader, Item
from camelid.tasks.reasoning.cleansing import (
    GAME_OF_24,
    KOJIMA_LAST_LETTERS,
    KOJIMA_NUMBER,
    KOJIMA_YES_NO,
    OPENAI_GSM8K,
    PROGRAM_OF_THOUGHTS,
    Cleansing,
    kojima_letters,
)

LOGS = Path(__file__).resolve().parents[2] / "shared/data/reasoning"
NO_ANSWER, OURS_ONLY, THEIRS_ONLY = "nothing read strictly", "right only strictly", "right only in the log"
COMMAS = "gold answer with a comma"
CLASSES = (COMMAS, OURS_ONLY, THEIRS_ONLY, NO_ANSWER)
_SAMPLING = direct(sampling=Sampling(temperature=0.7, stop=("\0",)))


@dataclass(frozen=True)
class Replay:
    """One log: shares of right replies in per cent, and how many verdicts differ from the authors'."""

    name: str
    replies: int
    published: float
    paper: float
    different: int
    """Replies on which the paper's reading and the log disagree."""
    strict: float | None = None
    lenient: float | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    """Why our strict reading and the log disagree, with counts."""


@dataclass(frozen=True)
class Kind:
    """How the questions of a log of Kojima et al. are read."""

    cleansing: Cleansing
    grader: Grader
    trigger: str


NUMBER = Kind(KOJIMA_NUMBER, numeric, TRIGGERS["number"])
YES_NO = Kind(KOJIMA_YES_NO, choice, TRIGGERS["yes_no"])


def lettered(last: str) -> Kind:
    """Choices from A to `last`."""
    return Kind(kojima_letters(last), choice, TRIGGERS["letter"].format(last=last))


KOJIMA_LOGS: Mapping[str, Kind] = {
    "addsub": NUMBER,
    "aqua": lettered("E"),
    "coin_flip": YES_NO,
    "commonsensqa": lettered("E"),
    "date_understanding": lettered("F"),
    "gsm8k": NUMBER,
    "last_letters": Kind(KOJIMA_LAST_LETTERS, letters, TRIGGERS["text"]),
    "multiarith": NUMBER,
    "shuffled_objects": lettered("C"),
    "singleeq": NUMBER,
    "strategyqa": YES_NO,
    "svamp": NUMBER,
}
OPENAI_MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
_REPLY = re.compile(
    r"\npred_before : (.*?)\npred_after : (.*?)\npred_list : .*?\npred_mode : (.*?)\nGT : (.*?)\n", re.DOTALL
)


def replays(logs: Path = LOGS) -> Iterator[Replay]:
    """All replays, in the order of the table."""
    for name in KOJIMA_LOGS:
        for method in ("zero_shot", "zero_shot_cot"):
            yield kojima(logs, name, method)
    for model in OPENAI_MODELS:
        yield openai(logs, model)
    for path in sorted((logs / "outputs/program_of_thoughts").glob("*.jsonl.gz")):
        if "gpt4" not in path.name:  # holds the text of a choice, without a verdict
            yield program_of_thoughts(path)
    for path in sorted((logs / "outputs/tot_game24").glob("*.json.gz")):
        yield game_of_24(logs, path)
    yield from samples_with_rewards(logs)


def kojima(logs: Path, name: str, method: str) -> Replay:
    """A log of text-davinci-002 by Kojima et al.; the trigger stands before a reply, as programs keep it."""
    kind = KOJIMA_LOGS[name]
    text = _text(logs / f"outputs/zero_shot_cot_logs/{name}_{method}.log.gz")
    found = _REPLY.findall(text)
    trigger = kind.trigger
    if method == "zero_shot":
        trigger = trigger.removeprefix("Therefore, ").capitalize().replace("yes or no", "Yes or No")
        trigger = re.sub(r"a through (\w)", lambda match: f"A through {match[1].upper()}", trigger)
    items = [_item(kind, gold.strip()) for *_, gold in found]
    # Half of the logs are stripped at both ends.
    replies = [f"{trigger} {said}" for said, *_ in found]
    theirs = [mode == gold.strip() for _, _, mode, gold in found]
    logged = re.search(r"\naccuracy : ([\d.]+)", text)
    assert logged is not None
    assert abs(_percent(theirs) - float(logged[1])) < 1e-6, "the verdicts of the log are not its accuracy"
    return _compared(f"{name}, {method}", kind.cleansing, items, replies, theirs, kind.grader)


def openai(logs: Path, model: str) -> Replay:
    """GSM8K solutions of OpenAI's fine-tuned models; their file writes "A: " for "#### "."""
    rows = jsonl(logs / "outputs/gsm8k_openai/example_model_solutions.jsonl.gz")
    items = [Item("1", row["question"], row["ground_truth"].split("\nA: ")[1].strip()) for row in rows]
    replies = [row[model]["solution"].replace("\nA: ", "\n#### ") for row in rows]
    theirs = [row[model]["is_correct"] for row in rows]
    return _compared(f"gsm8k, {model}", OPENAI_GSM8K, items, replies, theirs, numeric)


def program_of_thoughts(path: Path) -> Replay:
    """Results that programs of code-davinci-002 computed; of 30 samples, the result with most votes.

    The log holds results, not verdicts: these come from an independent statement of the authors' rule.
    """
    rows = [row for row in jsonl(path) if "answer" in row]
    given = [row.get("executed", row.get("prediction")) for row in rows]
    items = [Item("1", row["question"], str(row["answer"])) for row in rows]
    theirs = [_equal(value, row["answer"]) for value, row in zip(given, rows, strict=True)]
    name = path.name.partition("_s0")[0].lower()
    grader = numeric if isinstance(rows[0]["answer"], float) else None
    return _compared(
        f"program of thoughts, {name}", PROGRAM_OF_THOUGHTS, items, list(map(str, given)), theirs, grader
    )


def game_of_24(logs: Path, path: Path) -> Replay:
    """GPT-4's answers to 100 puzzles: 100 samples each, or the 5 that tree of thoughts ends with."""
    with (logs / "game24/24.csv").open(newline="") as file:
        puzzles = [row["Puzzles"] for row in csv.DictReader(file)]
    items, replies, theirs = [], [], []
    for row in json.loads(_text(path)):
        items += [Item("1", puzzles[row["idx"]], "24")] * len(row["ys"])
        replies += row["ys"]
        theirs += row["accs"] if "accs" in row else [bool(info["r"]) for info in row["infos"]]
    name = path.name.removeprefix("gpt-4_0.7_").partition("_start")[0]
    return _compared(f"game of 24, {name}", GAME_OF_24, items, replies, theirs, None)


def samples_with_rewards(logs: Path) -> Iterator[Replay]:
    """Eight samples of Qwen2.5-Math for 100 problems: each by itself, our vote, and the highest reward.

    Vote and choice run through `self_consistency` and `best_of_n`, with a model that repeats the samples.
    """
    rows = jsonl(logs / "outputs/qwen_math/math_cot_100.jsonl.gz")
    every = [right for row in rows for right in row["score"]]
    yield Replay("math, each of 8 samples", len(every), _percent(every), _percent(every), 0)
    theirs = [_majority(row) for row in rows]
    yield _ensemble("math, vote of 8", rows, theirs, self_consistency(_SAMPLING, 8))
    rewards = {_key(row, at): row["pred_score"][at][-1] for row in rows for at in range(8)}

    def reward(question: Question, attempts: Sequence[Attempt]) -> list[float]:
        return [rewards[question.question, attempt.text] for attempt in attempts]

    best = [row["score"][max(range(8), key=lambda at, row=row: row["pred_score"][at][-1])] for row in rows]
    yield _ensemble("math, best reward of 8", rows, best, best_of_n(_SAMPLING, reward, 8))


def _compared(
    name: str,
    cleansing: Cleansing,
    items: Sequence[Item],
    replies: Sequence[str],
    theirs: Sequence[bool],
    grader: Grader | None,
) -> Replay:
    pairs = list(zip(items, replies, strict=True))
    paper = [cleansing.grade(item, reply).correct for item, reply in pairs]
    different = sum(ours != logged for ours, logged in zip(paper, theirs, strict=True))
    if grader is None:
        return Replay(name, len(pairs), _percent(theirs), _percent(paper), different)
    ours = [grader(item, reply) for item, reply in pairs]
    classes = Counter[str]()
    for item, grades, logged in zip(items, ours, theirs, strict=True):
        if grades[STRICT].correct != logged:
            read = grades[STRICT].extracted is not None
            missing = THEIRS_ONLY if read else NO_ANSWER
            gained = COMMAS if "," in item.answer else OURS_ONLY
            classes[missing if logged else gained] += 1
    strict, lenient = (_percent([each[way].correct for each in ours]) for way in (STRICT, LENIENT))
    return Replay(
        name, len(pairs), _percent(theirs), _percent(paper), different, strict, lenient, dict(classes)
    )


def _ensemble(
    name: str, rows: Sequence[Mapping[str, Any]], theirs: Sequence[bool], program: Program
) -> Replay:
    answers = {_key(row, at): row["pred"][at] for row in rows for at in range(8)}
    right = {_key(row, at): row["score"][at] for row in rows for at in range(8)}
    replies = {row["question"]: iter(row["code"]) for row in rows}

    def answer(prompt: Prompt) -> str:
        return next(replies[str(prompt).removeprefix("Q: ").removesuffix("\nA:")])

    items = [Item(str(row["idx"]), row["question"], str(row["gt"])) for row in rows]
    attempts = program(
        ScriptedLM(answer), items, lambda asked, text: {"log": answers[asked.question, text] or None}
    )
    ours = [right[item.question, attempt.text] for item, attempt in zip(items, attempts, strict=True)]
    different = sum(a != b for a, b in zip(ours, theirs, strict=True))
    return Replay(name, len(rows), _percent(theirs), _percent(ours), different)


def _key(row: Mapping[str, Any], at: int) -> tuple[str, str]:
    return row["question"], row["code"][at]


def _majority(row: Mapping[str, Any]) -> bool:
    """Whether the answer with most votes is right; the log's graders also say which answers are equal."""
    first = Counter(row["pred"]).most_common(1)[0][0]
    return bool(row["score"][row["pred"].index(first)])


def _equal(given: float | str | None, right: float | str) -> bool:
    """`finqa_equal` of the authors: numbers rounded to the fewer decimals of the two, texts as they are."""
    if given is None or isinstance(given, str) or isinstance(right, str):
        return given == right
    decimals = min(
        len(str(number).partition(".")[2]) if "." in str(number) else 5 for number in (given, right)
    )
    return abs(given) != float("inf") and round(given, decimals) == round(right, decimals)


def _item(kind: Kind, gold: str) -> Item:
    if kind.grader is not choice:
        return Item("1", "?", gold)
    if kind is YES_NO:
        return Item("1", "?", gold, choices=("yes", "no"))
    last = kind.cleansing.name[-1]
    return Item("1", "?", gold, tuple(ascii_uppercase[: ascii_uppercase.index(last) + 1]), lettered=True)


def jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a compressed file."""
    return [json.loads(line) for line in _text(path).splitlines()]


def _text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def _percent(right: Sequence[bool]) -> float:
    return 100 * sum(right) / len(right)
