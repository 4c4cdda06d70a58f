"""A tiny model that knows nothing, and a scripted one that solves questions about colours by chance."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer, train_tokenizer

NUMBERS = {"red": 1, "blue": 2, "green": 3, "black": 4}
NAMES = ("Tom", "Anna", "Ben", "Lily", "Max", "Eva", "Leo", "Mia")


def question(name: str, colour: str) -> str:
    return f"{name}: which number is {colour}?"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    texts = [
        f"Q: {question(name, colour)}\nA: It is 1234. The answer is 5678.\n"
        for name in NAMES
        for colour in NUMBERS
    ]
    return train_tokenizer(texts, 320)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Transformer:
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=2, context_length=64
    )
    return Transformer(spec).initialize(0, std=0.1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, model: Transformer, tokenizer: Tokenizer) -> Path:
    """The checkpoint folder of the tiny model."""
    folder = tmp_path_factory.mktemp("base")
    save_checkpoint(folder, model)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def chatty(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A tiny model of a longer context, whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("chatty")
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=2, context_length=128
    )
    save_checkpoint(folder, Transformer(spec).initialize(0, std=0.1))
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of 32 questions, with worked steps."""
    path = tmp_path_factory.mktemp("questions") / "colours.jsonl"
    rows = [
        {"question": question(name, colour), "answer": str(number), "rationale": f"It is {number}."}
        for name in NAMES
        for colour, number in NUMBERS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def guessing() -> Callable[[], ScriptedLM]:
    """A model whose answers are right three times of ten, and else too large by 4."""

    def build() -> ScriptedLM:
        dice = random.Random(0)

        def answer(prompt: Prompt) -> str:
            [right] = [number for colour, number in NUMBERS.items() if f" {colour}?" in str(prompt)]
            number = dice.choices([right, right + 4], [3, 7])[0]
            return f" It is {number}. The answer is {number}."

        return ScriptedLM(answer)

    return build
