"""What is wrong with a teacher's reply: each check is a rule over the text, and has a name for the report."""

import re
import unicodedata

LOOPED, LEAST_WORDS, WINDOW = 0.5, 32, 4
"""A text of at least so many words loops if this share of its windows of words has occurred before."""
PERIODS, TIMES, LEAST_RUN = range(1, 13), 5, 9
"""A run of up to so many words that comes again so many times, and fills so many words, is a loop."""
RUN = re.compile(r"(\w{1,8}?)\1{15,}")
"""The same few letters sixteen times in a row."""
MARKERS = re.compile(
    r"<\|[\w ]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|^### (?:Instruction|Response|Human|Assistant):"
    r"|\[\[(?:Human|AI)\||\[\|[A-Za-z]|^(?:USER|ASSISTANT): ",
    re.MULTILINE,
)
"""Markers of chat formats, which never belong to an answer."""
REFUSAL = re.compile(
    r"\bas an? (?:AI|artificial intelligence|(?:large )?language model)\b"
    r"|\bI(?:'m| am) (?:just |only )?an? (?:[\w-]+ ){0,2}(?:AI|language model|chatbot)\b"
    r"|^\W*(?:I(?:'m| am) (?:very |truly |really )?sorry|sorry|I apologi[sz]e|unfortunately)\b[^.!?\n]{0,60}"
    r"\b(?:can(?:'t|not)|unable|not able|won't)\b"
    r"|^\W*I (?:can(?:'t|not)|won't|am unable to|am not able to) "
    r"(?:assist|help|provide|answer|fulfil|comply|do that|create|generate|write|discuss|engage|support)",
    re.IGNORECASE,
)
"""An apology or a statement about being a model, within the head of the reply."""
HEAD = 240
"""Characters in which a refusal is looked for."""


def fault_of(text: str, *, cut: bool = False, asked: str = "") -> str | None:
    """The first fault of a reply: `empty`, `cut`, `garbage`, `repeats itself`, `repeats the question` or
    `refuses`; None if it has none.

    cut: whether the reply ended at the length limit; asked: the question's own text.
    """
    if not text.strip():
        return "empty"
    if is_garbage(text):
        return "garbage"
    if loops(text):
        return "repeats itself"
    if cut:
        return "cut"
    if asked and text.split() == asked.split():
        return "repeats the question"
    if REFUSAL.search(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")[:HEAD]):
        return "refuses"
    return None


def is_garbage(text: str) -> bool:
    """Whether a text has broken characters or markers of a chat format, or no letter, digit or symbol."""
    if "\N{REPLACEMENT CHARACTER}" in text or MARKERS.search(text):
        return True
    kinds = {unicodedata.category(each) for each in set(text)}
    broken = {unicodedata.category(each) for each in set(text) - set("\n\r\t")} & {"Cc", "Co", "Cs"}
    return bool(broken) or not any(kind[0] in "LNS" for kind in kinds)


def loops(text: str) -> bool:
    """Whether a text says the same again and again."""
    if RUN.search(text):
        return True
    words = text.split()
    if any(_longest_echo(words, period) >= max(TIMES * period, LEAST_RUN) for period in PERIODS):
        return True
    if len(words) < LEAST_WORDS:
        return False
    windows = [tuple(words[at : at + WINDOW]) for at in range(len(words) - WINDOW + 1)]
    return 1 - len(set(windows)) / len(windows) > LOOPED


def _longest_echo(words: list[str], period: int) -> int:
    """The longest run of words that each equal the word `period` places before."""
    longest = run = 0
    for word, earlier in zip(words[period:], words, strict=False):
        run = run + 1 if word == earlier else 0
        longest = max(longest, run)
    return longest
