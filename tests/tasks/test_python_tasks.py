"""Tasks of users as Python files, and the table of tasks in the documentation."""

import re
import runpy
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.evals.stage import load_tasks
from camelid.lm.scripted import ScriptedLM
from camelid.tasks.task import load_task

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reasoning_tasks.md"
DATASET = """
from camelid.tasks.graders import exact
from camelid.tasks.reasoning import Dataset

DATASET = Dataset("capitals", 1, lambda row: {"question": row["land"] + "?", "answer": row["city"]}, exact, "here")
"""


def test_the_task_of_the_documentation(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1].count("\n") <= 32
    path = tmp_path / "my_task.py"
    path.write_text(found[1])
    [task] = load_tasks([str(path)], [], 5)
    assert (task.name, len(task.items), len(task.questions)) == ("roman", 5, 100)
    assert task.version.startswith("1+sha256:")
    lm = ScriptedLM(["The answer is 1."] * 5)
    evaluation = evaluate(task, Method("chain_of_thought", shots=4).program_for(task), lm)
    assert evaluation.grades("accuracy_strict") == [True, False, False, False, False]
    assert "Which number is the Roman numeral XIV?\nA: 10 + 4 = 14. The answer is 14." in str(lm.prompts[0])
    path.write_text(found[1].replace("(14, 59", "(1, 59"))
    with pytest.raises(CamelidError, match="the exemplar '1' is itself one of the questions"):
        Method("chain_of_thought", shots=4).program_for(load_task(path))


def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    path, rows = tmp_path / "capitals.py", tmp_path / "rows.jsonl"
    path.write_text(DATASET)
    rows.write_text('{"land": "Peru", "city": "Lima"}\n{"land": "Fiji"}\n')
    with pytest.raises(CamelidError, match=r"rows\.jsonl:2: not a row of capitals: there is no 'city'"):
        load_tasks([str(path)], [rows], None)
    rows.write_text('{"land": "Peru", "city": "Lima"}\n')
    [task] = load_tasks([str(path)], [rows], None)
    assert task.items[0].question == "Peru?"
    with pytest.raises(WrongCall, match="pass --data FILE"):
        load_task(path)
    with pytest.raises(WrongCall, match="--data is given 0 times for 1 published tasks"):
        load_tasks([str(path)], [], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines neither; a task file must define either TASK"),
        ("TASK = 1\nDATASET = 2\n", "defines TASK and DATASET; a task file must"),
        ("TASK = 5\n", "TASK must be a camelid.tasks.task.Task .* not a int"),
        ("x = 1\nTASK = 1 / 0\n", r"my_task\.py:2: ZeroDivisionError"),
        ("x = 1\ny = (\n", r"my_task\.py:2: SyntaxError"),
        (
            "from camelid.tasks.item import Item\n\nTASK = Item('1', 'q', ' ')\n",
            r"my_task\.py:3: the answer is empty",
        ),
        ("import nothing_like_this\n", r"my_task\.py:1: ModuleNotFoundError"),
    ],
)
def test_files_that_do_not_define_a_task(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "my_task.py"
    path.write_text(text)
    with pytest.raises(CamelidError, match=message):
        load_task(path)


def test_a_task_without_items_or_with_data(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    head = "from camelid.tasks.graders import exact\nfrom camelid.tasks.item import Item\nfrom camelid.tasks.task import Task\n"
    path.write_text(head + "TASK = Task('mine', '1', (), exact)\n")
    with pytest.raises(CamelidError, match="TASK has no items"):
        load_task(path)
    path.write_text(head + "TASK = Task('mine', '1', (Item('1', 'q', 'a'),), exact)\n")
    with pytest.raises(WrongCall, match="leave out --data"):
        load_task(path, data=path)


def test_the_table_of_tasks_is_as_the_script_writes_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == runpy.run_path(str(ROOT / "docs" / "write_tasks.py"))["written"](page), (
        "run: python docs/write_tasks.py"
    )
