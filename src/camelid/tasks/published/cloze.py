"""Cloze tasks: LAMBADA, the Children's Book Test, and Winograd schemas by partial evaluation."""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from os.path import commonprefix
from pathlib import Path

from camelid.base.errors import CamelidError
from camelid.data.read.files import format_of, lines_of
from camelid.lm.sampling import Sampling
from camelid.tasks.graders import first_word, last_word
from camelid.tasks.intervals import Interval, bootstrap_mean
from camelid.tasks.item_rows import Row, choice_of, position_of, rows_with_places, text_of
from camelid.tasks.published.format import GPT2, GPT3, Fields, Format, continued, reworded
from camelid.tasks.record import Record, Total

BLANK = "XXXXX"
"""How the Children's Book Test marks the missing word."""
ONE_WORD = Sampling(max_new_tokens=8)


def _lambada(row: Row) -> Fields:
    """A passage and its last word: in separate fields (`context`|`query` and the word), or as one `text`."""
    if "text" in row:
        context, _, word = text_of(row, ["text"]).strip().rpartition(" ")
    else:
        context = text_of(row, ["context", "query"])
        listed = row.get("answers_text")
        word = listed[0] if isinstance(listed, list) and listed else text_of(row, ["continuation", "answer"])
    return {"question": context, "answer": word.strip(), "endings": (word.strip(),)}


def target_perplexity(records: Sequence[Record]) -> Mapping[str, Total]:
    """exp of the mean negative log-likelihood per target, not per token; empty if no target was scored.

    Infinite, and without an interval, if it exceeds the largest float, as where a target has no probability.
    """
    nats = [-score.logprob for record in records for score in record.attempt.scores]
    if not nats:
        return {}
    mean = sum(nats) / len(nats)
    if mean > math.log(sys.float_info.max):
        return {"perplexity": (math.inf, None)}
    ends = bootstrap_mean(nats)
    low, high = (math.exp(min(end, math.log(sys.float_info.max))) for end in (ends.low, ends.high))
    return {"perplexity": (math.exp(mean), Interval(low, high))}


def _cbt(row: Row) -> Fields:
    """Twenty sentences and one with a blank; a choice is scored together with the rest of its sentence
    (GPT-2, 3.2)."""
    before, blank, after = text_of(row, ["question"]).partition(BLANK)
    if not blank:
        raise CamelidError(f"there is no {BLANK} in the question {row['question']!r}")
    sentences = row["sentences"]
    opening = detokenised(" ".join([*sentences, before]))
    choices = [str(option) for option in row["options"]]
    whole = [detokenised(" ".join([*sentences, before]).rstrip() + f" {option}{after}") for option in choices]
    fields = choice_of(opening, choices, position_of(choices, row["answer"], "answer"))
    if not all(text.startswith(opening) for text in whole):
        raise CamelidError(f"the blank cannot be separated from the text before it in {row['question']!r}")
    return {**fields, "endings": tuple(text[len(opening) :] for text in whole)}


def detokenised(text: str) -> str:
    """Text without the artefacts of Penn Treebank tokenisation, as GPT-2 does for CBT."""
    for pattern, plain in TREEBANK:
        text = re.sub(pattern, plain, text)
    return text.strip()


def _cbt_rows(path: Path) -> Iterator[tuple[Row, str]]:
    """Rows of JSON, or the published text: 20 numbered sentences, then "21 question, answer, , options" with
    tabs."""
    if format_of(path) != "text":
        yield from rows_with_places(path)
        return
    sentences: list[str] = []
    for number, line in lines_of(path):
        if not line.strip():
            continue
        count, _, sentence = line.strip().partition(" ")
        if count != str(len(sentences) + 1):
            raise CamelidError(
                f"{path}:{number}: expected sentence {len(sentences) + 1} of 21, found {line.strip()!r}"
            )
        if count != "21":
            sentences.append(sentence)
            continue
        fields = sentence.split("\t")
        if len(fields) != 4:
            raise CamelidError(
                f"{path}:{number}: a question must have 4 tab-separated fields, this one has {len(fields)}"
            )
        question, answer, _, options = fields
        yield (
            {"sentences": sentences, "question": question, "answer": answer, "options": options.split("|")},
            f"{path}:{number}",
        )
        sentences = []


def _schema(row: Row) -> Fields:
    """A Winograd schema: each option in the blank as a context, and the rest of the sentence, which is
    scored."""
    if "context_options" in row:
        contexts, ending = list(row["context_options"]), text_of(row, ["continuation"]).strip()
        position = position_of([str(index) for index in range(len(contexts))], row["gold"], "gold")
        shared = commonprefix(contexts)  # noqa: RUF071  (characters are meant)
        shared = shared[: shared.rfind(" ") + 1]
        choices = [context[len(shared) :] for context in contexts]
    else:
        shared, blank, ending = text_of(row, ["sentence"]).partition("_")
        if not blank:
            raise CamelidError(f"there is no _ in the sentence {row['sentence']!r}")
        choices = [text_of(row, [key]) for key in ("option1", "option2")]
        position = position_of(["1", "2"], row["answer"], "answer")
        contexts, ending = [shared + option for option in choices], ending.strip()
    return {
        **choice_of(f"{shared}_ {ending}", choices, position),
        "contexts": tuple(contexts),
        "endings": (ending,) * len(contexts),
    }


TREEBANK = (
    (r"``\s*", '"'),
    (r"\s*''", '"'),
    (r"`\s*", "'"),
    (r"(?:-LRB-|\()\s*", "("),
    (r"\s*(?:-RRB-|\))", ")"),
    (r"\s+([.,!?;:])", r"\1"),
    (r"\s+(n't|'(?:s|m|d|re|ve|ll))\b", r"\1"),
    (r"\s+'(?=[\s.,!?;:]|$)", "'"),
)
"""Patterns of the Treebank's tokenised text, and their replacements in ordinary text."""

FORMATS = (
    Format(
        "lambada",
        1,
        _lambada,
        continued(),
        f"{GPT2}.3; {GPT3}, section 3.1.2",
        few_shot_wording=reworded("{question} ____. ->", separator="\n"),
        sampling=ONE_WORD,
        grader=first_word,
        judge=last_word,
        totals=target_perplexity,
    ),
    Format("cbt", 1, _cbt, continued(answer="{answer}"), f"{GPT2}.2", rows=_cbt_rows),
    Format("winograd", 1, _schema, continued(), f"{GPT3}, figure G.13"),
    Format("winogrande", 1, _schema, continued(), f"{GPT3}, figure G.14"),
)
