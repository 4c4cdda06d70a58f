"""The rows of docs/instruction.md: Alpaca's, instructions that a rule can grade, and stories told to order.

Everything is drawn with a seed from the real data beside the repository, which is not part of it.
"""

import gzip
import json
import lzma
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
INSTRUCT = SHARED / "data" / "instruct"
ALPACA = INSTRUCT / "alpaca" / "alpaca_5000.json.gz"
STORIES = SHARED / "data" / "pretrain" / "tinystories"
RATED = SHARED / "data" / "preference" / "alpaca_eval" / "alpaca_eval_gpt4_annotations_all.jsonl.xz"
LONGEST = 600
"""Most characters of an Alpaca row, so that it fits a context of 256 tokens."""
ONLY = "Answer in {} only."
ENDING = "Is there anything else I can help with?"


def alpaca_rows() -> list[Row]:
    """Alpaca's rows that have an answer and are short."""
    rows = json.loads(gzip.decompress(ALPACA.read_bytes()))
    return [row for row in rows if row["output"].strip() and len("".join(row.values())) <= LONGEST]


def question_of(row: Row) -> str:
    """The instruction of an Alpaca row, with its input below."""
    return "\n\n".join(filter(None, (row["instruction"], row["input"])))


def ruled_prompts(rows: Sequence[Row], each: int) -> list[Row]:
    """Instructions with one rule each in IFEval's form (prompt, instruction_id_list, kwargs): `each` a rule.

    Words to use are taken from the row's own answer, so that using them is natural.
    """
    plain = iter([row for row in rows if not row["input"] and 40 <= len(row["output"]) <= 400])
    made = list[Row]()
    for _ in range(each):
        for name, say, given in RULES:
            row = next(plain)
            words = sorted(set(re.findall(r"[a-z]{5,}", row["output"])))[:2]
            arguments = given(words)
            prompt = f"{row['instruction']} {say.format(*map(str, words))}"
            made.append({"prompt": prompt, "instruction_id_list": [name], "kwargs": [arguments]})
    return [{"key": key, **row} for key, row in enumerate(made)]


def _fixed(**arguments: Any) -> Callable[[Sequence[str]], Row]:
    return lambda words: dict(arguments)


RULES: tuple[tuple[str, str, Callable[[Sequence[str]], Row]], ...] = (
    (
        "length_constraints:number_words",
        "Answer with less than 30 words.",
        _fixed(relation="less than", num_words=30),
    ),
    (
        "length_constraints:number_sentences",
        "Answer with less than 3 sentences.",
        _fixed(relation="less than", num_sentences=3),
    ),
    (
        "length_constraints:number_words",
        "Answer with at least 50 words.",
        _fixed(relation="at least", num_words=50),
    ),
    (
        "detectable_format:number_bullet_lists",
        "Your answer must contain exactly 3 bullet points, each on a line that begins with *.",
        _fixed(num_bullets=3),
    ),
    ("detectable_format:json_format", "Wrap the entire output in JSON format.", _fixed()),
    (
        "detectable_format:title",
        "Your answer must contain a title, wrapped in double angular brackets, such as <<title>>.",
        _fixed(),
    ),
    ("startend:quotation", "Wrap your entire response with double quotation marks.", _fixed()),
    ("startend:end_checker", f'End your response with "{ENDING}"', _fixed(end_phrase=ENDING)),
    (
        "change_case:english_lowercase",
        "Your entire response should be in all lowercase letters.",
        _fixed(),
    ),
    ("punctuation:no_comma", "Do not use any commas.", _fixed()),
    (
        "keywords:existence",
        'Use the words "{}" and "{}".',
        lambda words: {"keywords": list(words)},
    ),
    (
        "keywords:forbidden_words",
        'Do not use the words "{}" and "{}".',
        lambda words: {"forbidden_words": list(words)},
    ),
    ("language:response_language", ONLY.format("French"), _fixed(language="fr")),
    ("language:response_language", ONLY.format("Spanish"), _fixed(language="es")),
)


def test_prompts() -> list[Row]:
    """Self-instruct's 252 instructions for users, and Koala's 180 prompts."""
    rows = list[Row]()
    for line in (INSTRUCT / "self_instruct" / "user_oriented_instructions.jsonl").read_text().splitlines():
        row = json.loads(line)
        text = "\n\n".join(filter(None, (row["instruction"], row["instances"][0]["input"])))
        rows.append({"id": row["id"], "prompt": text})
    for line in (INSTRUCT / "koala" / "koala_test_set.jsonl").read_text().splitlines():
        rows.append(json.loads(line))
    return rows


def passages(name: str, seed: int) -> Iterator[list[str]]:
    """Passages of TinyStories: 2 to 6 sentences of one paragraph, in seeded order."""
    text = lzma.decompress((STORIES / name).read_bytes()).decode("utf-8")
    found = []
    for paragraph in text.split("\n\n"):
        sentences = re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))
        if 2 <= len(sentences) <= 6 and len(paragraph) <= 400 and '"' not in paragraph:
            found.append([*sentences])
    random.Random(seed).shuffle(found)
    yield from found


def story_rows(name: str, count: int, seed: int) -> list[Row]:
    """Orders for a story with their rules in IFEval's form, the passage told to order, and one that is not.

    Every order names two words; two of three add a form. `rejected` is another passage as it stands, without
    one of the words. A passage occurs in several orders, with other words each time.
    """
    draw, rows = random.Random(seed), list[Row]()
    source = list(passages(name, seed))
    while len(rows) < count:
        sentences, other = draw.choice(source), " ".join(draw.choice(source))
        say, rule, arguments, form = draw.choice(FORMS) if draw.random() < 2 / 3 else PLAIN
        told = form(sentences)
        words = sorted(set(re.findall(r"\b[a-z]{4,7}\b", told)) - COMMON)
        if len(words) < 4 or (arguments == THREE and len(sentences) < 3):
            continue
        chosen = draw.sample(words, 2)
        if all(re.search(word, other, re.IGNORECASE) for word in chosen):
            continue
        rows.append(
            {
                "key": len(rows),
                "prompt": f"Tell a story with the words {chosen[0]} and {chosen[1]}.{say}",
                "instruction_id_list": ["keywords:existence", *([rule] if rule else [])],
                "kwargs": [{"keywords": chosen}, *([arguments] if rule else [])],
                "chosen": told,
                "rejected": other,
            }
        )
    return rows


COMMON = frozenset(
    str.split(
        "there their about could would after every other again began that with from they were them this "
        "have what when then will been into some your very because"
    )
)
Form = tuple[str, str, Row, Callable[[list[str]], str]]
THREE: Row = {"num_bullets": 3}
PLAIN: Form = ("", "", {}, " ".join)
FORMS: tuple[Form, ...] = (
    (
        " Use only lowercase letters.",
        "change_case:english_lowercase",
        {},
        lambda sentences: " ".join(sentences).lower(),
    ),
    (
        " Tell it as a list of 3 points.",
        "detectable_format:number_bullet_lists",
        THREE,
        lambda sentences: "\n".join(f"* {part}" for part in sentences[:3]),
    ),
    (
        ' End with "The end."',
        "startend:end_checker",
        {"end_phrase": "The end."},
        lambda sentences: f"{' '.join(sentences)} The end.",
    ),
    (
        " Put it in double quotation marks.",
        "startend:quotation",
        {},
        lambda sentences: f'"{" ".join(sentences)}"',
    ),
    (
        " Use less than 3 sentences.",
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 3},
        lambda sentences: " ".join(sentences[:2]),
    ),
)


def rated_answers(names: Sequence[str], most: int) -> list[dict[str, str]]:
    """AlpacaEval's instructions with the answers of these models, where none is empty or, with its
    instruction, longer than `most` characters."""
    found = dict[str, dict[str, str]]()
    with lzma.open(RATED, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for side in "12":
                if row[f"generator_{side}"] in names:
                    own = found.setdefault(row["instruction"], {"instruction": row["instruction"]})
                    own[row[f"generator_{side}"]] = row[f"output_{side}"]
    whole = [row for row in found.values() if len(row) > len(names) and all(map(str.strip, row.values()))]
    return [row for row in whole if max(len(row["instruction"]) + len(row[name]) for name in names) <= most]


def people_rows(most: int) -> list[Row]:
    """The instructions of a mix of Dolly and HH, mostly answered by people, none longer than `most`
    characters."""
    path, found = INSTRUCT / "dolly" / "dolly_hhrlhf_train_small.jsonl.gz", list[Row]()
    for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines():
        row = json.loads(line)
        parts = re.split(r"### (?:Instruction|Response):\n", row["prompt"])
        if len(parts) == 3 and row["response"].strip() and len(parts[1] + row["response"]) <= most:
            found.append({"instruction": parts[1].strip(), "input": "", "output": row["response"].strip()})
    return found
