"""A server of a tiny model in a thread of this process, on a port of its own."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

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


class Server(uvicorn.Server):
    """A server that tells its address; it runs until the block ends."""

    def __init__(self, app: object) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False))  # type: ignore[arg-type]
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, kwargs={"sockets": [self.listening]}, daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        while not self.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="session")
def url(engine: Engine) -> Iterator[str]:
    with Server(make_app(Models([Served("tiny", engine)]))) as server:
        yield server.url
