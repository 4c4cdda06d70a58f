"""Who draws a policy's answers with its weights of the moment: an engine here, or the nodes of a Ray cluster.

Both draw the same ones: a sample depends on its seed, prompt and the weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from camelid.align.critic import HEAD
from camelid.align.policy import Policy
from camelid.base.cluster import Cluster, for_all_nodes, refuse_unseen, shared_value
from camelid.engine.device import choose_device
from camelid.engine.engine import Engine
from camelid.formats.load import load_model
from camelid.lm.interface import Completion, Prompt
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.recipes.lora import LoRASettings
from camelid.text.tokenizer import load_tokenizer
from camelid.train.adapting import adapted_model, round_frozen

Requests = Sequence[tuple[Prompt, Sampling]]
"""Prompts, each with the number, length and seed of its samples."""
Piece = tuple[int, Any, Requests]
"""The number of the weights, what a node gets them by, and what to draw."""
PIECE = 4
"""Requests of a piece at most: each has a whole group of samples."""


class Sampler(Protocol):
    """Draws answers; `renew` gives it the policy's present weights, and all processes must call it."""

    def renew(self) -> None: ...

    def answers(self, requests: Requests) -> list[list[Completion]]: ...


@dataclass
class EngineSampler:
    """The engine of this process, over the parameters of `policy.sampler` themselves."""

    engine: Engine
    policy: Policy

    def renew(self) -> None:
        self.policy.renew_sampler()
        self.engine.set_weights()

    def answers(self, requests: Requests) -> list[list[Completion]]:
        """The samples of each request, all in one batch of the engine."""
        return sampled(self.engine, requests)


@dataclass
class ClusterSampler:
    """The nodes of a Ray cluster, each with a model as the policy began and what was trained of it since.

    on: see `Cluster`; base, lora, dtype, seed: see `beginning`; max_batch: of each node's engine.
    """

    on: str
    policy: Policy
    base: Path
    lora: LoRASettings
    seed: int
    max_batch: int
    _weights: tuple[int, Any] = (0, None)
    _cluster: Cluster[Piece, list[list[Completion]]] = field(init=False)

    def __post_init__(self) -> None:
        begun = (Path(for_all_nodes(self.base)), self.lora, self.policy.dtype, self.seed)
        self._cluster = Cluster(self.on, _start, (begun, self.max_batch), whole_nodes=True)

    def renew(self) -> None:
        """Shares what is trained with the nodes, each of which fetches it once."""
        self.policy.renew_sampler()
        self._weights = self._weights[0] + 1, self._cluster.share(trained_weights(self.policy.sampler))

    def answers(self, requests: Requests) -> list[list[Completion]]:
        """The samples of each request, in order; pieces of a lost node are drawn again elsewhere."""
        size = max(1, min(PIECE, -(-len(requests) // self._cluster.workers)))
        pieces = ((*self._weights, requests[at : at + size]) for at in range(0, len(requests), size))
        return [each for _, found in self._cluster.in_order(pieces) for each in found]


def beginning(base: Path, lora: LoRASettings, dtype: torch.dtype, seed: int) -> Transformer:
    """The model that a policy begins as: the folder's weights, or a new adapter beside them, with the frozen
    ones in `dtype`."""
    if lora.rank is None:
        return load_model(base)
    model = adapted_model(base, lora, seed)
    round_frozen(model, dtype)
    return model


def trained_weights(model: Transformer) -> dict[str, Tensor]:
    """What sampling needs of the trained parameters, on the CPU."""
    named = ((name, each.detach()) for name, each in model.named_parameters() if each.requires_grad)
    return {name: each.cpu() for name, each in named if name not in HEAD}


@torch.no_grad()
def take_weights(model: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Copies trained parameters into a model of the same beginning."""
    own = dict(model.named_parameters())
    for name, weight in weights.items():
        own[name].copy_(weight)


def sampled(engine: Engine, requests: Requests) -> list[list[Completion]]:
    """The samples of each request, all in one batch."""
    drawn = [
        [engine.request(prompt, sampling, sample) for sample in range(sampling.samples)]
        for prompt, sampling in requests
    ]
    for _ in engine.updates([each for own in drawn for each in own]) if drawn else ():
        pass
    return [[each.completion() for each in own] for own in drawn]


def _start(
    begun: tuple[Path, LoRASettings, torch.dtype, int], max_batch: int
) -> Callable[[Piece], list[list[Completion]]]:
    base, _, dtype, _ = begun
    refuse_unseen(base)
    model = beginning(*begun).to(choose_device(None))
    engine, held = Engine(model, load_tokenizer(base), dtype=dtype, max_batch=max_batch), 0

    def work(piece: Piece) -> list[list[Completion]]:
        nonlocal held
        number, weights, requests = piece
        if number != held:
            take_weights(model, shared_value(weights))
            engine.set_weights()
            held = number
        return sampled(engine, requests)

    return work
