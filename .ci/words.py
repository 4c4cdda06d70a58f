"""Finds words and phrases that readers stumble over, and fails where a file has more of them than it had.

python .ci/words.py            lists what is new since .ci/words.json was written
python .ci/words.py --list     lists all of them
python .ci/words.py --record   writes the present counts, after some have gone (or where one is meant)
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BASELINE = Path(__file__).with_suffix(".json")
PLACES = ("src", "docs", "recipes", "examples", "README.md", "CONTRIBUTING.md")
ENDINGS = {".py", ".md", ".yaml"}


class Rule(NamedTuple):
    """What is looked for, and what to write instead."""

    pattern: re.Pattern[str]
    instead: str


def _rule(pattern: str, instead: str) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE | re.MULTILINE), instead)


RULES = {
    "foretell": _rule(r"\bforet(?:ell\w*|old)\b", "predict"),
    "learnt": _rule(r"\blearnt\b", "learned"),
    "anew": _rule(r"\banew\b", "again"),
    "whatever": _rule(r"\bwhatever\b", "any, all, or the noun"),
    # "there is no" and "is no longer" are plain English
    "is no ...": _rule(r"(?<!there )\b(?:is|are|was|were)\s+no\b(?! (?:longer|more)\b)", "is not a ..."),
    "what has no ...": _rule(r"\bwhat (?:has|holds|needs|takes|gives) no\b", "a noun: rows without ..."),
    "alone at the end": _rule(r"\balone(?=[.;:](?:\s|$|\"))", "only, before what it limits"),
    "of what": _rule(r"\bof what\b", "the noun that it stands for"),
    # `seen = set()` is everybody's
    "said, told, seen": _rule(
        r"^\s*(?:said|told|seen(?!\b(?:: set\[.*)? = set\(\)))\b[^=\n()]*=(?!=)|\bfor (?:said|told|seen)\b",
        "a name for what the value is",
    ),
}


def hits(text: str) -> Iterator[tuple[str, int, str]]:
    """Each find as (rule, line number, the line)."""
    lines = text.split("\n")
    for name, rule in RULES.items():
        for match in rule.pattern.finditer(text):
            number = text.count("\n", 0, match.end())
            yield name, number + 1, lines[number].strip()


def texts() -> Iterator[tuple[str, str]]:
    """Each file looked at: its path from the root, and its text."""
    for place in PLACES:
        top = ROOT / place
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix in ENDINGS and path.is_file():
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def main(words: list[str]) -> int:
    """Lists, records or compares; 1 where a file has more than its baseline."""
    found = {name: sorted(hits(text)) for name, text in texts()}
    counts = {name: Counter(rule for rule, _, _ in some) for name, some in found.items() if some}
    if "--record" in words:
        lines = [
            f"{json.dumps(name)}: {json.dumps(counted, sort_keys=True)}" for name, counted in counts.items()
        ]
        BASELINE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        return 0
    allowed = json.loads(BASELINE.read_text(encoding="utf-8"))
    new = 0
    for name, some in found.items():
        for rule, line, content in some:
            more = counts[name][rule] - allowed.get(name, {}).get(rule, 0)
            if more > 0 or "--list" in words:
                print(f"{name}:{line}: {rule} -> {RULES[rule].instead}: {content[:100]}")
        new += sum((counts.get(name, Counter()) - Counter(allowed.get(name, {}))).values())
    if new:
        print(
            f"{new} more than in {BASELINE.name}; reword these, or accept them with --record", file=sys.stderr
        )
    return int(new > 0 and "--list" not in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
