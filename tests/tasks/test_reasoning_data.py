"""Each data set of questions to reason about: rows in its published forms, and the published files."""

import json
import lzma
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.methods import Method
from camelid.lm.scripted import ScriptedLM
from camelid.tasks.graders import LENIENT, STRICT
from camelid.tasks.reasoning import DATASETS
from camelid.tasks.task import load_task

SHARED = Path("../shared/data/reasoning")
SHELLS = "Joan found 70 shells . She gave Sam some . She has 27 . How many did she give to Sam ? "
DATE = {
    "input": "Yesterday was April 30, 2021. What is the date today in MM/DD/YYYY?",
    "target_scores": {"05/01/2021": 1, "02/23/2021": 0, "03/11/2021": 0},
}
BALLS = {
    "input": "Al has a red ball and Bo has a blue ball. Al and Bo swap. At the end, Al has the ",
    "target_scores": {"red ball.": 0, "blue ball.": 1},
}
STEM = {
    "stem": "Where is a sofa?",
    "choices": [{"label": "A", "text": "sea"}, {"label": "B", "text": "room"}],
}


@pytest.mark.parametrize(
    ("name", "row", "question", "answer", "choices"),
    [
        ("gsm8k", {"question": "How many?", "answer": "How many are 2? ** 1+1=<<1+1=2>>2\n#### 2"},
         "How many?", "2", None),
        ("svamp", {"Body": "A pack costs 76 dollars", "Question": "How much is it?", "Answer": 51.0},
         "A pack costs 76 dollars How much is it?", "51", None),
        ("asdiv", {"input": "How many?", "output": ["9"]}, "How many?", "9", None),
        ("aqua", {"question": "x?", "options": ["A)5(√3 + 1)", "B)6", "C) 7"], "correct": "C"},
         "x?", "7", ("5(√3 + 1)", "6", "7")),
        ("addsub", {"sQuestion": SHELLS, "lSolutions": ["43"]}, SHELLS.strip(), "43", None),
        ("multiarith", {"sQuestion": " How many? ", "lSolutions": [39.0]}, "How many?", "39", None),
        ("singleop", {"input": "How many?", "target": 14.0}, "How many?", "14", None),
        ("gsm_hard", {"input": "How much?", "target": -9867630.0}, "How much?", "-9867630", None),
        ("mawps", {"Question": "number1 and number0 ?", "Numbers": "56.0 9.5", "Answer": 504.0},
         "9.5 and 56 ?", "504", None),
        ("commonsenseqa", {"question": STEM, "answerKey": "B"}, "Where is a sofa?", "room", ("sea", "room")),
        ("commonsenseqa", {"question": "Where?", "answerKey": "A", "choices": {"text": ["sea", "room"], "label": ["A", "B"]}},
         "Where?", "sea", ("sea", "room")),
        ("strategyqa", {"input": "Is it?", "target_scores": {"Yes": 0, "No": 1}, "target": "No. It is not."},
         "Is it?", "no", ("yes", "no")),
        ("strategyqa", {"question": "Is it?", "answer": True, "facts": ["It is."]}, "Is it?", "yes", ("yes", "no")),
        ("sports_understanding", {"input": "Jo beat the buzzer", "target_scores": {"plausible": 0, "implausible": 1}},
         'Is the following sentence plausible? "Jo beat the buzzer."', "no", ("yes", "no")),
        ("date_understanding", DATE, DATE["input"], "05/01/2021", None),
        ("tracking_shuffled_objects", BALLS,
         "Al has a red ball and Bo has a blue ball. Al and Bo swap. At the end, "
             "Al has the \nWhich choice is true ?",
         "blue ball.", ("red ball.", "blue ball.")),
        ("coin_flip", {"question": "Heads up?", "answer": "yes"}, "Heads up?", "yes", ("yes", "no")),
    ],
)  # fmt: skip
def test_rows(
    tmp_path: Path,
    name: str,
    row: dict[str, object],
    question: str,
    answer: str,
    choices: tuple[str, ...] | None,
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    [item] = load_task(name, data=path).items
    assert (item.question, item.answer, item.choices) == (question, answer, choices)


def test_asdiv_in_xml(tmp_path: Path) -> None:
    path = tmp_path / "asdiv.xml.xz"
    problem = "<Problem ID='{}'><Body>Seven apples.</Body><Question>How many?</Question><Answer>{}</Answer></Problem>"
    answers = ["9 (apples)", "5 (years old); 15 (years old)", "Mrs. Hilt", "3:05", "1/2 (pie)"]
    xml = "".join(problem.format(index, answer) for index, answer in enumerate(answers))
    path.write_bytes(lzma.compress(f"<?xml version='1.0'?><File><Set>{xml}</Set></File>".encode()))
    task = load_task("asdiv", data=path)
    assert [item.answer for item in task.items] == ["9", "5; 15", "Mrs. Hilt", "3:05", "1/2"]
    assert task.items[0].question == "Seven apples. How many?"
    replies = ["The answer is 9.", "5; 15", "The answer is Mrs. Hilt.", "3:05", "The answer is 0.5."]
    assert all(
        task.grader(item, reply)[STRICT].correct for item, reply in zip(task.items, replies, strict=True)
    )
    assert not any(task.grader(item, "The answer is 4.")[LENIENT].correct for item in task.items)
    path.write_bytes(lzma.compress(b"<?xml version='1.0'?><File><Problem></File>"))
    with pytest.raises(CamelidError, match=r"not well-formed XML: .*line 1"):
        load_task("asdiv", data=path)


def test_dates_with_choices_are_shuffled_the_same_way_each_time(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    rows = [{**DATE, "input": f"It is {n} today?"} for n in range(20)]
    path.write_text(json.dumps({"name": "dates", "keywords": ["time"], "examples": rows}))
    task = load_task("date_understanding/choices", data=path)
    places = [item.choices.index(item.answer) for item in task.items if item.choices]
    assert set(places) == {0, 1, 2}
    assert load_task("date_understanding/choices", data=path).items == task.items
    lm = ScriptedLM([" It is. So the answer is (A)."] * 20)
    Method("chain_of_thought", shots=6).program_for(task)(lm, task.items[:1])
    prompt = str(lm.prompts[0])
    assert "\nA:The day" not in prompt
    assert "The day before May 1 is April 30. So the answer is (B).\n\nQ:" in prompt
    assert f"Q: It is 0 today? Answer Choices: (A) {task.items[0].choices[0]} (B)" in prompt  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("svamp", {"Body": "b", "Question": "q"}, "there is no 'Answer': its keys are Body, Question"),
        ("svamp", {"Body": "b", "Question": "q", "Answer": None}, "must be a number, not None"),
        ("addsub", {"sQuestion": "q", "lSolutions": [1, 2]}, "a list of one number"),
        ("mawps", {"Question": "number2 ?", "Numbers": "1 2", "Answer": 3}, "no number2 among the 2 numbers"),
        ("aqua", {"question": "q", "options": ["A)1", "B)2"], "correct": "C"}, "'correct' is 'C'; allowed: "
            "A, B"),
        ("aqua", {"question": "q", "options": "A)1", "correct": "A"}, "'options' must be a list"),
        ("commonsenseqa", {"question": STEM}, "there is no 'answerKey'"),
        ("commonsenseqa", {"question": STEM, "answerKey": "E"}, "'answerKey' is 'E'; allowed: A, B"),
        ("strategyqa", {"question": "q", "answer": "maybe"}, "'answer' is 'maybe'; allowed: yes, no"),
        ("date_understanding", {"input": "q", "target_scores": {"a": 0}}, "gives 0 choices the score 1"),
        ("coin_flip", {"question": "q", "answer": "heads"}, "'answer' is 'heads'; allowed: yes, no"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_are_named(
    tmp_path: Path, name: str, row: dict[str, object], message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(CamelidError) as error:
        load_task(name, data=path)
    assert message in str(error.value)
    assert "rows.jsonl:1: not a row of " in str(error.value)


@pytest.mark.parametrize("name", ["coin_flip", "last_letters"])
def test_generated_questions(name: str) -> None:
    for length in (2, 3, 4, 8):
        task = load_task(f"{name}/{length}")
        assert len(task.items) == 500
        assert task.name == f"{name}/{length}"
        shown = {item.question for item in task.exemplars}
        assert len({item.question for item in task.items} | shown) == 500 + len(shown)
    assert load_task(f"{name}/4").items == load_task(f"{name}/4/0").items
    assert load_task(f"{name}/4").items != load_task(f"{name}/4/1").items
    assert len(load_task(f"{name}/4", limit=3).items) == 3


def test_generated_answers() -> None:
    for item in load_task("coin_flip/4").items:
        assert item.question.count("flip the coin") + item.question.count("flips the coin") == 4
        assert item.answer == ("yes" if item.question.count("flips the coin") % 2 == 0 else "no")
    right = [item.answer == "yes" for item in load_task("coin_flip/4").items]
    assert 200 < sum(right) < 300
    for item in load_task("last_letters/3").items:
        words = item.question.split('"')[1].split()
        assert len(words) == 3
        assert item.answer == "".join(word[-1] for word in words)


@pytest.mark.parametrize("setting", ["1", "41", "many", "4/x", "4/1/2", "-2", "", "4/-1"])
def test_lengths_that_are_refused(setting: str) -> None:
    with pytest.raises(WrongCall, match="a length from 2 to 40"):
        load_task(f"coin_flip/{setting}")


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("gsm8k", "gsm8k/test.jsonl.gz", 1319),
        ("gsm8k", "gsm8k/train.jsonl.gz", 7473),
        ("gsm8k", "gsm8k/test_socratic.jsonl.gz", 1319),
        ("gsm_hard", "pal/gsmhardv2.jsonl.gz", 1319),
        ("svamp", "svamp/SVAMP.json.gz", 1000),
        ("asdiv", "asdiv/ASDiv.xml.gz", 2305),
        ("asdiv", "asdiv/ASDiv_active_prompt.json.gz", 2096),
        ("aqua", "aqua/test.json", 254),
        ("aqua", "aqua/original_dev.json", 254),
        ("multiarith", "multiarith/MultiArith.json", 600),
        ("addsub", "addsub/AddSub.json", 395),
        ("singleeq", "singleeq/questions.json", 508),
        ("singleop", "pal/mawpssingleop.jsonl.gz", 562),
        ("mawps", "svamp/mawps-asdiv-a_svamp_train.csv.gz", 3138),
        ("mawps", "svamp/mawps-asdiv-a_svamp_dev.csv.gz", 1000),
        ("commonsenseqa", "commonsenseqa/dev_rand_split.jsonl.gz", 1221),
        ("commonsenseqa", "commonsenseqa/train_rand_split.jsonl.gz", 9741),
        ("commonsenseqa", "../lmeval/commonsense_qa.validation.jsonl.gz", 1221),
        ("strategyqa", "strategyqa/bigbench_task.json.gz", 2290),
        ("strategyqa", "strategyqa/active_prompt_dev.json.gz", 229),
        ("sports_understanding", "bigbench/sports_understanding_task.json.gz", 986),
        ("date_understanding", "bigbench/date_understanding_task.json", 369),
        ("date_understanding/choices", "bigbench/date_understanding_task.json", 369),
        ("tracking_shuffled_objects", "bigbench/tracking_shuffled_objects_task.json.gz", 750),
        ("tracking_shuffled_objects", "bigbench/tracking_shuffled_objects_seven.json.gz", 1750),
        ("coin_flip", "coin_flip/coin_flip.json", 500),
        ("last_letters", "last_letters/last_letters.json", 500),
        ("scan", "scan/tasks_test_length.txt.xz", 3920),
        ("scan", "scan/tasks_train_length.txt.xz", 16990),
    ],
)
def test_published_files(name: str, file: str, count: int) -> None:
    path = SHARED / file
    if not path.exists():
        pytest.skip(f"{file} is not here")
    task = load_task(name, data=path)
    assert len(task.items) == count
    letters = "ABCDEFGHIJ"
    for item in task.items:
        assert task.grader(item, f"Steps. The answer is {item.answer}.")[STRICT].correct, item
        if item.lettered and item.choices:
            right = item.choices.index(item.answer)
            for place, letter in enumerate(letters[: len(item.choices)]):
                is_right = task.grader(item, f"Steps. The answer is ({letter}).")[STRICT].correct
                assert is_right == (place == right or item.choices[place] == item.answer), item
    # No exemplar of ours is a question of the file; SCAN's training set holds all short commands.
    assert (
        "scan/tasks_train" in file or not {item.asked for item in DATASETS[name].exemplars} & task.questions
    )
