"""SCAN: expressions of actions, and every long command solved by a scripted model through least-to-most."""

import itertools
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.tasks.graders import LENIENT, STRICT
from camelid.tasks.item import Item
from camelid.tasks.reasoning.scan import SCAN, actions, expanded
from camelid.tasks.reasoning.scan_exemplars import COMMANDS_SOLVED
from camelid.tasks.task import Task, load_task

VERBS = ("walk", "look", "run", "jump")
SIDES = ("left", "right")
COUNTS = {"twice": 2, "thrice": 3}


def meant(command: str) -> list[str]:
    """The actions of a command, by the grammar of Lake and Baroni (figure 7), written here a second time."""
    for joint in (" and ", " after "):
        if joint in command:
            one, other = command.split(joint)
            return meant(one) + meant(other) if joint == " and " else meant(other) + meant(one)
    *words, last = command.split()
    if last in COUNTS:
        return meant(" ".join(words)) * COUNTS[last]
    if last not in SIDES:
        return [f"I_{last.upper()}"]
    turn, act = f"I_TURN_{last.upper()}", [] if words[0] == "turn" else [f"I_{words[0].upper()}"]
    if "opposite" in words:
        return [turn, turn, *act]
    return [turn, *act] * 4 if "around" in words else [turn, *act]


def written(command: str) -> str:
    """The expression that a perfect model writes for a command."""
    for joint in (" and ", " after "):
        if joint in command:
            one, other = command.split(joint)
            parts = (one, other) if joint == " and " else (other, one)
            return " + ".join(map(written, parts))
    *words, last = command.split()
    if last in COUNTS:
        inner = written(" ".join(words))
        return f"({inner}) * {COUNTS[last]}" if "+" in inner else f"{inner} * {COUNTS[last]}"
    if last not in SIDES:
        return f'"{last.upper()}"'
    turn, act = f'"TURN {last.upper()}"', "" if words[0] == "turn" else f' + "{words[0].upper()}"'
    if "opposite" in words:
        return f"{turn} * 2{act}"
    return f"({turn}{act}) * 4" if "around" in words else f"{turn}{act}"


def every_command() -> list[str]:
    """All commands of the language."""
    moves = [*VERBS, *(f"{verb} {side}" for verb in (*VERBS, "turn") for side in SIDES)]
    moves += [
        f"{v} {how} {side}" for v in (*VERBS, "turn") for how in ("opposite", "around") for side in SIDES
    ]
    phrases = [*moves, *(f"{move} {count}" for move in moves for count in COUNTS)]
    return phrases + [
        f"{one} {joint} {other}"
        for one, other in itertools.product(phrases, repeat=2)
        for joint in ("and", "after")
    ]


def perfect(prompt: Prompt) -> str:
    """Breaks down and solves as the exemplars do."""
    command = str(prompt).rsplit('Q: "', 1)[1].split('"')[0]
    if "outputs" in str(prompt):
        return f' So "{command}" outputs {written(command)}.\n\nQ: more'
    phrases = command.replace(" after ", " and ").split(" and ")
    parts = [
        part for phrase in phrases for part in (phrase.replace(" twice", "").replace(" thrice", ""), phrase)
    ]
    return " It is solved by " + ", ".join(f'"{part}"' for part in [*parts, command]) + "."


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('"LOOK" * 2', ["I_LOOK"] * 2),
        ('("TURN LEFT" + "JUMP") * 2', ["I_TURN_LEFT", "I_JUMP"] * 2),
        ('(("TURN LEFT" * 2 + "LOOK") * 2) + "RUN"', ["I_TURN_LEFT", "I_TURN_LEFT", "I_LOOK"] * 2 + ["I_RUN"]),
        ('"TURN LEFT WALK" * 2', ["I_TURN_LEFT", "I_WALK"] * 2),
        ("“WALK” + “RUN”", ["I_WALK", "I_RUN"]),
        ("I_TURN_LEFT I_WALK", ["I_TURN_LEFT", "I_WALK"]),
        ("TURN LEFT, WALK", ["I_TURN_LEFT", "I_WALK"]),
        ('"LOOK" * 1000', ["I_LOOK"] * 1000),
        ('"LOOK" * 1001', None),
        ('"LOOK" * 99999999999999', None),
        ('"LOOK" * "LOOK"', None),
        ('2 * "LOOK"', None),
        ('"LOOK" +', None),
        ('("LOOK"', None),
        ('"LOOK")', None),
        ('"SLEEP"', None),
        ("__import__('os')", None),
        ("(" * 5000, None),
        ("", None),
        ('""', None),
    ],
)  # fmt: skip
def test_expressions(text: str, right: list[str] | None) -> None:
    found = expanded(text)
    assert (list(found) if found else None) == right


@pytest.mark.parametrize(
    ("reply", "strict", "lenient"),
    [
        ('So "jump twice" outputs "JUMP" * 2.', True, True),
        ("The answer is I_JUMP I_JUMP.", True, True),
        ("I_JUMP I_JUMP", True, True),
        ('"JUMP" + "JUMP"', True, True),
        ('That is ("JUMP") * 2, I think.', False, True),
        ('"jump twice" outputs "JUMP" * 3.', False, False),
        ("I_JUMP", False, False),
        ('The answer is "WALK" * 2. Not "JUMP" * 2', False, True),
        ("", False, False),
    ],
)
def test_replies(reply: str, strict: bool, lenient: bool) -> None:
    grades = actions(Item("1", "jump twice", "I_JUMP I_JUMP"), reply)
    assert (grades[STRICT].correct, grades[LENIENT].correct) == (strict, lenient)


def test_exemplars() -> None:
    for each in COMMANDS_SOLVED:
        item = Item("1", each.question, " ".join(meant(each.question)))
        assert actions(item, each.replies[0])[STRICT].correct, each
    for item in SCAN.exemplars:
        assert item.answer.split() == meant(item.question)
    shown = {each.question for each in COMMANDS_SOLVED} | {item.question for item in SCAN.exemplars}
    assert not shown & {command for command in every_command() if len(meant(command)) > 22}


def test_a_small_set(tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text(
        "IN: run OUT: I_RUN\n"
        "IN: look after jump twice OUT: I_JUMP I_JUMP I_LOOK\n\n"
        "IN: walk opposite left and turn right OUT: I_TURN_LEFT I_TURN_LEFT I_WALK I_TURN_RIGHT\n"
        "IN: turn around left OUT: I_TURN_LEFT I_TURN_LEFT I_TURN_LEFT I_TURN_LEFT\n"
    )
    task = load_task("scan", data=path)
    lm = ScriptedLM(perfect)
    assert evaluate(task, Method("least_to_most").program_for(task), lm).grades(STRICT) == [True] * 4
    asked = [str(prompt).rsplit("Q: ", 1)[1] for prompt in lm.prompts if "look after jump" in str(prompt)]
    assert asked == [
        '"look after jump twice"\nA:',
        '"look after jump twice"\nA:',
    ]
    # the parts come first, each with the answers before it
    solving = next(
        str(prompt)
        for prompt in lm.prompts
        if str(prompt).endswith('twice"\nA:') and "outputs" in str(prompt)
    )
    assert solving.startswith('Q: "turn left"\nA: "turn left" outputs "TURN LEFT".\n\nQ: "turn right"')


def test_lines_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text("IN: run OUT: I_RUN\nrun\n")
    with pytest.raises(CamelidError, match=r"tasks\.txt:2: expected a line 'IN: command OUT: actions'"):
        load_task("scan", data=path)
    path.write_text("IN: run OUT: I_FLY\n")
    with pytest.raises(CamelidError, match=r"tasks\.txt:1: .*are not actions"):
        load_task("scan", data=path)


def solves_all(task: Task) -> None:
    evaluation = evaluate(task, Method("least_to_most").program_for(task), ScriptedLM(perfect))
    assert sum(evaluation.grades(STRICT)) == len(evaluation.records) == 3920


def test_all_long_commands_are_solved(tmp_path: Path) -> None:
    """The language, generated here: 20,910 commands, of which 3,920 have more than 22 actions."""
    commands = every_command()
    assert len(commands) == 20910
    long = [command for command in commands if len(meant(command)) > 22]
    path = tmp_path / "tasks_test_length.txt"
    path.write_text("".join(f"IN: {command} OUT: {' '.join(meant(command))}\n" for command in long))
    solves_all(load_task("scan", data=path))


def test_the_published_length_split() -> None:
    path = Path("../shared/data/reasoning/scan/tasks_test_length.txt.xz")
    if not path.exists():
        pytest.skip("SCAN is not here")
    task = load_task("scan", data=path)
    assert {item.question: item.answer.split() for item in task.items} == {
        command: meant(command) for command in every_command() if len(meant(command)) > 22
    }
    assert len(load_task("scan", data=path.with_name("tasks.txt.xz")).items) == 20910
