"""Instructions that a rule can grade: decisions of lm-evaluation-harness, hand cases, and the task `ifeval`."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.tasks.rules import RULES, capital_words_in, follows, relaxed, sentences_in
from camelid.tasks.task import load_task

RECORDED = json.loads(Path(__file__).with_name("ifeval_decisions.json").read_text(encoding="utf-8"))
LANGUAGES = ("language:response_language", "change_case:english_capital", "change_case:english_lowercase")
"""Kinds whose language the peer tells with a model of its own; of a few words it may think otherwise."""


@pytest.mark.parametrize("rule", RULES)
def test_decisions_are_those_of_the_harness(rule: str) -> None:
    """`python bench/rules.py --record` wrote them with lm-evaluation-harness 0.4.13."""
    recorded = [case for case in RECORDED if case["rule"] == rule]
    assert recorded
    differ = [case for case in recorded if follows(case["reply"], rule, case["arguments"]) != case["peer"]]
    assert len(differ) <= (1 if rule in LANGUAGES else 0), differ


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("Dr. Hill met Mr. Fox at 3 p.m. in May.", 1),
        ("J. Hill wrote it", 1),
        ("Wait... what? Yes.", 2),
        ('He said "No." Then he left.', 2),
        ("1. wash it\n2. dry it", 1),
        ("", 0),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert sentences_in(text) == count


def test_capital_words() -> None:
    assert capital_words_in("NASA's O(N) WELL-KNOWN idea: DON'T, I say") == 7


def test_a_word_that_begins_another_is_not_forbidden_and_is_a_keyword() -> None:
    assert follows("He catches it.", "keywords:existence", {"keywords": ["catch"]})
    assert follows("He catches it.", "keywords:forbidden_words", {"forbidden_words": ["catch"]})


def test_languages() -> None:
    french = "Le chat est dans la maison avec les enfants."
    assert follows(french, "language:response_language", {"language": "fr"})
    assert not follows(french, "language:response_language", {"language": "es"})
    assert follows("ನಾನು ಮನೆಗೆ ಹೋಗುತ್ತೇನೆ", "language:response_language", {"language": "kn"})
    assert follows("42", "language:response_language", {"language": "fr"})


def test_the_lenient_reading_drops_lines_and_asterisks() -> None:
    assert "The text" in relaxed("Sure!\n*The text*\nGoodbye")


def test_an_unknown_rule_and_foreign_arguments_are_refused() -> None:
    with pytest.raises(CamelidError, match="no rule 'length:long'; the rules are keywords"):
        follows("a", "length:long", {})
    with pytest.raises(CamelidError, match="the arguments of startend:quotation"):
        follows("a", "startend:quotation", {"end_phrase": "x"})
    with pytest.raises(CamelidError, match="the relation is 'more than'; it is 'less than' or 'at least'"):
        follows("a", "length_constraints:number_words", {"num_words": 1, "relation": "more than"})


def test_the_task(tmp_path: Path) -> None:
    row = {
        "key": 7,
        "prompt": "Say hello in lowercase, without commas.",
        "instruction_id_list": ["change_case:english_lowercase", "punctuation:no_comma"],
        "kwargs": [{"num_words": None}, {}],
    }
    data = tmp_path / "ifeval.jsonl"
    data.write_text(json.dumps(row) + "\n", encoding="utf-8")
    task = load_task("ifeval", data=data)
    [item] = task.items
    found = task.grade(item, "Here it is:\nhello to you")
    assert {name: grade.correct for name, grade in found.items()} == {
        "accuracy_strict": False,
        "accuracy_lenient": True,
    }
    assert found["accuracy_strict"].extracted == "punctuation:no_comma"
    data.write_text(json.dumps(row | {"kwargs": [{}]}) + "\n", encoding="utf-8")
    with pytest.raises(CamelidError, match=r"ifeval.jsonl:1: not a row of ifeval: .* the same length"):
        load_task("ifeval", data=data)
