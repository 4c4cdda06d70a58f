"""Word problems whose answer is a number, and algebra with five choices."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.read.compressed import open_bytes
from camelid.tasks.graders import choice, numeric, suited
from camelid.tasks.item_rows import Row, choice_of, gsm8k, position_of, rows_with_places, text_of
from camelid.tasks.reasoning.cleansing import (
    GSM8K_REPLY,
    KOJIMA_NUMBER,
    PAL,
    WANG_NUMBER,
    Cleansing,
    kojima_letters,
)
from camelid.tasks.reasoning.dataset import Dataset
from camelid.tasks.reasoning.exemplars import ALGEBRA, WORD_PROBLEM_PARTS, WORD_PROBLEMS

_OPTION = re.compile(r"^\s*\(?[A-E]\s*[).:]\s*")
_PLACE = re.compile(r"\bnumber(\d+)\b")


def _gsm8k(row: Row) -> dict[str, Any]:
    """Worked steps; in the socratic files each step is a question, `**` and its answer."""
    fields = gsm8k(row)
    return {**fields, "rationale": fields["rationale"].replace(" ** ", " ")}


def number_text(value: object) -> str:
    """A number as a text; raises `CamelidError` if it is none. 51.0 becomes 51."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise CamelidError(f"the answer must be a number, not {value!r}")
    text = str(value).strip()
    return text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text


def _svamp(row: Row) -> dict[str, Any]:
    question = f"{text_of(row, ('Body',)).strip()} {text_of(row, ('Question',)).strip()}"
    return {"question": question, "answer": number_text(row["Answer"])}


def _mawps(row: Row) -> dict[str, Any]:
    """The three forms in which MAWPS is passed on: solutions in a list, a target, numbers in a column."""
    if "lSolutions" in row:
        solutions = row["lSolutions"]
        if not isinstance(solutions, list) or len(solutions) != 1:
            raise CamelidError(f"'lSolutions' must be a list of one number, not {solutions!r}")
        return {
            "question": text_of(row, ("sQuestion",)).strip(), "answer": number_text(solutions[0])
        }  # fmt: skip
    if "target" in row:
        return {"question": text_of(row, ("input",)).strip(), "answer": number_text(row["target"])}
    numbers = [number_text(each) for each in str(row["Numbers"]).split()]

    def number(match: re.Match[str]) -> str:
        if int(match[1]) >= len(numbers):
            raise CamelidError(f"there is no {match[0]} among the {len(numbers)} numbers of 'Numbers'")
        return numbers[int(match[1])]

    return {
        "question": _PLACE.sub(number, text_of(row, ("Question",))), "answer": number_text(row["Answer"])
    }  # fmt: skip


def _asdiv_rows(path: Path) -> Iterator[tuple[Row, str]]:
    """The published XML, or instances with an input and its outputs in JSON."""
    with open_bytes(path) as file:
        is_xml = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<")
    if not is_xml:
        yield from rows_with_places(path)
        return
    with open_bytes(path) as file:
        try:
            problems = [*ElementTree.fromstring(file.read()).iter("Problem")]
        except ElementTree.ParseError as error:
            raise CamelidError(f"{path} is not well-formed XML: {error}") from error
    for problem in problems:
        row = {each.tag: each.text or "" for each in problem}
        yield {**row, "id": problem.get("ID", "")}, f"{path}, problem {problem.get('ID', '?')}"


def _asdiv(row: Row) -> dict[str, Any]:
    """Of the XML's answers "9 (apples)" the unit is left out; several numbers stay together, as text."""
    if "input" in row:
        outputs = row["output"]
        if not isinstance(outputs, list) or not outputs:
            raise CamelidError(f"'output' must be a list of answers, not {outputs!r}")
        return {"question": text_of(row, ("input",)), "answer": number_text(outputs[0])}
    answer = "; ".join(re.sub(r"\s*\(.*\)\s*$", "", part).strip() for part in row["Answer"].split(";"))
    question = f"{text_of(row, ('Body',)).strip()} {text_of(row, ('Question',)).strip()}"
    return {"question": question, "answer": number_text(answer or row["Answer"])}


def _aqua(row: Row) -> dict[str, Any]:
    options = row["options"]
    if not isinstance(options, list):
        raise CamelidError(f"'options' must be a list, not {options!r}")
    labels = list(ascii_uppercase[: len(options)])
    texts = [_OPTION.sub("", str(option)).strip() for option in options]
    fields = choice_of(
        text_of(row, ("question",)).strip(), texts, position_of(labels, row["correct"], "correct")
    )
    return {**fields, "rationale": str(row.get("rationale", ""))}


GSM8K = Dataset(
    name="gsm8k",
    version=1,
    read=_gsm8k,
    grader=numeric,
    source="arXiv:2110.14168; openai/grade-school-math",
    published="1,319 test, 7,473 train; the socratic files too",
    exemplars=WORD_PROBLEMS,
    decomposition=WORD_PROBLEM_PARTS,
    paper=GSM8K_REPLY,
)
GSM_HARD = Dataset(
    name="gsm_hard",
    version=1,
    read=_mawps,
    grader=numeric,
    source="arXiv:2211.10435; reasoning-machines/pal",
    published="1,319",
    exemplars=WORD_PROBLEMS,
    decomposition=WORD_PROBLEM_PARTS,
    paper=PAL,
)
SVAMP = Dataset(
    name="svamp",
    version=1,
    read=_svamp,
    grader=numeric,
    source="arXiv:2103.07191; arkilpatel/SVAMP",
    published="1,000",
    exemplars=WORD_PROBLEMS,
    decomposition=WORD_PROBLEM_PARTS,
    paper=KOJIMA_NUMBER,
)
ASDIV = Dataset(
    name="asdiv",
    version=1,
    read=_asdiv,
    grader=suited,
    source="arXiv:2106.15772; chaochun/nlu-asdiv-dataset",
    published="2,305 in the XML; 2,096 with numbers, as JSON",
    rows=_asdiv_rows,
    exemplars=WORD_PROBLEMS,
    decomposition=WORD_PROBLEM_PARTS,
    paper=WANG_NUMBER,
)
AQUA = Dataset(
    name="aqua",
    version=1,
    read=_aqua,
    grader=choice,
    source="arXiv:1705.04146; google-deepmind/AQuA",
    published="254 test, 254 dev",
    exemplars=ALGEBRA,
    paper=kojima_letters("E"),
)


def _part_of_mawps(name: str, published: str, source: str, paper: Cleansing) -> Dataset:
    return Dataset(
        name=name,
        version=1,
        read=_mawps,
        grader=numeric,
        source=source,
        published=published,
        exemplars=WORD_PROBLEMS,
        decomposition=WORD_PROBLEM_PARTS,
        paper=paper,
    )


MAWPS = (
    _part_of_mawps("multiarith", "600", "Roy and Roth 2015, arXiv:1608.01413", KOJIMA_NUMBER),
    _part_of_mawps("addsub", "395", "Hosseini et al. 2014", KOJIMA_NUMBER),
    _part_of_mawps("singleeq", "508", "Koncel-Kedziorski et al. 2015", KOJIMA_NUMBER),
    _part_of_mawps("singleop", "562", "Roy et al. 2015", WANG_NUMBER),
    _part_of_mawps(
        "mawps",
        "any of these, and the rows of SVAMP's training set",
        "Koncel-Kedziorski et al. 2016",
        WANG_NUMBER,
    ),
)
"""The parts of MAWPS, which share the form of their rows, and any of them under one name."""

DATASETS = (GSM8K, GSM_HARD, SVAMP, ASDIV, AQUA, *MAWPS)
