"""A vocabulary of a few texts, and a folder with it."""

import pytest
from exported import LLAMA, TEXTS, write

from camelid.text.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def vocabulary() -> Tokenizer:
    return train_tokenizer(TEXTS * 5, 330)


@pytest.fixture
def folder(tmp_path, vocabulary):
    return write(tmp_path / "model", LLAMA, vocabulary)
