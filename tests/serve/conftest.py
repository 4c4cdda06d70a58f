"""A server of a tiny model in a thread of this process, on a port of its own."""

from collections.abc import Iterator

import pytest
from running_server import Server

from camelid.engine.engine import Engine
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.serve.app import make_app
from camelid.serve.models import Models, Served
from camelid.text.tokenizer import train_tokenizer

WORDS = "the cat sat on a mat and then one two three dogs ran over to it; ümläut, 漢字 😀.\n"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    tokenizer = train_tokenizer([WORDS] * 8, 320)
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=64, num_layers=2, num_heads=4, context_length=128
    )
    with Engine(Transformer(spec).initialize(0, std=0.2).eval(), tokenizer, max_batch=8) as made:
        yield made


@pytest.fixture(scope="session")
def url(engine: Engine) -> Iterator[str]:
    with Server(make_app(Models([Served("tiny", engine)]))) as server:
        yield server.url
