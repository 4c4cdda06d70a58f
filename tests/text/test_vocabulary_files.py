"""Folders without a tokenizer.json: ids equal llama.cpp's vectors and SentencePiece; what is damaged is
named."""

import base64
import json
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers

import camelid
from camelid.base.errors import CamelidError
from camelid.text.charsmap import check_charsmap
from camelid.text.tokenizer import load_tokenizer

VECTORS = "weights/tokenizers/llama_cpp_vocab_vectors/ggml-vocab-{}.gguf.{}"
SENTENCEPIECE_IDS = json.loads((Path(__file__).parent / "t5_vectors.json").read_text(encoding="utf-8"))


def vectors(shared, name):
    texts = (shared / VECTORS.format(name, "inp")).read_text(encoding="utf-8")
    lines = (shared / VECTORS.format(name, "out")).read_text().splitlines()
    return list(
        zip(
            texts.split("\n__ggml_vocab_test__\n"),
            [[int(i) for i in line.split()] for line in lines],
            strict=False,
        )
    )


@pytest.mark.parametrize(
    ("source", "file", "name"),
    [
        ("gpt2", None, "gpt-2"),
        ("llama", "tokenizer.model", "llama-spm"),
        ("llama", "tokenizer.bin", "llama-spm"),
    ],
)
def test_llama_cpp_vectors(shared, tmp_path, source, file, name):
    folder = shared / "weights/tokenizers" / source
    if file is not None:
        shutil.copy(folder / file, tmp_path)
        folder = tmp_path
    tokenizer = camelid.load_tokenizer(folder)
    cases = vectors(shared, name)
    assert len(cases) == 46
    for text, ids in cases:
        assert tokenizer.encode(text) == ids, text


def test_t5_equals_sentencepiece(shared):
    """`t5_vectors.json` holds the ids of SentencePiece 0.2.3 for llama.cpp's texts."""
    tokenizer = load_tokenizer(shared / "weights/tokenizers/t5")
    texts = [text for text, _ in vectors(shared, "gpt-2")]
    assert len(texts) == len(SENTENCEPIECE_IDS)
    for text, ids in zip(texts, SENTENCEPIECE_IDS, strict=True):
        assert tokenizer.encode(text) == ids, text
    assert tokenizer.encode("Hello world", special_tokens=True) == [8774, 296, 1]


def test_t5_sentinels_and_continued_text(shared):
    tokenizer = load_tokenizer(shared / "weights/tokenizers/t5")
    assert tokenizer.vocab_size == 32100
    assert [tokenizer.special_ids[f"<extra_id_{k}>"] for k in (0, 99)] == [32099, 32000]
    marked = tokenizer.encode("a<extra_id_0>b", markup=True)
    assert 32099 in marked
    assert tokenizer.decode(marked, skip_special_tokens=False) == "a<extra_id_0> b"
    for forged in ("</s>", "<pad>", "<extra_id_0>", "a <unk></s>b"):
        assert not set(tokenizer.encode(forged)) & {0, 1, 32099}, forged


def test_llama2c_vocabulary(shared):
    folder = shared / "weights/stories260K"
    tokenizer = load_tokenizer(folder)
    for result in json.loads((folder / "reference_llamacpp_greedy.json").read_text())["results"]:
        assert tokenizer.encode(result["prompt"], special_tokens=True) == result["prompt_tokens"]


@pytest.mark.parametrize("source", ["gpt2", "llama", "t5"])
def test_transformers_reads_what_is_saved(shared, tmp_path, source):
    from transformers import AutoTokenizer

    tokenizer = load_tokenizer(shared / "weights/tokenizers" / source)
    tokenizer.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    for text, _ in vectors(shared, "gpt-2"):
        ids = tokenizer.encode(text, special_tokens=True)
        assert theirs(text)["input_ids"] == ids == again.encode(text, special_tokens=True)
    assert theirs.eos_token_id == tokenizer.eos_id == again.eos_id


def test_tokenizer_json_wins(shared, tmp_path):
    shutil.copy(shared / "weights/tokenizers/llama/tokenizer.model", tmp_path)
    shutil.copy(shared / "weights/tinystories-656k/tokenizer.json", tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 2048


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    head = b""
    while value > 0x7F:
        head, value = head + bytes([value & 0x7F | 0x80]), value >> 7
    return head + bytes([value])


def field(number: int, value: int | bytes | float) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def piece(text: bytes, score: float, kind: int) -> bytes:
    return field(1, field(1, text) + field(2, score) + field(3, kind))


def model(kind: int = 1, pieces: bytes = b"", trainer: bytes = b"", normalizer: bytes = b"") -> bytes:
    words = enumerate(["▁", "a", "b", "c", "▁a", "ab", "bc"])
    special = piece(b"<unk>", 0.0, 2) + piece(b"<s>", 0.0, 3) + piece(b"</s>", 0.0, 3)
    learnt = b"".join(piece(word.encode(), -2.0 - rank / 2, 1) for rank, word in words)
    return special + learnt + pieces + field(2, field(3, kind) + trainer) + field(3, normalizer)


@pytest.fixture
def read(tmp_path):
    def read_bytes(data: bytes):
        (tmp_path / "spiece.model").write_bytes(data)
        return load_tokenizer(tmp_path)

    return read_bytes


@pytest.mark.parametrize(("kind", "ids"), [(1, [7, 9]), (2, [7, 9])])
def test_a_model_made_by_hand(read, kind, ids):
    tokenizer = read(model(kind))
    assert tokenizer.encode(" abc" if kind == 1 else "abc") == ids
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (1, 2, 0)
    assert tokenizer.encode("</s>").count(2) == 0


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "holds no pieces"),
        (b"IQ== 0\nIg== 1\n", "not a SentencePiece model"),
        (model()[:40], "truncated"),
        (field(1, 5), "wire type 0"),
        (model(3), "model_type is 3 (word)"),
        (model(pieces=piece(b"\xff", 0.0, 1)), "piece 10 is not valid UTF-8"),
        (model(pieces=piece(b"", 0.0, 1)), "piece 10 is empty"),
        (model(pieces=piece(b"a", 0.0, 1)), "holds 'a' twice"),
        (model(pieces=piece(b"x", 0.0, 5)), "UNUSED"),
        (model(pieces=piece(b"x", 0.0, 9)), "unknown type 9"),
        (model(pieces=piece(b"x", float("nan"), 1)), "is not finite"),
        (model(2, pieces=piece(b"x" * 10**6, 0.0, 1)), "1000000 characters"),
        (model(trainer=field(24, 1)), "after words"),
        (model(trainer=field(40, 5)), "no UNKNOWN piece"),
        (model(normalizer=field(2, b"\x01")), "truncated"),
        (model(normalizer=field(2, struct.pack("<I", 4) + b"\0" * 4 + b"a\0")), "points outside"),
        (model(normalizer=field(2, struct.pack("<I", 2**31) + b"\0" * 8)), "trie"),
        (b"\x80" * 11, "truncated in a number"),
    ],
)
def test_damaged_models_are_named(read, data, part):
    with pytest.raises(CamelidError) as raised:
        read(data)
    assert part in str(raised.value)
    assert "spiece.model" in str(raised.value)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_hostile_models_give_a_tokenizer_or_a_message(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("hostile")
    whole = bytearray(model(data.draw(st.sampled_from([1, 2]))))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=3)):
        whole[place] = data.draw(st.integers(0, 255))
    (folder / "tokenizer.model").write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with suppress(CamelidError):
        load_tokenizer(folder).encode("ab c\n🦙</s>")


@pytest.fixture(scope="module")
def character_table(shared) -> bytes:
    """T5's: NFKC and a little more."""
    tokenizer = load_tokenizer(shared / "weights/tokenizers/t5")
    return base64.b64decode(tokenizer.description["normalizer"]["normalizers"][0]["precompiled_charsmap"])


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 237_538), byte=st.integers(0, 255))
def test_a_damaged_character_table_is_refused_or_harmless(character_table, place, byte):
    table = bytearray(character_table)
    table[place] = byte
    try:
        check_charsmap(bytes(table))
    except CamelidError:
        return
    normalizers.Precompiled(bytes(table)).normalize_str("ﬁne ½ Å ㌔ e\u0301 \u3000 \x07 ｆ")


BAD_TABLES = {
    "empty": "",
    "no base64": "%%%",
    "no text": 5,
    "random": base64.b64encode(b"\x10\0\0\0" + bytes(range(200, 230))).decode(),
    "leaf first": base64.b64encode(b"\x04\0\0\0\xff\xff\xff\xffa\0").decode(),
}


@pytest.mark.parametrize("table", BAD_TABLES.values(), ids=BAD_TABLES)
@pytest.mark.parametrize("escaped", [False, True])
def test_a_tokenizer_json_with_a_damaged_character_table_is_refused(tmp_path, table, escaped):
    """The library panics on them, some while it loads and some at the first text."""
    step = {"type": "Precompiled", "precompiled_charsmap": table}
    whole = json.loads(Backend(models.BPE({"a": 0}, [])).to_str())
    text = json.dumps(whole | {"normalizer": {"type": "Sequence", "normalizers": [step]}})
    (tmp_path / "tokenizer.json").write_text(
        text.replace("recompile", "recompil\\u0065") if escaped else text
    )
    with pytest.raises(CamelidError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        load_tokenizer(tmp_path)


def test_an_empty_vocabulary_is_refused(tmp_path):
    Backend(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CamelidError, match="vocabulary is empty"):
        load_tokenizer(tmp_path)


@pytest.fixture
def gpt2(shared, tmp_path):
    """A copy of GPT-2's files under their other names, with a configuration."""

    def copy(config: dict, **files: str) -> Path:
        source = shared / "weights/tokenizers/gpt2"
        shutil.copy(source / "encoder.json", tmp_path / "vocab.json")
        shutil.copy(source / "vocab.bpe", tmp_path / "merges.txt")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)
        return tmp_path

    return copy


def test_declared_tokens_and_ends(gpt2):
    added = {"50257": {"content": "<|pad|>", "special": True}}
    config = {
        "tokenizer_class": "GPT2TokenizerFast",
        "added_tokens_decoder": added,
        "pad_token": "<|pad|>",
        "add_bos_token": True,
    }
    tokenizer = load_tokenizer(gpt2(config))
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (50257, 50258)
    assert tokenizer.encode("Hello", special_tokens=True) == [50256, 15496]


@pytest.mark.parametrize(
    ("config", "files", "part"),
    [
        ({"tokenizer_class": "CLIPTokenizer"}, {}, "CLIPTokenizer, which is not supported"),
        ({"added_tokens_decoder": {"9": {"content": "<|pad|>"}}}, {}, "declared as id 9 but would get 50257"),
        ({"added_tokens_decoder": {"x": 1}}, {}, "added tokens are damaged"),
        ({}, {"vocab__json": '{"a": 1}'}, "ids must be 0 to 0"),
        ({}, {"vocab__json": '{"a": 0}'}, "no token for 255 of the 256 bytes"),
        ({}, {"vocab__json": "["}, "not JSON"),
        ({}, {"merges__txt": "#version\na b c\n"}, "merges.txt, line 2 is not a pair"),
        ({}, {"merges__txt": "q 🦙\n"}, "does not fit"),
    ],
)
def test_damaged_gpt2_files_are_named(gpt2, config, files, part):
    with pytest.raises(CamelidError) as raised:
        load_tokenizer(gpt2(config, **files))
    assert part in str(raised.value)


def test_what_is_missing_or_double_is_named(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(CamelidError, match=r"has vocab\.json but no merges\.txt"):
        load_tokenizer(tmp_path)
    for name in ("a.model", "b.model"):
        (tmp_path / name).write_bytes(model())
    with pytest.raises(CamelidError, match=r"a\.model, b\.model"):
        load_tokenizer(tmp_path)


def test_a_damaged_llama2c_file_is_named(tmp_path):
    for data, part in ((b"\7\0\0\0" + b"\0" * 5, "truncated"), (b"\7\0\0\0", "not a llama2.c tokenizer")):
        (tmp_path / "tokenizer.bin").write_bytes(data)
        with pytest.raises(CamelidError, match=part):
            load_tokenizer(tmp_path)
