"""Tasks as text to text, against the strings that T5's released code and paper give."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.read.text_to_text import TASKS, TextPairs, spaced_punctuation
from camelid.data.rows.text_examples import text_pairs
from camelid.text.tokenizer import Tokenizer, train_tokenizer

PAIR = {"sentence1": "One.", "sentence2": "Two."}
BY_HAND = {
    "cola": ({"sentence": "A b.", "label": 1}, "cola sentence: A b.", "acceptable"),
    "sst2": ({"sentence": "A b.", "label": 0}, "sst2 sentence: A b.", "negative"),
    "mrpc": (PAIR | {"label": 1}, "mrpc sentence1: One. sentence2: Two.", "equivalent"),
    "qqp": (
        {"question1": "Why?", "question2": "How?", "label": 0},
        "qqp question1: Why? question2: How?",
        "not_duplicate",
    ),
    "stsb": (PAIR | {"label": 3.249}, "stsb sentence1: One. sentence2: Two.", "3.2"),
    "mnli": (
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": 2},
        "mnli hypothesis: It is wet. premise: It rains.",
        "contradiction",
    ),
    "qnli": (
        {"question": "Where?", "sentence": "Here.", "label": 0},
        "qnli question: Where? sentence: Here.",
        "entailment",
    ),
    "rte": (PAIR | {"label": 1}, "rte sentence1: One. sentence2: Two.", "not_entailment"),
    "wnli": (PAIR | {"label": 1}, "wnli sentence1: One. sentence2: Two.", "entailment"),
    "boolq": (
        {"question": "is it", "passage": "It is.", "label": 1},
        "boolq passage: It is. question: is it",
        "True",
    ),
    "cb": (
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": 2},
        "cb hypothesis: It is wet. premise: It rains.",
        "neutral",
    ),
    "copa": (
        {"premise": "He fell.", "choice1": "Ice.", "choice2": "Sun.", "question": "cause", "label": 0},
        "copa choice1: Ice. choice2: Sun. premise: He fell. question: cause",
        "choice1",
    ),
    "multirc": (
        {"paragraph": "<b>Sent 1: </b>A.<br>B.", "question": "Who?", "answer": "A", "label": 1},
        "multirc question: Who? answer: A paragraph: Sent 1: A. B.",
        "True",
    ),
    "wic": (PAIR | {"word": "bank", "label": 0}, "wic sentence1: One. sentence2: Two. word: bank", "False"),
    "squad": (
        {"question": "Who won?", "context": "Ann won (twice).", "answers": {"text": ["Ann's", "Ann"]}},
        "question: Who won ? context: Ann won ( twice ) .",
        "Ann ' s",
    ),
    "cnn_dailymail": ({"article": "Long news.", "highlights": "News."}, "summarize: Long news.", "News."),
    "translate_en_de": (
        {"en": "That is good.", "de": "Das ist gut."},
        "translate English to German: That is good.",
        "Das ist gut.",
    ),
    "translate_en_fr": (
        {"en": "Yes.", "fr": "Oui."},
        "translate English to French: Yes.",
        "Oui.",
    ),
    "translate_en_ro": ({"en": "Yes.", "ro": "Da."}, "translate English to Romanian: Yes.", "Da."),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["input target"], 300)


def written(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_task_is_worked_by_hand():
    assert set(BY_HAND) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_row_becomes_the_published_strings(name: str):
    row, source, target = BY_HAND[name]
    assert TASKS[name].texts(row) == (source, target)


@pytest.mark.parametrize(
    ("score", "spelt"), [(0, "0.0"), (1.8, "1.8"), (2.5, "2.4"), (2.7, "2.8"), (5.0, "5.0"), ("3.95", "4.0")]
)
def test_similarities_are_spelt_in_fifths(score: object, spelt: str):
    """2.5 lies between 2.4 and 2.6; 12.5 fifths are rounded to the even 12."""
    assert TASKS["stsb"].texts(PAIR | {"label": score})[1] == spelt


def test_labels_may_be_numbers_or_words_and_nothing_else():
    task = TASKS["cola"]
    assert {task.texts({"sentence": "a", "label": one})[1] for one in (1, "1", "acceptable", True)} == {
        "acceptable"
    }
    for wrong in (-1, 2, "good", None, 0.5):
        with pytest.raises(CamelidError, match="the label is"):
            task.texts({"sentence": "a", "label": wrong})
    with pytest.raises(
        CamelidError,
        match="no `sentence` among the fields `text`, `label`; the task reads `sentence`, `label`",
    ):
        task.texts({"text": "a", "label": 1})
    with pytest.raises(CamelidError, match="sentence is int"):
        task.texts({"sentence": 3, "label": 1})


def test_braces_in_a_row_are_text():
    assert TASKS["sst2"].texts({"sentence": "{label} {0}", "label": 1})[0] == "sst2 sentence: {label} {0}"


def test_punctuation_stands_apart_and_letters_with_marks_do_not():
    assert spaced_punctuation("naïve cafe\u0301_x,\n\t3.5 €") == "naïve cafe\u0301_x , 3 . 5 €"


def test_rows_without_a_task(tmp_path: Path):
    path = written(
        tmp_path / "a.jsonl",
        {"input": "Hello", "target": "Hi"},
        {"prefix": "summarize: ", "input": "Long.", "target": "L."},
    )
    source = TextPairs(path)
    assert list(source) == [
        (("Hello", "Hi"), f"{path}:1"),
        (("summarize: Long.", "L."), f"{path}:2"),
    ]
    assert source.count == 2


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"input": "a"}, "no `target`"),
        ({"input": " ", "target": "a"}, "the input is empty"),
        ({"input": "a", "target": 3}, "`target` is int"),
        ({"input": "a", "target": "\ud800"}, "lone surrogate"),
    ],
)
def test_bad_rows_are_named_or_left_out(tmp_path: Path, row: dict, problem: str):
    path = written(tmp_path / "a.jsonl", {"input": "a", "target": "b"}, row)
    with pytest.raises(CamelidError, match=rf"a\.jsonl:2: .*{problem}"):
        list(TextPairs(path))
    kind = TextPairs(path, skip_bad_rows=True)
    assert len(list(kind)) == 1
    assert len(kind.skipped) == 1


def test_text_and_unknown_tasks_are_refused(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("text")
    with pytest.raises(CamelidError, match="read rows"):
        TextPairs(path)
    with pytest.raises(WrongCall, match="unknown task 'colla'; known: cola"):
        TextPairs(path, "colla")


def test_pairs_end_with_eos_and_keep_to_their_room(tokenizer: Tokenizer):
    texts = [(("ab", "c"), "f:1"), (("abcdef", "c"), "f:2")]
    room = {"source_length": 4, "target_length": 2, "start_id": 9}
    with pytest.raises(CamelidError, match="f:2: 7 and 2 tokens, the limits are 4 and 2"):
        text_pairs(tokenizer, texts, **room)
    dropped = text_pairs(tokenizer, texts, **room, too_long="drop")
    cut = text_pairs(tokenizer, texts, **room, too_long="cut")
    assert (len(dropped.pairs), len(dropped.dropped), len(cut.pairs), len(cut.cut)) == (1, 1, 2, 1)
    eos = tokenizer.eos_id
    assert dropped.pairs[0].source.tolist() == [*tokenizer.encode("ab"), eos]
    assert cut.pairs[1].source.tolist() == [*tokenizer.encode("abc"), eos]
    assert cut.pairs[1].tokens.tolist() == [9, *tokenizer.encode("c")]
    assert cut.pairs[1].targets.tolist() == [*tokenizer.encode("c"), eos]
    with pytest.raises(CamelidError, match="no pairs left to train on: 1 were dropped"):
        text_pairs(tokenizer, texts[1:], **room, too_long="drop")
