"""A small vocabulary and its shards, for the tests of rows."""

import pytest

from camelid.data.rows.shards import TokenShards, write_shards
from camelid.text.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [f"{'llama ' * (i % 13)}{i}" for i in range(40)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Tokenizer:
    return train_tokenizer(texts, 300)


@pytest.fixture(scope="session")
def shards(texts: list[str], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    folder = tmp_path_factory.mktemp("data") / "shards"
    write_shards([(text, "t") for text in texts], tokenizer, folder, validation_fraction=0, shard_tokens=50)
    return TokenShards(folder)
