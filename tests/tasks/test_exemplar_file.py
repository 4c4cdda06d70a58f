"""Exemplars read from files: their wording, and those that are refused."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.methods import Method
from camelid.lm.scripted import ScriptedLM
from camelid.tasks.exemplar_file import read_exemplar_file
from camelid.tasks.task import Task, load_task

SO = "Q: {question}\\nA: {rationale} So the answer is {answer}.\\n\\n"
PAPERS = Path("../shared/methods/exemplars")


def exemplars(tmp_path: Path, *rows: object, prompt_format: str = SO, **more: object) -> Path:
    path = tmp_path / "exemplars.json"
    path.write_text(json.dumps({"name": "e", "prompt_format": prompt_format, "exemplars": rows, **more}))
    return path


def coins(tmp_path: Path) -> Task:
    path = tmp_path / "coins.jsonl"
    path.write_text('{"question": "Still  heads up?", "answer": "yes"}\n')
    return load_task("coin_flip", data=path)


def prompt(task: Task, **settings: object) -> str:
    lm = ScriptedLM([" So the answer is yes."] * 2)
    Method(**{"program": "chain_of_thought", **settings}).program_for(task)(lm, task.items[:1])  # type: ignore[arg-type]
    return str(lm.prompts[0])


def test_the_wording_is_that_of_the_file(tmp_path: Path) -> None:
    row = {"question": "Heads up?", "rationale": "It was flipped.", "answer": "no"}
    path = exemplars(tmp_path, row)
    assert prompt(coins(tmp_path), shots=1, exemplars=path) == (
        "Q: Heads up?\nA: It was flipped. So the answer is no.\n\nQ: Still  heads up?\nA:"
    )
    human = "{preamble}\\n\\nHuman: {question}\\nExplanation: {rationale}\\n{answer}\\n\\n"
    path = exemplars(tmp_path, row, prompt_format=human, preamble="Coins {have} sides.")
    assert prompt(coins(tmp_path), shots=1, exemplars=path) == (
        "Coins {have} sides.\n\nHuman: Heads up?\nExplanation: It was flipped.\nno\n\n"
        "Human: Still  heads up?\nExplanation:"
    )
    assert prompt(coins(tmp_path), shots=1, exemplars=path, program="few_shot") == (
        "Coins {have} sides.\n\nHuman: Heads up?\nExplanation: no\n\nHuman: Still  heads up?\nExplanation:"
    )


def test_choices_have_the_letters_of_the_exemplars(tmp_path: Path) -> None:
    data = tmp_path / "aqua.jsonl"
    data.write_text(json.dumps({"question": "1 + 1?", "options": ["A)2", "B)3"], "correct": "A"}) + "\n")
    task = load_task("aqua", data=data)
    row = {"question": "1 + 2? Answer Choices: (a) 2 (b) 3", "rationale": "It is 3.", "answer": "(b)"}
    path = exemplars(
        tmp_path, row, prompt_format="Q: {question}\\nA: {rationale} The answer is {answer}.\\n\\n"
    )
    assert prompt(task, shots=1, exemplars=path) == (
        "Q: 1 + 2? Answer Choices: (a) 2 (b) 3\nA: It is 3. The answer is (b).\n\n"
        "Q: 1 + 1? Answer Choices: (a) 2 (b) 3\nA:"
    )
    leaked = exemplars(tmp_path, {**row, "question": "1 + 1? Answer Choices: (a) 2 (b) 3", "answer": "(a)"})
    with pytest.raises(CamelidError, match="the exemplar 'exemplars-0' is itself one of the questions"):
        prompt(task, shots=1, exemplars=leaked)


def test_exemplars_among_the_questions_are_refused(tmp_path: Path) -> None:
    path = exemplars(tmp_path, {"question": "still heads UP?", "rationale": "r", "answer": "yes"})
    with pytest.raises(CamelidError, match="itself one of the questions"):
        prompt(coins(tmp_path), shots=1, exemplars=path)


def test_rows_of_the_task_are_exemplars_too(tmp_path: Path) -> None:
    path = tmp_path / "more.jsonl"
    path.write_text('{"question": "Heads?", "answer": "no", "rationale": "Flipped."}\n')
    assert "A: Flipped. So the answer is no." in prompt(coins(tmp_path), shots=1, exemplars=path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"prompt_format": SO}, "'exemplars' must be a list"),
        (
            {"prompt_format": SO, "exemplars": [{"question": "q"}]},
            r"exemplars\[0\]: an exemplar needs the texts",
        ),
        (
            {"prompt_format": SO, "exemplars": [{"question": "q", "answer": " "}]},
            r"\[0\]: the answer is empty",
        ),
        (
            {"prompt_format": "Q: {question}", "exemplars": [{}]},
            "prompt_format must have {question} and then",
        ),
        ({"prompt_format": "{answer} {question}", "exemplars": [{}]}, "prompt_format must have {question}"),
        (
            {"prompt_format": "{question} {x} {answer}", "exemplars": [{}]},
            "prompt_format must have {question}",
        ),
        ({"prompt_format": "{question} {answer", "exemplars": [{}]}, "prompt_format: "),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "exemplars.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CamelidError, match=message):
        read_exemplar_file(path)
    path.write_text('{"prompt_format": ')
    with pytest.raises(CamelidError, match=r"exemplars\.json: not a JSON document"):
        read_exemplar_file(path)


def test_exemplars_need_shots(tmp_path: Path) -> None:
    path = exemplars(tmp_path, {"question": "q", "answer": "yes"})
    with pytest.raises(WrongCall, match="--exemplars needs --shots K"):
        prompt(coins(tmp_path), exemplars=path)
    with pytest.raises(CamelidError, match="has no worked steps"):
        prompt(coins(tmp_path), exemplars=path, shots=1)


@pytest.mark.parametrize("name", [path.name for path in sorted(PAPERS.glob("*.json"))])
def test_published_exemplars(name: str) -> None:
    path = PAPERS / name
    found = read_exemplar_file(path)
    if "prompt_format" not in json.loads(path.read_text()):
        assert found is None
        return
    assert found is not None
    wording = found.wording()
    document = json.loads(path.read_text())
    item, row = found.items[0], document["exemplars"][0]
    shown = wording.question.format(question=item.question) + wording.answer.format(
        answer=wording.reasoned.format(rationale=item.rationale, answer=item.answer)
    )
    whole = document["prompt_format"].replace("\\n", "\n")
    preamble = document.get("preamble", "")
    expected = whole.format(**{"preamble": preamble, "rationale": "", **row})
    assert wording.preamble + shown + wording.separator == expected


@pytest.mark.parametrize(
    ("name", "data", "file", "shots"),
    [
        ("gsm8k", "gsm8k/test.jsonl.gz", "math_word_problems", 8),
        ("aqua", "aqua/test.json", "aqua", 4),
        ("commonsenseqa", "commonsenseqa/dev_rand_split.jsonl.gz", "csqa", 7),
        ("coin_flip", "coin_flip/coin_flip.json", "coin_flip", 8),
        ("last_letters", "last_letters/last_letters.json", "last_letter_concatenation", 4),
    ],
)
def test_published_prompts(name: str, data: str, file: str, shots: int) -> None:
    path, exemplar_path = Path("../shared/data/reasoning") / data, PAPERS / f"{file}.json"
    if not path.exists() or not exemplar_path.exists():
        pytest.skip("the published data and exemplars are not here")
    sent = prompt(load_task(name, data=path, limit=1), shots=shots, exemplars=exemplar_path)
    document = json.loads(exemplar_path.read_text())
    worded = document["prompt_format"].replace("\\n", "\n")
    assert sent.startswith("".join(worded.format(**row) for row in document["exemplars"]))


@pytest.mark.parametrize(
    ("name", "data", "file"),
    [
        ("date_understanding", "bigbench/date_understanding_task.json", "date_understanding"),
        ("sports_understanding", "bigbench/sports_understanding_task.json.gz", "sports_understanding"),
        ("strategyqa", "strategyqa/bigbench_task.json.gz", "strategyqa"),
    ],
)
def test_published_exemplars_among_the_questions(name: str, data: str, file: str) -> None:
    """The papers took these from the data itself, so that our own are needed for a clean evaluation."""
    path = Path("../shared/data/reasoning") / data
    if not path.exists():
        pytest.skip("the published data are not here")
    found = read_exemplar_file(PAPERS / f"{file}.json")
    assert found is not None
    task = load_task(name, data=path)
    leaked = [item for item in found.items if item.asked in task.questions]
    if leaked:
        with pytest.raises(CamelidError, match="itself one of the questions"):
            prompt(task, shots=len(found.items), exemplars=PAPERS / f"{file}.json")
    else:
        assert prompt(task, shots=len(found.items), exemplars=PAPERS / f"{file}.json")
