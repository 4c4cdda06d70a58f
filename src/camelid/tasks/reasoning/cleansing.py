"""How papers read the answer in a reply: a third reading beside strict and lenient, for comparison with their
tables.

A cleansing repeats what the authors' code does, weaknesses included: Kojima et al. take any capital letter
for a choice, also inside words, and never count the gold answer "10,800" as given. Our own readings
(`tasks/graders.py`) are better; these give the published numbers.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_uppercase

from camelid.base.errors import CamelidError
from camelid.prompting.expressions import value_of
from camelid.tasks.item import Grade, Item
from camelid.tasks.reading import without_reasoning

PAPER = "accuracy_paper"
"""The metric of a task's own paper."""

KOJIMA = "Kojima et al., arXiv:2205.11916; kojima-takeshi188/zero_shot_cot, utils.py"

WANG = "Wang et al., arXiv:2203.11171, section 2; no code is published"

_TRIGGER = re.compile(
    r"(?:Therefore, )?(?:[Tt]he answer(?: \((?:arabic numerals|Yes or No)\))?|[Aa]mong A through [A-Z], "
    r"the answer)"
    r" is"
)
"""What asks for the answer in zero-shot prompts; programs keep it before the reply."""
_FEW_SHOT = "The answer is"
_LOWER = "the answer is"
_NUMBER = re.compile(r"-?\d+\.?\d*")
_HASHES = re.compile(r"#### (-?[0-9.,]+)")
_YES_NO_SPACES = re.compile(r"[\"'\n.\s:,]")
_LETTERS_REMOVED = re.compile(r"[\"'\n.\s]")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Cleansing:
    """A paper's way of reading and grading a reply; any change needs a new `version`."""

    name: str
    version: int
    source: str
    judge: Callable[[Item, str], Grade]
    """Grades a reply; what it extracts does not depend on the right answer."""

    def grade(self, item: Item, reply: str) -> Grade:
        """The paper's verdict on a reply; what a model writes while thinking is not read."""
        return self.judge(item, without_reasoning(reply))

    def read(self, item: Item, reply: str) -> str | None:
        """The answer that the paper would extract."""
        return self.grade(item, reply).extracted


def kojima_letters(last: str) -> Cleansing:
    """Multiple choice from A to `last`: the first of these capital letters after the trigger.

    Without any trigger, as after exemplars whose "The answer is" the model left out, the last one.
    """
    letters = ascii_uppercase[: ascii_uppercase.index(last) + 1]

    def judge(item: Item, reply: str) -> Grade:
        found = _chosen(reply, lambda text: re.findall("|".join(letters), text))
        if item.choices is None:
            raise CamelidError(f"item {item.id}: it has no choices, so a letter names no answer")
        return Grade(found, found == ascii_uppercase[item.choices.index(item.answer)])

    return Cleansing(f"kojima_letters_{last}", 1, KOJIMA, judge)


def _kojima_number(item: Item, reply: str) -> Grade:
    """The first number after the trigger, without commas; compared as text with the gold answer."""
    found = _chosen(reply, lambda text: _NUMBER.findall(text.replace(",", "")))
    return Grade(found, found == item.answer.strip().removesuffix(".0"))


def _kojima_yes_no(item: Item, reply: str) -> Grade:
    found = _chosen(reply, lambda text: [w for w in _words(text) if w in ("yes", "no")])
    return Grade(found, found == item.answer.strip().lower())


def _kojima_last_letters(item: Item, reply: str) -> Grade:
    found = _chosen(reply, lambda text: [_LETTERS_REMOVED.sub("", text)])
    return Grade(found, found == item.answer.strip())


def _openai_gsm8k(item: Item, reply: str) -> Grade:
    """The first number after "#### ", without commas; compared as text."""
    match = _HASHES.search(reply)
    found = match[1].replace(",", "") if match else None
    return Grade(found, found == item.answer.strip().replace(",", ""))


def _gsm8k(item: Item, reply: str) -> Grade:
    return _openai_gsm8k(item, reply) if _HASHES.search(reply) else _kojima_number(item, reply)


def _program_of_thoughts(item: Item, reply: str) -> Grade:
    """Numbers are equal if they are after rounding to the fewer decimals of the two, at least one."""
    text = reply.strip()
    if text in ("", "None"):
        return Grade(None, False)
    try:
        given, right = float(text), float(item.answer.replace(",", ""))
    except ValueError:
        return Grade(text, text == item.answer)
    decimals = min(_decimals(given), _decimals(right))
    try:
        return Grade(text, round(given, decimals) == round(right, decimals))
    except (ValueError, OverflowError):
        return Grade(text, False)


def _game_of_24(item: Item, reply: str) -> Grade:
    """The last line, up to its first "=": it must use each of the numbers once, and be 24."""
    last = reply.strip().split("\n")[-1].lower().replace("answer: ", "").split("=")[0].strip()
    numbers = str(item.metadata.get("numbers", item.question))
    used = sorted(_DIGITS.findall(last)) == sorted(_DIGITS.findall(numbers))
    return Grade(last or None, used and value_of(last) == 24)


def _stated(reply: str) -> str | None:
    """What follows "the answer is", which exemplars also write as "So the answer is"."""
    _, marker, after = reply.replace("The answer is", _LOWER).partition(_LOWER)
    return after if marker else None


def _wang_number(item: Item, reply: str) -> Grade:
    """The first number after "the answer is"; compared as a number, or as text if the answer is not one."""
    match = _NUMBER.search((_stated(reply) or "").replace(",", ""))
    found = match[0].removesuffix(".") if match else None
    gold = item.answer.strip().replace(",", "")
    try:
        return Grade(found, found is not None and float(found) == float(gold))
    except ValueError:
        return Grade(found, found == gold)


def _wang_text(item: Item, reply: str) -> Grade:
    """All of the line after "the answer is", without its full stop."""
    found = (_stated(reply) or "").strip().split("\n")[0].strip().removesuffix(".") or None
    return Grade(found, found is not None and found.lower() == item.answer.strip().lower())


def _big_bench_hard(item: Item, reply: str) -> Grade:
    """All of the line after "the answer is", exactly; of lettered choices the letter in brackets."""
    found = (_stated(reply) or "").strip().split("\n")[0].strip().removesuffix(".") or None
    gold = item.answer.strip()
    if item.choices and item.lettered:
        gold = f"({ascii_uppercase[item.choices.index(item.answer)]})"
    return Grade(found, found == gold)


def _pal(item: Item, reply: str) -> Grade:
    """The result of a program, equal within 0.001."""
    text = (_stated(reply) or reply).strip().removesuffix(".")
    try:
        return Grade(text or None, abs(float(text) - float(item.answer.replace(",", ""))) < 1e-3)
    except ValueError:
        return Grade(text or None, False)


KOJIMA_NUMBER = Cleansing("kojima_number", 1, KOJIMA, _kojima_number)
KOJIMA_YES_NO = Cleansing("kojima_yes_no", 1, KOJIMA, _kojima_yes_no)
KOJIMA_LAST_LETTERS = Cleansing("kojima_last_letters", 1, KOJIMA, _kojima_last_letters)
OPENAI_GSM8K = Cleansing(
    "openai_gsm8k", 1, "Cobbe et al., arXiv:2110.14168; openai/grade-school-math, dataset.py", _openai_gsm8k
)
GSM8K_REPLY = Cleansing(
    "gsm8k", 1, f"{OPENAI_GSM8K.source}, where a reply has '#### '; else {KOJIMA}", _gsm8k
)
"""Fine-tuned models end in "#### 72", prompted ones in "The answer is 72."."""
WANG_NUMBER = Cleansing("wang_number", 1, WANG, _wang_number)
WANG_TEXT = Cleansing("wang_text", 1, WANG, _wang_text)
BIG_BENCH_HARD = Cleansing(
    "big_bench_hard", 1, "Suzgun et al., arXiv:2210.09261, section 3: exact match", _big_bench_hard
)
PAL = Cleansing("pal", 1, "Gao et al., arXiv:2211.10435; reasoning-machines/pal, scripts/gsm_eval.py", _pal)
PROGRAM_OF_THOUGHTS = Cleansing(
    "program_of_thoughts",
    1,
    "Chen et al., arXiv:2211.12588; wenhuchen/Program-of-Thoughts, tool.py",
    _program_of_thoughts,
)
"""Reads the printed result of a program that the model wrote."""
GAME_OF_24 = Cleansing(
    "game_of_24",
    1,
    "Yao et al., arXiv:2305.10601; princeton-nlp/tree-of-thought-llm, tasks/game24.py",
    _game_of_24,
)


def _chosen(reply: str, candidates: Callable[[str], list[str]]) -> str | None:
    """The first candidate after a trigger, else the last one of the reply; without its final full stop."""
    trigger = _TRIGGER.match(reply)
    if trigger is None:
        _, marker, after = reply.rpartition(_FEW_SHOT)
        found = candidates(after)[:1] if marker else candidates(reply)[-1:]
    else:
        found = candidates(reply[trigger.end() :])[:1]
    return found[0].removesuffix(".") or None if found else None


def _words(text: str) -> list[str]:
    return _YES_NO_SPACES.sub(" ", text.lower()).split(" ")


def _decimals(number: float) -> int:
    return len(str(number).split(".")[-1]) if "." in str(number) else 5
