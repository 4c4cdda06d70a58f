"""Print samples of the world: `python -m camelid.data.world --split train --kind stories --count 3`."""

import argparse
from collections.abc import Iterable
from itertools import islice

from camelid.data.world import SKILLS, SPLITS, Split, conversations, documents, items, stories
from camelid.text.conversation import Conversation


def _played(conversation: Conversation) -> str:
    return "\n".join(f"{message.role}: {message.content}" for message in conversation.messages)


def samples(kind: str, split: Split, count: int, seed: int) -> Iterable[str]:
    """Texts of one kind: `stories`, `documents`, `conversations`, or the name of a skill."""
    if kind == "conversations":
        return map(_played, islice(conversations(split, seed), count))
    if kind in SKILLS:
        return (f"{item.question}\n{item.reply}" for item in items(kind, split, count, seed))
    return islice({"stories": stories, "documents": documents}[kind](split, seed), count)


def main() -> None:
    """Read the arguments and print the samples, with a line of dashes between them."""
    parser = argparse.ArgumentParser(
        prog="python -m camelid.data.world", description="Print samples of the world."
    )
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument(
        "--kind", choices=("stories", "documents", "conversations", *SKILLS), default="stories"
    )
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("\n---\n".join(samples(arguments.kind, arguments.split, arguments.count, arguments.seed)))


if __name__ == "__main__":
    main()
