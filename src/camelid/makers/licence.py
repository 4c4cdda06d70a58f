"""The licence that a model's folder states."""

import re
from pathlib import Path

from camelid.base.json import read_table

FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
LICENCE_LINE = re.compile(r"^licen[sc]e: *[\"']?([^\"'\n]+)", re.MULTILINE)
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")


def licence_of(folder: Path) -> str | None:
    """The licence by `camelid.json`, by the head of the model card, or by the first line of the licence file;
    None if the folder states none."""
    stated = read_table(folder / "camelid.json", optional=True).get("licence")
    if isinstance(stated, str) and stated:
        return stated
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    head = FRONT_MATTER.match(text)
    if head and (line := LICENCE_LINE.search(head[1])):
        return line[1].strip()
    for name in FILES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip() for line in lines if line.strip()), None)
    return None
