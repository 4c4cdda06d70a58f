"""Comparisons, transcripts and message trees, read with markers and without."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from camelid.base.errors import CamelidError
from camelid.data.read.conversations import Conversations
from camelid.data.read.rankings import votes_score
from camelid.data.read.transcripts import transcript_messages
from camelid.data.read.trees import ranked_replies

MARKERS = {"good": "GPT:", "bad": "An Unhelpful Answer:"}
HUMAN = {"role": "user", "content": "Sum 1 2"}
SYSTEM = {"role": "system", "content": "Be brief."}
HH = {
    "chosen": "\n\nHuman: Hi?\n\nAssistant: Hello.\n\nHuman: Sum 1 2\n\nAssistant: 3",
    "rejected": "\n\nHuman: Hi?\n\nAssistant: Hello.\n\nHuman: Sum 1 2\n\nAssistant: No.",
}
SINGLE = [("Sum 1 2", "3", "GPT:"), ("Sum 1 2", "No.", "An Unhelpful Answer:")]


def node(name: str, role: str, rank: int | None, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"message_id": name, "text": name, "role": role, "rank": rank, "replies": list(replies), **more}


TREE = node(
    "root",
    "prompter",
    None,
    node("worst", "assistant", 2),
    node("gone", "assistant", 0, deleted=True),
    node(
        "best",
        "assistant",
        0,
        node("more?", "prompter", None, node("yes", "assistant", 0), node("no", "assistant", 1)),
        node("unanswered", "prompter", None),
    ),
    node("middle", "assistant", 1),
)


def read(tmp_path: Path, rows: Sequence[dict[str, Any]], **settings: Any) -> Conversations:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Conversations(path, **settings)


def asked_and_answered(conversations: Conversations) -> list[tuple[str | None, str | None, str]]:
    return [(one.messages[-2].content, one.messages[-1].content, one.marker) for one, _ in conversations]


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (HH, "chosen and rejected"),
        ({"prompt": "Sum 1 2", "chosen": "3", "rejected": "No."}, "chosen and rejected"),
        (
            {
                "prompt": [HUMAN],
                "chosen": [{"role": "assistant", "content": "3"}],
                "rejected": [{"role": "assistant", "content": "No."}],
            },
            "chosen and rejected",
        ),
        (
            {
                "chosen": [HUMAN, {"role": "assistant", "content": "3"}],
                "rejected": [HUMAN, {"role": "assistant", "content": "No."}],
            },
            "chosen and rejected",
        ),
        (
            {
                "conversations": [{"from": "human", "value": "Sum 1 2"}],
                "chosen": {"from": "gpt", "value": "3"},
                "rejected": {"from": "gpt", "value": "No."},
            },
            "chosen and rejected",
        ),
        (
            {"instruction": "Sum 1 2", "input": "", "output": "3", "chosen": "3", "rejected": "No."},
            "chosen and rejected",
        ),
        (
            {
                "prompt": "Sum 1 2",
                "prompt_id": "f0e37e9f",
                "chosen": [HUMAN, {"role": "assistant", "content": "3"}],
                "rejected": [HUMAN, {"role": "assistant", "content": "No."}],
                "messages": [HUMAN, {"role": "assistant", "content": "3"}],
                "score_chosen": 8.0,
                "score_rejected": 2.5,
            },
            "chosen and rejected",
        ),
        (
            {
                "prompt": "Sum 1 2",
                "chosen": [SYSTEM, HUMAN, {"role": "assistant", "content": "3"}],
                "rejected": [SYSTEM, HUMAN, {"role": "assistant", "content": "No."}],
            },
            "chosen and rejected",
        ),
        ({"system": "", "question": "Sum 1 2", "chosen": "3", "rejected": "No."}, "chosen and rejected"),
        (
            {
                "qid": 4,
                "question": "Sum 1 2",
                "date": "2010/1/1",
                "metadata": ["https://example.com"],
                "response_j": "3",
                "response_k": "No.",
            },
            "question with a better and a worse response",
        ),
        (
            {"instruction": "Sum 1 2", "output_1": "No.", "output_2": "3", "preference": 2},
            "AlpacaEval annotations",
        ),
    ],
)
def test_every_shape_of_comparison(tmp_path: Path, row: dict[str, Any], shape: str):
    marked = read(tmp_path, [row], markers=MARKERS)
    assert asked_and_answered(marked) == SINGLE
    assert marked.summary.endswith(f"2 conversations of shape {shape}")
    assert asked_and_answered(read(tmp_path, [row])) == [("Sum 1 2", "3", "")]


def test_a_question_beside_whole_conversations_is_not_their_prompt(tmp_path: Path) -> None:
    """Such as the title of a thread."""
    turns = "\n\nHuman: Sum 1 2\n\nAssistant: "
    row = {"question": "Sums", "chosen": f"{turns}3", "rejected": f"{turns}No."}
    assert asked_and_answered(read(tmp_path, [row])) == [("Sum 1 2", "3", "")]
    apart = {"from": "gpt"}
    row = {
        "question": "Sums",
        "conversations": [{"from": "human", "value": "Sum 1 2"}],
        "chosen": {**apart, "value": "3"},
        "rejected": {**apart, "value": "No."},
    }
    assert asked_and_answered(read(tmp_path, [row])) == [("Sum 1 2", "3", "")]


def test_a_question_comes_behind_its_system_message(tmp_path: Path) -> None:
    row = {"system": "Be brief.", "question": "Sum 1 2", "chosen": "3", "rejected": "No."}
    [([ranked], _)] = read(tmp_path, [row]).rankings()
    for one, answer in zip(ranked.conversations, ("3", "No."), strict=True):
        assert [message.content for message in one.messages] == ["Be brief.", "Sum 1 2", answer]
        assert not one.extra


def test_only_what_differs_is_trained(tmp_path: Path):
    good, bad = (one for one, _ in read(tmp_path, [HH], markers=MARKERS))
    for one in (good, bad):
        assert [message.role for message in one.messages] == ["user", "assistant"] * 2
        assert [message.loss_weight for message in one.messages if message.role == "assistant"] == [0, 1]
    ((chosen, _),) = read(tmp_path, [HH])
    assert [message.loss_weight for message in chosen.messages] == [1] * 4


def test_labels(tmp_path: Path):
    rows = [
        {"messages": [HUMAN, {"role": "assistant", "content": "3"}], "label": True},
        {"messages": [HUMAN, {"role": "assistant", "content": "No."}], "label": False},
    ]
    assert asked_and_answered(read(tmp_path, rows, markers=MARKERS)) == SINGLE
    plain = read(tmp_path, rows)
    assert asked_and_answered(plain) == [("Sum 1 2", "3", "")]
    assert plain.undecided == 1
    assert "1 rows without a better or good answer" in plain.summary
    (table := tmp_path / "rows.csv").write_text(
        "prompt,completion,label\nSum 1 2,3,true\nSum 1 2,No.,False\n"
    )
    assert asked_and_answered(Conversations(table, markers=MARKERS)) == SINGLE
    with pytest.raises(CamelidError, match=r":2: `label` is 'maybe'; it must be true or false"):
        list(read(tmp_path, [rows[0], rows[1] | {"label": "maybe"}]))


def test_ties_say_nothing(tmp_path: Path):
    ties_of_alpaca_eval = [
        {"instruction": "Sum 1 2", "output_1": "No.", "output_2": "3", "preference": preference}
        for preference in (1.5, 0, 0.0, None)
    ]
    same = {"prompt": "Sum 1 2", "chosen": "3", "rejected": "3"}
    for row in (*ties_of_alpaca_eval, same):
        ties = read(tmp_path, [row], markers=MARKERS)
        assert list(ties) == []
        assert ties.undecided == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (HH | {"rejected": "\n\nHuman: Bye\n\nAssistant: No."}, "different prompts"),
        (
            {name: f"{HH['chosen']}\n\nHuman: {name}?\n\nAssistant: Yes." for name in ("chosen", "rejected")},
            "ask different things after a common beginning",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": None}, r"rejected\[0\] is None"),
        (HH | {"rejected": HH["chosen"] + "\n\nHuman: More"}, "`chosen` has no answer of its own"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, r"messages\[1\]: the assistant's answer is empty"),
        (
            {"instruction": "a", "output_1": "b", "output_2": "c", "preference": "first"},
            "`preference` is 'first'",
        ),
        *(
            (
                {"instruction": "a", "output_1": "b", "output_2": "c", "preference": number},
                f"`preference` is {number}; it must be a number from 1 to 2, or null",
            )
            for number in (3, -1, 0.5, True)
        ),
    ],
)
def test_bad_comparisons_are_named(tmp_path: Path, row: dict[str, Any], problem: str):
    with pytest.raises(CamelidError, match=problem):
        list(read(tmp_path, [row], markers=MARKERS))


def test_a_tree_is_its_best_thread_or_its_ranked_replies(tmp_path: Path):
    row = {"message_tree_id": "1", "tree_state": "ready", "prompt": TREE}
    ((thread, _),) = read(tmp_path, [row])
    assert [message.content for message in thread.messages] == ["root", "best", "more?", "yes"]
    assert asked_and_answered(read(tmp_path, [row], markers=MARKERS)) == [
        ("root", "best", "GPT:"),
        ("root", "worst", "An Unhelpful Answer:"),
        ("more?", "yes", "GPT:"),
        ("more?", "no", "An Unhelpful Answer:"),
    ]
    ranked = [([one["content"] for one in answers]) for _, answers, _ in ranked_replies(row)]
    assert ranked == [["best", "middle", "worst"], ["yes", "no"]]
    assert asked_and_answered(read(tmp_path, [TREE]))[0][:2] == ("more?", "yes")


def flat(tree: dict[str, Any], parent: str | None = None, of: str = "1") -> list[dict[str, Any]]:
    """The messages of a tree as rows, each after its parent."""
    row = {name: value for name, value in tree.items() if name != "replies"}
    rows = [row | {"parent_id": parent, "message_tree_id": of}]
    return [*rows, *(one for reply in tree["replies"] for one in flat(reply, tree["message_id"], of))]


def test_messages_of_a_tree_may_have_rows_of_their_own(tmp_path: Path):
    rows = flat(TREE) + flat(node("other", "prompter", None, node("answer", "assistant", None)), of="2")
    plain = read(tmp_path, rows)
    threads = [[message.content for message in one.messages] for one, _ in plain]
    assert threads == [["root", "best", "more?", "yes"], ["other", "answer"]]
    assert plain.summary.endswith("2 conversations of shape OASST messages, one a row")
    assert len(list(read(tmp_path, rows, markers=MARKERS))) == 4
    lost = [row for row in rows if row["message_id"] != "best"]
    with pytest.raises(CamelidError, match=r"parent of message more\? is not before it \(.*rows.jsonl:4\)"):
        list(read(tmp_path, lost))
    assert len(list(read(tmp_path, lost, skip_bad_rows=True))) == 1


def test_bad_trees_are_named(tmp_path: Path):
    for change, problem in (
        ({"role": "bot"}, "role of message root is 'bot'"),
        ({"replies": [node("a", "assistant", None) | {"rank": "first"}]}, "rank of message a is 'first'"),
        ({"replies": []}, "no answer of an assistant"),
        ({"replies": 3}, "`replies` of message root"),
    ):
        with pytest.raises(CamelidError, match=problem):
            list(read(tmp_path, [{"message_tree_id": "1", "prompt": TREE | change}]))


def test_transcripts():
    turns = transcript_messages("\n\nHuman: a\nb\n\nc\n\nHuman: d\n\nAssistant: e: Human: f\n\nAssistant:")
    assert turns == [
        {"role": "user", "content": "a\nb\n\nc\n\nd"},
        {"role": "assistant", "content": "e: Human: f"},
    ]
    with pytest.raises(CamelidError, match="turn 1 of the transcript, the assistant's, is empty"):
        transcript_messages("Human: a\n\nAssistant:\n\nHuman: b")
    with pytest.raises(CamelidError, match="begins with 'Hello'"):
        transcript_messages("Hello\n\nHuman: a")


@pytest.mark.parametrize(
    ("path", "rows", "marked", "skipped", "undecided"),
    [
        ("preference/hh-rlhf/harmless-base_test.jsonl.gz", 2308, 4616, 4, 0),
        ("preference/llamafactory/dpo_en_demo.json.gz", 300, 600, 0, 0),
        ("preference/llamafactory/kto_en_demo.json.gz", 150, 300, 0, 0),
        ("preference/rasbt/instruction-data-with-preference.json.gz", 1094, 2188, 0, 6),
        ("instruct/oasst/en_100_tree.jsonl.gz", 100, 424, 0, 0),
        ("instruct/oasst/en_100_message.jsonl.gz", 100, 424, 0, 0),
    ],
)
def test_real_comparisons(shared: Path, path: str, rows: int, marked: int, skipped: int, undecided: int):
    for markers, count in ((None, rows), (MARKERS, marked)):
        found = Conversations(shared / "data" / path, skip_bad_rows=True, markers=markers)
        assert len(list(found)) == count
    assert (len(found.skipped), found.undecided) == (skipped, undecided)


def test_votes_become_rounded_log_scores() -> None:
    """log2(1 + votes) to the nearest whole number, one more if accepted, -1 below zero."""
    votes = {0: 0, 1: 1, 2: 2, 4: 2, 5: 3, 10: 3, 11: 4, 1000: 10, -1: -1, -7: -1}
    assert {n: votes_score(n, False) for n in votes} == votes
    assert votes_score(5, True) == 4
    assert votes_score(-5, True) == -1


@pytest.mark.parametrize(
    ("row", "scores", "rated"),
    [
        ({"answers": [{"content": "a", "score": 1}, {"content": "b", "score": 2.5}]}, (1, 2.5), True),
        ({"answers": [{"text": "a", "rank": 1}, {"text": "b", "rank": 0}]}, (-1, 0), False),
        (
            {"answers": [{"text": "a", "votes": 5, "accepted": True}, {"text": "b", "votes": -2}]},
            (4, -1),
            True,
        ),
        (
            {"answers": [{"text": "a", "pm_score": 3, "selected": True}, {"text": "b", "pm_score": 3}]},
            (3, 3),
            True,
        ),
        ({"chosen": "a", "rejected": "b"}, (1, 0), False),
        ({"chosen": "a", "rejected": "b", "margin": 2}, (2, 0), True),
        ({"chosen": "a", "rejected": "b", "score_chosen": 8, "score_rejected": 6.5}, (1.5, 0), True),
    ],
)
@pytest.mark.parametrize("prompt", ["Sum 1 2", [HUMAN]])
def test_scored_answers_are_ranked(
    tmp_path: Path, prompt: object, row: dict[str, Any], scores: tuple[float, ...], rated: bool
) -> None:
    judge = {"judge": {"name": "Ada", "kind": "person"}} if "answers" in row else {}
    [([ranked], _)] = read(tmp_path, [{"prompt": prompt, **row, **judge}]).rankings()
    assert [[one.content for one in each.messages] for each in ranked.conversations] == [
        ["Sum 1 2", "a"],
        ["Sum 1 2", "b"],
    ]
    assert ranked.scores == scores
    assert ranked.rated is rated
    assert not ranked.conversations[0].extra


def test_all_ranked_answers_of_every_prompt_of_a_tree(tmp_path: Path) -> None:
    [(first, _)] = read(tmp_path, [{"message_tree_id": "t", "prompt": TREE}]).rankings()
    found = [([each.messages[-1].content for each in one.conversations], one.scores) for one in first]
    assert found == [(["best", "middle", "worst"], (0, -1, -2)), (["yes", "no"], (0, -1))]
    assert [len(one.conversations[0].messages) for one in first] == [2, 4]


def test_with_markers_the_best_and_the_worst_scored_answers_are_read(tmp_path: Path) -> None:
    answers = [{"content": text, "score": score} for text, score in (("a", 1), ("b", 3), ("c", 2))]
    found = read(tmp_path, [{"question": "Sum 1 2", "answers": answers}], markers=MARKERS)
    assert asked_and_answered(found) == [
        ("Sum 1 2", "b", MARKERS["good"]),
        ("Sum 1 2", "a", MARKERS["bad"]),
    ]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([{"content": 5, "score": 1}], r"answers\[0\].content is 5; it must be a string"),
        ([{"content": "a", "score": "x"}], r"answers\[0\]: `score` is 'x'; it must be a number"),
        ([{"content": "a", "score": None}], r"answers\[0\] has neither a score nor a rank nor votes"),
        ("none", "it must be a list of objects with content and score, rank or votes"),
    ],
)
def test_answers_without_text_or_score_are_named(tmp_path: Path, answers: object, message: str) -> None:
    good = {"prompt": "q", "answers": [{"content": "a", "score": 1}, {"content": "b", "score": 2}]}
    with pytest.raises(CamelidError, match=rf"rows.jsonl:2: .*{message}"):
        list(read(tmp_path, [good, {"prompt": "q", "answers": answers}]).rankings())
