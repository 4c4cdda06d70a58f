"""The models that a server has, by name."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.native.decoder import NativeDecoder
from camelid.lm.sampling import Sampling
from camelid.serve.errors import ApiError
from camelid.serve.reply import THOUGHT
from camelid.text.conversation import Conversation
from camelid.text.tool_calls import CallForm


@dataclass
class Counted:
    """Tokens since the server began."""

    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True)
class Served:
    """One model under the name that requests give."""

    name: str
    engine: Engine
    created: int = field(default_factory=lambda: int(time.time()))
    counted: Counted = field(default_factory=Counted)

    def generations(
        self,
        prompt: str | Conversation | tuple[int, ...],
        sampling: Sampling,
        alternatives: int = 0,
        shown: Sequence[str] = (),
    ) -> list[Generation]:
        """A request for each sample; the prompt is encoded once.

        Raises `ApiError` 400 where this model cannot take the prompt, as without a chat template.
        """
        try:
            ids = prompt if isinstance(prompt, tuple) else self.engine.encode(prompt)
            samples = range(sampling.samples)
            return [self.engine.request(ids, sampling, sample, alternatives, shown) for sample in samples]
        except WrongCall:
            raise
        except CamelidError as error:
            raise ApiError(400, str(error)) from error

    @cached_property
    def call_form(self) -> CallForm:
        """How the model writes tool calls; raises `CamelidError` if its template has no tools."""
        template = self.engine.tokenizer.chat_template
        if template is None:
            raise CamelidError("this model has no chat template")
        return CallForm.of(template)

    @cached_property
    def thinks(self) -> bool:
        """Whether the template marks thoughts."""
        template = self.engine.tokenizer.chat_template
        return template is not None and THOUGHT in template.source

    def card(self) -> dict[str, Any]:
        """The model's entry in `/v1/models`.

        byte_stable: whether an answer is the same bytes in any batch, with a warm or cold cache: only the
        decoder in C adds up in one order.
        """
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "camelid",
            "context_length": self.engine.context_length,
            "byte_stable": isinstance(self.engine.decoder, NativeDecoder),
        }


class Models:
    """All models of a server; a request without a name means the only one."""

    def __init__(self, served: Iterable[Served]) -> None:
        self._by_name: dict[str, Served] = {}
        for each in served:
            if each.name in self._by_name:
                raise WrongCall(f"two models are named {each.name}; rename one of their folders")
            self._by_name[each.name] = each

    def __iter__(self) -> Iterator[Served]:
        return iter(self._by_name.values())

    def find(self, name: str | None) -> Served:
        """The model of that name; raises `ApiError` 404 with the names that exist."""
        if name is None and len(self._by_name) == 1:
            return next(iter(self._by_name.values()))
        if name is None:
            raise ApiError(400, f"model is missing; it is one of {', '.join(self._by_name)}", param="model")
        if name not in self._by_name:
            raise ApiError(
                404,
                f"there is no model {name!r}; the models are {', '.join(self._by_name)}",
                param="model",
                code="model_not_found",
            )
        return self._by_name[name]


def name_of(model: str) -> str:
    """The name under which a folder or hub name is served: a run's `model` folder has its run's name."""
    path = Path(model)
    if not path.exists():
        return model
    resolved = path.resolve()
    return resolved.parent.name if resolved.name == "model" else resolved.name


def load_models(models: Sequence[str], open_engine: Any) -> Models:
    """Loads every model now, so that a fault shows before the first request."""
    served = [Served(name_of(model), open_engine(model)) for model in models]
    for each in served:
        _ = each.engine.decoder  # with its memory
    return Models(served)
