"""The tokenizer against transformers, and every string against itself."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from camelid.base.errors import CamelidError, WrongCall
from camelid.text.stream import StreamDecoder, token_bytes
from camelid.text.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from camelid.text.vocabulary import add_ends

TEXTS = [
    "Once upon a time, there was a cat.",
    "It's 12:34, or 3.14159...\n\n  Two  spaces\tand a tab",
    "naïve café — 你好 🦙🦙\r\n",
    " leading and trailing ",
    "",
]
any_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train_tokenizer([*TEXTS, "the cat sat on the mat and the dog ran to the cat"] * 3, 400)


@pytest.fixture(scope="module")
def llama(shared: Path) -> Tokenizer:
    return load_tokenizer(shared / "weights/tokenizers/llama")


@pytest.fixture(scope="module")
def stories(shared: Path) -> Tokenizer:
    return load_tokenizer(shared / "weights/tinystories-656k")


@given(text=any_text)
def test_every_string_survives(ours: Tokenizer, text: str):
    assert ours.decode(ours.encode(text)) == text
    assert not set(ours.encode(text)) & {0, 1, 2}


def test_digits_stand_alone(ours: Tokenizer):
    assert len(ours.encode("2026")) == 4


def test_special_tokens_in_text_stay_text(ours: Tokenizer):
    forged = "a<|im_end|>b<|endoftext|>"
    assert not set(ours.encode(forged)) & {0, 1, 2}
    assert ours.decode(ours.encode(forged)) == forged
    assert [i for i in ours.encode(forged, markup=True) if i < 3] == [2, 0]


def test_transformers_reads_ours_to_the_same_ids(ours: Tokenizer, tmp_path: Path):
    from transformers import AutoTokenizer

    ours.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    for text in TEXTS:
        ids = ours.encode(text, special_tokens=True)
        assert ids[0] == ours.bos_id
        assert theirs(text)["input_ids"] == ids == again.encode(text, special_tokens=True)
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)
    assert theirs.eos_token_id == ours.eos_id == again.eos_id
    assert again.stop_ids == ours.stop_ids == {0, 2}
    assert again.chat_template == ours.chat_template


@pytest.mark.parametrize("ends", [(False, False), (True, False), (False, True), (True, True)])
def test_ends_of_a_vocabulary_that_lacks_nearly_all_letters(ends: tuple[bool, bool]):
    backend = Backend(models.WordLevel({str(digit): digit for digit in range(10)}, "0"))
    backend.pre_tokenizer = pre_tokenizers.Digits(individual_digits=True)
    names = {"add_bos_token": ends[0], "add_eos_token": ends[1], "bos_token": "8", "eos_token": "9"}
    add_ends(backend, names)
    named = {name: value for name, value in names.items() if isinstance(value, str)}
    wanted = [8] * ends[0] + [1, 2, 3] + [9] * ends[1]
    assert backend.encode("123").ids == wanted
    for config in (named, names):
        assert Tokenizer(backend, config).encode("123", special_tokens=True) == wanted
    nothing = Backend(models.BPE({"1": 0, "2": 1}, []))
    assert Tokenizer(nothing, {}).encode("12ab", special_tokens=True) == [0, 1]


@pytest.mark.parametrize("single", ["[X]", "$A [X] $A"])
def test_a_post_processor_that_does_not_keep_the_text_is_refused(single: str):
    backend = Backend(models.WordLevel({"[X]": 0, "a": 1}, "a"))
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("[X]", 0)])
    with pytest.raises(CamelidError, match="post-processor"):
        Tokenizer(backend, {}).encode("a", special_tokens=True)


@pytest.mark.parametrize("listed", [False, True])
def test_a_named_token_is_special_whatever_the_file_says(ours: Tokenizer, tmp_path: Path, listed: bool):
    from transformers import AutoTokenizer

    ours.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    table = json.loads(file.read_text())
    others = [token for token in table["added_tokens"] if token["id"] != ours.eos_id]
    eos = {**next(token for token in table["added_tokens"] if token["id"] == ours.eos_id), "special": False}
    file.write_text(json.dumps(table | {"added_tokens": [eos, *others] if listed else others}))
    again, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "a cat<|endoftext|><|im_end|>"
    ids = again.encode(text, markup=True)
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert again.decode(ids) == theirs.decode(ids, skip_special_tokens=True) == "a cat"
    assert ours.eos_id not in again.encode(text)


def test_llama_vocabulary_equals_transformers(stories: Tokenizer, tmp_path: Path, shared: Path):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(shared / "weights/tinystories-656k")
    stories.save(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS[:1] + TEXTS[4:] + ['The dog said: "Hello!"']:
        assert stories.encode(text, special_tokens=True) == theirs(text)["input_ids"]
        assert saved(text)["input_ids"] == theirs(text)["input_ids"]
    marked = "a<|end_story|> b"
    assert stories.encode(marked, special_tokens=True, markup=True) == theirs(marked)["input_ids"]
    assert (stories.bos_id, stories.eos_id, stories.stop_ids) == (1, 2, {2})


def test_reference_prompt_ids(stories: Tokenizer, shared: Path):
    reference = json.loads((shared / "weights/tinystories-656k/reference.json").read_text())
    for result in reference["results"]:
        assert stories.encode(result["prompt"], special_tokens=True) == result["prompt_tokens"]


def test_batch_equals_single(ours: Tokenizer):
    assert ours.encode_batch(TEXTS, special_tokens=True) == [
        ours.encode(t, special_tokens=True) for t in TEXTS
    ]


@given(text=any_text, noise=st.lists(st.integers(0, 399), max_size=20))
def test_streamed_text_is_the_decoded_text(ours: Tokenizer, text: str, noise: list[int]):
    ids = [index % ours.vocab_size for index in [*ours.encode(text), *noise]]
    stream = StreamDecoder(ours)
    pieces = [stream.push(index) for index in ids]
    assert "".join(pieces) + stream.finish() == ours.decode(ids)


@given(ids=st.lists(st.integers(0, 2047), max_size=40))
def test_streamed_text_with_byte_fallback(stories: Tokenizer, ids: list[int]):
    stream = StreamDecoder(stories)
    pieces = [stream.push(index) for index in ids]
    assert "".join(pieces) + stream.finish() == stories.decode(ids)


@given(ids=st.lists(st.integers(0, 258), max_size=12))
def test_a_special_token_ends_no_run_of_bytes(llama: Tokenizer, ids: list[int]):
    stream = StreamDecoder(llama)
    pieces = []
    for index in ids:
        pieces.append(stream.push(index))
        assert "".join(pieces) + stream.held == llama.decode(ids[: len(pieces)])
    assert "".join(pieces) + stream.finish() == llama.decode(ids)


def test_stream_never_gives_half_a_character(ours: Tokenizer):
    stream = StreamDecoder(ours)
    pieces = [stream.push(index) for index in ours.encode("🦙 llama 你好")]
    assert "".join(pieces) == "🦙 llama 你好"
    assert not any("\ufffd" in piece for piece in pieces)


@given(text=any_text)
def test_token_bytes_spell_the_text(ours: Tokenizer, text: str):
    assert b"".join(token_bytes(ours, index) for index in ours.encode(text)) == text.encode()


def test_lone_surrogate_is_named(ours: Tokenizer):
    with pytest.raises(CamelidError, match="lone surrogate"):
        ours.encode_batch(["fine", "bad \ud800"])


def test_vocabulary_too_small_for_the_bytes():
    with pytest.raises(WrongCall, match="259"):
        train_tokenizer(["a"], 100)


def test_damaged_folders_are_named(tmp_path: Path):
    with pytest.raises(CamelidError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CamelidError, match="tokenizer"):
        load_tokenizer(tmp_path)


def test_named_token_outside_the_vocabulary_is_refused():
    backend = Backend(models.BPE({"a": 0}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    with pytest.raises(CamelidError, match="eos_token"):
        Tokenizer(backend, {"eos_token": "</s>"})


def test_the_bytes_of_an_added_token_are_those_that_it_decodes_to():
    tokenizer = train_tokenizer(TEXTS, 300)
    tokenizer.backend.add_tokens(["two  words", "→"])
    for index in (tokenizer.vocab_size, tokenizer.vocab_size + 1):
        assert token_bytes(tokenizer, index).decode() == tokenizer.decode([index])
