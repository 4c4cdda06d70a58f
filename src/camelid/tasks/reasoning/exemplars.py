"""Solved questions that a prompt can show first, written for this project: none is in a data set.

Those of the papers are read from a file with `--exemplars`.
"""

from camelid.prompting.least_to_most import Decomposed, Decomposition
from camelid.tasks.item import Item


def _solved(*rows: tuple[str, str, str]) -> tuple[Item, ...]:
    return tuple(
        Item(f"own-{index}", question, answer, rationale=rationale)
        for index, (question, rationale, answer) in enumerate(rows)
    )


WORD_PROBLEMS = _solved(
    (
        "A shelf holds 14 books. Nora takes 5 of them home and brings 3 others. How many books are on the "
        "shelf now?",
        "The shelf held 14 books. After Nora took 5, 14 - 5 = 9 were left. She brought 3, so there are "
        "9 + 3 = 12.",
        "12",
    ),
    (
        "Omar buys 4 boxes of pencils. Each box has 12 pencils. He gives 10 pencils to his sister. How many "
        "does he have left?",
        "4 boxes of 12 pencils are 4 * 12 = 48 pencils. Without the 10 for his sister, 48 - 10 = 38 are "
        "left.",
        "38",
    ),
    (
        "A ticket for a child costs $6, and one for an adult costs twice as much. What do 2 adults and 3 "
        "children pay?",
        "An adult's ticket costs 2 * 6 = $12. 2 adults pay 2 * 12 = $24 and 3 children pay 3 * 6 = $18. "
        "Together that is 24 + 18 = $42.",
        "42",
    ),
    (
        "A rope is 50 metres long. It is cut into 4 equal pieces, and 2 metres are left over. How long is a "
        "piece?",
        "The 4 pieces together are 50 - 2 = 48 metres long. So one is 48 / 4 = 12 metres long.",
        "12",
    ),
    (
        "Lena reads 15 pages every weekday and 25 pages on each day of the weekend. How many pages does she "
        "read in a week?",
        "On 5 weekdays she reads 5 * 15 = 75 pages. On 2 days of the weekend she reads 2 * 25 = 50 pages. "
        "In a "
        "week she reads 75 + 50 = 125 pages.",
        "125",
    ),
    (
        "Half of the 36 children in a choir sing high. A third of the others play the flute. How many play "
        "the flute?",
        "Half of 36 is 18, so 18 children do not sing high. A third of these is 18 / 3 = 6.",
        "6",
    ),
    (
        "A tank with 90 litres of water loses 4 litres an hour. How much is in it after 6 hours?",
        "In 6 hours it loses 6 * 4 = 24 litres. So 90 - 24 = 66 litres are left.",
        "66",
    ),
    (
        "Ben has 8 more marbles than Ida, and together they have 30. How many does Ida have?",
        "Without the 8 more of Ben they would have 30 - 8 = 22 marbles, the same number each. So Ida has "
        "22 / 2 = 11.",
        "11",
    ),
)
"""Eight problems in the style of Wei et al. (arXiv:2201.11903, table 20)."""

WORD_PROBLEMS_BROKEN_DOWN = (
    Decomposed(
        "Mila has 7 stickers. Jan has 4 more than Mila, and Pia has as many as both together. How many "
        "stickers does Pia have?",
        ("How many stickers does Jan have?", "How many stickers does Pia have?"),
        (
            "Mila has 7 stickers and Jan has 4 more, so Jan has 7 + 4 = 11. The answer is 11.",
            "Mila has 7 and Jan has 11. Pia has as many as both together: 7 + 11 = 18. The answer is 18.",
        ),
    ),
    Decomposed(
        "A baker makes 6 trays of 8 rolls in the morning. By noon 30 rolls are sold, and the rest is packed "
        "into bags of 3. How many bags are there?",
        (
            "How many rolls does the baker make?",
            "How many rolls are left at noon?",
            "How many bags are there?",
        ),
        (
            "6 trays of 8 rolls are 6 * 8 = 48 rolls. The answer is 48.",
            "Of 48 rolls 30 are sold, so 48 - 30 = 18 are left. The answer is 18.",
            "18 rolls are left, in bags of 3: 18 / 3 = 6. The answer is 6.",
        ),
    ),
)
WORD_PROBLEM_PARTS = Decomposition(WORD_PROBLEMS_BROKEN_DOWN, WORD_PROBLEMS_BROKEN_DOWN)
"""Both stages of Zhou et al. (arXiv:2205.10625, section 3.3)."""

ALGEBRA = tuple(
    Item(f"own-{index}", question, answer, choices, rationale=rationale, lettered=True)
    for index, (question, choices, rationale, answer) in enumerate(
        (
            (
                "The mean of 6 numbers is 12. One of them, 27, is taken away. What is the mean of "
                "the others?",
                ("9", "8", "10", "15", "7.5"),
                "The 6 numbers add up to 6 * 12 = 72. Without 27, 72 - 27 = 45 are left for 5 numbers. Their "
                "mean is 45 / 5 = 9.",
                "9",
            ),
            (
                "If 3x + 2y = 19 and x - y = 3, what is the value of x?",
                ("2", "3", "4", "5", "6"),
                "From the second equation y = x - 3. Put into the first, 3x + 2x - 6 = 19, "
                "so 5x = 25 and x = 5.",
                "5",
            ),
            (
                "A train covers 84 kilometres in 70 minutes. What is its speed in kilometres per hour?",
                ("60", "65", "72", "80", "98"),
                "In one minute it covers 84 / 70 = 1.2 kilometres. In 60 minutes that is 60 * 1.2 = 72.",
                "72",
            ),
            (
                "A price is raised by 25 % and then lowered by 20 %. "
                "How does it compare with the first price?",
                ("5 % higher", "the same", "5 % lower", "10 % lower", "1 % higher"),
                "After the rise it is 1.25 times the first price. Lowered by 20 %, "
                "it is 0.8 * 1.25 = 1 times that "
                "price, so nothing has changed.",
                "the same",
            ),
        )
    )
)
"""Four with choices, in the style of Wei et al. (table 21)."""

LAST_LETTERS = _solved(
    *(
        (
            f'Take the last letters of the words in "{words}" and concatenate them.',
            " ".join(f'The last letter of "{word}" is "{word[-1]}".' for word in words.split())
            + f' Concatenating them is "{"".join(word[-1] for word in words.split())}".',
            "".join(word[-1] for word in words.split()),
        )
        for words in ("Clara Stone", "Felix Marsh", "Nadia Brook", "Hugo Winter")
    )
)
"""Four pairs of names, as in Wei et al. (table 22)."""

COIN_FLIPS = tuple(
    Item(
        f"own-{index}",
        f"A coin is heads up. {first} {'flips' if one else 'does not flip'} the coin. {second} "
        f"{'flips' if two else 'does not flip'} the coin. Is the coin still heads up?",
        "yes" if one == two else "no",
        ("yes", "no"),
        rationale=f"The coin was flipped by {flippers}. So it was flipped {count}, "
        f"which is an {parity} number. "
        f"It started heads up, so after an {parity} number of flips it is {side} up.",
    )
    for index, (first, second, one, two, flippers, count, parity, side) in enumerate(
        (
            ("Mara", "Pavel", True, True, "Mara and Pavel", "2 times", "even", "heads"),
            ("Yuki", "Anton", True, False, "Yuki", "1 time", "odd", "tails"),
            ("Selma", "Idris", False, False, "no one", "0 times", "even", "heads"),
            ("Bruno", "Wanda", False, True, "Wanda", "1 time", "odd", "tails"),
            ("Tariq", "Elke", True, True, "Tariq and Elke", "2 times", "even", "heads"),
            ("Noemi", "Sven", False, False, "no one", "0 times", "even", "heads"),
            ("Dilan", "Petra", True, False, "Dilan", "1 time", "odd", "tails"),
            ("Agnes", "Kofi", False, True, "Kofi", "1 time", "odd", "tails"),
        )
    )
)
"""Eight with two people each, as in table 23."""

LAST_LETTERS_STEP_BY_STEP = (
    Decomposed(
        '"river, garden"',
        ('"river, garden"',),
        (
            'The last letter of "river" is "r". The last letter of "garden" is "n". Concatenating "r", '
            '"n" leads '
            'to "rn". So, "river, garden" outputs "rn".',
        ),
    ),
    Decomposed(
        '"river, garden, cloud"',
        ('"river, garden, cloud"',),
        (
            '"river, garden" outputs "rn". The last letter of "cloud" is "d". Concatenating "rn", '
            '"d" leads to '
            '"rnd". So, "river, garden, cloud" outputs "rnd".',
        ),
    ),
)
"""The base case and the step from it, as in Zhou et al. (appendix A there)."""
