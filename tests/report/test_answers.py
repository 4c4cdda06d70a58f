"""The page of answers: everything of an evaluation's lines is on it, as text, and its size is bounded."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from camelid.base.errors import CamelidError
from camelid.cli import main as cli
from camelid.evals.evaluate import evaluate
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.ensembles import self_consistency
from camelid.prompting.programs import chain_of_thought, few_shot, likelihood
from camelid.report.answers import answers_page, evaluation_files, level, votes, write_answers
from camelid.tasks.graders import choice, exact, numeric
from camelid.tasks.item import Item
from camelid.tasks.task import Task

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WARM = Sampling(temperature=0.7, max_new_tokens=64)
HOSTILE = (
    "</script><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\"><!-- <script> -->"
    "\u202egnp.exe\u202c \x00\x1b[31m \ud800 &amp; {{ 7 * 7 }} {% raw %} \u2028 \r end"
)
NUMBERS = tuple(Item(str(n), f"What is {n} + 2?", str(n + 2)) for n in range(4))


class Scripts(HTMLParser):
    """The scripts of a page, as a browser separates them, and every other tag."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.scripts:
            self.scripts[-1] += data


def data_of(page: str) -> dict[str, Any]:
    parser = Scripts()
    parser.feed(page)
    assert len(parser.scripts) == 2, "the data and the page's own script"
    assert "img" not in parser.tags
    return json.loads(parser.scripts[0])


def text_of(data: dict[str, Any], parts: Sequence[Any]) -> str:
    return "".join(data["texts"][index] for _, index, _ in parts)


def evaluated(
    tmp_path: Path, replies: Sequence[str], items: Sequence[Item] = NUMBERS, samples: int = 1
) -> Path:
    """A folder with the evaluation of a model that gives these replies."""
    task = Task("sums", "1", tuple(items), numeric)
    program = chain_of_thought([Item("x", "1 + 1?", "2", rationale="1 and 1 are 2.")], sampling=WARM)
    if samples > 1:
        program = self_consistency(program, samples)
    evaluate(task, program, ScriptedLM(replies), tmp_path, model="m", allow_cut=True)
    return tmp_path


def test_every_prompt_reply_vote_and_grade_is_on_the_page(tmp_path: Path) -> None:
    replies = ["The answer is 2.", "The answer is 9.", "nothing", "The answer is 9."] * 4
    data = data_of(answers_page(evaluation_files(evaluated(tmp_path, replies, samples=4))))
    [evaluation] = data["evaluations"]
    lines = [json.loads(line) for line in (tmp_path / evaluation["file"]).read_text().splitlines()]
    assert evaluation["readings"] == ["accuracy_strict", "accuracy_lenient"]
    for line, item in zip(lines, evaluation["items"], strict=True):
        assert len(item["samples"]) == 4
        for sample, shown in zip(line["samples"], item["samples"], strict=True):
            [link] = shown["chain"]
            assert text_of(data, link["prompt"]) == sample["prompts"][0]
            assert data["texts"][link["reply"]] == sample["completions"][0]
        assert [(data["texts"][answer], n) for answer, n in item["votes"]["accuracy_strict"]] == [
            ("9", 2),
            ("2", 1),
        ]
        assert item["elected"] == {"accuracy_strict": 1, "accuracy_lenient": 1}
        assert [each["readings"]["accuracy_strict"] is None for each in item["samples"]] == [
            False,
            False,
            True,
            False,
        ]
        assert data["texts"][item["grades"]["accuracy_strict"][0]] == "9"


def test_a_prompt_of_two_stages_is_stored_in_pieces_and_whole_again(tmp_path: Path) -> None:
    task = Task("sums", "1", NUMBERS, numeric)
    evaluate(
        task, chain_of_thought(), ScriptedLM(lambda prompt: f" so {len(str(prompt))}"), tmp_path, model="m"
    )
    data = data_of(answers_page(evaluation_files(tmp_path)))
    [evaluation] = data["evaluations"]
    lines = [json.loads(line) for line in (tmp_path / evaluation["file"]).read_text().splitlines()]
    for line, item in zip(lines, evaluation["items"], strict=True):
        assert [text_of(data, link["prompt"]) for link in item["chain"]] == line["prompts"]
        assert len(item["chain"][1]["prompt"]) == 3, "the first prompt, its reply, the trigger"


def test_exemplars_are_stored_once(tmp_path: Path) -> None:
    shown = [Item(f"e{n}", f"A long question {n} {'x' * 300}?", "1") for n in range(3)]
    evaluate(Task("sums", "1", NUMBERS, numeric), few_shot(shown), ScriptedLM(["5"] * 4), tmp_path, model="m")
    page = answers_page(evaluation_files(tmp_path))
    data = data_of(page)
    assert page.count("A long question 2") == 1
    [evaluation] = data["evaluations"]
    parts = evaluation["items"][0]["chain"][0]["prompt"]
    assert [is_shared for _, _, is_shared in parts] == [True, False]
    assert data["texts"][parts[1][1]] == "Q: What is 0 + 2?\nA:"


def test_scores_of_choices_and_chats_are_on_the_page(tmp_path: Path) -> None:
    items = (Item("a", "Red or blue?", "red", choices=("red", "blue")),)
    evaluate(Task("colours", "1", items, choice), likelihood(), ScriptedLM([]), tmp_path, model="m")
    chat = few_shot([Item("e", "Big?", "no")], chat=True)
    evaluate(Task("talk", "1", items, exact), chat, ScriptedLM(["red"]), tmp_path, model="m")
    data = data_of(answers_page(sorted(evaluation_files(tmp_path))))
    scored, talked = data["evaluations"]
    assert [data["texts"][score[0]] for score in scored["items"][0]["scores"]] == [" red", " blue"]
    assert scored["items"][0]["scores"][0][1:] == [-1.0, 1, None, None]
    assert scored["items"][0]["grades"]["accuracy"][2], "a tie"
    roles = [role for role, _, _ in talked["items"][0]["chain"][0]["prompt"]]
    assert roles == ["user", "assistant", "user"]


def test_impossible_choices_leave_the_page_readable(tmp_path: Path) -> None:
    items = (Item("a", "Red or blue?", "red", choices=("red", "blue")),)
    lm = ScriptedLM([], lambda _, text: -math.inf if "blue" in text else -1.0)
    evaluate(Task("colours", "1", items, choice), likelihood(), lm, tmp_path, model="m")
    page = answers_page(evaluation_files(tmp_path))
    assert "Infinity" not in page.partition('id="data">')[2].partition("</script>")[0]
    assert [score[1] for score in data_of(page)["evaluations"][0]["items"][0]["scores"]] == [-1.0, None]


def test_evaluations_are_comparable_if_they_share_items_with_equal_answers(tmp_path: Path) -> None:
    evaluated(tmp_path, ["2"] * 4)
    evaluated(tmp_path, ["2"] * 8, samples=2)
    other = Task("other", "1", tuple(Item(str(n), "?", str(n)) for n in range(4)), numeric)
    evaluate(other, chain_of_thought(), ScriptedLM(["2"] * 8), tmp_path, model="m")
    evaluations = data_of(answers_page(sorted(evaluation_files(tmp_path))))["evaluations"]
    assert [each["name"].split(".")[0] for each in evaluations] == ["other", "sums", "sums"]
    assert [each["comparable"] for each in evaluations] == [[], [2], [1]]


def test_hostile_texts_are_data(tmp_path: Path) -> None:
    items = (Item(HOSTILE, f"{HOSTILE}?", "1"), Item("b", "1 + 1?", "2"))
    data = data_of(answers_page(evaluation_files(evaluated(tmp_path, [HOSTILE, "2"], items))))
    item = data["evaluations"][0]["items"][0]
    assert item["id"] == HOSTILE
    assert data["texts"][item["chain"][0]["reply"]] == HOSTILE


def test_the_longest_texts_are_cut_to_one_length(tmp_path: Path) -> None:
    long = "begin" + "x" * 50_000 + "end"
    folder = evaluated(tmp_path, [long, "y" * 3_000, "The answer is 4.", "5"])
    data = data_of(answers_page(evaluation_files(folder), budget=8_000))
    sizes = [
        sum(map(len, (text[0], text[2]))) if isinstance(text, list) else len(text) for text in data["texts"]
    ]
    assert sum(sizes) <= 8_000
    [cut] = [text for text in data["texts"] if isinstance(text, list) and text[0].startswith("begin")]
    assert cut[2].endswith("end")
    assert len(cut[0]) + cut[1] + len(cut[2]) == len(long)
    assert "The answer is 4." in data["texts"], "short texts stay whole"


@pytest.mark.parametrize(
    ("lengths", "budget", "limit"),
    [
        ([1, 2, 3], 6, None),
        ([1, 2, 3], 5, 2),
        ([10, 10], 7, 3),
        ([1, 100, 100], 101, 50),
        ([5], 0, 0),
        ([], 0, None),
    ],
)
def test_the_level_by_hand(lengths: list[int], budget: int, limit: int | None) -> None:
    assert level(lengths, budget) == limit


def test_votes_by_hand() -> None:
    samples = [{"readings": {"strict": answer}} for answer in ("No", None, "yes.", "Yes", "no ", "YES")]
    assert votes(samples, "strict") == [("yes.", 3), ("No", 2)]
    assert votes([{}], "strict") == []


def test_1319_items_of_40_samples_make_a_page_of_bounded_size(tmp_path: Path) -> None:
    """110 MB of lines in the shape of an evaluation's."""
    path = tmp_path / "gsm8k.many.8-shot.jsonl"
    grades = {"accuracy_strict": {"extracted": "1", "correct": True}}
    with path.open("w") as file:
        for item in range(1319):
            prompt = "exemplar\n\n" * 100 + f"Q: question {item}?\nA:"
            samples = [
                {"prompts": [prompt], "completions": [f"{item} {n} " + "step " * 150], "cut": False}
                for n in range(40)
            ]
            row = {
                **samples[0],
                "id": str(item),
                "answer": "1",
                "grades": grades,
                "scores": [],
                "samples": samples,
            }
            file.write(json.dumps({**row, "evaluation": "d"}) + "\n")
    page = write_answers(tmp_path)
    assert page is not None
    assert page.stat().st_size < 25_000_000
    assert "characters" in page.read_text()


def test_a_folder_of_evaluations_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write_answers(tmp_path) is None
    assert cli.main(["report", str(evaluated(tmp_path, ["2"] * 4))]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "answers.html")
    (tmp_path / "notes.jsonl").write_text('{"id": 1}\nnot JSON')
    assert len(evaluation_files(tmp_path)) == 1, "other files stay out"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    [path] = evaluation_files(evaluated(tmp_path, ["2"] * 4))
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(CamelidError, match=rf"{re.escape(path.name)}:5"):
        write_answers(tmp_path)
    path.write_text(path.read_text().removesuffix("{\n") + '{"id": 3}\n')
    with pytest.raises(CamelidError, match=re.escape(path.name)):
        write_answers(tmp_path)


def dom_of(page: Path, view: str, profile: Path) -> str:
    """The page's document in a browser that opened it with this view."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile}", "--dump-dom", f"{page.as_uri()}#{view}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("chromium did not start in time")
    return done.stdout.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_two_evaluations_are_compared_in_a_browser(tmp_path: Path) -> None:
    """The vote of three samples is right about questions 0 and 1, single replies about 0 and 2."""
    items = NUMBERS[:3]
    evaluated(tmp_path, ["2", "5", "4"], items)
    replies = ["2", "2", "9", "3", "The answer is 3.", "7", "8", "8", "nothing"]
    page = write_answers(evaluated(tmp_path, replies, items, samples=3))
    assert page is not None
    names = [each["name"] for each in data_of(page.read_text())["evaluations"]]
    vote = next(at for at, name in enumerate(names) if "consistency" in name)
    view = f"first={vote}&second={1 - vote}&reading=accuracy_lenient&show=right+only+here&open=1"
    body = dom_of(page, view, tmp_path / "profile").partition("<main>")[2].partition("</main>")[0]
    counts = dict(re.findall(r">(right[a-z ]*) (\d+)</button>", body))
    assert counts == {
        "right": "2", "right only here": "1", "right only there": "1", "right in both": "1", "right in "
            "neither": "0"
    }  # fmt: skip
    assert body.count('class="item"') == 1
    assert "1 of 3 items" in body
    assert body.count('class="sample"') == 3
    assert "elected by" in body
    assert "<td>3</td><td>2</td>" in body, "two votes for 3"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_in_a_browser_shows_hostile_texts_as_text(tmp_path: Path) -> None:
    items = (Item("one", "1 + 1?", "2"), Item("two", f"{HOSTILE}?", "3"), Item("three", "1 + 2?", "3"))
    page = write_answers(evaluated(tmp_path, ["2", f"{HOSTILE} The answer is 9.", "no idea"], items))
    assert page is not None
    dom = dom_of(page, "show=wrong&open=two", tmp_path / "profile")
    assert "<title>Answers</title>" in dom
    assert "owned'&lt;/script&gt;" in dom
    assert "<img" not in dom
    body = dom.partition("<main>")[2].partition("</main>")[0]
    assert "<mark>U+202E</mark>" in body
    assert "\u202e" not in body
    counts = dict(re.findall(r">(all|right|wrong|unparsed|cut) (\d+)</button>", body))
    assert counts == {"all": "3", "right": "1", "wrong": "1", "unparsed": "1", "cut": "0"}
    assert body.count('class="item"') == 1
    assert "right answer: 3" in body
