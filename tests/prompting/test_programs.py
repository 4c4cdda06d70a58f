"""Programs against prompts written out by hand and against the prompts of published logs."""

import gzip
import re
from pathlib import Path

import pytest

from camelid.base.errors import WrongCall
from camelid.lm.interface import Prompt
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.asking import CONTINUATION
from camelid.prompting.programs import TRIGGERS, chain_of_thought, direct, few_shot, likelihood, trigger_of
from camelid.tasks.item import Item
from camelid.text.conversation import Conversation, Message

APPLES = Item("1", "Tom has 2 apples and finds 3. How many?", "5", rationale="2 + 3 = 5.")
PEARS = Item("2", "Ann has 4 pears and eats 1. How many?", "3", rationale="4 - 1 = 3.")
LAKE = Item("3", "Where do fish live?", "a lake", choices=("a lake", "a hill"), lettered=True)
COIN = Item("4", "Is the coin heads up?", "no", choices=("yes", "no"))


def test_direct_asks_and_ends_at_the_line() -> None:
    lm = ScriptedLM([" 3\nQ: and more", " a hill"])
    attempts = direct()(lm, [PEARS, LAKE])
    assert lm.prompts == [
        "Q: Ann has 4 pears and eats 1. How many?\nA:",
        "Q: Where do fish live? Answer Choices: (A) a lake (B) a hill\nA:",
    ]
    assert [attempt.text for attempt in attempts] == [" 3", " a hill"]


def test_few_shot_shows_answers_first() -> None:
    program = few_shot([APPLES, LAKE])
    lm = ScriptedLM([" 3"])
    [attempt] = program(lm, [PEARS])
    assert attempt.prompts == (
        "Q: Tom has 2 apples and finds 3. How many?\nA: 5\n\n"
        "Q: Where do fish live? Answer Choices: (A) a lake (B) a hill\nA: (A)\n\n"
        "Q: Ann has 4 pears and eats 1. How many?\nA:",
    )
    assert (program.name, program.shots) == ("few_shot", 2)


def test_few_shot_chain_of_thought_has_the_format_of_wei() -> None:
    lm = ScriptedLM([" 4 - 1 = 3. The answer is 3.\n\nQ: What"])
    [attempt] = chain_of_thought([APPLES])(lm, [PEARS])
    assert attempt.prompts == (
        "Q: Tom has 2 apples and finds 3. How many?\nA: 2 + 3 = 5. The answer is 5.\n\n"
        "Q: Ann has 4 pears and eats 1. How many?\nA:",
    )
    assert attempt.text == " 4 - 1 = 3. The answer is 3.\n"


def test_chat_programs_ask_in_turns() -> None:
    lm = ScriptedLM(["3.", "4 - 1 = 3. The answer is 3."])
    direct(chat=True)(lm, [PEARS])
    chain_of_thought([APPLES], chat=True)(lm, [PEARS])
    assert lm.prompts == [
        Conversation((Message("user", f"{PEARS.question} Answer directly."),)),
        Conversation(
            (
                Message("user", f"{APPLES.question} Let's think step by step."),
                Message("assistant", "2 + 3 = 5. The answer is 5."),
                Message("user", f"{PEARS.question} Let's think step by step."),
            )
        ),
    ]


@pytest.mark.parametrize(("log", "trigger"), [("gsm8k", "number"), ("aqua", None), ("coin_flip", None)])
def test_zero_shot_chain_of_thought_sends_the_prompts_of_kojima(
    shared: Path, log: str, trigger: str | None
) -> None:
    """Every question of their logs: the second prompt, and so the first, is theirs character by character."""
    path = shared / f"data/reasoning/outputs/zero_shot_cot_logs/{log}_zero_shot_cot.log.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    known = {"gsm8k": "Therefore, the answer (arabic numerals) is"}
    known |= {"aqua": "Therefore, among A through E, the answer is"}
    known |= {"coin_flip": "Therefore, the answer (Yes or No) is"}
    seen = re.findall(r"1_th_sampling\n(Q: .*?)\npred_before : (.*?)\npred_after : ", text, re.DOTALL)
    asked = [both[: len(both) - len(said)] for both, said in seen]
    whole = [prompt[: prompt.rindex(known[log]) + len(known[log])] for prompt in asked]
    opening = "\nA: Let's think step by step."
    questions = [prompt[3 : prompt.index(opening)] for prompt in whole]
    steps = [prompt[prompt.index(opening) + len(opening) : -len(known[log]) - 2] for prompt in whole]
    items = [_item(log, question) for question in questions]

    stages = iter([*steps, *["" for _ in items]])
    program = chain_of_thought(trigger=trigger and TRIGGERS[trigger], sampling=Sampling(stop=("\0",)))
    attempts = program(ScriptedLM(lambda _: next(stages)), items)
    assert len(attempts) > 200
    assert [attempt.prompts[1] for attempt in attempts] == whole


def _item(log: str, question: str) -> Item:
    if log == "coin_flip":
        return Item("1", question, "yes", choices=("yes", "no"))
    if log == "gsm8k":
        return Item("1", question, "1")
    stem, _, options = question.partition(" Answer Choices: ")
    choices = tuple(re.split(r" ?\([A-E]\) ", options)[1:])
    return Item("1", stem, choices[0], choices=choices, lettered=True)


def test_triggers_follow_the_choices() -> None:
    assert trigger_of(PEARS) == "Therefore, the answer is"
    assert trigger_of(LAKE) == "Therefore, among A through B, the answer is"
    assert trigger_of(COIN) == "Therefore, the answer (Yes or No) is"


def test_likelihood_scores_each_choice_with_and_without_its_question() -> None:
    asked: list[tuple[Prompt, str]] = []

    def logprob(prompt: Prompt, continuation: str) -> float:
        asked.append((prompt, continuation))
        return -float(len(str(prompt)) + len(continuation))

    [attempt] = likelihood(answer_context=True)(ScriptedLM([], logprob), [LAKE])
    question = "Q: Where do fish live?\nA:"
    assert set(asked) == {(p, c) for p in (question, "A:") for c in (" a lake", " a hill")}
    first = attempt.scores[0]
    assert (first.logprob, first.unconditional) == (-len(question) - 7.0, -9.0)
    assert (first.tokens, first.bytes, first.characters) == (2, 6, 6)
    assert attempt.completions == ()


def test_likelihood_continues_a_text_as_it_stands() -> None:
    item = Item("1", "A man sits down. He", "reads.", choices=("reads.", "flies."))
    [attempt] = likelihood(wording=CONTINUATION)(ScriptedLM([]), [item])
    assert attempt.prompts == ("A man sits down. He",)


def test_likelihood_counts_bytes_and_characters_apart() -> None:
    item = Item("1", "Where?", "café", choices=("café", "bar"))
    [attempt] = likelihood()(ScriptedLM([]), [item])
    assert (attempt.scores[0].bytes, attempt.scores[0].characters) == (5, 4)


def test_braces_in_questions_stay_braces() -> None:
    lm = ScriptedLM([" {y}"])
    direct()(lm, [Item("1", "What is {x}?", "{y}")])
    assert lm.prompts == ["Q: What is {x}?\nA:"]


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(WrongCall, match="no choices"):
        likelihood()(ScriptedLM([]), [PEARS])
    with pytest.raises(WrongCall, match="no worked steps"):
        chain_of_thought([LAKE])(ScriptedLM([""]), [PEARS])
    with pytest.raises(WrongCall, match="answer context"):
        likelihood(chat=True, answer_context=True)


def test_settings_tell_programs_apart() -> None:
    programs = [
        direct(),
        direct(chat=True),
        few_shot([APPLES]),
        chain_of_thought(),
        direct(wording=CONTINUATION),
    ]
    settings = [str(program.settings) for program in programs]
    assert len(set(settings)) == len(settings)
