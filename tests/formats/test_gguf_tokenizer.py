"""Tokenizers inside GGUF files: ids equal llama.cpp's test vectors and SentencePiece's own rule."""

import json
import sys
from collections import Counter
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer

from camelid.base.errors import CamelidError
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.gguf.tokenizer import tokenizer_from_gguf
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import load_tokenizer


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
    """SentencePiece's BPE as its paper and llama.cpp's `llm_tokenizer_spm` have it: always the best-scored
    pair."""
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


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EOS_ENDED = "{% for m in messages %}{{ bos_token }}{{ m.content }}{{ eos_token }}{% endfor %}"
ODD_END = "{% for m in messages %}<|im_start|>{{ m.content }}<|odd|>\n{% endfor %}<|im_start|>"


@pytest.mark.parametrize(
    ("template", "kinds", "stops"),
    [
        (CHATML, [3, 3, 3, 3], {0, 2}),
        (CHATML, [3, 1, 1, 1], {0, 2}),
        (CHATML, [3, 4, 4, 4], {0, 2}),
        (CHATML, None, {0, 2}),
        (EOS_ENDED, [1, 3, 3, 3], {0, 2}),
        (EOS_ENDED, [4, 3, 3, 3], {0, 2}),
        (ODD_END, [3, 3, 3, 3], {0, 2, 3}),
    ],
)
def test_ends_of_an_answer_and_special_tokens_equal_llama_cpp_and_transformers(
    tmp_path, template, kinds, stops
):
    """Whatever kinds a file gives its named tokens; the end that only a template knows is a stop here
    alone."""
    import gguf
    import transformers

    llama_cpp = pytest.importorskip("llama_cpp")
    plain = vocabulary()
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|odd|>", *plain["tokenizer.ggml.tokens"][:-1]]
    changes = {"tokens": tokens, "bos_token_id": 0, "eos_token_id": 0}
    metadata = vocabulary(**changes, token_type=None if kinds is None else kinds + [1] * (len(tokens) - 4))
    metadata["tokenizer.chat_template"] = template
    mine = tokenizer_from_gguf(metadata)
    assert mine.stop_ids == stops
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    for key, value in metadata.items():
        match value:
            case str():
                writer.add_string(key, value)
            case int():
                writer.add_uint32(key, value)
            case list():
                writer.add_array(key, value)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.close):
        write()
    theirs = llama_cpp.Llama(str(tmp_path / "vocabulary.gguf"), vocab_only=True, verbose=False)
    inside = llama_cpp.llama_model_get_vocab(theirs.model)
    ends = {index for index in range(len(tokens)) if llama_cpp.llama_vocab_is_eog(inside, index)}
    assert stops - {3} == ends
    talk = Conversation.of(("the cat", "sat"), ("on", "the mat"))
    ids, _ = encode_conversation(mine, talk)
    text = "".join(segment.text for segment in mine.chat_template.render(talk))
    assert ids == theirs.tokenize(text.encode(), add_bos=False, special=True)
    mine.save(tmp_path / "folder")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert ids == again.apply_chat_template(talk.as_dicts())["input_ids"]
    assert load_tokenizer(tmp_path / "folder").encode(text) == mine.encode(text)
    assert again.decode([0, 10], skip_special_tokens=True) == mine.decode([0, 10]) == tokens[10]


def test_a_template_that_refuses_the_plainest_turn_is_read_without_its_end():
    metadata = vocabulary() | {"tokenizer.chat_template": "{{ raise_exception('tools are needed') }}"}
    assert tokenizer_from_gguf(metadata).stop_ids == {len(metadata["tokenizer.ggml.tokens"]) - 1}


def calls_to_read(special: int) -> Counter[str]:
    """How often each method of the library is called while a vocabulary with so many special tokens is
    read."""
    plain = vocabulary()
    tokens = plain["tokenizer.ggml.tokens"] + [f"<|{index}|>" for index in range(2 * special)]
    metadata = vocabulary(
        tokens=tokens, token_type=[*plain["tokenizer.ggml.token_type"], *([3, 4] * special)]
    )
    calls: Counter[str] = Counter()

    def count(_frame, event, called):
        if event == "c_call" and isinstance(getattr(called, "__self__", None), tokenizers.Tokenizer):
            calls[called.__name__] += 1

    sys.setprofile(count)
    try:
        tokenizer = tokenizer_from_gguf(metadata)
    finally:
        sys.setprofile(None)
    assert len(tokenizer.special_ids) == special + 1
    return calls


def test_special_tokens_are_added_together_however_many():
    """Each addition builds the search for all of them anew, so one at a time would take the square of
    their number."""
    few, many = calls_to_read(5), calls_to_read(500)
    assert few["add_special_tokens"] > 0
    assert few == many


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert'; supported: gpt2, llama"),
        ({"model": None}, "no tokenizer.ggml.model"),
        ({"pre": "viking"}, "tokenizer.ggml.pre is 'viking'"),
        ({"tokens": ["a", "a"], "token_type": None}, "holds 'a' twice"),
        ({"tokens": []}, "tokens is empty"),
        ({"tokens": [1, 2]}, "tokens is not a list of strings"),
        ({"token_type": [1]}, "token_type must be a list of"),
        ({"merges": ["a b c"]}, "merges[0] is not a pair"),
        ({"merges": ["q 🦙"]}, "does not fit"),
        ({"bos_token_id": 10**6}, "bos_token_id is 1000000"),
        ({"model": "llama"}, "no tokenizer.ggml.scores"),
        ({"model": "llama", "scores": ["x"]}, "scores must be a list of"),
    ],
)
def test_damaged_vocabulary(changes, part):
    with pytest.raises(CamelidError) as raised:
        tokenizer_from_gguf(vocabulary(**changes))
    assert part in str(raised.value)
