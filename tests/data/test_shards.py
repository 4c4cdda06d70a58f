"""Token shards against the plain encoding of the documents."""

import json
from pathlib import Path

import numpy as np
import pytest

from camelid.base.errors import CamelidError
from camelid.data.rows.shards import TokenShards, write_shards
from camelid.text.tokenizer import Tokenizer, train_tokenizer

DOCUMENTS = [(f"The {i} llamas ran to hill {i * 7}.\n" * (i % 9 + 1), f"a.txt:{i + 1}") for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([text for text, _ in DOCUMENTS], 400)


@pytest.mark.parametrize("shard_tokens", [1 << 20, 100, 1])
def test_documents_come_back(tokenizer: Tokenizer, tmp_path: Path, shard_tokens: int):
    meta = write_shards(
        DOCUMENTS, tokenizer, tmp_path / "s", validation_fraction=0, shard_tokens=shard_tokens
    )
    shards = TokenShards(tmp_path / "s")
    expected = [tokenizer.encode(text) for text, _ in DOCUMENTS]
    assert [shards.document(i).tolist() for i in range(len(shards))] == expected
    assert shards.document(0).dtype == np.uint16
    assert shards.lengths.tolist() == [len(ids) for ids in expected]
    assert shards.token_count == sum(map(len, expected))
    assert shards.byte_count == sum(len(text.encode()) for text, _ in DOCUMENTS)
    assert meta["splits"]["train"]["documents"] == len(DOCUMENTS)


@pytest.mark.slow
def test_workers_change_nothing(tokenizer: Tokenizer, tmp_path: Path):
    many = DOCUMENTS * 200
    for workers in (1, 2):
        write_shards(many, tokenizer, tmp_path / str(workers), workers=workers, validation_fraction=0.1)
    files = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "2").iterdir())
    assert all((tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes() for name in files)


def test_splits_share_nothing(tokenizer: Tokenizer, tmp_path: Path):
    write_shards(DOCUMENTS, tokenizer, tmp_path / "s", validation_fraction=0.2)
    splits = [TokenShards(tmp_path / "s", "train"), TokenShards(tmp_path / "s", "validation")]
    texts = [{tokenizer.decode(s.document(i)) for i in range(len(s))} for s in splits]
    assert not texts[0] & texts[1]
    assert texts[0] | texts[1] == {text for text, _ in DOCUMENTS}


def test_large_vocabularies_take_wider_numbers(tmp_path: Path):
    tokenizer = train_tokenizer(["ab"], 300)
    tokenizer.vocab_size = 70_000
    write_shards(DOCUMENTS, tokenizer, tmp_path / "s", validation_fraction=0)
    assert TokenShards(tmp_path / "s").document(3).dtype == np.uint32
    assert TokenShards(tmp_path / "s").document(3).tolist() == tokenizer.encode(DOCUMENTS[3][0])


@pytest.mark.parametrize("bos", [True, False])
def test_a_piece_is_a_stretch_of_the_document_between_its_ends(
    tokenizer: Tokenizer, tmp_path: Path, bos: bool
):
    if not bos:
        tokenizer = Tokenizer(tokenizer.backend, {"eos_token": "<|endoftext|>"})
    write_shards(DOCUMENTS, tokenizer, tmp_path / "s", validation_fraction=0)
    shards = TokenShards(tmp_path / "s")
    # <|endoftext|>, id 0, stands before the text where the vocabulary has a BOS, and after it.
    whole = [*([0] if bos else []), *tokenizer.encode(DOCUMENTS[5][0]), 0]
    tokens, targets = whole[:-1], whole[1:]
    assert len(tokens) == shards.lengths[5] + shards.lead
    for start in range(len(tokens)):
        for stop in range(start + 1, len(tokens) + 1):
            piece = shards.piece(5, start, stop)
            assert piece.tokens.tolist() == tokens[start:stop]
            assert piece.targets.tolist() == targets[start:stop]
            assert piece.weights.tolist() == [1.0] * (stop - start)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "no document"),
        ([("fine", "a:1"), ("", "a:2")], "a:2"),
        ([("fine", "a:1"), ("\ud800", "a:2")], "a:2.*surrogate"),
    ],
)
def test_bad_documents_leave_nothing_behind(
    tokenizer: Tokenizer, tmp_path: Path, documents: list[tuple[str, str]], message: str
):
    with pytest.raises(CamelidError, match=message):
        write_shards(documents, tokenizer, tmp_path / "s", validation_fraction=0)
    assert not list(tmp_path.iterdir())


def test_a_used_folder_is_refused(tokenizer: Tokenizer, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(CamelidError, match="not empty"):
        write_shards(DOCUMENTS, tokenizer, tmp_path)


def test_damage_is_named(tokenizer: Tokenizer, tmp_path: Path):
    write_shards(DOCUMENTS, tokenizer, tmp_path / "s", validation_fraction=0)
    with pytest.raises(CamelidError, match="no validation split"):
        TokenShards(tmp_path / "s", "validation")
    file = tmp_path / "s/train-00000.npy"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CamelidError, match=r"train-00000\.npy"):
        TokenShards(tmp_path / "s")
    file.unlink()
    with pytest.raises(CamelidError, match=r"train-00000\.npy"):
        TokenShards(tmp_path / "s")
    meta = json.loads((tmp_path / "s/meta.json").read_text())
    (tmp_path / "s/meta.json").write_text(json.dumps(meta | {"format": 99}))
    with pytest.raises(CamelidError, match="format"):
        TokenShards(tmp_path / "s")
