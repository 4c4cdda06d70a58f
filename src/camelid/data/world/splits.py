"""Which split a text belongs to: a stable hash of its name-blind form.

Every name becomes the same mark, so texts that differ only in names have the same form and the same split. A
held-out text is therefore never a training text with other names.
"""

import re
from hashlib import blake2b
from typing import Literal, get_args

from camelid.data.world.bible import NAMES

Split = Literal["train", "validation", "test", "longer"]
SPLITS: tuple[str, ...] = get_args(Split)
BUCKETS = 16  # one sixteenth of all forms is held out for validation, one for test

_WORD = re.compile(r"\b[A-Z][a-z]+\b")


def name_blind(text: str) -> str:
    """The text with every name of the world replaced by `N`."""
    return _WORD.sub(lambda word: "N" if word.group() in NAMES else word.group(), text)


def split_of(key: str) -> Split:
    """The split of a name-blind key; not for texts longer than in training."""
    bucket = blake2b(key.encode(), digest_size=2).digest()[0] % BUCKETS
    return "validation" if bucket == 0 else "test" if bucket == 1 else "train"


def belongs(key: str, split: Split) -> bool:
    """Whether a name-blind key may be used in the split; longer texts are separate by their length."""
    return split == "longer" or split_of(key) == split
