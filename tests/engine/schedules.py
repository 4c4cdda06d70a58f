"""Prompts and engines that tests of the scheduler share."""

from collections.abc import Callable
from time import sleep

from camelid.engine.engine import Engine
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer

Tiny = Callable[..., Transformer]
PROMPTS = ["the cat sat on a mat and then " * 2 + end for end in ("one", "two", "three dogs", "ran over", "")]


def texts(engine: Engine, sampling: Sampling, prompts: list[str] = PROMPTS) -> list[list[tuple[int, ...]]]:
    """The tokens of every sample of every prompt."""
    return [[each.tokens for each in said] for said in engine.generate(prompts, sampling)]


def slowed(engine: Engine) -> Engine:
    """The engine with steps of some milliseconds, in which another thread can look at it."""
    compute = engine.decoder.compute
    engine.decoder.compute = lambda extensions: sleep(0.005) or compute(extensions)  # type: ignore[method-assign]
    return engine
