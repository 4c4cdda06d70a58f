"""How much accuracy depends on order, choice, number and wording, on one page."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.methods import Method
from camelid.evals.variants import CUES, Triggers, variants
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.tasks.graders import choice, numeric
from camelid.tasks.item import Item
from camelid.tasks.task import Task, load_task
from camelid.workflows import ladder, sensitivity

ROWS = [{"question": f"Tom has {n} pears and finds 2. How many?", "answer": str(n + 2)} for n in range(3)]
POOL = tuple(
    Item(f"e{n}", f"{n} and 1?", str(n + 1), rationale=f"One more than {n} is {n + 1}.") for n in range(6)
)
SUMS = Task("sums", "1", (Item("0", "2 and 2?", "4"),), numeric, exemplars=POOL)
LABELS = ("yes", "no")


def labelled(name: str, text: str, answer: str) -> Item:
    return Item(name, text, answer, choices=LABELS)


REVIEWS = Task(
    "reviews",
    "1",
    tuple(labelled(f"{n}", f"Film {n}: {'fine' if n % 2 else 'dull'}?", LABELS[1 - n % 2]) for n in range(6)),
    choice,
    exemplars=tuple(labelled(f"e{n}", f"Play {n}?", LABELS[n % 2]) for n in range(4)),
)


def test_the_variants_of_each_dimension() -> None:
    made = list(variants(SUMS, Method(), count=5))
    shown = {
        name: [tuple(item.id for item in each.exemplars) for each in made if each.dimension == name]
        for name in ("order", "choice", "number")
    }
    first = ("e0", "e1", "e2", "e3")
    assert shown["order"][0] == first
    assert len(set(shown["order"])) == 5
    assert all(sorted(order) == list(first) for order in shown["order"])
    assert shown["choice"][0] == first
    assert len(set(shown["choice"])) == 5
    assert all(list(each) == sorted(each) and len(each) == 4 for each in shown["choice"])
    assert [len(each) for each in shown["number"]] == [0, 1, 2, 4, 6]
    names = {each.dimension: [] for each in made} | {}
    for each in made:
        names[each.dimension].append(each.name)
    assert names["trigger"] == list(CUES)
    assert names["wording"] == ["usual", "question_answer", "problem_solution", "input_output", "exercise"]
    assert len({each.program.name for each in made}) == len(made), "each has a file of its own"
    again = list(variants(SUMS, Method(), count=5))
    assert [each.exemplars for each in again] == [each.exemplars for each in made], "the draws are seeded"


def test_few_orders_are_all_tried() -> None:
    made = [each for each in variants(SUMS, Method(shots=2), count=8) if each.dimension == "order"]
    assert [tuple(item.id for item in each.exemplars) for each in made] == [("e0", "e1"), ("e1", "e0")]


def test_more_variants_begin_with_the_same_ones() -> None:
    few, many = (list(variants(SUMS, Method(), count=count)) for count in (3, 24))
    for dimension in ("order", "choice"):
        small, large = ([each for each in made if each.dimension == dimension] for made in (few, many))
        assert [each.exemplars for each in large][:3] == [each.exemplars for each in small]
    names = [(each.dimension, tuple(item.id for item in each.exemplars)) for each in many]
    assert len({shown for dimension, shown in names if dimension == "order"}) == 24, "all 4! orders"
    assert len({shown for dimension, shown in names if dimension == "choice"}) == 15, "all 4 of 6"


def test_exemplars_without_steps_are_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shown.jsonl").write_text('{"question": "1 and 1?", "answer": "#### 2"}\n' * 4)
    (tmp_path / "data.jsonl").write_text(json.dumps({**ROWS[0], "answer": "#### 2"}) + "\n")
    monkeypatch.setattr(sensitivity, "open_on", lambda *_: pytest.fail("the model is not needed"))
    recipe = EvaluateRecipe(
        model="m",
        task=("gsm8k",),
        data=(tmp_path / "data.jsonl",),
        writers=(tmp_path / "shown.jsonl",),
        sensitivity=True,
        out=tmp_path / "out",
    )
    with pytest.raises(WrongCall, match="no worked steps"):
        ladder.evaluate_or_climb(recipe)


def test_the_usual_triggers_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "triggers.json"
    table: dict[str, Any] = {"stage1_suffix": "Let's think.", "answer_triggers": {"sums": "So it is"}}
    path.write_text(json.dumps(table))
    lm = ScriptedLM(lambda _: " 4")
    made = {
        each.name: each.program
        for each in variants(SUMS, Method(), triggers=Triggers.read(path))
        if each.dimension == "trigger"
    }
    assert list(made) == [*CUES, "file_0", "answer_file"]
    made["file_0"](lm, SUMS.items)
    made["answer_file"](lm, SUMS.items)
    assert lm.prompts[0] == "Q: 2 and 2?\nA: Let's think."
    assert str(lm.prompts[3]).endswith("\nSo it is")
    for wrong in ({}, {"stage1_suffix": 3}, {"stage1_suffix": [""]}, {"answer_triggers": {"a": 1}}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(CamelidError, match="give stage1_suffix"):
            Triggers.read(path)


def test_exemplars_that_are_asked_are_refused() -> None:
    task = Task("sums", "1", (Item("0", "2 and 1?", "3"),), numeric, exemplars=POOL)
    with pytest.raises(CamelidError, match="'e2' is itself one of the questions"):
        list(variants(task, Method()))
    for wrong, message in (
        (Method(shots=9), "there are 6 exemplars"),
        (Method(program="least_to_most"), "has its own"),
        (Method(program="likelihood", answer_context=True), "leave out --answer-context"),
    ):
        with pytest.raises(WrongCall, match=message):
            list(variants(SUMS, wrong))


def test_the_published_annotators_and_triggers(tmp_path: Path, shared: Path) -> None:
    published = shared / "methods" / "exemplars"
    data = tmp_path / "test.jsonl"
    data.write_text(json.dumps({**ROWS[0], "answer": "#### 2"}) + "\n")
    made = list(
        variants(
            load_task("gsm8k", data=data),
            Method(),
            writers=[
                published / f"math_word_problems{end}.json" for end in ("", "_annotator_b", "_annotator_c")
            ],
            triggers=Triggers.read(published / "zero_shot_cot_triggers.json"),
        )
    )
    written = [each for each in made if each.dimension == "writer"]
    assert len(written) == 4
    assert len({each.exemplars[0].rationale for each in written}) == 4
    assert len({each.exemplars[0].question for each in written[1:]}) == 1, "the same questions, other words"
    assert [each.name for each in made if each.dimension == "trigger"] == [*CUES, "answer_file"]


def test_the_seed_draws_other_orders() -> None:
    one, other = (
        [each.exemplars for each in variants(SUMS, Method(), seed=seed) if each.dimension == "order"]
        for seed in (0, 1)
    )
    assert one[0] == other[0], "the usual order"
    assert one[1:] != other[1:]


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def run(lm: ScriptedLM, made: Task | None, **more: Any) -> Path:
        monkeypatch.setattr(sensitivity, "open_on", lambda *_: lm)
        if made is not None:
            monkeypatch.setattr(sensitivity, "load_tasks", lambda *_: [made])
        recipe = EvaluateRecipe(
            **{"model": "m", "task": ("x",), "sensitivity": True, "out": tmp_path / "out", **more}
        )
        ladder.evaluate_or_climb(recipe)
        return tmp_path / "out"

    return run


def test_the_page_shows_the_spread_and_a_second_call_asks_nothing(
    tmp_path: Path, measure: Callable[..., Path]
) -> None:
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps({**row, "answer": f"#### {row['answer']}"}) + "\n" for row in ROWS))

    def reply(prompt: Prompt) -> str:
        """Right with at least two exemplars."""
        count = int(str(prompt).rsplit("Tom has ", 1)[1].split()[0])
        return f" The answer is {count + (2 if str(prompt).count('The answer is') >= 2 else 7)}."

    lm = ScriptedLM(reply)
    out = measure(lm, None, task=("gsm8k",), data=(data,), variants=3)
    found = json.loads((out / "gsm8k.sensitivity.json").read_text())["accuracy"]
    assert found["order"] == {"0": 1.0, "1": 1.0, "2": 1.0}
    assert list(found["number"].values()) == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert set(found["trigger"].values()) == {0.0}
    page = (out / "gsm8k.sensitivity.html").read_text()
    assert "Accuracy changes most with the number of the prompt" in page
    assert (out / "answers.html").exists()
    asked = len(lm.prompts)
    measure(lm, None, task=("gsm8k",), data=(data,), variants=3)
    assert len(lm.prompts) == asked


def test_remedies_over_the_orders(measure: Callable[..., Path]) -> None:
    """A model that repeats the last exemplar's label: calibration undoes that."""

    def logprob(prompt: Prompt, continuation: str) -> float:
        *shown, question = str(prompt).split("\n\n")
        last = shown[-1].rsplit(": ", 1)[1] if shown else ""
        says = "yes" if "fine" in question else "no" if "dull" in question else ""
        return -5.0 + 2 * (continuation.strip() == last) + (continuation.strip() == says)

    lm = ScriptedLM(lambda prompt: f" Film {len(str(prompt)) % 7} {len(lm.prompts)}: dull?", logprob)
    out = measure(lm, REVIEWS, variants=6)
    page = (out / "reviews.sensitivity.html").read_text()
    for words in ("contextual calibration", "chosen by GlobalE", "chosen by LocalE"):
        assert words in page
    rows = [json.loads(line) for path in out.glob("*order-*.jsonl") for line in path.read_text().splitlines()]
    assert all(row["grades"]["accuracy_calibrated"]["correct"] for row in rows)
    assert not all(row["grades"]["accuracy"]["correct"] for row in rows)
    orders = json.loads((out / "reviews.orders.json").read_text())
    assert len(orders["entropies"]) == 6
    asked = len(lm.prompts)
    measure(lm, REVIEWS, variants=6)
    assert len(lm.prompts) == asked, "probing questions are kept"


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    for wrong in ({"ladder": True}, {"samples": 3}, {"text": (tmp_path,)}):
        recipe = EvaluateRecipe(
            **{"model": "m", "task": ("gsm8k",), "sensitivity": True, "out": tmp_path, **wrong}
        )
        with pytest.raises(WrongCall, match="leave out --text, --ladder and --samples"):
            ladder.evaluate_or_climb(recipe)


def test_bars_of_a_dimension_are_in_the_order_of_the_variants() -> None:
    made = [each for each in variants(SUMS, Method()) if each.dimension == "number"]
    assert all(len(one.exemplars) < len(two.exemplars) for one, two in pairwise(made))


def test_a_model_that_always_gives_one_answer_is_named(measure: Callable[..., Path]) -> None:
    lm = ScriptedLM(lambda _: " A film: dull?", lambda _, text: -1.0 - (text.strip() == "yes"))
    page = (measure(lm, REVIEWS, variants=2) / "reviews.sensitivity.html").read_text()
    assert "No variant changes the accuracy" in page
    assert "answer given most" in page
    assert '<td>no</td><td class="number">1.000</td>' in page
