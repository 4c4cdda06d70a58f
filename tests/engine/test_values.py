"""Values of texts through the engine against plain forward passes, and models with a head on disk."""

import json
from pathlib import Path

import pytest
import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.encoding import encode_pair
from camelid.engine.engine import Engine
from camelid.engine.values import ValueScorer
from camelid.formats.load import load_model
from camelid.formats.values import load_value_model, save_value_model
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.model.values import ValueModel
from camelid.text.tokenizer import Tokenizer, train_tokenizer

PROMPTS = ("the cat sat", "the cat sat", "the cat sat", "a dog")
TEXTS = (" on the mat", " on", " under the mat with the other cat", " barked at the cat")


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return train_tokenizer(["the cat sat on the mat under the dog that barked"] * 8, 300)


@pytest.fixture(scope="module")
def valued(words: Tokenizer) -> ValueModel:
    spec = ModelSpec.llama(vocab_size=301, hidden_size=32, num_layers=2, num_heads=2, context_length=48)
    return ValueModel.of(Transformer(spec).initialize(3, std=0.2), reserved=300, gain=0.5, bias=0.1).eval()


@pytest.mark.parametrize("native", [True, False])
def test_values_are_those_of_a_plain_forward_pass(valued: ValueModel, words: Tokenizer, native: bool) -> None:
    with Engine(valued, words, native=native, step_tokens=5) as engine:
        found = ValueScorer(engine).values(PROMPTS, TEXTS)
    for prompt, text, values in zip(PROMPTS, TEXTS, found, strict=True):
        before, after = encode_pair(words, valued.spec, prompt, text)
        logits = valued(torch.tensor([[*before, *after]]))[0, len(before) :, 300]
        assert values == pytest.approx((0.5 * logits + 0.1).tolist(), abs=1e-5)
        assert len(values) == len(after)


def test_a_text_that_fills_the_context_is_rated(valued: ValueModel, words: Tokenizer) -> None:
    room = valued.spec.context_length - 2  # BOS and the prompt
    with Engine(valued, words, native=False) as engine:
        [values] = ValueScorer(engine).values(["a"], ["z" * room])  # a token each
        assert len(values) == room
        with pytest.raises(WrongCall, match="1 tokens too many"):
            ValueScorer(engine).values(["a"], ["z" * (room + 1)])


def test_the_folder_is_an_ordinary_checkpoint(valued: ValueModel, words: Tokenizer, tmp_path: Path) -> None:
    save_value_model(tmp_path, valued, special_ids={}, provenance={"recipe": None})
    words.save(tmp_path)
    tokens = torch.randint(300, (1, 7), generator=torch.Generator().manual_seed(0))
    loaded = load_value_model(tmp_path)
    torch.testing.assert_close(loaded(tokens, output=loaded.values), valued(tokens, output=valued.values))
    plain = load_model(tmp_path)
    assert type(plain) is Transformer
    torch.testing.assert_close(plain(tokens), valued(tokens))
    scorer = ValueScorer.load(tmp_path)
    assert scorer.values(PROMPTS[:1], TEXTS[:1])[0][-1] == pytest.approx(
        ValueScorer(Engine(valued, words)).values(PROMPTS[:1], TEXTS[:1])[0][-1]
    )


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (None, "has no value_head in camelid.json"),
        ({"reserved_token": 300}, "needs the numbers reserved_token, gain and bias"),
        ({"reserved_token": 999, "gain": 1, "bias": 0}, "the vocabulary has 301 rows"),
    ],
)
def test_a_damaged_head_is_named(
    valued: ValueModel, tmp_path: Path, head: dict[str, object] | None, problem: str
) -> None:
    save_value_model(tmp_path, valued, special_ids={}, provenance={})
    (tmp_path / "camelid.json").write_text(json.dumps({} if head is None else {"value_head": head}))
    with pytest.raises(CamelidError, match=problem):
        load_value_model(tmp_path)
