"""Samples of a model in training, for stages that learn from them."""

from collections.abc import Callable, Sequence

from camelid.engine.encoding import Ids
from camelid.engine.engine import Engine
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer


def student_answers(
    model: Transformer, tokenizer: Tokenizer
) -> Callable[[Sequence[tuple[int, Ids]], int, int], list[Ids]]:
    """A function that answers prompts with the model's current weights, sampled at temperature 1.

    It takes the ids of numbered prompts, the most tokens of an answer, and a seed.
    """
    engine = Engine(model, tokenizer)

    def answer(prompts: Sequence[tuple[int, Ids]], most: int, seed: int) -> list[Ids]:
        engine.set_weights()
        sampling = Sampling(max_new_tokens=most, temperature=1.0, seed=seed)
        generations = [engine.request(prompt, sampling, number) for number, prompt in prompts]
        for _ in engine.updates(generations):
            pass
        return [tuple(generation.tokens) for generation in generations]

    return answer
