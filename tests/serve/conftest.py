"""A server of a tiny model in a thread of this process, on a port of its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from running_server import Server

from camelid.engine.engine import Engine
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.serve.app import make_app
from camelid.serve.models import Models, Served
from camelid.serve.request_log import logging_to
from camelid.text.tokenizer import Tokenizer, train_tokenizer

WORDS = "the cat sat on a mat and then one two three dogs ran over to it; ümläut, 漢字 😀.\n"


@pytest.fixture(scope="session", autouse=True)
def request_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file with a line for each request, which would otherwise be among pytest's own."""
    file = tmp_path_factory.mktemp("log") / "requests.jsonl"
    with logging_to(file):
        yield file


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


CALLING = """\
{%- if tools %}{{ '[tools]' + tools | map(attribute='function') | list | tojson }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + ' ' }}
{%- for call in message.tool_calls or [] %}
{{- '<call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}</call>' }}
{%- endfor %}{{ message.content or '' }}{{ '<|im_end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"""
"""A chat template that shows tools and writes calls."""


@pytest.fixture(scope="session")
def calling(engine: Engine) -> Iterator[Engine]:
    """A model whose template has tools, with room for them in its context."""
    tokenizer = Tokenizer(engine.tokenizer.backend, engine.tokenizer.config, chat_template=CALLING)
    spec = replace(engine.model.spec, context_length=1024)
    with Engine(Transformer(spec).initialize(0, std=0.2).eval(), tokenizer, max_batch=8) as made:
        yield made


@pytest.fixture(scope="session")
def calling_url(calling: Engine) -> Iterator[str]:
    with Server(make_app(Models([Served("caller", calling)]))) as server:
        yield server.url
