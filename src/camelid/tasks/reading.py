"""Where the answer stands in a reply: after the reasoning, after the last marker, in a box, without
markup."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

REASONING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
)
"""What reasoning models write around their thoughts."""
_MARKER = re.compile(
    r"(?P<phrase>\b(?:the )?(?:final |correct |right |best )?answer(?: \([^)]*\))? is\b\s*:?)|"
    r"(?P<hashes>#{4,})|(?P<box>\\(?:boxed|fbox)\b)|"
    r"^[ \t>*_-]*(?:the )?(?:final |correct )?answer[ \t*_]*:",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(
    r"\W*(?:notes?|remarks?|explanation|reasoning|justification|check|verification|summary|disclaimer|step)\b",
    re.IGNORECASE,
)
"""What follows the hashes of a heading that is not an answer."""
_LABEL = re.compile(r"\W*(?:final )?answer\s*:\s*", re.IGNORECASE)
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname)\s*\{([^{}]*)\}"
)
_MARKUP = re.compile(r"(?:\*+|`+|(?<!\w)_+|_+(?!\w)|\\[()\[\]]|(?<!\\)\$(?!\d)|\\(?:left|right)\b)+")


@dataclass(frozen=True)
class Region:
    """A place where an answer stands: what follows a marker on its line, or is in a box."""

    text: str
    is_heading: bool = False
    """Whether it follows `####`, which also begins headings."""


def without_reasoning(reply: str) -> str:
    """The reply without what the model wrote while thinking; empty if it never stopped thinking.

    An end without a beginning counts from the start, since templates may open the thoughts themselves.
    """
    for begin, end in REASONING:
        if end not in reply and begin not in reply:
            continue
        reply = re.sub(re.escape(begin) + r".*?" + re.escape(end), "", reply, flags=re.DOTALL)
        reply = reply.rpartition(end)[2].partition(begin)[0]
    return reply


def regions(reply: str) -> Iterator[Region]:
    """The places that markers name, the last one first: "The answer is", "Answer:", `####`, `\\boxed{}`."""
    for match in reversed([*_MARKER.finditer(reply)]):
        if match["box"]:
            yield Region(_box(reply[match.end() :]))
            continue
        text = reply[match.end() :].strip().partition("\n")[0].strip()
        yield Region(_LABEL.sub("", text, count=1) if match["hashes"] else text, bool(match["hashes"]))


def answer_region(reply: str) -> str | None:
    """The last of the `regions` that is not a heading such as "#### Note"; None without a marker."""
    found = list(regions(reply))
    answers = (each.text for each in found if not (each.is_heading and _HEADING.match(each.text)))
    return next(answers, found[0].text if found else None)


def without_markup(text: str) -> str:
    """The text without Markdown's emphasis and LaTeX's wrappers: `**A**`, `$A$` and `\\text{A}` become A."""
    while (plain := _WRAPPED.sub(r"\1", text)) != text:
        text = plain
    return _MARKUP.sub(_between_digits, text).strip()


def _between_digits(match: re.Match[str]) -> str:
    """What is left of markup: nothing, but digits that it separates stay apart, as in 3*4."""
    return (
        " "
        if match.string[: match.start()][-1:].isdigit() and match.string[match.end() :][:1].isdigit()
        else ""
    )


def _box(text: str) -> str:
    """What stands in the braces that a text begins with; without braces the first word."""
    text = text.lstrip()
    if not text.startswith("{"):
        return (text.split() or [""])[0].rstrip("$")
    depth = 0
    for index, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[1:index].strip()
    return text[1:].partition("\n")[0].strip()
