"""The numbers of docs/instruction.md, from the runs and answers of bench/instruction.py."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from instruction_rows import Row, test_prompts
from instruction_runs import NUMBERS, read_lines
from safetensors.torch import load_file

from camelid.base.json import read_table
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.load import load_tokenizer
from camelid.runs.run import read_metrics
from camelid.tasks.intervals import bootstrap_mean
from camelid.tasks.rules import follows

ADAPTER_FILE = "adapter_model.safetensors"
WORDS = "keywords:existence"
FORMS = {
    WORDS: "words",
    "change_case:english_lowercase": "lowercase",
    "detectable_format:number_bullet_lists": "list of 3",
    "startend:end_checker": "The end.",
    "startend:quotation": "quotes",
    "length_constraints:number_sentences": "under 3 sentences",
}
GROUPS = {
    "length_constraints": "length",
    "detectable_format": "format",
    "startend": "format",
    "change_case": "case, commas",
    "punctuation": "case, commas",
    "keywords": "keywords",
    "language": "language",
}
"""Kinds of rules as the table of SmolLM2 names them."""


def mean_of(seeds: Sequence[Sequence[float]]) -> Row:
    """The mean over questions of the mean over seeds, with a bootstrap interval over the questions."""
    means = [fmean(each) for each in zip(*seeds, strict=True)]
    interval = bootstrap_mean(means)
    return {
        "mean": fmean(means),
        "low": interval.low,
        "high": interval.high,
        "n": len(means),
        "seeds": len(seeds),
    }


def range_of(numbers: Sequence[float]) -> Row:
    """The mean over seeds, and the least and the most."""
    return {"mean": fmean(numbers), "least": min(numbers), "most": max(numbers), "seeds": len(numbers)}


def verdicts(path: Path, orders: Sequence[Row]) -> list[dict[str, float]]:
    """`verdict` of each answer."""
    return [verdict(order, answer["text"]) for order, answer in zip(orders, read_lines(path), strict=True)]


def verdict(order: Mapping[str, Any], text: str) -> dict[str, float]:
    """The rules that an order has, and whether a text follows them strictly.

    Of words that must occur, the share that does.
    """
    row = dict[str, float]()
    for name, given in zip(order["instruction_id_list"], order["kwargs"], strict=True):
        parts = [{"keywords": [word]} for word in given["keywords"]] if name == WORDS else [given]
        row[name] = fmean(follows(text, name, part) for part in parts)
    return row


def shares(out: Path, names: Sequence[str], orders: Sequence[Row], label: Mapping[str, str]) -> Row:
    """The share of orders followed in full, and of each rule, by its label; answers of all seeds together."""
    seeds = [verdicts(out / "answers" / f"{name}.jsonl", orders) for name in names]
    rows = {"all": mean_of([[float(min(each.values()) == 1) for each in seed] for seed in seeds])}
    for title in dict.fromkeys(label.values()):
        kept = [[_kept(each, label, title) for each in seed] for seed in seeds]
        asked = [[share for share in seed if share is not None] for seed in kept]
        if asked[0]:
            rows[title] = mean_of(asked)
    return rows


def _kept(found: Mapping[str, float], label: Mapping[str, str], title: str) -> float | None:
    """The share of an order's rules of one kind that are followed, None if it has none of them."""
    own = [kept for rule, kept in found.items() if label.get(rule) == title]
    return fmean(own) if own else None


def forms_of(out: Path, names: Sequence[str], orders: Sequence[Row]) -> Row:
    """The share of orders with a form whose form is followed, whichever it is."""
    label = {rule: "form" for rule in FORMS if rule != WORDS}
    return dict(shares(out, names, orders, label)["form"])


def told_of(out: Path, names: Sequence[str], runs: Sequence[str] | None = None) -> Row:
    """One way's numbers over its seeds: losses, shares, length of the stories, cost."""
    orders = read_lines(out / "held-orders.jsonl")
    row: Row = {"shares": {"form": forms_of(out, names, orders)} | shares(out, names, orders, FORMS)}
    answers = [read_lines(out / "answers" / f"{name}.jsonl") for name in names]
    row["tokens"] = range_of([fmean(each["tokens"] for each in seed) for seed in answers])
    row["ended"] = range_of([fmean(each["ended"] for each in seed) for seed in answers])
    return row | (costs(out, runs or names) if (out / (runs or names)[0] / NUMBERS).exists() else {})


def costs(out: Path, names: Sequence[str]) -> Row:
    """Held-out loss before and after, speed, memory and size of runs that differ in their seed."""
    runs = [read_table(out / name / NUMBERS) for name in names]
    keys = ("before", "after", "updates", "seconds", "peak_bytes")
    row = {key: range_of([run[key] for run in runs]) for key in keys}
    steps = [read_metrics(out / name / "metrics.jsonl") for name in names]
    row["tokens_per_second"] = range_of(
        [median(step["tokens_per_second"] for step in run if "tokens_per_second" in step) for run in steps]
    )
    adapter = out / names[0] / "adapter"
    if adapter.exists():
        row["parameters"] = sum(each.numel() for each in load_file(adapter / ADAPTER_FILE).values())
    else:
        row["parameters"] = read_spec(out / names[0] / "model").parameter_count()
    return row


def present(out: Path, pattern: str, seeds: Sequence[int]) -> list[str]:
    """The names of a way whose answers or numbers exist, one for each seed."""
    names = [pattern.format(seed) for seed in seeds]
    return [
        name
        for name in names
        if (out / "answers" / f"{name}.jsonl").exists() or (out / name / NUMBERS).exists()
    ]


def stories(out: Path, seeds: Sequence[int]) -> Row:
    """The small model as it is, tuned whole, and by LoRA."""
    rows = {"base": told_of(out, ["stories-base"])}
    for way in ("full", "lora"):
        rows[way] = told_of(out, present(out, f"stories-{way}-{{}}", seeds))
    return rows


def markers(out: Path, seeds: Sequence[int]) -> Row:
    """Asked with the good marker, the bad one and none."""
    runs = present(out, "markers-{}", seeds)
    return {
        marker: told_of(out, [f"{run}-{marker}" for run in runs], runs) for marker in ("good", "bad", "none")
    }


def students(out: Path, seeds: Sequence[int]) -> Row:
    """Each way of teaching the small student; the teacher's seconds apart."""
    rows: Row = {"teacher": told_of(out, ["stories-full-0"])}
    for way in STUDENTS:
        if names := present(out, f"student-{way}-{{}}", seeds):
            rows[way] = told_of(out, names)
    made = out / "teachers-answers.json"
    if made.exists():
        rows["teacher_seconds"] = json.loads(made.read_text("utf-8"))["whole_seconds"]
    return rows


STUDENTS = ("rows", "teacher's-answers", "forward", "reverse", "reverse-on-policy")


def koala(out: Path, seeds: Sequence[int]) -> Row:
    """Held-out losses on ChatGPT's answers and on people's, after either mixture."""
    rows: Row = {}
    for way in ("distilled", "everything"):
        found = [read_table(out / name / "losses.json") for name in present(out, f"koala-{way}-{{}}", seeds)]
        rows[way] = {judge: range_of([each[judge] for each in found]) for judge in ("chatgpt", "people")}
    return rows


def length(out: Path, seeds: Sequence[int]) -> Row:
    """Tokens of the teacher's answers to the held-out questions, and of the student's."""
    rows: Row = {}
    tokenizer = load_tokenizer(out / "storyteller")
    for teacher in ("text_davinci_001", "text_davinci_003", "gpt-3.5-turbo-0301"):
        held = read_lines(out / f"rated-{teacher}-held-out.jsonl")
        trained = read_lines(out / f"rated-{teacher}.jsonl")
        names = present(out, f"length-{teacher}-{{}}", seeds)
        answers = [read_lines(out / "answers" / f"{name}.jsonl") for name in names]
        rows[teacher] = {
            "teacher": mean_of([[len(tokenizer.encode(row["output"])) for row in held]]),
            "rows": len(trained),
            "student": mean_of([[each["tokens"] for each in seed] for seed in answers]),
            "ended": range_of([fmean(each["ended"] for each in seed) for seed in answers]),
            "after": range_of([read_table(out / name / NUMBERS)["after"] for name in names]),
        }
    return rows


def real(out: Path, seeds: Sequence[int]) -> Row:
    """SmolLM2 as it is, tuned whole and by LoRA: losses, costs, rules, length of its answers."""
    orders, rows = read_lines(out / "ruled.jsonl"), dict[str, Row]()
    label = {
        name: GROUPS[name.partition(":")[0]] for order in orders for name in order["instruction_id_list"]
    }
    tokenizer = load_tokenizer(out / "smollm2")
    for way in ("base", "full", "lora"):
        answers = out / "answers" / f"real-{way}-held.jsonl"
        if not answers.exists():
            continue
        held = read_lines(answers)
        rows[way] = {
            "shares": shares(out, [f"real-{way}-ruled"], orders, label),
            "tokens": mean_of([[each["tokens"] for each in held]]),
            "ended": fmean(each["ended"] for each in held),
        }
        if way != "base":
            rows[way] |= costs(out, [f"real-{way}"])
    held = read_lines(out / "alpaca-held-out.jsonl")
    rows["rows"] = {"tokens": mean_of([[len(tokenizer.encode(row["output"])) for row in held]])}
    return rows


def test(out: Path, seeds: Sequence[int]) -> Row:
    """Answers to self-instruct's and Koala's prompts: how many, how long, how many end."""
    rows: Row = {}
    for way, answers in _test_answers(out).items():
        for kind in ("user_oriented", "koala"):
            if own := [row for name, row in answers.items() if name.startswith(kind)]:
                rows.setdefault(way, {})[kind] = {
                    "n": len(own),
                    "tokens": fmean(each["tokens"] for each in own),
                    "ended": fmean(each["ended"] for each in own),
                }
    return rows


def answers_to_keep(out: Path) -> dict[str, list[Row]]:
    """The answers of `test` for a judge, by the name of their file: the prompts' ids, not their text, which
    is others'."""
    return {
        f"test-{way}": [
            {"id": name, "text": row["text"], "ended": row["ended"]} for name, row in found.items()
        ]
        for way, found in _test_answers(out).items()
    }


def _test_answers(out: Path) -> dict[str, dict[str, Row]]:
    """By way, where it has answered: the answers by the id of their prompt."""
    ids = [str(row["id"]) for row in test_prompts()]
    found = {way: read_lines(out / "answers" / f"test-{way}.jsonl") for way in ("base", "lora")}
    return {way: dict(zip(ids, rows, strict=False)) for way, rows in found.items() if rows}


MEASURES: Mapping[str, Callable[[Path, Sequence[int]], Row]] = {
    "stories": stories,
    "markers": markers,
    "students": students,
    "length": length,
    "koala": koala,
    "real": real,
    "test": test,
}
