"""New instructions out of replies: how they are read, and the heuristics that drop them.

The rules are those of Self-Instruct (arXiv:2212.10560, appendix A.1 and its code) and Alpaca. We leave it in
one point: an instruction begins with a capital, but its other letters stay, where the original code lowers
them ("python", "iphone").
"""

import re
import string
from collections.abc import Iterator

LEAST_WORDS, MOST_WORDS = 4, 150
NOT_TEXT = ("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps",
            "draw", "plot", "go to")  # fmt: skip
"""What a language model cannot do: instructions with these words are dropped."""
NOT_TEXT_IN_ALPACA = (*NOT_TEXT, "video", "audio", "music", "flowchart", "diagram")
NUMBERED = re.compile(r"\n\d+\s?\. ?")


def numbered_instructions(reply: str, cut: bool) -> list[str]:
    """The instructions of a reply that continues a numbered list; if it was cut, without the last one."""
    pieces = [as_instruction(piece) for piece in NUMBERED.split(f"\n1. {reply.lstrip()}")[1:]]
    return [piece for piece in (pieces[:-1] if cut else pieces) if piece]


def as_instruction(text: str) -> str:
    """The text on one line, with a capital, and without a colon at its end."""
    line = " ".join(text.split()).rstrip(":").strip()
    return line[:1].upper() + line[1:]


def drawback(instruction: str, not_text: tuple[str, ...] = NOT_TEXT) -> str | None:
    """Why a heuristic drops an instruction; None if none does."""
    size = len(instruction.split())
    if size < LEAST_WORDS:
        return "too short"
    if size > MOST_WORDS:
        return "too long"
    if _has_word(instruction, not_text):
        return "not for text"
    if instruction.startswith("Write a program"):
        return "write a program"
    if instruction[0] in string.punctuation or not instruction[0].isascii():
        return "does not begin with a letter"
    return None


def _has_word(instruction: str, words: tuple[str, ...]) -> bool:
    return re.search(rf"\b(?:{'|'.join(map(re.escape, words))})\b", instruction, re.IGNORECASE) is not None


ALPACA_PIECES = re.compile(r"\n?\d+\. (Instruction|Input|Output):", re.IGNORECASE)


def whole_tasks(reply: str, cut: bool) -> Iterator[tuple[str, str, str] | None]:
    """Instruction, input and output of each task of Alpaca's form; None for one that cannot be read.

    reply: what follows the first `Instruction:`.
    """
    blocks = f"1. Instruction:{reply}".split("###")
    for block in blocks[:-1] if cut else blocks:
        if not block.strip():
            continue
        head, *parts = ALPACA_PIECES.split(block)
        if head.strip() or [part.lower() for part in parts[::2]] != ["instruction", "input", "output"]:
            yield None
            continue
        instruction, given, output = (part.strip() for part in parts[1::2])
        given = "" if given.lower() in ("<noinput>", "noinput", "<no input>") else given
        yield as_instruction(instruction), given, output
