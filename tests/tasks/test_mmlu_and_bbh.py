"""MMLU by letter and by text, with exemplars of the question's subject; BIG-Bench Hard."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.tasks.graders import STRICT
from camelid.tasks.reasoning.big_bench_hard import TASKS
from camelid.tasks.task import load_task

LMEVAL = Path("../shared/data/lmeval")
BBH = Path("../shared/data/reasoning/bbh")


def mmlu_rows(path: Path, name: str, count: int = 1) -> Path:
    rows = [
        {
            "subject": subject,
            "question": f"{name} {n} of {subject}?",
            "choices": ["w", "x", "y", "z"],
            "answer": n % 4,
        }
        for n in range(count)
        for subject in ("high_school_physics", "world_religions")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_mmlu_by_letter(tmp_path: Path) -> None:
    task = load_task("mmlu", data=mmlu_rows(tmp_path / "test.jsonl", "Test", 2))
    dev = mmlu_rows(tmp_path / "dev.jsonl", "Dev", 6)
    scored: list[tuple[str, str]] = []

    def logprob(prompt: Prompt, continuation: str) -> float:
        scored.append((str(prompt), continuation))
        return -1.0 if continuation == " A" else -2.0

    evaluation = evaluate(task, Method(shots=2, exemplars=dev).program_for(task), ScriptedLM([], logprob))
    assert evaluation.grades("accuracy") == [True, True, False, False]
    assert [continuation for _, continuation in scored[:4]] == [" A", " B", " C", " D"]
    assert scored[0][0] == (
        "The following are multiple choice questions (with answers) about high school physics.\n\n"
        "Dev 0 of high_school_physics?\nA. w\nB. x\nC. y\nD. z\nAnswer: A\n\n"
        "Dev 1 of high_school_physics?\nA. w\nB. x\nC. y\nD. z\nAnswer: B\n\n"
        "Test 0 of high_school_physics?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
    )
    with pytest.raises(WrongCall, match="7 exemplars are wanted, but there are 6 about high school physics"):
        evaluate(task, Method(shots=7, exemplars=dev).program_for(task), ScriptedLM([]))


def test_mmlu_by_text(tmp_path: Path) -> None:
    task = load_task("mmlu_text", data=mmlu_rows(tmp_path / "test.jsonl", "Test"))
    asked: list[tuple[Prompt, str]] = []
    lm = ScriptedLM([], lambda prompt, text: asked.append((prompt, text)) or -float(text == " z"))
    evaluate(task, Method().program_for(task), lm)
    assert asked[1] == (
        "The following are questions (with answers) about high school physics.\n\n"
        "Question: Test 0 of high_school_physics?\nAnswer:",
        " x",
    )


def test_mmlu_rows_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"subject": "s", "question": "q", "choices": ["a", "b"], "answer": "C"}\n')
    with pytest.raises(CamelidError, match=r"test\.jsonl:1: .*'answer' is 'C'; allowed: 0, 1"):
        load_task("mmlu", data=path)


@pytest.mark.parametrize("name", ["mmlu", "mmlu_text"])
def test_published_mmlu(name: str) -> None:
    path = LMEVAL / "mmlu.test.jsonl.xz"
    if not path.exists():
        pytest.skip("MMLU is not here")
    task = load_task(name, data=path)
    assert len(task.items) == 14042
    assert len({item.group for item in task.items}) == 57
    program = Method(shots=5, exemplars=LMEVAL / "mmlu.dev.jsonl.xz").program_for(task)
    evaluation = evaluate(task, program, ScriptedLM([]), limit=40)
    assert str(evaluation.records[0].attempt.prompts[0]).count("\nAnswer:") == 6


ROWS = {
    "navigate": [{"input": "Do you return?\nOptions:\n- Yes\n- No", "target": "No"}],
    "snarks": [{"input": "Which?\nOptions:\n(A) one\n(B) two", "target": "(B)"}],
    "web_of_lies": [{"input": "Does Al lie?", "target": "Yes"}],
    "object_counting": [{"input": "I have two cats. How many?", "target": "2"}],
    "word_sorting": [{"input": "Sort: b a", "target": "a b"}],
    "dyck_languages": [{"input": "Complete: [ [", "target": "] ]"}],
    "movie_recommendation": [
        {"input": "Like X:\nOptions:\n(A) Monsters\n(B) Inc", "target": "Monsters, Inc"}
    ],
}
PROMPT = (
    "canary\n-----\nFind it.\n\nQ: Which one?\nOptions:\n(A) this\n(B) that\n"
    "A: Let's think step by step.\nIt is that.\nSo the answer is (B).\n\n"
    "Q: Which other?\nOptions:\n(A) x\n(B) y\nA: Let's think step by step.\nIt is x. So the answer is (A)."
)


def all_tasks(path: Path) -> Path:
    path.write_text(json.dumps({name: {"canary": "c", "examples": rows} for name, rows in ROWS.items()}))
    return path


@pytest.mark.parametrize(
    ("name", "reply", "right"),
    [
        ("navigate", "So the answer is No.", True),
        ("navigate", "So the answer is Yes.", False),
        ("snarks", "So the answer is (B).", True),
        ("snarks", "So the answer is (A).", False),
        ("web_of_lies", "So the answer is Yes.", True),
        ("object_counting", "So the answer is 2.", True),
        ("object_counting", "So the answer is 22.", False),
        ("word_sorting", "So the answer is a b.", True),
        ("word_sorting", "So the answer is b a.", False),
        ("dyck_languages", "So the answer is ] ].", True),
        ("dyck_languages", "So the answer is ] }.", False),
        ("movie_recommendation", "So the answer is Monsters, Inc.", True),
    ],
)
def test_big_bench_hard(tmp_path: Path, name: str, reply: str, right: bool) -> None:
    task = load_task(f"bbh/{name}", data=all_tasks(tmp_path / "all.json"))
    assert task.grader(task.items[0], reply)[STRICT].correct == right


def test_prompts_of_big_bench_hard(tmp_path: Path) -> None:
    task = load_task("bbh/snarks", data=all_tasks(tmp_path / "all.json"))
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"snarks": PROMPT}))
    lm = ScriptedLM([" So the answer is (B)."])
    program = Method("chain_of_thought", shots=2, exemplars=prompts).program_for(task)
    assert evaluate(task, program, lm).grades(STRICT) == [True]
    assert lm.prompts == [
        "Q: Which one?\nOptions:\n(A) this\n(B) that\nA: Let's think step by step.\nIt is that. "
        "So the answer is (B)."
        "\n\nQ: Which other?\nOptions:\n(A) x\n(B) y\nA: Let's think step by step.\nIt is x. "
        "So the answer is (A)."
        "\n\nQ: Which?\nOptions:\n(A) one\n(B) two\nA:"
    ]


def test_one_task_in_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "web_of_lies.json"
    path.write_text(json.dumps({"canary": "c", "examples": ROWS["web_of_lies"]}))
    assert len(load_task("bbh/web_of_lies", data=path).items) == 1
    with pytest.raises(WrongCall, match="bbh/weaving: no such task; the tasks are boolean_expressions"):
        load_task("bbh/weaving", data=path)
    with pytest.raises(WrongCall, match="bbh/: no such task"):
        load_task("bbh", data=path)
    with pytest.raises(CamelidError, match=r"all\.json: there is no 'ruin_names' in it; it has navigate"):
        load_task("bbh/ruin_names", data=all_tasks(tmp_path / "all.json"))


def test_published_big_bench_hard() -> None:
    path = BBH / "bbh_all_tasks.json.gz"
    if not path.exists():
        pytest.skip("BIG-Bench Hard is not here")
    count = 0
    for name in TASKS:
        task = load_task(f"bbh/{name}", data=path)
        count += len(task.items)
        for item in task.items:
            assert task.grader(item, f"So the answer is {item.answer}.")[STRICT].correct, item
            if item.lettered and item.choices:
                letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[item.choices.index(item.answer)]
                assert task.grader(item, f"So the answer is ({letter}).")[STRICT].correct, item
        assert not {item.asked for item in task.exemplars} & task.questions
        assert task.read_items is not None
        assert len(task.read_items(BBH / "cot_prompts.json.gz")) == 3
    assert count == 6511
