"""Arithmetic in chains is computed: results by hand, prompts in order, and chains that must stay as they
are."""

from pathlib import Path

import pytest

from camelid.base.errors import WrongCall
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.lm.interface import Prompt
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.calculator import calculator, corrected, recomputed
from camelid.prompting.ensembles import self_consistency
from camelid.prompting.programs import chain_of_thought, direct
from camelid.tasks.graders import STRICT
from camelid.tasks.item import Item
from camelid.tasks.task import load_task

ITEM = Item("1", "How many?", "18")


@pytest.mark.parametrize(
    ("chain", "right"),
    [
        ("5 + 3 = 9. The answer is 9.", "5 + 3 = 8. The answer is 8."),
        ("She has 16 - 3 - 4 = 8 eggs and gets 8 * 2 = $16. The answer is $16.",
         "She has 16 - 3 - 4 = 9 eggs and gets 9 * 2 = $18. The answer is $18."),
        ("7 x 6 = 45, so 45 / 3 = 15. The answer is 15.", "7 x 6 = 42, so 42 / 3 = 14. The answer is 14."),
        ("12 × 1,000 = 1,200. 1200 + 1 = 1,201.", "12 × 1,000 = 12000. 12000 + 1 = 12001."),
        ("He ate 3. 4 + 5 = 10.", "He ate 3. 4 + 5 = 9."),
        ("(2 + 3) * 4 = 24", "(2 + 3) * 4 = 20"),
        ("$2.50 + $1.25 = $3.85", "$2.50 + $1.25 = $3.75"),
        ("2 + 3 = 5 + 1 = 7", "2 + 3 = 5 + 1 = 6"),
        ("It is 5 + 3 = 9. There are 9 boxes of 9 * 2 = 18.", "It is 5 + 3 = 8. There are 9 boxes of 9 * 2 = "
            "18."),
        ("1 + 1 = 3. 2 + 1 = 3. 3 + 3 = 6.", "1 + 1 = 2. 2 + 1 = 3. 3 + 3 = 6."),
        ("Five friends (2 + 3 = 6) came.", "Five friends (2 + 3 = 5) came."),
        ("<<48/2=25>>", "<<48/2=24>>"),
        ("1 - 4 = 3. The answer is 3.", "1 - 4 = -3. The answer is -3."),
    ],
)  # fmt: skip
def test_equations_are_computed_and_their_results_carried_on(chain: str, right: str) -> None:
    assert recomputed(chain) == right


@pytest.mark.parametrize(
    "chain",
    [
        "",
        "The answer is 5.",
        "10 / 3 = 3.33, about 10 / 3 = 3",
        "2x + 3 = 7, so x = 2",
        "y * 2 + 3 = 7",
        "3 apples + 4 apples = 8",
        "2 apples + 3 - 1 = 9",
        "5% of 20 = 1",
        "5% of 20 - 3 = 2",
        "20% * 50 = 10",
        "1 / 0 = 5",
        "half of 6 + 2 = 5",
        "a = 5",
        "5 = 5",
        "-3 = -4",
        "7 / 2 = 350%",
        "2024-11-05 = today",
        "9 ** 9 ** 9 = 1",
        "3 + 4 = x",
        "72 x1/4 = 18",
        "$2000x 10/100 =$200",
        "15 pages x 1/3 = 5",
        "100/5 = 5A/5",
        "4 - 32 = 2 * x",
        "4 * 20 = 3 x y",
        "600 x 30 = 18 000 watts",
        "from 6:00+48=6:48 PM",
        "17/3 = 5 and 2/3",
        "$2,430 – ($1,250 + $850) = $2,430 – $2,100 = $330",
        "14, 400 / 80 = 180",
        "a total of $100+($100*(10/100) = $110",
        "12 x 1 and 1/4 = 15",
    ],
)
def test_what_is_right_or_not_arithmetic_stays(chain: str) -> None:
    assert recomputed(chain) == chain


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("She sells 48/2 = <<48/2=25>>25 and 1 more.", "She sells 48/2 = <<48/2=24>>"),
        ("<<1+1=2>>2 <<2*.5=2>>2", "<<1+1=2>>2 <<2*.5=1>>"),
        ("<<1+1=2>>2", None),
        ("<<10/3=3.33>>3.33", None),
        ("<<x+1=2>> <<1+1=>", None),
        ("<<1+1=two>>", "<<1+1=2>>"),
    ],
)
def test_the_first_wrong_annotation_is_overwritten(text: str, kept: str | None) -> None:
    assert corrected(text) == kept


def test_the_model_goes_on_from_the_right_result() -> None:
    lm = ScriptedLM(
        [" 48/2 = <<48/2=25>>25 in May, <<25+48=73>>73.", "24 in May, <<24+48=73>>73.", "72 in all."]
    )
    program = calculator(direct(sampling=Sampling(max_new_tokens=90, stop=("\0",))), "annotations")
    [attempt] = program(lm, [ITEM])
    asked = "Q: How many?\nA:"
    assert lm.prompts == [
        asked,
        f"{asked} 48/2 = <<48/2=24>>",
        f"{asked} 48/2 = <<48/2=24>>24 in May, <<24+48=72>>",
    ]
    assert attempt.text == " 48/2 = <<48/2=24>>24 in May, <<24+48=72>>72 in all."
    assert program.name == "direct.calculator"
    assert program.settings["calculator"] == "annotations"


def test_steps_are_computed_before_the_second_stage_reads_them() -> None:
    lm = ScriptedLM([" 16 - 7 = 8, and 8 * 2 = 16.", " 18."])
    [attempt] = calculator(chain_of_thought())(lm, [ITEM])
    assert " 16 - 7 = 9, and 9 * 2 = 18. \nTherefore" in str(lm.prompts[1])
    assert attempt.completions[0] == " 16 - 7 = 9, and 9 * 2 = 18."


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("how", ["annotations", "equations"])
def test_votes_over_computed_samples(how, outside: bool) -> None:
    """A calculator around the vote and a vote over calculators give every sample its own continuation."""
    first = iter([" <<2*9=19>>19", " <<2*9=18>>18", " <<2*9=19>>19"])
    more = iter(["18", "18 indeed"])

    def answer(prompt: Prompt) -> str:
        return next(more if ">>" in str(prompt) else first)

    program = direct(sampling=Sampling(temperature=1.0))
    voting = (
        calculator(self_consistency(program, 3), how)
        if outside
        else self_consistency(calculator(program, how), 3)
    )
    [attempt] = voting(
        ScriptedLM(answer), [ITEM], lambda _, text: {"last": text.rpartition(">>")[2].split()[0]}
    )
    texts = [sample.text for sample in attempt.samples]
    if how == "annotations":
        assert texts == [" <<2*9=18>>18", " <<2*9=18>>18", " <<2*9=18>>18 indeed"]
        assert attempt.elected == {"last": 0}
    else:
        assert texts == [" <<2*9=18>>19", " <<2*9=18>>18", " <<2*9=18>>19"]


def test_a_reply_ends_at_its_length_limit() -> None:
    """A model that is wrong at every continuation is stopped after some corrections."""
    lm = ScriptedLM(lambda _: "<<1+1=3>>")
    [attempt] = calculator(direct(), "annotations")(lm, [ITEM])
    assert len(lm.prompts) == 21
    assert attempt.text.count("<<1+1=2>>") == 20


def test_the_calculator_of_an_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text('{"question": "How many?", "answer": "#### 18"}')
    task = load_task("gsm8k", data=file)
    program = Method("chain_of_thought", shots=1, samples=3, calculator="equations").program_for(task)
    assert program.name == "self_consistency_3.chain_of_thought.calculator"
    evaluation = evaluate(task, program, ScriptedLM(lambda _: " 2 * 9 = 19. The answer is 19."))
    assert evaluation.grades(STRICT) == [True]
    with pytest.raises(WrongCall, match="only scores"):
        Method("likelihood", calculator="equations").program_for(task)
    with pytest.raises(WrongCall, match="leave out --chat"):
        Method("direct", chat=True, calculator="annotations").program_for(task)


def test_calls_that_cannot_work_are_refused() -> None:
    with pytest.raises(WrongCall, match="annotations, equations"):
        calculator(direct(), "abacus")  # type: ignore[arg-type]
    with pytest.raises(WrongCall, match="without chat"):
        calculator(direct(chat=True), "annotations")(ScriptedLM(["<<1+1=3>>"]), [ITEM])
