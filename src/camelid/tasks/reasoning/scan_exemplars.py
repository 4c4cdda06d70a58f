"""Commands of SCAN with their actions, worded for this project.

SCAN holds every command there is, so that no exemplar can be outside it; these are short, and none is among
the 3,920 long ones of the length split's test set.
"""

from camelid.prompting.least_to_most import Decomposed
from camelid.tasks.item import Item


def _command(command: str, reply: str) -> Decomposed:
    return Decomposed(command, (command,), (reply,))


COMMANDS_BROKEN_DOWN = tuple(
    Decomposed(command, parts)
    for command, parts in (
        ("run", ("run",)),
        ("turn around left", ("turn around left",)),
        ("look opposite right", ("look opposite right",)),
        ("jump thrice", ("jump", "jump thrice")),
        ("walk around left twice", ("walk around left", "walk around left twice")),
        ("turn right and jump left", ("turn right", "jump left", "turn right and jump left")),
        (
            "look right thrice after run",
            ("look right", "look right thrice", "run", "look right thrice after run"),
        ),
        (
            "walk twice and jump opposite left thrice",
            (
                "walk",
                "walk twice",
                "jump opposite left",
                "jump opposite left thrice",
                "walk twice and jump opposite left thrice",
            ),
        ),
    )
)
"""Eight, as in Zhou et al. (arXiv:2205.10625, appendix B)."""

COMMANDS_SOLVED = (
    _command("turn left", '"turn left" outputs "TURN LEFT".'),
    _command("turn right", '"turn right" outputs "TURN RIGHT".'),
    _command("look", '"look" outputs "LOOK".'),
    _command(
        "jump left",
        'First "turn left", which outputs "TURN LEFT", then "jump", which outputs "JUMP". '
        'So "jump left" outputs '
        '"TURN LEFT" + "JUMP".',
    ),
    _command(
        "run right",
        'First "turn right", which outputs "TURN RIGHT", then "run", which outputs "RUN". '
        'So "run right" outputs '
        '"TURN RIGHT" + "RUN".',
    ),
    _command(
        "walk twice", '"walk" outputs "WALK", and twice means 2 times. So "walk twice" outputs "WALK" * 2.'
    ),
    _command(
        "jump right thrice",
        '"jump right" outputs "TURN RIGHT" + "JUMP", and thrice means 3 times. '
        'So "jump right thrice" outputs '
        '("TURN RIGHT" + "JUMP") * 3.',
    ),
    _command(
        "look and run left",
        'First "look", which outputs "LOOK", then "run left", which outputs "TURN LEFT" + "RUN". '
        'So "look and run '
        'left" outputs "LOOK" + "TURN LEFT" + "RUN".',
    ),
    _command(
        "walk after jump twice",
        'After turns the order round: first "jump twice", which outputs "JUMP" * 2, then "walk", '
        "which outputs "
        '"WALK". So "walk after jump twice" outputs "JUMP" * 2 + "WALK".',
    ),
    _command(
        "turn opposite left",
        'Opposite turns 2 times. "turn left" outputs "TURN LEFT". '
        'So "turn opposite left" outputs "TURN LEFT" * 2.',
    ),
    _command(
        "turn around right",
        'Around turns 4 times. "turn right" outputs "TURN RIGHT". So "turn around right" outputs '
        '"TURN RIGHT" * 4.',
    ),
    _command(
        "run opposite right",
        'Opposite turns 2 times, then "run", which outputs "RUN". So "run opposite right" outputs '
        '"TURN RIGHT" * 2 + "RUN".',
    ),
    _command(
        "walk around left",
        'Around turns and acts 4 times. "walk left" outputs "TURN LEFT" + "WALK". '
        'So "walk around left" outputs '
        '("TURN LEFT" + "WALK") * 4.',
    ),
    _command(
        "look opposite left twice and jump around right",
        '"look opposite left" outputs "TURN LEFT" * 2 + "LOOK", and twice means 2 times: ("TURN LEFT" * 2 + '
        '"LOOK") * 2. Then "jump around right", which outputs ("TURN RIGHT" + "JUMP") * 4. '
        'So "look opposite left '
        'twice and jump around right" outputs ("TURN LEFT" * 2 + "LOOK") * 2 + ("TURN RIGHT" + "JUMP") * 4.',
    ),
)
"""Fourteen that cover every word of the language, each result as an expression."""

COMMANDS = tuple(
    Item(f"own-{index}", command, answer, rationale=rationale)
    for index, (command, rationale, answer) in enumerate(
        (
            ("turn right", '"turn right" is one turn.', "I_TURN_RIGHT"),
            ("jump left", "First turn left, then jump.", "I_TURN_LEFT I_JUMP"),
            ("look twice and run", "First look 2 times, then run.", "I_LOOK I_LOOK I_RUN"),
            (
                "walk thrice after turn left",
                "After turns the order round: first turn left, then walk 3 times.",
                "I_TURN_LEFT I_WALK I_WALK I_WALK",
            ),
            (
                "run opposite right",
                "Opposite turns 2 times, then comes the action.",
                "I_TURN_RIGHT I_TURN_RIGHT I_RUN",
            ),
            (
                "walk around left",
                "Around turns and acts 4 times.",
                "I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK",
            ),
        )
    )
)
