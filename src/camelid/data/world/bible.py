"""The bible of the little world: who lives in Willowby, what they are like, and what is where.

Everything here is fixed; stories, facts and answers never contradict it.
"""

from dataclasses import dataclass

from camelid.data.world.grammar import rows, words_of


@dataclass(frozen=True)
class Person:
    """Someone of the village; a child has an age, a parent, a pet and a hobby, a grown-up has a job."""

    name: str
    he: str
    trait: str
    home: str
    food: str
    colour: str
    friend: str
    job: str = ""
    work: str = ""
    age: str = ""
    parent: str = ""
    pet: str = ""
    pet_name: str = ""
    hobby: str = ""

    @property
    def is_child(self) -> bool:
        """Whether this is one of the children."""
        return bool(self.age)


_GROWN_UPS = rows(
    "name / he / trait / job / work / home / food / colour / friend",
    "Olga / she / busy / baker / bakes bread / in the bakery / mushroom soup / white / Ida",
    "Jack / he / strong / farmer / looks after the cows / on the farm / potatoes / green / Karl",
    "Paul / he / calm / fisher / catches fish / in the house by the lake / lemon cake / blue / Otto",
    "Otto / he / loud / smith / mends iron things / next to the forge / sausages / black / Paul",
    "Karl / he / old / miller / makes flour / in the mill / warm bread / brown / Jack",
    "Ida / she / gentle / gardener / grows flowers / in the garden cottage / salad / purple / Olga",
    "Greta / she / wise / teacher / teaches the children / in the schoolhouse / rice / red / Vera",
    "Vera / she / clever / doctor / helps sick people / in the house on the square / "
    "tomatoes / orange / Greta",
)

_CHILDREN = rows(
    "name / he / age / trait / parent / pet / pet_name / food / colour / hobby / friend",
    "Mia / she / 9 / brave / Olga / cat / Tibby / apple pie / red / flying kites / Tom",
    "Ben / he / 6 / funny / Olga / mouse / Pip / cheese / yellow / drawing / Lily",
    "Tom / he / 8 / kind / Jack / dog / Rex / pancakes / green / climbing trees / Mia",
    "Lily / she / 6 / gentle / Jack / lamb / Cotton / cherries / pink / singing / Ben",
    "Finn / he / 10 / curious / Paul / duck / Puddle / fish soup / blue / swimming / Rosa",
    "Rosa / she / 10 / strong / Otto / goat / Bram / nuts / orange / running / Finn",
    "Anna / she / 7 / careful / Karl / rabbit / Clover / honey bread / white / reading / Nora",
    "Hugo / he / 11 / cheerful / Karl / parrot / Polly / noodles / purple / playing the flute / Max",
    "Nora / she / 7 / patient / Ida / turtle / Shelly / plums / green / painting / Anna",
    "Max / he / 11 / clever / Greta / frog / Jumper / pears / blue / fishing / Hugo",
    "Ella / she / 5 / merry / Greta / hen / Dot / berries / yellow / dancing / Sam",
    "Sam / he / 5 / quiet / Vera / pony / Star / honey cakes / brown / building towers / Ella",
)

_HOMES = {row["name"]: row["home"] for row in _GROWN_UPS}
GROWN_UPS = tuple(Person(**row) for row in _GROWN_UPS)
CHILDREN = tuple(Person(**row, home=_HOMES[row["parent"]]) for row in _CHILDREN)
PEOPLE = {person.name: person for person in (*CHILDREN, *GROWN_UPS)}
PET_NAMES = tuple(child.pet_name for child in CHILDREN)

# Guests of problems and puzzles, about whom the world states nothing.
GUESTS = words_of(
    "Adam Alma Amy Bella Bob Carl Cleo Dan Dora Eric Eva Felix Fred Gina Hana Ivan Ivy Jane Jill",
    "Kate Kim Leo Lena Luca Lucy Marc Maya Nick Oleg Olive Oscar Peter Ruby Ruth Tara Theo Tina Toby",
    "Walt Zoe",
)
CAST = tuple(PEOPLE)
ALL_NAMES = (*CAST, *GUESTS)
NAMES = frozenset((*ALL_NAMES, *PET_NAMES))

PRONOUNS = {
    "he": {
        "he": "he",
        "him": "him",
        "his": "his",
        "girl": "boy",
        "parent_word": "father",
        "child_word": "son",
    },
    "she": {
        "he": "she",
        "him": "her",
        "his": "her",
        "girl": "girl",
        "parent_word": "mother",
        "child_word": "daughter",
    },
}

PLACES = rows(
    "place / at / there / thing / do",
    "bakery / in the bakery / bread and cakes / a warm oven / buy bread",
    "farm / on the farm / cows and hens / a big barn / milk the cows",
    "mill / in the mill / flour and a big wheel / a water wheel / make flour",
    "lake / at the lake / fish and boats / a little boat / swim and fish",
    "forest / in the forest / tall trees and mushrooms / an owl / look for mushrooms",
    "hill / on the hill / grass and wind / an old tower / fly kites",
    "river / at the river / smooth stones and reeds / a stone bridge / sail paper boats",
    "square / on the square / a well and a market / a deep well / meet their friends",
    "school / at the school / books and desks / a brass bell / learn to read",
    "garden / in the garden / flowers and bees / a green gate / pick flowers",
    "forge / in the forge / fire and iron / a hot fire / mend iron things",
    "meadow / in the meadow / sheep and butterflies / a white fence / play games",
    "orchard / in the orchard / apple trees and pear trees / a long ladder / pick apples",
)


def parent_word(child: Person) -> str:
    """`mother` or `father`."""
    return PRONOUNS[PEOPLE[child.parent].he]["parent_word"]


def children_of(grown_up: Person) -> tuple[Person, ...]:
    """The children of a grown-up, in the order of the bible."""
    return tuple(child for child in CHILDREN if child.parent == grown_up.name)
