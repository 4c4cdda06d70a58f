"""Tasks that generate text: summaries after "TL;DR:", translation, and open-domain questions."""

import re
from functools import partial

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import QUESTION_ANSWER
from camelid.tasks.graders import exact_match
from camelid.tasks.item import Grade, Grades, Item
from camelid.tasks.item_rows import Row, plain_answer, text_of
from camelid.tasks.overlap import corpus_bleu, rouge
from camelid.tasks.published.format import GPT2, GPT3, Fields, Format, reworded
from camelid.tasks.reading import without_reasoning

SENTENCES = 3
"""Sentences of a summary that are kept."""
LANGUAGES = {
    "cs": "Czech",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "it": "Italian",
    "ro": "Romanian",
    "ru": "Russian",
    "zh": "Chinese",
}


def tldr(words: str = "") -> Format:
    """Summaries as GPT-2 made them: top-k sampling with k = 2, 100 tokens, the first three sentences.

    words: number of words of an article to keep, if articles are too long for the model; all if empty.
    """
    if words and not (words.isdecimal() and int(words)):
        raise WrongCall(
            f"tldr/{words}: after the slash give how many words of an article to keep, as in tldr/600"
        )
    return Format(
        "/".join(["tldr", words]).rstrip("/"),
        1,
        partial(_article, int(words or 0)),
        reworded("{question}\nTL;DR:", stop=()),
        f"{GPT2}.6",
        scored=False,
        sampling=Sampling(max_new_tokens=100, temperature=1.0, top_k=2),
        grader=_summary,
        cut_by_design=True,
    )


def translation(direction: str = "en-fr") -> Format:
    """Translation by "sentence = translation" lines; without examples, by GPT-3's question for it (figure
    G.36)."""
    source, _, target = direction.partition("-")
    if source == target or not {source, target} <= LANGUAGES.keys():
        raise WrongCall(
            f"translation/{direction}: after the slash give two languages, as in translation/en-fr; "
            f"the languages are {', '.join(LANGUAGES)}"
        )
    return Format(
        f"translation/{direction}",
        1,
        partial(_sentences, source, target),
        reworded(f"Q: What is the {LANGUAGES[target]} translation of {{question}} A:"),
        f"{GPT2}.7; {GPT3}, figures G.36 to G.41",
        few_shot_wording=reworded("{question} =", separator="\n"),
        scored=False,
        sampling=Sampling(max_new_tokens=128),
        grader=_translated,
        totals=corpus_bleu,
    )


def _article(words: int, row: Row) -> Fields:
    article = text_of(row, ["article", "document"]).strip()
    if words:
        article = article[: _end_of_word(article, words)]
    return {"question": article, "answer": text_of(row, ["highlights", "summary"]).strip()}


def _end_of_word(text: str, count: int) -> int:
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    return ends[min(count, len(ends)) - 1]


def _sentences(source: str, target: str, row: Row) -> Fields:
    """WMT's `translation: {en, fr}`, or the two languages as keys."""
    pair = row["translation"] if isinstance(row.get("translation"), dict) else row
    question, answer = (text_of(pair, [language]).strip() for language in (source, target))
    if "\n" in question + answer:
        raise CamelidError("a sentence must be on one line, because generation stops at a line break")
    return {"question": question, "answer": answer}


def _asked(row: Row) -> Fields:
    """A question, with a question mark at its end, and all its right answers."""
    if "answers" in row:
        row = {**row, "answer": row["answers"]}
    fields = plain_answer(row)
    bare = fields["question"].strip().removeprefix("Question:").removesuffix("Answer:").strip()
    return {**fields, "question": bare if bare.endswith("?") else f"{bare}?"}


def _summary(item: Item, reply: str) -> Grades:
    """ROUGE-1, -2, -L of the first sentences, and their mean, which GPT-2 reports."""
    kept = first_sentences(without_reasoning(reply), SENTENCES)
    found = rouge(kept, item.answer)
    found["rouge_mean"] = sum(found.values()) / len(found)
    return {metric: Grade(kept or None, value == 1.0, value) for metric, value in found.items()}


def _translated(item: Item, reply: str) -> Grades:
    """Whether it equals the reference exactly; the metric that matters is BLEU, over all sentences."""
    text = without_reasoning(reply).strip()
    return {"exact": Grade(text or None, text == item.answer)}


def first_sentences(text: str, count: int) -> str:
    """The first sentences of a text, which end at a line's end or at a full stop before white space."""
    found = [part for part in re.split(r"(?<=[.!?])[\"'”’)]*\s+|\n+", text.strip()) if part.strip()]
    return " ".join(found[:count])


FORMATS = tuple(
    Format(
        name,
        1,
        _asked,
        QUESTION_ANSWER,
        f"{GPT2}.8; {GPT3}, {figure}",
        scored=False,
        grader=exact_match,
    )
    for name, figure in (
        ("nq_open", "figure G.24"),
        ("trivia_qa", "figure G.34"),
        ("web_questions", "figure G.35"),
    )
)
