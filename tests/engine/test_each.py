"""`Engine.each`: the completions of `complete`, each as soon as it has left the batch."""

from collections.abc import Callable

import pytest

from camelid.base.errors import WrongCall
from camelid.engine.engine import Engine
from camelid.lm.interface import PromptTooLong
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

PROMPTS = ["the cat", "one two three", "dogs ran over to it; " * 40, "a mat and", "then"]


def test_completions_come_as_they_end_and_one_that_is_too_long_ends_no_other(
    tiny: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=3, samples=2)
    with Engine(tiny(), tokenizer, max_batch=4) as engine:
        found = dict(engine.each(PROMPTS, sampling))
        assert isinstance(found.pop(2), PromptTooLong)
        others = [prompt for index, prompt in enumerate(PROMPTS) if index != 2]
        assert [found[index] for index in (0, 1, 3, 4)] == engine.complete(others, sampling)
        assert list(engine.each([], sampling)) == []


def test_left_early_the_rest_is_cancelled(tiny: Callable[..., Transformer], tokenizer: Tokenizer) -> None:
    with Engine(tiny(), tokenizer, max_batch=1) as engine:
        outcomes = engine.each(["the cat", "a mat"], Sampling(max_new_tokens=4))
        assert next(outcomes)[0] == 0
        outcomes.close()
        assert not engine.scheduler.running
        assert not engine.scheduler.waiting
        with pytest.raises(WrongCall, match="logit_bias names token"):
            next(engine.each(["a"], Sampling(logit_bias={10**6: 1.0})))
