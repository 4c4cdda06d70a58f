"""`camelid make answers`: each question asked once, in order, and what is wrong with replies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Answer, Script

from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.data.read.conversations import Conversations
from camelid.data.read.prompts import Questions
from camelid.lm.interface import Completion, Prompt
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.text.conversation import Conversation

Rows = Callable[[str, list[dict[str, Any]]], str]
Teach = Callable[[Any], ScriptedLM]
ASKED = [{"id": f"q{n}", "prompt": f"What is {n} + 1?"} for n in range(6)]
ANSWERS = [f"The sum is {n + 1}." for n in range(6)]


def contents(prompts: list[Prompt]) -> list[list[str | None]]:
    assert all(isinstance(prompt, Conversation) for prompt in prompts)
    return [[message.content for message in prompt.messages] for prompt in prompts]  # type: ignore[union-attr]


def made(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def test_every_question_is_asked_in_order_and_tune_takes_the_folder(
    rows: Rows, taught: Teach, tmp_path: Path
) -> None:
    lm, out = taught(ANSWERS), tmp_path / "out"
    words = ["make", "answers", "m", rows("asked.jsonl", ASKED), "--out", str(out), "--licence", "MIT"]
    assert main([*words, "--system", "Be brief."]) == 0
    assert contents(lm.prompts) == [["Be brief.", row["prompt"]] for row in ASKED]
    conversations = [conversation for conversation, _ in Conversations(out)]
    assert [[each.content for each in talk.messages] for talk in conversations] == [
        ["Be brief.", row["prompt"], answer] for row, answer in zip(ASKED, ANSWERS, strict=True)
    ]
    assert all(not talk.extra for talk in conversations)
    assert made(out)[2]["made"] == {"prompt": "q2", "seed": 0, "attempt": 0, "by": "answers", "teacher": "m"}
    card = json.loads((out / "card.json").read_text())
    assert card["counts"] == {"replies": 6, "rows": 6, "dropped": {}, "faults": {}}
    assert card["teacher"]["licence"] == "MIT"
    assert "What is 0 + 1?" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, ["Add.\n\n1 and 2"]),
        ({"instruction": "Add.", "instances": [{"input": "1 and 2", "output": "3"}]}, ["Add.\n\n1 and 2"]),
        ({"instruction": "Add.", "context": "", "response": "3"}, ["Add."]),
        ({"question": "Who?"}, ["Who?"]),
        ({"prompt": [{"role": "user", "content": "Who?"}]}, ["Who?"]),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 2},
            ["a", "b", "a"],
        ),
        ({"messages": [{"role": "user", "content": "a"}], "system": "s"}, ["s", "a"]),
        ({"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"}, ["a", "b", "c"]),
        ({"question": "Who?", "response_j": "I.", "response_k": "I."}, ["Who?"]),  # a tie
        ({"instruction": "Who?", "output_1": "I.", "output_2": "You.", "preference": None}, ["Who?"]),
    ],
)
def test_questions_of_every_shape(rows: Rows, row: dict[str, Any], asked: list[str]) -> None:
    [question] = Questions(rows("asked.jsonl", [row]))
    assert [message.content for message in question.conversation.messages] == asked


def test_trees_of_one_message_a_row_are_asked(rows: Rows) -> None:
    messages = [("root", None, "prompter"), ("reply", "root", "assistant"), ("more", "reply", "prompter")]
    values = [
        {"message_id": name, "parent_id": parent, "message_tree_id": "root", "text": name, "role": role}
        for name, parent, role in messages
    ]
    [question] = Questions(rows("asked.jsonl", values))
    assert [message.content for message in question.conversation.messages] == ["root"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"text": "x"}], "asked.jsonl:1: the fields `text` hold no question"),
        (
            [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}],
            "asked.jsonl:2: the id 'a' is also that of",
        ),
        ([{"prompt": " "}], "asked.jsonl:1: the question is empty"),
        ([{"prompt": 3}], "asked.jsonl:1: `prompt` is int"),
        ([{"messages": [{"role": "assistant", "content": "x"}]}], "there is no turn of the user"),
    ],
)
def test_rows_without_a_question_are_named(rows: Rows, values: list[dict[str, Any]], message: str) -> None:
    path = rows("asked.jsonl", values)
    with pytest.raises(CamelidError) as raised:
        [*Questions(path)]
    assert message in str(raised.value)


LOOP = "and so on " * 20
FAULTY = {
    "": "empty",
    LOOP: "repeats itself",
    "ha" * 40: "repeats itself",
    "I'm sorry, but I cannot help with that.": "refuses",
    "As an AI language model, I have no favourite colour.": "refuses",
    "I'm a helpful AI designed to assist with your queries.": "refuses",
    "Sorry for the tone, but I'm a text-based AI, and do not watch films.": "refuses",
    "\N{REPLACEMENT CHARACTER} and": "garbage",
    "Yes.<|im_start|>user": "garbage",
    "...": "garbage",
    "What is 0 + 1?": "repeats the question",
}


@pytest.mark.parametrize("reply", FAULTY)
def test_a_faulty_reply_is_asked_again_within_bounds_and_counted(
    reply: str, rows: Rows, taught: Teach, tmp_path: Path
) -> None:
    path, out, fault = rows("asked.jsonl", ASKED[:2]), tmp_path / "out", FAULTY[reply]
    lm = taught([reply, "Two.", reply, reply])
    words = ["make", "answers", "m", path, "--out", str(out), "--licence", "MIT"]
    assert main(words) == 0
    assert contents(lm.prompts) == [[ASKED[n]["prompt"]] for n in (0, 1, 0, 0)]
    card = json.loads((out / "card.json").read_text())
    assert card["counts"] == {"replies": 4, "rows": 1, "dropped": {fault: 1}, "faults": {fault: 3}}
    assert [row["messages"][-1]["content"] for row in made(out)] == ["Two."]


def test_an_apology_or_a_list_is_not_a_fault(rows: Rows, taught: Teach, tmp_path: Path) -> None:
    good = ["I'm sorry to hear that. Rest well.", "| a | b |\n|---|---|\n| 1 | 2 |", "1. " + "-" * 40, "3"]
    taught(good)
    words = ["make", "answers", "m", rows("asked.jsonl", ASKED[:4]), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert len(made(tmp_path / "out")) == 4


def test_an_answer_cut_at_the_limit_is_not_kept(rows: Rows, taught: Teach, tmp_path: Path) -> None:
    class Cutting(ScriptedLM):
        def complete(self, prompts: Any, sampling: Sampling) -> list[list[Completion]]:
            found = super().complete(prompts, sampling)
            ends = ("length", "stop")[len(self.prompts) == 1]
            return [[Completion(each.text, (1, 2), (), ends) for each in some] for some in found]  # type: ignore[arg-type]

    taught([]).complete = Cutting(lambda _: "One two").complete  # type: ignore[method-assign]
    words = ["make", "answers", "m", rows("asked.jsonl", ASKED[:2]), "--out", str(tmp_path / "out")]
    assert main([*words, "--temperature", "0"]) == 0
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["counts"] == {"replies": 2, "rows": 1, "dropped": {"cut": 1}, "faults": {"cut": 1}}
    assert (card["cost"]["tokens"], card["cost"]["tokens_per_row"]) == (4, 4.0)


def test_a_teacher_of_refusals_is_stopped_early(
    rows: Rows, taught: Teach, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = taught(lambda _: "I cannot assist with that.")
    words = ["make", "answers", "m", rows("asked.jsonl", ASKED), "--out", str(tmp_path / "out")]
    assert main([*words, "--window", "4"]) == 1
    assert len(lm.prompts) == 4
    assert (
        "only 0 of the last 4 first replies were kept (refuses 4; an example of 'refuses':"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    assert main([*words, "--least-kept", "0"]) == 1
    assert "no row could be kept (refuses 6)" in capsys.readouterr().err


def test_a_teacher_that_stops_answering(
    rows: Rows, taught: Teach, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(prompt: Prompt) -> str:
        if len(lm.prompts) > 2:
            raise CamelidError("connection refused")
        return "Fine."

    lm = taught(gone)
    words = ["make", "answers", "m", rows("asked.jsonl", ASKED), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "stopped answering after 2 replies: connection refused" in capsys.readouterr().err
    rest = taught(lambda _: "Back.")
    assert main(words) == 0
    assert contents(rest.prompts) == [[row["prompt"]] for row in ASKED[2:]]
    assert [row["messages"][-1]["content"] for row in made(tmp_path / "out")] == ["Fine."] * 2 + ["Back."] * 4


def test_replies_of_another_making_are_refused(
    rows: Rows, taught: Teach, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["make", "answers", "m", rows("asked.jsonl", ASKED), "--out", str(tmp_path / "out")]
    taught(ANSWERS)
    assert main([*words, "--limit", "2"]) == 0
    assert main([*words, "--seed", "1"]) == 1
    assert "replies.jsonl:1: this line is from another making (teacher, questions or settings differ" in (
        capsys.readouterr().err
    )
    rest = taught(ANSWERS)
    assert main([*words, "--limit", "3"]) == 0  # a larger limit asks only for the new ones
    assert len(rest.prompts) == 1


def test_a_folder_of_something_else_is_refused(
    rows: Rows, taught: Teach, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = taught(ANSWERS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rows.jsonl").write_text("{}\n")
    words = ["make", "answers", "m", rows("asked.jsonl", ASKED), "--out"]
    assert main([*words, str(tmp_path / "out")]) == 1
    assert "out holds rows.jsonl, but no replies.jsonl; choose another --out" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "asked.jsonl")]) == 1
    assert "asked.jsonl is a file; give a folder with --out" in capsys.readouterr().err
    assert lm.prompts == []


def test_a_server_answers_and_refuses_single_questions(rows: Rows, tmp_path: Path) -> None:
    def reply(path: str, body: Any) -> Answer:
        question = body["messages"][-1]["content"]
        if "3" in question:
            return Answer({"error": {"message": "too long"}}, 400)
        message = {"role": "assistant", "content": f"You asked: {question} Fine."}
        usage = {"prompt_tokens": 11, "completion_tokens": 4}
        return Answer(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        )

    with Script() as server:
        server.answer = reply
        words = ["make", "answers", server.url, rows("asked.jsonl", ASKED), "--out", str(tmp_path / "out")]
        assert main([*words, "--parallel", "2", "--terms", "not for competitors"]) == 0
        asked = sorted(body["messages"][0]["content"] for _, body, _ in server.asked)
        assert main([*words, "--parallel", "2"]) == 0
        assert len(server.asked) == len(asked) == 6
        server.shutdown()
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["counts"]["dropped"] == {"refused by the server (400)": 1}
    assert [row["made"]["prompt"] for row in made(tmp_path / "out")] == ["q0", "q1", "q2", "q4", "q5"]
    assert card["teacher"]["name"].endswith("/v1 llama")
    cost = card["cost"]
    assert (cost["tokens"], cost["prompt_tokens"], cost["tokens_per_row"]) == (20, 55, 4.0)
