"""MMLU (Hendrycks et al., arXiv:2009.03300): by letter as published, and by the text of the choices."""

from string import ascii_uppercase

from camelid.base.errors import CamelidError
from camelid.tasks.item_rows import QUESTION_KEYS, Row, position_of, text_of
from camelid.tasks.published.format import HARNESS, Fields, Format, reworded


def _parts(row: Row) -> tuple[str, list[str], int, str]:
    """The question, its choices, the position of the right one and the subject."""
    choices = row["choices"]
    if not isinstance(choices, list) or not all(isinstance(each, str) for each in choices):
        raise CamelidError(f"'choices' must be a list of texts, not {choices!r}")
    letters = list(ascii_uppercase[: len(choices)])
    named = [str(index) for index in range(len(choices))]
    position = position_of(letters if row["answer"] in letters else named, row["answer"], "answer")
    subject = text_of(row, ("subject", "subject_dir")).replace("_", " ")
    return text_of(row, QUESTION_KEYS).strip(), choices, position, subject


def _by_letter(row: Row) -> Fields:
    question, choices, position, subject = _parts(row)
    letters = tuple(ascii_uppercase[: len(choices)])
    listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    return {
        "question": question + listed, "choices": letters, "answer": letters[position], "group": subject
    }  # fmt: skip


def _by_text(row: Row) -> Fields:
    question, choices, position, subject = _parts(row)
    return {"question": question, "choices": tuple(choices), "answer": choices[position], "group": subject}


FORMATS = (
    Format(
        name="mmlu",
        version=1,
        read=_by_letter,
        wording=reworded(
            "{question}\nAnswer:",
            preamble="The following are multiple choice questions (with answers) about {group}.\n\n",
        ),
        source="arXiv:2009.03300; hendrycks/test, evaluate.py; 5 shots from the dev file",
        in_order=True,
    ),
    Format(
        name="mmlu_text",
        version=1,
        read=_by_text,
        wording=reworded(
            "Question: {question}\nAnswer:",
            preamble="The following are questions (with answers) about {group}.\n\n",
        ),
        source=f"{HARNESS}, mmlu_continuation",
        in_order=True,
    ),
)
"""The first exemplars of a question's own subject are shown, in the order of their file."""
