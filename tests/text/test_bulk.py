"""The bulk encoder gives the tokenizer's own ids."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from camelid.base.errors import CamelidError
from camelid.text.bulk import BulkEncoder, _known_pieces
from camelid.text.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

TEXT = (
    "The cat's 12 hats, 'tis said -- \"don't\n\n  sell!\"  A naïve one…\tsays: I'll  3 ½ times\r\n“we’ve” ."
    * 3
)
fragments = st.sampled_from(
    [
        "",
        " ",
        "  ",
        "'",
        "'s",
        "'ll",
        "a",
        "The",
        " cat",
        "naïve",
        "1",
        "12",
        " 3",
        "½",
        "²",
        "Ⅷ",
        ",",
        "...",
        "“",
        "’",
        "—",
        "…",
        "é",
        "你好",
        "🦙",
        "_",
        "ª",
        "µ",
        "×",
        "<",
        "endoftext",
        ">",
        *list("\n\t\r\xa0\u3000\x85\x1c\x00\u2028́\u200b\ufeff\x7f"),
    ]
)
texts = st.one_of(
    st.lists(fragments, max_size=25).map("".join), st.text(st.characters(exclude_categories=["Cs"]))
)


def gpt2_style() -> Tokenizer:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return Tokenizer(backend, {})


@pytest.fixture(
    scope="module", params=[gpt2_style, lambda: train_tokenizer([TEXT], 400)], ids=["gpt2", "ours"]
)
def encoder(request: pytest.FixtureRequest) -> BulkEncoder:
    tokenizer = request.param()
    assert _known_pieces(tokenizer) is not None
    return BulkEncoder(tokenizer)


@settings(max_examples=400, deadline=None)
@given(text=texts)
@example(text=TEXT)
def test_bulk_ids_are_the_tokenizers_ids(encoder: BulkEncoder, text: str):
    assert encoder.encode([text])[0].tolist() == encoder.tokenizer.encode(text)


def test_unknown_rules_go_through_the_tokenizer(shared: Path):
    tokenizer = load_tokenizer(shared / "weights/tinystories-656k")
    assert _known_pieces(tokenizer) is None
    ids = BulkEncoder(tokenizer).encode([TEXT])[0]
    assert ids.dtype == np.uint16
    assert ids.tolist() == tokenizer.encode(TEXT)


def test_lone_surrogate_is_named(encoder: BulkEncoder):
    with pytest.raises(CamelidError, match="lone surrogate"):
        encoder.encode(["bad \ud800 text"])
