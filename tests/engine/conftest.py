"""A tiny random model with a real tokenizer, and the real TinyStories-656K."""

from collections.abc import Callable
from pathlib import Path

import pytest

from camelid.engine.engine import Engine
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer, train_tokenizer

WORDS = "the cat sat on a mat and then one two three dogs ran over to it; ümläut, 漢字 😀.\n"


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([WORDS] * 8, 320)


@pytest.fixture(scope="session")
def tiny(tokenizer: Tokenizer) -> Callable[..., Transformer]:
    def build(seed: int = 0, **changes: object) -> Transformer:
        sizes = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "context_length": 96}
        sizes["vocab_size"] = tokenizer.vocab_size
        spec = ModelSpec.llama(**{**sizes, **changes})  # type: ignore[arg-type]
        # Weights large enough that texts vary.
        return Transformer(spec).initialize(seed, std=0.2).eval()

    return build


@pytest.fixture(scope="session")
def stories(shared: Path) -> Engine:
    return Engine.load(shared / "weights" / "tinystories-656k")
