"""A model on the nodes of a Ray cluster as one `LM`: each node answers a part of the prompts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar, cast

from camelid.base.cluster import Cluster, for_all_nodes, refuse_unseen
from camelid.base.errors import WrongCall
from camelid.engine.open_lm import is_url, open_lm
from camelid.lm.interface import LM, Completion, Outcome, Outcomes, Prompt, Score, as_pairs
from camelid.lm.sampling import Sampling
from camelid.recipes.engine import EngineSettings
from camelid.recipes.server import ServerSettings

PIECE = 16
"""Prompts of a piece at most: enough for a batch, and few enough that all nodes have some."""
Value = TypeVar("Value")
Piece = tuple[Literal["complete", "each", "score"], tuple[Any, ...]]


class FannedOut(LM):
    """A checkpoint folder or hub name on every node of a cluster, which all see the same files.

    Answers are those of one machine: samples depend on the seed and the prompt, not on where they are drawn.
    """

    def __init__(self, model: str, settings: EngineSettings, on: str) -> None:
        self._cluster: Cluster[Piece, list[Any]] = Cluster(on, _start, (model, settings), whole_nodes=True)

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Completions of each prompt, in order."""
        return cast("list[list[Completion]]", self._all("complete", prompts, sampling))

    def each(self, prompts: Sequence[Prompt], sampling: Sampling) -> Outcomes:
        """Each prompt's completions when its piece is finished, in order."""
        for index, outcome in enumerate(self._results("each", self._pieces(prompts), sampling)):
            yield index, cast(Outcome, outcome)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """The score of each continuation, in order."""
        return cast("list[Score]", self._all("score", as_pairs(prompts, continuations)))

    def _all(self, what: Literal["complete", "score"], values: Sequence[Any], *rest: Any) -> list[Any]:
        return [*self._results(what, self._pieces(values), *rest)]

    def _results(
        self, what: Literal["complete", "each", "score"], pieces: Iterator[Sequence[Any]], *rest: Any
    ) -> Iterator[Any]:
        for _, results in self._cluster.in_order((what, (piece, *rest)) for piece in pieces):
            yield from results

    def _pieces(self, values: Sequence[Value]) -> Iterator[Sequence[Value]]:
        size = max(1, min(PIECE, -(-len(values) // self._cluster.workers)))
        return (values[start : start + size] for start in range(0, len(values), size))


def open_on(
    model: str, settings: EngineSettings, server: ServerSettings | None = None, on: str | None = None
) -> LM:
    """`open_lm`, with the model on a Ray cluster if `on` names one; raises `WrongCall` for URLs there."""
    if on is None:
        return open_lm(model, settings, server)
    if is_url(model):
        raise WrongCall(
            f"--on {on}: for models that Camelid runs; {model} is a server, which fans out itself"
        )
    folders = {name: for_all_nodes(folder) for name, folder in _folders(settings).items()}
    return FannedOut(for_all_nodes(model), settings.model_copy(update=folders), on)


def _folders(settings: EngineSettings) -> dict[str, str]:
    """The settings that name folders."""
    draft = None if settings.draft == "prompt" else settings.draft
    return {name: value for name, value in (("adapter", settings.adapter), ("draft", draft)) if value}


def _start(model: str, settings: EngineSettings) -> Callable[[Piece], list[Any]]:
    refuse_unseen(model, *_folders(settings).values())
    lm = open_lm(model, settings)

    def work(piece: Piece) -> list[Any]:
        what, arguments = piece
        if what == "score":
            [pairs] = arguments
            return lm.score([prompt for prompt, _ in pairs], [continuation for _, continuation in pairs])
        prompts, sampling = arguments
        if what == "complete":
            return lm.complete(prompts, sampling)
        outcomes = dict(lm.each(prompts, sampling))
        return [outcomes[index] for index in range(len(prompts))]

    return work
