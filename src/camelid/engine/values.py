"""The values that a model with a value head gives to texts, computed by the engine: what all texts of one
prompt share is read once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from camelid.engine.decoder import Predictions, check_finite
from camelid.engine.device import choose_device
from camelid.engine.encoding import encode_pair
from camelid.engine.engine import Engine
from camelid.engine.memory import refuse_too_large
from camelid.engine.scoring import Scoring
from camelid.formats.hub import resolve
from camelid.formats.load import load_tokenizer
from camelid.formats.values import load_value_model
from camelid.lm.interface import Prompt, as_pairs
from camelid.model.values import ValueModel


class Rating(Scoring):
    """One continuation whose tokens are rated; the reserved token, which is never read, stands at its end."""

    def __init__(self, prompt: Sequence[int], target: Sequence[int], reserved: int) -> None:
        self._reserved = reserved
        super().__init__(prompt, (*target, reserved))

    def restart(self) -> None:
        """Forgets what is known, as when the model has changed."""
        super().restart()
        self._logits: list[Tensor] = []

    def take(self, predictions: Predictions) -> None:
        """Takes the reserved token's logit in each row; raises `CamelidError` if logits are not finite."""
        check_finite(predictions.log_total.tolist())
        self._logits.append(predictions.logits[:, self._reserved].cpu())
        self._known += len(predictions.greedy)

    @property
    def logits(self) -> Tensor:
        """The reserved token's logit after each token of the continuation."""
        return torch.cat(self._logits)[1:]  # the first is that after the prompt


class ValueScorer:
    """Rates continuations with a value model, such as a verifier: a number after each token, in float32."""

    def __init__(self, engine: Engine) -> None:
        assert isinstance(engine.model, ValueModel)  # `load` opens no other
        self.engine, self.model = engine, engine.model

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        **settings: Any,
    ) -> "ValueScorer":
        """The scorer of a folder with a value head; settings: those of `Engine`."""
        folder, place = resolve(path), choose_device(device)
        refuse_too_large(folder, dtype, place)
        model = load_value_model(folder, dtype).to(place)
        return cls(Engine(model, load_tokenizer(folder), **settings))

    def values(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[tuple[float, ...]]:
        """The value after each token of each continuation; the last one rates the whole.

        Raises `WrongCall` for an empty continuation, and where the context is too small.
        """
        requests = [
            Rating(*encode_pair(self.engine.tokenizer, self.model.spec, *pair), self.model.reserved)
            for pair in as_pairs(prompts, continuations)
        ]
        for _ in self.engine.updates(requests):
            pass
        gain, bias = self.model.gain.item(), self.model.bias.item()
        return [tuple((gain * request.logits + bias).tolist()) for request in requests]

    def close(self) -> None:
        """Ends the engine's thread."""
        self.engine.close()
