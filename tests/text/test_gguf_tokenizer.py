"""Tokenizers inside GGUF files: ids equal llama.cpp's test vectors and SentencePiece's own rule."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer

from camelid.errors import CamelidError
from camelid.model.gguf import GGUFFile
from camelid.text.gguf_tokenizer import tokenizer_from_gguf


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm", "qwen2", "starcoder"])
def test_llama_cpp_vocabulary_vectors(name, shared):
    stem = shared / "weights/tokenizers/llama_cpp_vocab_vectors" / f"ggml-vocab-{name}.gguf"
    tokenizer = tokenizer_from_gguf(GGUFFile(stem).metadata)
    texts = stem.with_name(f"{stem.name}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = stem.with_name(f"{stem.name}.out").read_text().splitlines()
    assert len(texts) == len(lines) + 1  # the last case ends with the separator too
    for text, line in zip(texts, lines, strict=False):
        assert tokenizer.encode(text) == [int(word) for word in line.split()], text


def spm_reference(text: str, pieces: dict[str, int], scores: list[float]) -> list[int]:
    """SentencePiece's BPE as its paper and llama.cpp's `llm_tokenizer_spm` have it: always the best-scored pair."""
    symbols = list("▁" + text.replace(" ", "▁"))
    while pairs := [
        (-scores[pieces[a + b]], index) for index, (a, b) in enumerate(pairwise(symbols)) if a + b in pieces
    ]:
        _, index = min(pairs)
        symbols[index : index + 2] = ["".join(symbols[index : index + 2])]
    ids = []
    for symbol in symbols:
        ids += (
            [pieces[symbol]] if symbol in pieces else [pieces[f"<0x{byte:02X}>"] for byte in symbol.encode()]
        )
    return ids


@pytest.fixture(scope="session")
def spm_vocabularies(shared):
    found = []
    for file in (
        "stories260K/stories260K.gguf",
        "tokenizers/llama_cpp_vocab_vectors/ggml-vocab-llama-spm.gguf",
    ):
        metadata = GGUFFile(shared / "weights" / file).metadata
        kinds, tokens = metadata["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.tokens"]
        pieces = {token: index for index, token in enumerate(tokens) if kinds[index] in (1, 6)}
        found.append((tokenizer_from_gguf(metadata), pieces, metadata["tokenizer.ggml.scores"]))
    return found


@given(st.text("abchelotwn .,'\n1é字🦙▁", min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_sentencepiece_takes_the_best_scored_pair(spm_vocabularies, text):
    for tokenizer, pieces, scores in spm_vocabularies:
        assert tokenizer.encode(text) == spm_reference(text, pieces, scores)


def vocabulary(**changes):
    """Metadata of a byte-level vocabulary with one control token."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["the cat sat on the mat"] * 9, vocab_size=270, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    tokens = [*model["vocab"], "<|end|>"]
    metadata = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [1] * (len(tokens) - 1) + [3],
        "merges": [" ".join(merge) for merge in model["merges"]],
        "bos_token_id": len(tokens) - 1,
        "eos_token_id": len(tokens) - 1,
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in metadata.items() if value is not None}


def test_ends_that_the_file_asks_for():
    last = len(vocabulary()["tokenizer.ggml.tokens"]) - 1
    plain = tokenizer_from_gguf(vocabulary()).encode("the cat")
    for bos, eos in ((False, False), (True, False), (False, True), (True, True)):
        tokenizer = tokenizer_from_gguf(vocabulary(add_bos_token=bos, add_eos_token=eos))
        assert tokenizer.encode("the cat", special_tokens=True) == [last] * bos + plain + [last] * eos
    assert tokenizer_from_gguf(vocabulary(pre="llama-bpe")).encode("the", special_tokens=True)[0] == last
    assert tokenizer.stop_ids == {last}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert'; supported: gpt2, llama"),
        ({"model": None}, "no tokenizer.ggml.model"),
        ({"pre": "viking"}, "tokenizer.ggml.pre is 'viking'"),
        ({"tokens": ["a", "a"], "token_type": None}, "holds 'a' twice"),
        ({"tokens": []}, "tokens is empty"),
        ({"tokens": [1, 2]}, "tokens is no list of strings"),
        ({"token_type": [1]}, "token_type is no list of"),
        ({"merges": ["a b c"]}, "merges[0] is no pair"),
        ({"merges": ["q 🦙"]}, "does not fit"),
        ({"bos_token_id": 10**6}, "bos_token_id is 1000000"),
        ({"model": "llama"}, "no tokenizer.ggml.scores"),
        ({"model": "llama", "scores": ["x"]}, "scores is no list of"),
    ],
)
def test_damaged_vocabulary(changes, part):
    with pytest.raises(CamelidError) as raised:
        tokenizer_from_gguf(vocabulary(**changes))
    assert part in str(raised.value)
