"""Tokens and flags that a folder declares beside its tokenizer.json: as in transformers."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from camelid.base.errors import CamelidError
from camelid.text.tokenizer import load_tokenizer

TEXTS = ("a<|x|>b", "a <|x|> b", "<pad><|y|>", "a<|X|>b", "ab<img>", "<s>a</s>")


def folder_of(folder: Path, config: dict, **files: object) -> Path:
    """A byte-level tokenizer.json with <s> and </s>, and other files beside it."""
    backend = tokenizers.Tokenizer(
        models.BPE({letter: index for index, letter in enumerate("abxyimgpds<>|/ĠX")}, [])
    )
    backend.pre_tokenizer, backend.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    backend.add_tokens([AddedToken("<|y|>", special=False, normalized=True)])
    backend.save(str(folder / "tokenizer.json"))
    files["tokenizer_config"] = {"tokenizer_class": "PreTrainedTokenizerFast"} | config
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def token(content: str, **flags: bool) -> dict:
    usual = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    return {"content": content} | usual | flags


NEXT = 19
CASES = {
    "added_tokens_decoder": ({"added_tokens_decoder": {f"{NEXT}": token("<|x|>")}}, {}),
    "not special": (
        {"added_tokens_decoder": {f"{NEXT}": token("<|x|>", special=False, normalized=True)}},
        {},
    ),
    "white space": ({"added_tokens_decoder": {f"{NEXT}": token("<|x|>", lstrip=True, rstrip=True)}}, {}),
    "two": ({"added_tokens_decoder": {f"{NEXT + 1}": token("<pad>"), f"{NEXT}": token("<|x|>")}}, {}),
    "other flags for a known token": ({"added_tokens_decoder": {"18": token("<|y|>", rstrip=True)}}, {}),
    "added_tokens.json": ({}, {"added_tokens": {"<|x|>": NEXT}}),
    "added_tokens.json, named": ({"pad_token": "<|x|>"}, {"added_tokens": {"<|x|>": NEXT}}),
    "added_tokens.json, one known": ({}, {"added_tokens": {"<|y|>": 18, "<|x|>": NEXT}}),
    "additional_special_tokens": ({"additional_special_tokens": ["<|y|>"]}, {}),
    "extra_special_tokens": ({"extra_special_tokens": ["<|y|>"]}, {}),
    "extra_special_tokens, named": ({"extra_special_tokens": {"image_token": "<|y|>"}}, {}),
    "both": (
        {"added_tokens_decoder": {f"{NEXT}": token("<|x|>")}, "additional_special_tokens": ["<|y|>"]},
        {"added_tokens": {"<pad>": NEXT}},
    ),
    "named only": ({"pad_token": "<pad>", "sep_token": "<sep>"}, {}),
    "a name of its own": ({"image_token": "<img>"}, {}),
    "special_tokens_map.json": ({}, {"special_tokens_map": {"additional_special_tokens": ["<|y|>"]}}),
}


@pytest.mark.parametrize("name", CASES)
def test_declared_tokens_have_the_ids_and_flags_of_transformers(tmp_path: Path, name: str):
    from transformers import AutoTokenizer

    config, files = CASES[name]
    folder = folder_of(tmp_path, config, **files)
    mine, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    added = {index: (one.content, one.special) for index, one in theirs.added_tokens_decoder.items()}
    assert {
        i: (one.content, one.special) for i, one in mine.backend.get_added_tokens_decoder().items()
    } == added
    for text in TEXTS:
        assert mine.encode(text, markup=True) == theirs(text, add_special_tokens=False)["input_ids"], text
    again = tmp_path / "saved"
    mine.save(again)
    assert load_tokenizer(again).backend.get_vocab() == mine.backend.get_vocab()


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        ({"added_tokens_decoder": {"99": token("<|x|>")}}, {}, "declared as id 99 but would get 19"),
        ({}, {"added_tokens": {"<|x|>": 7}}, "declared as id 7 but would get 19"),
        ({"added_tokens_decoder": {"19": "<|x|>"}}, {}, "added tokens are damaged"),
        ({}, {"added_tokens": {"<|x|>": "y"}}, "added tokens are damaged|declared as id"),
        ({"added_tokens_decoder": [1]}, {}, "added tokens are damaged"),
    ],
)
def test_ids_that_do_not_fit_are_named(tmp_path: Path, config: dict, files: dict, message: str):
    with pytest.raises(CamelidError, match=message):
        load_tokenizer(folder_of(tmp_path, config, **files))
