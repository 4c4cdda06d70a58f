"""IFEval: instructions whose following a rule can grade."""

from collections.abc import Mapping, Sequence

from camelid.base.errors import CamelidError
from camelid.lm.sampling import Sampling
from camelid.tasks.graders import LENIENT, STRICT, TwoWays
from camelid.tasks.item import Grade, Item
from camelid.tasks.item_rows import Row, text_of
from camelid.tasks.published.format import HARNESS, Fields, Format, reworded
from camelid.tasks.record import Record, Total
from camelid.tasks.rules import RULES, followed

_BETWEEN = "; "


def _read(row: Row) -> Fields:
    names, arguments = row["instruction_id_list"], row["kwargs"]
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments):
        raise CamelidError("instruction_id_list and kwargs must be lists of the same length")
    if unknown := [name for name in names if name not in RULES]:
        raise CamelidError(f"no rule {unknown[0]!r}; the rules are {', '.join(RULES)}")
    return {
        "question": text_of(row, ["prompt"]),
        "answer": _BETWEEN.join(names),
        "metadata": {"instruction_id_list": names, "kwargs": arguments},
    }


@TwoWays
def rules(item: Item, reply: str) -> tuple[Grade, Grade]:
    """Whether all instructions of a prompt are followed. Lenient: also without first or last line, or
    asterisks.

    `extracted` names those that are followed.
    """
    names = item.metadata["instruction_id_list"]
    found = followed(reply, names, item.metadata["kwargs"])
    strict, lenient = (
        [name for name, verdicts in zip(names, found, strict=True) if verdicts[way]] for way in (0, 1)
    )
    return _grade(strict, names), _grade(lenient, names)


def _grade(kept: Sequence[str], names: Sequence[str]) -> Grade:
    return Grade(_BETWEEN.join(kept) or None, len(kept) == len(names))


def _instruction_level(records: Sequence[Record]) -> Mapping[str, Total]:
    """The share of all instructions that is followed, prompts with several counting as often."""
    asked = sum(len(record.answer.split(_BETWEEN)) for record in records)
    kept = {
        metric: sum(
            len((record.grades[metric].extracted or "").split(_BETWEEN))
            for record in records
            if record.grades[metric].extracted
        )
        for metric in (STRICT, LENIENT)
    }
    return {
        metric.replace("accuracy", "instructions"): (count / asked, None) for metric, count in kept.items()
    }


FORMATS = (
    Format(
        "ifeval",
        1,
        _read,
        reworded("{question}", stop=()),
        f"arXiv:2311.07911; {HARNESS}",
        scored=False,
        sampling=Sampling(max_new_tokens=1280),
        grader=rules,
        totals=_instruction_level,
    ),
)
