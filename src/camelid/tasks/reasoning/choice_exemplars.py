"""Solved questions of common sense, dates and tracked objects, written for this project: none is in a data
set."""

from collections.abc import Sequence

from camelid.tasks.item import Item


def _chosen(*rows: tuple[str, Sequence[str], str, str]) -> tuple[Item, ...]:
    """Questions with lettered choices, their worked steps and the right choice."""
    return tuple(
        Item(f"own-{index}", question, answer, tuple(choices), rationale=rationale, lettered=True)
        for index, (question, choices, rationale, answer) in enumerate(rows)
    )


def _decided(*rows: tuple[str, str, str]) -> tuple[Item, ...]:
    """Questions that are answered yes or no."""
    return tuple(
        Item(f"own-{index}", question, answer, ("yes", "no"), rationale=rationale)
        for index, (question, rationale, answer) in enumerate(rows)
    )


COMMONSENSE = _chosen(
    (
        "Where would you most likely keep a spare blanket at home?",
        ("oven", "linen cupboard", "letter box", "bathtub", "toolbox"),
        "A blanket must stay clean and dry. Of the choices, only a linen cupboard is made for cloth.",
        "linen cupboard",
    ),
    (
        "What do you need to read a map in a dark forest?",
        ("torch", "umbrella", "hammock", "whistle", "pillow"),
        "To read in the dark one needs light. Of the choices, only a torch gives light.",
        "torch",
    ),
    (
        "The violinist tuned her instrument because the concert was about to do what?",
        ("sell out", "be printed", "end", "begin", "be painted"),
        "Musicians tune just before they play. So the concert was about to begin.",
        "begin",
    ),
    (
        "Where does a ferry take on its passengers?",
        ("runway", "platform", "quay", "garage", "meadow"),
        "A ferry is a ship, and ships lie at a quay while people go on board.",
        "quay",
    ),
    (
        "If bread is left in the toaster for too long, what happens to it?",
        ("it grows", "it melts", "it freezes", "it burns", "it floats"),
        "A toaster heats bread. Bread that is heated for too long turns black, so it burns.",
        "it burns",
    ),
    (
        "What would a gardener do with a dry flower bed in July?",
        ("mow it", "water it", "shovel snow", "iron it", "varnish it"),
        "Dry plants lack water, and in July rain can be rare. So the gardener gives them water.",
        "water it",
    ),
    (
        "Why might someone whisper in a reading room?",
        ("to save money", "to be heard far away", "to keep warm", "to fall asleep", "to disturb nobody"),
        "People in a reading room want quiet. Whispering is quiet, so it disturbs nobody.",
        "to disturb nobody",
    ),
)
"""Seven, as in Wei et al. (arXiv:2201.11903, table 24)."""

STRATEGY = _decided(
    (
        "Could a penguin and a cactus share the same climate?",
        "Most penguins live in cold places near the sea. Most cacti live in hot, dry deserts. These climates "
        "are very different.",
        "no",
    ),
    (
        "Would a chess set have enough pieces for each player of a football match on the field?",
        "A chess set has 32 pieces. In a football match 22 players are on the field. 32 is more than 22.",
        "yes",
    ),
    (
        "Can a beekeeper sell what the animals make in a bakery?",
        "Bees make honey. Bakeries use honey in cakes, and many sell it in jars.",
        "yes",
    ),
    (
        "Would a lighthouse be of use to a lorry driver in a desert?",
        "A lighthouse guides ships at the coast. A lorry in a desert is far from the coast and is not "
        "steered "
        "by such lights.",
        "no",
    ),
    (
        "Did Johann Sebastian Bach ever hear a gramophone?",
        "Bach died in 1750. The gramophone was invented in the 1880s. That is more than a century later.",
        "no",
    ),
    (
        "Could someone lift a litre of olive oil with one hand?",
        "A litre of olive oil weighs a little less than one kilogram. Most people can lift one kilogram with "
        "one hand.",
        "yes",
    ),
)
"""Six, as in table 25."""

SPORTS = _decided(
    (
        'Is the following sentence plausible? "Serena Williams served an ace."',
        "Serena Williams is a tennis player. Serving an ace is part of tennis.",
        "yes",
    ),
    (
        'Is the following sentence plausible? "Usain Bolt scored from the penalty corner."',
        "Usain Bolt is a sprinter. The penalty corner is part of field hockey, not of sprinting.",
        "no",
    ),
    (
        'Is the following sentence plausible? "Magnus Carlsen dunked over the defender."',
        "Magnus Carlsen plays chess. Dunking is part of basketball, not of chess.",
        "no",
    ),
    (
        'Is the following sentence plausible? "Michael Phelps won the butterfly final."',
        "Michael Phelps is a swimmer. The butterfly is a stroke in swimming.",
        "yes",
    ),
    (
        'Is the following sentence plausible? "Tiger Woods sank a long putt on the last green."',
        "Tiger Woods is a golfer. Putting on a green is part of golf.",
        "yes",
    ),
    (
        'Is the following sentence plausible? "Simone Biles took a wicket in the first over."',
        "Simone Biles is a gymnast. Taking a wicket is part of cricket, not of gymnastics.",
        "no",
    ),
    (
        'Is the following sentence plausible? "Lewis Hamilton changed tyres in the pit lane."',
        "Lewis Hamilton is a racing driver. Changing tyres in the pit lane is part of motor racing.",
        "yes",
    ),
    (
        'Is the following sentence plausible? "Roger Federer was offside at the blue line."',
        "Roger Federer is a tennis player. Offside at the blue line is part of ice hockey, not of tennis.",
        "no",
    ),
)
"""Eight, as in table 27."""

_DATES = (
    (
        "Tomorrow is the first of May 2023. What is the date today in MM/DD/YYYY?",
        "If tomorrow is 05/01/2023, then today is one day earlier. The day before May 1 is April 30.",
        "04/30/2023",
        ("05/02/2023", "04/30/2023", "04/30/2032", "05/30/2023", "04/29/2023", "03/31/2023"),
    ),
    (
        "Ida's exam is on 10/12/2021, and it is in exactly two weeks. What is the date today in MM/DD/YYYY?",
        "Two weeks are 14 days. 12 days before 10/12/2021 is 09/30/2021, and 2 days more are 09/28/2021.",
        "09/28/2021",
        ("09/28/2021", "10/26/2021", "09/29/2021", "10/05/2021", "09/28/1921", "08/28/2021"),
    ),
    (
        "Today is the last day of 2017. What is the date 3 days from today in MM/DD/YYYY?",
        "The last day of 2017 is 12/31/2017. One day later is 01/01/2018, so 3 days later is 01/03/2018.",
        "01/03/2018",
        ("12/28/2017", "01/03/2017", "01/02/2018", "01/03/2018", "01/04/2018", "03/01/2018"),
    ),
    (
        "Omar moved in on Feb 27, 2020, and the party was 3 days later. What was the date of the party in "
        "MM/DD/YYYY?",
        "2020 was a leap year, so February had 29 days. The days after 02/27/2020 are 02/28, 02/29 and "
        "03/01.",
        "03/01/2020",
        ("03/02/2020", "02/24/2020", "03/01/2020", "02/30/2020", "03/01/2021", "03/03/2020"),
    ),
    (
        "It is 06/15/1999. Clara was born exactly 25 years ago. What is her date of birth in MM/DD/YYYY?",
        "1999 - 25 = 1974, and the day of the year is the same.",
        "06/15/1974",
        ("06/15/2024", "06/15/1975", "06/25/1974", "06/14/1974", "15/06/1974", "06/15/1974"),
    ),
    (
        "The shop closed yesterday, on a Monday, 08/02/2010. "
        "What is the date of the next Monday in MM/DD/YYYY?",
        "Yesterday was Monday, 08/02/2010. The next Monday is 7 days later: 2 + 7 = 9.",
        "08/09/2010",
        ("08/10/2010", "08/08/2010", "08/09/2010", "08/03/2010", "07/26/2010", "08/09/2011"),
    ),
)
DATES = tuple(
    Item(f"own-{index}", question, answer, rationale=rationale)
    for index, (question, rationale, answer, _) in enumerate(_DATES)
)
"""Six, as in table 26."""
DATES_WITH_CHOICES = _chosen(
    *((question, choices, rationale, answer) for question, rationale, answer, choices in _DATES)
)

SHUFFLED_OBJECTS = _chosen(
    (
        "Nora, Omar, and Pia are at a flea market, and each of them carries a hat: Nora has a straw hat, "
        "Omar "
        "has a top hat, and Pia has a bowler hat. First, Nora and Pia swap hats. Then, "
        "Omar and Nora swap hats. "
        "Finally, Pia and Omar swap hats. At the end, Nora has the \nWhich choice is true ?",
        ("straw hat.", "top hat.", "bowler hat."),
        "At the start: Nora straw, Omar top, Pia bowler. After Nora and Pia swap: Nora bowler, Omar top, Pia "
        "straw. After Omar and Nora swap: Nora top, Omar bowler, Pia straw. After Pia and Omar swap: "
        "Nora top, "
        "Omar straw, Pia bowler. At the end, Nora has the top hat.",
        "top hat.",
    ),
    (
        "Ben, Eva, and Jan sit in a train, and each reads a book: Ben has an atlas, Eva has a novel, "
        "and Jan has "
        "a cookbook. First, Eva and Jan trade books. Then, Ben and Jan trade books. Finally, "
        "Ben and Eva trade "
        "books. At the end, Eva has the \nWhich choice is true ?",
        ("atlas.", "novel.", "cookbook."),
        "At the start: Ben atlas, Eva novel, Jan cookbook. After Eva and Jan trade: Ben atlas, Eva cookbook, "
        "Jan "
        "novel. After Ben and Jan trade: Ben novel, Eva cookbook, Jan atlas. After Ben and Eva trade: Ben "
        "cookbook, Eva novel, Jan atlas. At the end, Eva has the novel.",
        "novel.",
    ),
    (
        "Lea, Max, and Tom play in a band, and each holds an instrument: Lea has a drum, Max has a flute, "
        "and "
        "Tom has a horn. First, Lea and Max swap instruments. Then, Lea and Tom swap instruments. Finally, "
        "Max "
        "and Tom swap instruments. At the end, Max has the \nWhich choice is true ?",
        ("drum.", "flute.", "horn."),
        "At the start: Lea drum, Max flute, Tom horn. After Lea and Max swap: Lea flute, Max drum, Tom horn. "
        "After Lea and Tom swap: Lea horn, Max drum, Tom flute. After Max and Tom swap: Lea horn, Max flute, "
        "Tom "
        "drum. At the end, Max has the flute.",
        "flute.",
    ),
)
