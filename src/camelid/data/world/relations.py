"""The kinds of facts of the world, each with the sentences that state it and the questions that ask for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """A kind of fact; its templates speak of `{x}`, for a person also of `{he}`, `{his}` ..., and of `{value}`.

    `statements` and `questions` are branches of a template; `clause` asks within a sentence ("how old {he} is").
    """

    name: str
    statements: str
    questions: str
    clause: str = ""


def _relations(*rows: tuple[str, ...]) -> dict[str, Relation]:
    return {row[0]: Relation(*row) for row in rows}


PERSONAL = _relations(
    (
        "age",
        "{x} is {value} years old.|{x} is a {girl} of {value} years.|the age of {x} is {value}.",
        "how old is {x}?|what is the age of {x}?|how many years old is {x}?|what age is {x}?",
        "how old {he} is",
    ),
    (
        "home",
        "{x} lives {value}.|{x} has {his} home {value}.|the home of {x} is {value}.",
        "where does {x} live?|where is the home of {x}?|where is {x} at home?|in which place does {x} live?",
        "where {he} lives",
    ),
    (
        "parent",
        "the {parent_word} of {x} is {value}.|{x} is the {child_word} of {value}.|{value} is the {parent_word} of {x}.",
        "who is the {parent_word} of {x}?|what is the name of {x}'s {parent_word}?|who is {x}'s {parent_word}?|whose {child_word} is {x}?",
        "who {his} {parent_word} is",
    ),
    (
        "pet",
        "{x} has {value}.|the pet of {x} is {value}.|{x} keeps {value} as a pet.",
        "what pet does {x} have?|which pet does {x} have?|what kind of pet has {x}?|which animal does {x} keep?",
        "which pet {he} has",
    ),
    (
        "pet name",
        "the {pet} of {x} is called {value}.|{x}'s {pet} is called {value}.|{value} is the {pet} of {x}.",
        "what is the {pet} of {x} called?|what is the name of {x}'s {pet}?|which name has the {pet} of {x}?|how is {x}'s {pet} called?",
        "what {his} pet is called",
    ),
    (
        "food",
        "{x} loves {value}.|{x} likes {value} best.|the favourite food of {x} is {value}.",
        "what does {x} like to eat?|what is the favourite food of {x}?|which food does {x} like best?|what is {x}'s favourite food?",
        "what {his} favourite food is",
    ),
    (
        "colour",
        "the favourite colour of {x} is {value}.|{x}'s favourite colour is {value}.|of all colours, {x} likes {value} best.",
        "what is the favourite colour of {x}?|which colour does {x} like best?|what is {x}'s favourite colour?|which colour is the favourite of {x}?",
        "what {his} favourite colour is",
    ),
    (
        "hobby",
        "{x} loves {value}.|the hobby of {x} is {value}.|{x} is often seen {value}.",
        "what does {x} love to do?|what is the hobby of {x}?|which hobby does {x} have?|what is {x}'s hobby?",
        "what {his} hobby is",
    ),
    (
        "friend",
        "the best friend of {x} is {value}.|{x}'s best friend is {value}.|{x} and {value} are best friends.",
        "who is the best friend of {x}?|who is {x}'s best friend?|what is the name of {x}'s best friend?|which friend does {x} like best?",
        "who {his} best friend is",
    ),
    (
        "job",
        "{x} is the {value}.|the {value} of the village is {x}.|{x} works as a {value}.",
        "what is the job of {x}?|which job does {x} have?|what is {x}'s job?|what does {x} work as?",
        "what {his} job is",
    ),
    (
        "work",
        "{x} {value}.|every day {x} {value}.|{x} works all day and {value}.",
        "what does {x} do all day?|what does {x} do for the village?|what work does {x} do?|what does {x} do every day?",
        "what {he} does all day",
    ),
    (
        "children",
        "the children of {x} are {value}.|{x} has two children, {value}.|{value} are the children of {x}.",
        "who are the children of {x}?|what are {x}'s children called?|who are {x}'s children?|which children does {x} have?",
        "who {his} children are",
    ),
    (
        "child",
        "the child of {x} is {value}.|{x} has one child, {value}.|{value} is the child of {x}.",
        "who is the child of {x}?|what is {x}'s child called?|who is {x}'s child?|which child does {x} have?",
        "who {his} child is",
    ),
)

REVERSE = _relations(
    ("owner", "{value} has {x}.|{x} lives with {value}.", "who has {x}?|who keeps {x}?|which child has {x}?"),
    (
        "worker",
        "{value} is {x}.|{x} is {value}.",
        "who is {x}?|what is the name of {x}?|who is {x} of the village?",
    ),
    (
        "eater",
        "{value} loves {x}.|{x} is what {value} loves.",
        "who loves {x}?|who likes to eat {x}?|whose favourite food is {x}?",
    ),
    (
        "player",
        "{value} loves {x}.|{x} is what {value} loves.",
        "who loves {x}?|whose hobby is {x}?|who likes {x} best?",
    ),
)

COMMON = _relations(
    ("there", "{x} there are {value}.|{x} you can find {value}.|{x} people see {value}.", "what can you find {x}?|what is there {x}?|what do people see {x}?|what can I see {x}?"),
    ("thing", "{x} there is {value}.|{x} you see {value}.", "what special thing is there {x}?|which special thing can you see {x}?"),
    ("do", "{x} people {value}.|{x} you can {value}.|{x} the children {value}.", "what do people do {x}?|what can you do {x}?|what can I do {x}?"),
    ("sound", "{x} says {value}.|the sound of {x} is {value}.|{value}, says {x}.", "what does {x} say?|what is the sound of {x}?|which sound does {x} make?|how does {x} sound?"),
    ("young", "the baby of {x} is called {value}.|the baby of {x} is {value}.", "what is the baby of {x}?|what is the baby of {x} called?|how do you call the baby of {x}?"),
    ("eats", "{x} eats {value}.|{x} likes to eat {value}.", "what does {x} eat?|what does {x} like to eat?|what do you give {x} to eat?"),
    ("legs", "{x} has {value} legs.|{x} walks on {value} legs.", "how many legs does {x} have?|how many legs has {x}?|on how many legs does {x} walk?"),
    ("then", "when {x}, {value}.|{value} when {x}.|if {x}, {value}.", "what happens when {x}?|what happens if {x}?|{x}. What happens then?"),
    ("because", "{x} {value}.", "why is it that {x}?|{x}. Why?|can you say why {x}?"),
    ("use", "{x} is for {value}.|you use {x} for {value}.|{x} is good for {value}.", "what is {x} for?|what do you use {x} for?|what can you do with {x}?|what is {x} good for?"),
    ("source", "{x} is made from {value}.|people make {x} from {value}.|from {value} people make {x}.", "what is {x} made from?|what do people make {x} from?|from what is {x} made?"),
    ("colour", "{x} is {value}.|the colour of {x} is {value}.", "what colour is {x}?|which colour is {x}?|what is the colour of {x}?|which colour has {x}?"),
    ("other", "the opposite of {x} is {value}.|{x} is the opposite of {value}.", "what is the opposite of {x}?|which word is the opposite of {x}?|tell me the opposite of {x}."),
    ("next", "after {x} comes {value}.|{value} comes after {x}.|{x} is followed by {value}.", "what comes after {x}?|what follows {x}?|what is next after {x}?"),
)  # fmt: skip
