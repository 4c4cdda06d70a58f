"""The default data: a seeded generator of small-vocabulary English about one consistent little world.

`stories`, `documents` and `conversations` are infinite iterators; `items` are graded questions. Everything is
a pure function of its arguments, and nothing of a held-out split occurs in training (docs/world.md).
"""

from camelid.data.world.conversations import conversations
from camelid.data.world.documents import documents
from camelid.data.world.games import curriculum
from camelid.data.world.items import SKILLS, Skill, WorldItem, items, task_row
from camelid.data.world.splits import SPLITS, Split
from camelid.data.world.stories import stories

__all__ = [
    "SKILLS",
    "SPLITS",
    "Skill",
    "Split",
    "WorldItem",
    "conversations",
    "curriculum",
    "documents",
    "items",
    "stories",
    "task_row",
]
