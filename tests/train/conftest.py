"""A few kilobytes of text and chats, the vocabulary and models made of them, and the command line in its own
process."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import Forked, command

from camelid.cli import main as cli
from camelid.data.rows.batches import Batch
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

NAMES, THINGS, PLACES = ("Tom", "Anna", "Ben", "Lily"), ("ball", "kite", "boat"), ("park", "garden", "river")
CONTEXT = 64
SMALL = {
    "model.hidden-size": 16,
    "model.num-layers": 1,
    "model.num-heads": 2,
    "model.context-length": CONTEXT,
}
BRIEF = {
    "training.context-length": CONTEXT,
    "training.micro-batch-size": 2,
    "training.global-batch-tokens": 4 * CONTEXT,
    "training.dtype": "float32",
    "training.compile": "false",
    "data.validation-fraction": 0.1,
}


def flags(settings: dict[str, object]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text(
        "<|endoftext|>\n".join(
            f"{chance.choice(NAMES)} took a {chance.choice(THINGS)} to the {chance.choice(PLACES)}. "
            f"{chance.choice(NAMES)} came along, and they played number {number} until dark.\n"
            for number in range(60)
        )
    )
    return path


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": turns(number)}) + "\n" for number in range(40)))
    return path


def turns(number: int) -> list[dict[str, str]]:
    name, thing = NAMES[number % len(NAMES)], THINGS[number % len(THINGS)]
    return [
        {"role": "user", "content": f"{number}: who has the {thing}?"},
        {"role": "assistant", "content": f"{name} has."},
    ]


@pytest.fixture(scope="session")
def vocabulary(text: Path) -> Path:
    out = text.parent / "vocabulary"
    assert cli.main(["tokenizer", "--data.train", str(text), "--vocab-size", "300", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def pretrain_words(text: Path, vocabulary: Path) -> Callable[..., list[str]]:
    """The words of a small pretraining run; settings of the test's own come last."""

    def words(out: Path, **settings: object) -> list[str]:
        own = {name.replace("__", ".").replace("_", "-"): value for name, value in settings.items()}
        wanted = {"data.train": text, "tokenizer": vocabulary, "training.steps": 8} | SMALL | BRIEF | own
        return ["pretrain", "--out", str(out), *flags(wanted)]

    return words


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, pretrain_words: Callable[..., list[str]]) -> Path:
    """The run folder of a small pretraining."""
    out = tmp_path_factory.mktemp("pretrained") / "run"
    assert cli.main(pretrain_words(out, training__learning_rate=0.01, training__steps=30)) == 0
    return out


@pytest.fixture(scope="session")
def tune_words(pretrained: Path, chats: Path) -> Callable[..., list[str]]:
    def words(out: Path, **settings: object) -> list[str]:
        own = {name.replace("__", ".").replace("_", "-"): value for name, value in settings.items()}
        wanted = {"data.train": chats, "training.steps": 8} | BRIEF | own
        return ["tune", str(pretrained / "model"), "--out", str(out), *flags(wanted)]

    return words


class CommandLine:
    """`camelid` in a process of its own: one thread, so that sums have one order, and no GPU."""

    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def launch(self, words: list[str], launcher: tuple[str, ...] = ()) -> str:
        """What a command that works prints, of a new Python."""
        command = [sys.executable, *launcher, "-m", "camelid", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def run(self, words: list[str]) -> str:
        """The same of a process forked from a warm one, which is faster."""
        process = self.fork(command, words)
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return out + errors

    def fork(self, function: Callable[..., None], *arguments: object) -> Forked:
        return Forked(function, *arguments, environment=self.environment)


@pytest.fixture(scope="session")
def command_line() -> CommandLine:
    return CommandLine()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Transformer]:
    def build(seed: int = 0, **changes: object) -> Transformer:
        sizes = {"vocab_size": 50, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "context_length": 32}
        spec = ModelSpec.llama(**(sizes | changes))  # type: ignore[arg-type]
        return Transformer(spec).initialize(seed, std=0.3)

    return build


@pytest.fixture(scope="session")
def random_batch() -> Callable[..., Batch]:
    def build(rows: int = 4, time: int = 12, vocab: int = 50, seed: int = 0) -> Batch:
        """One document a row; weights differ from token to token, and from row to row in their sum."""
        generator = torch.Generator().manual_seed(seed)
        tokens, targets = torch.randint(vocab, (2, rows, time), generator=generator)
        weights = torch.rand(rows, time, generator=generator) * torch.arange(rows)[:, None]
        positions = torch.arange(time).expand(rows, time).contiguous()
        return Batch(tokens, targets, weights, torch.zeros_like(tokens), positions)

    return build
