"""Tokenizers as GGUF's keys: what the file says is what the tokenizer does, and the rest is refused."""

import json
from itertools import groupby

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers, processors

from camelid.base.errors import CamelidError
from camelid.formats.gguf.tokenizer import tokenizer_from_gguf
from camelid.formats.gguf.vocabulary import vocabulary_metadata, vocabulary_notes
from camelid.text.tokenizer import Tokenizer, load_vocabulary_file, train_tokenizer
from camelid.text.vocabulary import Pieces, PieceType, add_special_pieces, sentencepiece_bpe

KEY = "tokenizer.ggml."
BYTES = [f"<0x{number:02X}>" for number in range(256)]


@pytest.fixture(scope="module")
def byte_level():
    return train_tokenizer(["a cat sat on a mat, 12 times"] * 20, 300)


def changed(tokenizer, change, config=None, **settings):
    """The tokenizer with something else in its backend."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    change(backend)
    template = None if tokenizer.chat_template is None else tokenizer.chat_template.source
    config = tokenizer.config if config is None else config
    return Tokenizer(backend, config, **{"chat_template": template, **settings})


def unchanged(backend):
    pass


def pieces(tokens, scores=None, **settings):
    """A SentencePiece BPE of control tokens, bytes and these pieces."""
    whole = ["<unk>", "<s>", "</s>", *BYTES, *tokens]
    kinds = [PieceType.UNKNOWN, *[PieceType.CONTROL] * 2, *[PieceType.BYTE] * 256]
    kinds += [PieceType.NORMAL] * len(tokens)
    scores = [0.0] * 259 + [-float(place) for place in (scores or range(len(tokens)))]
    backend = sentencepiece_bpe(Pieces(whole, scores, kinds, 0, **settings))
    add_special_pieces(backend, whole, kinds)
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def test_a_tokenizer_without_bos_or_eos_gets_a_stop_for_both(byte_level):
    bare = {"add_bos_token": False}
    table = vocabulary_metadata(changed(byte_level, unchanged, bare, chat_template=None, stop_ids=[2]), 300)
    assert (table[f"{KEY}bos_token_id"], table[f"{KEY}eos_token_id"]) == (2, 2)
    assert table[f"{KEY}add_bos_token"] is False
    with pytest.raises(CamelidError, match="no stop token, and llama"):
        vocabulary_metadata(changed(byte_level, unchanged, bare, chat_template=None), 300)
    template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    with pytest.raises(CamelidError, match="bos_token is None, which its texts or its chat template use"):
        vocabulary_metadata(changed(byte_level, unchanged, bare, chat_template=template, stop_ids=[2]), 300)


def test_three_stops_are_kept_and_more_refused(byte_level):
    table = vocabulary_metadata(changed(byte_level, unchanged, stop_ids=[7, 2, 0]), 300)
    assert [table[f"{KEY}{name}_token_id"] for name in ("eos", "eot", "eom")] == [0, 2, 7]
    assert tokenizer_from_gguf(table).stop_ids == {0, 2, 7}
    with pytest.raises(CamelidError, match=r"4 tokens end a generation \(.*<\|im_end\|>.*keys for only 3"):
        vocabulary_metadata(changed(byte_level, unchanged, stop_ids=[7, 2, 0, 8]), 300)
    # Another EOS than a stop would end a text in llama.cpp.
    assert vocabulary_metadata(changed(byte_level, unchanged, stop_ids=[2]), 300)[f"{KEY}eos_token_id"] == 2


def test_bos_suits_what_the_model_was_trained_on_last_and_the_rest_is_noted(byte_level):
    for talks, add_bos, otherwise in ((False, True, "false for conv"), (True, False, "true for texts")):
        assert vocabulary_metadata(byte_level, 300, talks=talks)[f"{KEY}add_bos_token"] is add_bos
        (note,) = vocabulary_notes(byte_level, talks=talks)
        assert f"--override-kv tokenizer.ggml.add_bos_token=bool:{otherwise}" in note
    begun = "{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    assert not vocabulary_notes(changed(byte_level, unchanged, chat_template=begun), talks=True)


def test_fillers_have_names_of_their_own(byte_level):
    named = changed(byte_level, lambda backend: backend.add_tokens(["[PAD310]", "[[PAD310]]"]))
    tokens = vocabulary_metadata(named, 320)[f"{KEY}tokens"]
    assert len(set(tokens)) == 320
    assert tokens[310] == "[[[PAD310]]]"
    assert tokenizer_from_gguf(vocabulary_metadata(named, 320)).encode("a[PAD310]") == named.encode(
        "a[PAD310]"
    )


def taking_space(backend):
    backend.add_special_tokens([AddedToken("<y>", lstrip=True, special=True)])


def whole_word(backend):
    backend.add_tokens([AddedToken("cat", single_word=True)])


def two_before(backend):
    backend.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> <|im_start|> $A", special_tokens=[("<|endoftext|>", 0), ("<|im_start|>", 1)]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (taking_space, "its added token '<y>' has lstrip"),
        (whole_word, "its added token 'cat' has single_word"),
        (two_before, "other tokens around texts than its bos_token and eos_token"),
    ],
)
def test_what_byte_level_keys_cannot_say_is_refused(change, message, byte_level):
    config = {key: value for key, value in byte_level.config.items() if not key.startswith("add_")}
    with pytest.raises(CamelidError, match=message):
        vocabulary_metadata(changed(byte_level, change, config), 320)


def metaspace(scheme, split):
    def change(backend):
        backend.normalizer = None
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)

    return change


def normalized(*steps):
    return lambda backend: setattr(backend, "normalizer", normalizers.Sequence(list(steps)))


def cut(step):
    return lambda backend: setattr(backend, "pre_tokenizer", step)


PREFIX, SPACES = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")


@pytest.mark.parametrize(
    ("change", "whole", "apart"),
    [
        (unchanged, True, True),
        (normalized(SPACES), True, True),
        (metaspace("always", False), True, True),
        (metaspace("never", True), True, False),
        (cut(pre_tokenizers.Split("▁", "merged_with_next")), True, False),
        (cut(pre_tokenizers.Split(Regex(r"\d"), "merged_with_previous")), False, False),
        (cut(pre_tokenizers.WhitespaceSplit()), False, False),
        (normalized(PREFIX, SPACES, normalizers.Replace("b", "x")), False, False),
        (normalized(normalizers.Prepend("▁▁"), SPACES), False, False),
        (normalized(PREFIX, SPACES, normalizers.Strip(True, True)), False, False),
    ],
)
def test_sentencepiece_spellings_are_known_to_the_letter(change, whole, apart):
    """whole: where no piece crosses the beginning of a word; apart: where one does."""
    for tokens, accepted in ((["▁", "a", "b", "▁a"], whole), (["▁", "a", "b", "▁▁"], apart)):
        tokenizer = changed(pieces(tokens), change)
        if not accepted:
            with pytest.raises(CamelidError, match=r"GGUF cannot express|removes spaces"):
                vocabulary_metadata(tokenizer, 300)
            continue
        again = tokenizer_from_gguf(vocabulary_metadata(tokenizer, 300))
        assert again.encode("a  ba b") == tokenizer.encode("a  ba b")
    assert bool(vocabulary_notes(changed(pieces(["▁"]), metaspace("first", False))))


def test_merges_of_one_score_come_in_transformers_order():
    # Of the pieces of spaces, which LLaMA's vocabulary gives one score.
    spaces = ["▁" * count for count in range(2, 9)]
    own = pieces(["▁", "a", "▁a", *spaces], [0, 1, 2, *[3] * 7])
    table = json.loads(own.backend.to_str())
    merges = [tuple(pair) for pair in table["model"]["merges"]]

    def with_merges(ordered):
        table["model"]["merges"] = ordered
        return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(table)), own.config)

    by_length = sorted(merges[1:], key=lambda pair: (-len(pair[0]), -len(pair[1])))
    theirs = with_merges([merges[0], *by_length])
    assert len(list(groupby(by_length, key="".join))) > len(spaces)
    scores = vocabulary_metadata(theirs, 300)[f"{KEY}scores"]
    assert scores[259 + 2 :][:8] == [0.0, -2.0, *[-1.0] * 6]
    for ordered in (
        [merges[0], *by_length[::-1][1:], by_length[0]],
        merges[:-1],
        [*merges[1:], merges[0]][1:],
    ):
        with pytest.raises(CamelidError, match="merges cannot be expressed as scores"):
            vocabulary_metadata(with_merges(ordered), 300)


def test_llama_s_vocabulary_as_transformers_writes_it(shared):
    generate = pytest.importorskip("transformers.tokenization_utils_base").generate_merges
    from camelid.formats.gguf.file import GGUFFile

    own = load_vocabulary_file(shared / "weights/tokenizers/llama/tokenizer.model")
    vectors = shared / "weights/tokenizers/llama_cpp_vocab_vectors/ggml-vocab-llama-spm.gguf"
    metadata = GGUFFile(vectors).metadata
    tokens = metadata[f"{KEY}tokens"]
    merges = generate(own.backend.get_vocab(), dict(zip(tokens, metadata[f"{KEY}scores"], strict=True)))
    table = json.loads(own.backend.to_str())
    table["model"]["merges"] = [list(pair) for pair in merges]
    theirs = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(table)), own.config)
    assert merges != [tuple(pair) for pair in own.description["model"]["merges"]]
    again = tokenizer_from_gguf(vocabulary_metadata(theirs, 32000))
    for text in ("a  b   c", " " * 37 + "return", "naïve café — 東京"):
        assert again.encode(text) == theirs.encode(text) == own.encode(text)
