"""Writes the generated world as ordinary files, so that the default run uses the same code as a user's
data."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from typing import Any

from camelid.base.atomic import atomic_folder
from camelid.base.json import json_line
from camelid.data import world
from camelid.runs.licences import PUBLIC_CARD
from camelid.workflows.quickstart.budget import TUNING_SHARE
from camelid.workflows.quickstart.job import Job
from camelid.workflows.quickstart.recipes import pretrain_sizes
from camelid.workflows.quickstart.sizing import BATCH_ROWS, BYTES_PER_TOKEN, CONTEXT

VALIDATION_BYTES, VALIDATION_CHATS = 200_000, 150
GAMES_BYTES, GAMES_SHARE = 1_900_000, 0.15
"""Bytes of games at the start of pretraining, about 600,000 tokens, and their largest share of a short
pretraining."""
TOKENS_PER_CHAT = 200
"""Tokens of a conversation of the world, approximately; measured in docs/world.md."""
TASKS = ("coin_flip", "last_letters", "comparison", "kinds", "weekdays", "months", "facts", "sums")
"""The skills that the report shows; `sums` is the hard one."""
CARD_TEXT = """\
---
license: cc0-1.0
---
Text and conversations of Camelid's generated world (docs/world.md): a program wrote all of them, and nobody
owns them.
"""


def write_world_for(job: Job) -> None:
    """Writes the files that this quickstart needs: text for one epoch of pretraining, and conversations for
    tuning."""
    sizes = pretrain_sizes(job)
    tuning_tokens = sizes["tokens_per_second"] * job.budget.for_training * TUNING_SHARE
    write_world(
        job.data,
        text_bytes=int(sizes["steps"] * BATCH_ROWS * CONTEXT * BYTES_PER_TOKEN),
        conversations=int(tuning_tokens / TOKENS_PER_CHAT) + 200,
        seed=job.seed,
    )


def write_world(folder: Path, *, text_bytes: int, conversations: int, seed: int, items: int = 100) -> None:
    """Writes text.jsonl, chats.jsonl, their validation sets, and tasks of held-out and of longer questions.

    text_bytes: approximate size of the pretraining text, including games; conversations: number for tuning;
    items: questions per skill.
    """
    with atomic_folder(folder) as draft:
        write_text(draft, text_bytes, seed, games_bytes=min(GAMES_BYTES, int(GAMES_SHARE * text_bytes)))
        _write_rows(draft / "chats.jsonl", _chats("train", conversations, seed))
        _write_rows(draft / "chats-validation.jsonl", _chats("validation", VALIDATION_CHATS, seed))
        splits: tuple[tuple[world.Split, str], ...] = (("test", ""), ("longer", "-longer"))
        (draft / "tasks").mkdir()
        for skill, (split, suffix) in product(TASKS, splits):
            if split == "test" or world.SKILLS[skill].longer is not None:
                rows = map(world.task_row, world.items(skill, split, items, seed))
                _write_rows(draft / "tasks" / f"{skill}{suffix}.jsonl", rows)


def write_text(folder: Path, text_bytes: int, seed: int, games_bytes: int = 0) -> None:
    """Writes text.jsonl of about `text_bytes`, including the games, text-validation.jsonl without any, and a
    card with their licence."""
    (folder / PUBLIC_CARD).write_text(CARD_TEXT, encoding="utf-8")
    _write_rows(folder / "text.jsonl", _until(text_bytes, world.curriculum(games_bytes, seed)))
    held_out = _until(VALIDATION_BYTES, world.documents("validation", seed))
    _write_rows(folder / "text-validation.jsonl", held_out)


def _until(size: int, texts: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """Rows of texts until they add up to `size` bytes."""
    written = 0
    for text in texts:
        yield {"text": text}
        written += len(text.encode())
        if written >= size:
            return


def _chats(split: world.Split, count: int, seed: int) -> Iterator[Mapping[str, Any]]:
    for conversation in islice(world.conversations(split, seed), count):
        yield {"messages": conversation.as_dicts()}


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_line(row))
