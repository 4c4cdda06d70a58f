"""Licences and terms of a model's sources: its base, its data, and the teachers that wrote the data.

They are read where people state them: in `camelid.json`, at the head of a card (`README.md`), in the first
line of a licence file, in the card of `camelid make`, and in the recipe. What they imply is read from their
names only; it says what to look up, and decides nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from camelid.base.errors import CamelidError
from camelid.base.json import read_table

NOT_STATED = "not stated"
FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
LICENCE_LINE = re.compile(r"^(licen[sc]e(?:_name)?): *[\"']?([^\"'\n]+)", re.MULTILINE)
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
CARD, PUBLIC_CARD = "card.json", "README.md"
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research[- ]only|llama-?1\b", re.IGNORECASE)
SHARE_ALIKE = re.compile(r"\bsa\b|\b[al]?gpl|\bodbl|cdla-sharing", re.IGNORECASE)
NO_DERIVATIVES = re.compile(r"\bnd\b|no-?derivatives", re.IGNORECASE)
PROVIDERS = re.compile(
    r"openai|chatgpt|davinci|gpt-?(3\.5|4)|anthropic|claude|gemini|\bbard\b|compet", re.IGNORECASE
)
"""Services whose terms restrict training competing models on their output."""
Kind = Literal["base", "data", "teacher"]


@dataclass(frozen=True)
class Licence:
    """The licence of one source, and the terms of its provider, as they are stated."""

    kind: Kind
    name: str
    licence: str = NOT_STATED
    terms: str = NOT_STATED

    @property
    def words(self) -> str:
        """The source as a sentence names it."""
        return f"{self.kind} {self.name} ({self.licence})"


def licence_of(folder: Path) -> str | None:
    """The licence by the head of a folder's card, or the first line of its licence file; None without."""
    card = folder / PUBLIC_CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    if head := FRONT_MATTER.match(text):
        found: dict[str, str] = {key: value.strip() for key, value in LICENCE_LINE.findall(head[1])}
        lines = {key.replace("licence", "license"): value for key, value in found.items()}
        if (stated := lines.get("license")) is not None:
            return lines.get("license_name", stated) if stated == "other" else stated
    for name in FILES:
        if (folder / name).is_file():
            lines_of_file = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line.strip() for line in lines_of_file if line.strip()), None)
    return None


def licences_of_model(folder: Path, stated: str | None = None) -> list[Licence]:
    """Those of a model folder: its own, and what it was made from itself; stated: its own, by the user."""
    made = read_table(folder / "camelid.json", optional=True)
    gguf = made.get("gguf", {}).get("general.license") if isinstance(made.get("gguf"), dict) else None
    inherited = [_read(entry, folder) for entry in made.get("licences") or ()]
    own = stated or (None if inherited else licence_of(folder)) or gguf
    if inherited and own is None:
        return inherited  # everything that a model of ours was made from is known
    return [Licence("base", _readable(folder.resolve().name), own or NOT_STATED), *inherited]


def licences_of_data(path: Path, stated: str | None = None) -> list[Licence]:
    """Those of a data file or folder: stated by the user, by a card beside it, by that of `camelid make`."""
    folder = path if path.is_dir() else path.parent
    card = read_table(folder / CARD, optional=True) if (folder / CARD).is_file() else {}
    teachers = []
    if isinstance(teacher := card.get("teacher"), dict):
        entry = {"kind": "teacher", "terms": teacher.get("terms"), **teacher}
        teachers = [_read({key: entry.get(key) for key in ("kind", "name", "licence", "terms")}, folder)]
    sources = [*teachers, *(_read(entry, folder) for entry in card.get("licences") or ())]
    own = stated or card.get("licence") or licence_of(folder)
    if sources and own is None:
        return sources  # made data is its teacher's, and that of the questions
    return [Licence("data", _readable(path.name), str(own or NOT_STATED)), *sources]


def rows_of_data(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Those of data files, each once, for the card of data that is made from them."""
    return as_rows(unique(each for path in paths for each in licences_of_data(path)))


def _read(entry: object, folder: Path) -> Licence:
    try:
        assert isinstance(entry, dict)
        given = {key: value for key, value in entry.items() if value is not None}
        return Licence(**given)
    except (AssertionError, TypeError) as error:
        raise CamelidError(
            f"{folder}: a licence is {entry!r:.80}, not its kind, name, licence, terms"
        ) from error


def _readable(name: str) -> str:
    """A file's name as a card can hold it, also where its bytes are not UTF-8."""
    return name.encode(errors="replace").decode()


def unique(licences: Iterable[Licence]) -> list[Licence]:
    """Each once, in order."""
    return list(dict.fromkeys(licences))


def concerns(licences: Sequence[Licence]) -> list[str]:
    """What to look up before the model is used or passed on: a sentence each."""
    found = []
    if silent := [each for each in licences if each.licence == NOT_STATED]:
        names = ", ".join(f"{each.kind} {each.name}" for each in silent)
        found.append(f"no licence is stated for {names}: look it up, and state it in the recipe")
    limited = [each for each in licences if NON_COMMERCIAL.search(each.licence)]
    if limited:
        found.append(f"non-commercial: {_named(limited)}; the model is, too")
    if fixed := [each for each in licences if NO_DERIVATIVES.search(each.licence)]:
        found.append(f"no derivatives: {_named(fixed)}; what is made from it may not be passed on")
    if bound := [each for each in licences if PROVIDERS.search(f"{each.name} {each.licence} {each.terms}")]:
        found.append(f"written by a service: {_named(bound)}; its terms may forbid training competing models")
    shared = {each.licence.lower(): each for each in licences if SHARE_ALIKE.search(each.licence)}
    others = [each for each in limited if each.licence.lower() not in shared]
    if len(shared) > 1 or (shared and others):
        pair = [*shared.values(), *others]
        found.append(f"conflicting: {_named(pair)}; each wants the model under its own licence")
    return found


def _named(licences: Iterable[Licence]) -> str:
    return ", ".join(each.words for each in licences)


def model_card(made: Mapping[str, Any]) -> str:
    """README.md of a model, from its provenance: licences and sources at the head, then in words."""
    licences = [Licence(**entry) for entry in made.get("licences") or ()]
    names = {each.licence for each in licences}
    same = names.pop() if len(names) == 1 and NOT_STATED not in names else None
    lines = ["---", f"license: {same or 'other'}", *([] if same else ["license_name: see-the-sources-below"])]
    for key, kind in (("base_model", "base"), ("datasets", "data")):
        named = [each.name for each in licences if each.kind == kind]
        lines += [f"{key}:", *(f"- {name}" for name in named)] if named else []
    lines += ["tags:", "- camelid", "---", "", "# Sources and licences", ""]
    if licences:
        lines += ["| source | name | licence | terms |", "|---|---|---|---|"]
        lines += [f"| {each.kind} | {each.name} | {each.licence} | {each.terms} |" for each in licences]
    lines += ["", *(f"- {concern[:1].upper()}{concern[1:]}." for concern in concerns(licences))]
    return "\n".join(lines).rstrip() + "\n"


def as_rows(licences: Iterable[Licence]) -> list[dict[str, str]]:
    """For `camelid.json`."""
    return [asdict(each) for each in licences]
