"""Multiple choice scored by likelihood, with the prompts of GPT-3's appendix G for the tasks that it
shows."""

import re

from camelid.base.errors import CamelidError
from camelid.tasks.item_rows import Row, choice_of, gold_choice, labelled_choices, position_of, text_of
from camelid.tasks.published.format import GPT3, HARNESS, Fields, Format, continued, reworded

QUESTION = reworded("Question: {question}\nAnswer:", answer_context="Answer:")
LOWER = continued(answer_context="answer:")
"""For texts that already end in "answer:"."""


def _labelled(row: Row) -> Fields:
    """ARC's rows, or queries that already contain "Question:" and "Answer:", which the format adds again."""
    if "answerKey" in row:
        return labelled_choices(row)
    fields = gold_choice(row)
    bare = fields["question"].strip().removeprefix("Question:").removesuffix("Answer:").strip()
    return {**fields, "question": bare}


def _hellaswag(row: Row) -> Fields:
    """The activity, a colon, the context with its second part as a sentence; WikiHow's marks are removed.

    This is the preprocessing of lm-evaluation-harness, whose prompts have GPT-3's form (figure G.9).
    """
    context = f"{row['ctx_a']} {str(row['ctx_b']).capitalize()}"
    endings = [_without_marks(ending) for ending in row["endings"]]
    position = position_of([str(index) for index in range(len(endings))], row["label"], "label")
    return choice_of(_without_marks(f"{text_of(row, ['activity_label'])}: {context}"), endings, position)


def _without_marks(text: str) -> str:
    """The text without "[title]", which becomes a full stop, and without other words in brackets."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _piqa(row: Row) -> Fields:
    if "query" in row:
        return _labelled(row)
    return _pair(row, text_of(row, ["goal"]), ("sol1", "sol2"))


def _copa(row: Row) -> Fields:
    """The premise without its full stop, the connective, and choices that continue in lower case."""
    if "query" in row:
        return gold_choice(row)
    words = {"cause": "because", "effect": "therefore"}
    if row["question"] not in words:
        raise CamelidError(f"'question' is {row['question']!r}; allowed: {', '.join(words)}")
    premise = text_of(row, ["premise"]).strip().removesuffix(".")
    choices = [text[:1].lower() + text[1:] for text in (row["choice1"], row["choice2"])]
    return choice_of(f"{premise} {words[row['question']]}", choices, _label(row, ("0", "1")))


def _boolq(row: Row) -> Fields:
    answer = row["answer"] if "answer" in row else row["label"]
    question = text_of(row, ["question"]).strip().removesuffix("?")
    text = f"{text_of(row, ['passage'])}\nquestion: {question}?\nanswer:"
    return choice_of(text, ["no", "yes"], position_of(["0", "1"], int(answer), "answer"))


def _rte(row: Row) -> Fields:
    premise, hypothesis = text_of(row, ["premise", "sentence1"]), text_of(row, ["hypothesis", "sentence2"])
    text = f"{premise}\nquestion: {hypothesis} True or False?\nanswer:"
    return choice_of(text, ["True", "False"], _label(row, ("0", "1")))


def _cb(row: Row) -> Fields:
    """Labels as in the published rows: entailment, contradiction, neutral."""
    hypothesis = text_of(row, ["hypothesis"]).strip()
    stop = "" if hypothesis.endswith((".", "?", "!")) else "."
    text = f"{text_of(row, ['premise'])}\nquestion: {hypothesis}{stop} true, false, or neither?\nanswer:"
    return choice_of(text, ["true", "false", "neither"], _label(row, ("0", "1", "2")))


def _sst2(row: Row) -> Fields:
    text = f"{text_of(row, ['sentence']).strip()}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return choice_of(text, ["negative", "positive"], _label(row, ("0", "1")))


def _mrpc(row: Row) -> Fields:
    one, two = text_of(row, ["sentence1"]), text_of(row, ["sentence2"])
    question = "Question: Do both sentences mean the same thing?\nAnswer:"
    return choice_of(
        f"Sentence 1: {one}\nSentence 2: {two}\n{question}", ["no", "yes"], _label(row, ("0", "1"))
    )


def _sciq(row: Row) -> Fields:
    """The supporting text, if any, before the question; the right answer is the last choice, as in the
    rows."""
    support = str(row["support"]).strip()
    question = f"Question: {text_of(row, ['question'])}\nAnswer:"
    choices = [row[key] for key in ("distractor1", "distractor2", "distractor3", "correct_answer")]
    return choice_of(f"{support}\n{question}" if support else question, choices, 3)


def _social_iqa(row: Row) -> Fields:
    text = f"{text_of(row, ['context'])} {text_of(row, ['question'])}"
    return choice_of(text, [row["answerA"], row["answerB"], row["answerC"]], _label(row, ("1", "2", "3")))


def _story_cloze(row: Row) -> Fields:
    """Four sentences and two endings, under the names of the published CSV or of its Hugging Face rows."""
    story = " ".join(text_of(row, [f"InputSentence{n}", f"input_sentence_{n}"]).strip() for n in range(1, 5))
    endings = [text_of(row, [f"RandomFifthSentenceQuiz{n}", f"sentence_quiz{n}"]).strip() for n in (1, 2)]
    key = "AnswerRightEnding" if "AnswerRightEnding" in row else "answer_right_ending"
    return choice_of(story, endings, position_of(["1", "2"], row[key], key))


def _pair(row: Row, question: str, keys: tuple[str, str]) -> Fields:
    return choice_of(question, [row[key] for key in keys], _label(row, ("0", "1")))


def _label(row: Row, labels: tuple[str, ...]) -> int:
    return position_of(labels, row["label"], "label")


FORMATS = tuple(
    Format(name, 1, read, wording, source, answer_context=True)
    for name, read, wording, source in (
        ("arc_easy", _labelled, QUESTION, f"{GPT3}, figure G.16"),
        ("arc_challenge", _labelled, QUESTION, f"{GPT3}, figure G.11"),
        ("openbookqa", _labelled, continued(), f"{GPT3}, figure G.8"),
        ("hellaswag", _hellaswag, continued(), f"{GPT3}, figure G.9"),
        ("piqa", _piqa, continued(), f"{GPT3}, figure G.4"),
        ("copa", _copa, continued(), f"{GPT3}, figure G.5"),
        ("boolq", _boolq, LOWER, f"{GPT3}, figure G.29"),
        ("rte", _rte, LOWER, f"{GPT3}, figure G.31"),
        ("cb", _cb, LOWER, f"{GPT3}, figure G.30"),
        ("storycloze", _story_cloze, continued(), f"{GPT3}, figure G.17"),
        ("sciq", _sciq, continued(), HARNESS),
        ("social_iqa", _social_iqa, reworded("Q: {question}\nA:"), HARNESS),
        ("sst2", _sst2, continued(), HARNESS),
        ("mrpc", _mrpc, continued(), HARNESS),
        ("commonsense_qa", _labelled, QUESTION, "in the words of ARC"),
        ("basic_arithmetic", _labelled, QUESTION, "in the words of ARC"),
    )
)
