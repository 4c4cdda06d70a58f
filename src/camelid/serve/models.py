"""The models of a server by name, loaded when they are asked for, within a budget of memory."""

import asyncio
import gc
import itertools
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.memory import return_freed_memory
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.memory import gigabytes
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
    most_tokens: int | None = None
    """Of an answer."""

    def answer_tokens(self, asked: int | None, param: str) -> int:
        """The limit of an answer; raises `ApiError` 400 where more is asked for than is allowed."""
        if self.most_tokens is not None and asked is not None and asked > self.most_tokens:
            allowed = f"answers have at most {self.most_tokens} tokens on this server"
            raise ApiError(400, f"{param} is {asked}; {allowed}", param=param)
        return asked or self.most_tokens or self.engine.context_length

    def encode(self, prompt: str | Conversation) -> tuple[int, ...]:
        """The ids of a prompt; raises `ApiError` 400 where this model cannot take it, as without a chat
        template."""
        try:
            return self.engine.encode(prompt)
        except WrongCall:
            raise
        except CamelidError as error:
            raise ApiError(400, str(error)) from error

    def generations(
        self,
        prompt: tuple[int, ...],
        sampling: Sampling,
        alternatives: int = 0,
        shown: Sequence[str] = (),
    ) -> list[Generation]:
        """A request for each sample."""
        samples = range(sampling.samples)
        return [self.engine.request(prompt, sampling, sample, alternatives, shown) for sample in samples]

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

    def template_knows(self, variable: str) -> bool:
        """Whether the template asks for a variable of this name."""
        template = self.engine.tokenizer.chat_template
        return template is not None and bool(re.search(rf"\b{re.escape(variable)}\b", template.source))

    def card(self) -> dict[str, Any]:
        """The model's entry in `/v1/models`.

        byte_stable: whether an answer is the same bytes in any batch, with a warm or cold cache: only the
        decoder in C adds up in one order.
        """
        stable = isinstance(self.engine.decoder, NativeDecoder)
        return _card(self.name, self.created, self.engine.context_length, stable, "loaded")


@dataclass(frozen=True)
class Source:
    """A model that can be loaded.

    size: bytes of its weights, cache and working memory once it is; parent: the name of an adapter's base.
    """

    name: str
    open: Callable[[], Engine]
    size: int
    context_length: int
    parent: str | None = None


class _Instance:
    """One loading of a model, from its first request until it is unloaded."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.served: Served | None = None
        self.loading: asyncio.Task[Served] | None = None
        self.users, self.used = 0, 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def ready(self) -> Served:
        """The loaded model; a client that leaves does not stop the loading."""
        if self.served is None:
            assert self.loading is not None
            return await asyncio.shield(self.loading)
        return self.served


class Models:
    """All models of a server; a request without a name means the only one.

    What is given as `Served` stays loaded. A `Source` is loaded when it is asked for; where its size and
    those of the loaded ones exceed `memory` bytes, those that were used least recently are unloaded first,
    each as soon as no request uses it, and requests that come for it in the meantime wait for its next turn.
    most_tokens: of an answer of those that are loaded here.
    """

    def __init__(
        self, models: "Iterable[Served | Source]", memory: int = 0, most_tokens: int | None = None
    ) -> None:
        self._fixed: dict[str, Served] = {}
        self._sources: dict[str, Source] = {}
        self._counted: dict[str, Counted] = {}
        self._created = int(time.time())
        self._memory, self._most_tokens = memory, most_tokens
        self._instances: dict[str, _Instance] = {}
        """Those that requests may use; what is about to be unloaded is only in `_resident`."""
        self._resident: list[_Instance] = []
        self._turn, self._ticks = asyncio.Lock(), itertools.count(1)
        for each in models:
            if each.name in self._counted:
                raise WrongCall(f"two models are named {each.name}; rename one of their folders")
            self._counted[each.name] = each.counted if isinstance(each, Served) else Counted()
            if isinstance(each, Served):
                self._fixed[each.name] = each
            elif each.size > memory:
                raise CamelidError(
                    f"{each.name} needs {gigabytes(each.size)}, and the budget is {gigabytes(memory)}: give "
                    "more --memory, fewer --cache-tokens or a smaller model"
                )
            else:
                self._sources[each.name] = each

    @property
    def names(self) -> list[str]:
        return [*self._counted]

    def loaded(self) -> Iterator[Served]:
        """Those that are loaded now."""
        yield from self._fixed.values()
        yield from (each.served for each in self._resident if each.served is not None)

    def counted(self) -> Iterator[tuple[str, Counted]]:
        """Each model's tokens."""
        return iter(self._counted.items())

    def close(self) -> None:
        """Ends what runs, with an error."""
        for each in [*self.loaded()]:
            each.engine.close()

    def load(self, name: str) -> None:
        """Loads a model before the first request, so that a fault shows; to be called before the server
        runs."""
        instance = _Instance(self._sources[name])
        instance.served = self._opened(instance.source)
        self._instances[name] = instance
        self._resident.append(instance)

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Served]:
        """The model of that name, which stays loaded until the block ends; raises `ApiError` 404 with the
        names that exist."""
        found = self._named(name)
        if found in self._fixed:
            yield self._fixed[found]
            return
        instance = self._instances.get(found) or self._begin(found)
        instance.users += 1
        instance.idle.clear()
        try:
            yield await instance.ready()
        finally:
            instance.users -= 1
            instance.used = next(self._ticks)
            if not instance.users:
                instance.idle.set()

    def cards(self) -> list[dict[str, Any]]:
        """The entries of `/v1/models`."""
        return [self.card(name) for name in self._counted]

    def card(self, name: str) -> dict[str, Any]:
        """A model's entry; raises `ApiError` 404 with the names that exist."""
        if (found := self._named(name)) in self._fixed:
            return self._fixed[found].card()
        source, instance = self._sources[found], self._instances.get(found)
        parent = {} if source.parent is None else {"parent": source.parent}
        if instance is not None and instance.served is not None:
            return instance.served.card() | parent
        state = "unloaded" if instance is None else "loading"
        return _card(found, self._created, source.context_length, None, state) | parent

    def _named(self, name: str | None) -> str:
        known = ", ".join(self._counted)
        if name is None and len(self._counted) == 1:
            return known
        if name is None:
            raise ApiError(400, f"model is missing; it is one of {known}", param="model")
        if name not in self._counted:
            raise ApiError(
                404,
                f"there is no model {name!r}; the models are {known}",
                param="model",
                code="model_not_found",
            )
        return name

    def _begin(self, name: str) -> _Instance:
        instance = self._instances[name] = _Instance(self._sources[name])
        instance.loading = asyncio.create_task(self._load(instance))
        return instance

    async def _load(self, instance: _Instance) -> Served:
        """Makes room and loads, one model at a time, in the order in which they were asked for."""
        async with self._turn:
            try:
                await self._make_room(instance.source.size)
                self._resident.append(instance)
                instance.served = await asyncio.to_thread(self._opened, instance.source)
            except BaseException:  # the next request tries again
                del self._instances[instance.source.name]
                if instance in self._resident:
                    self._resident.remove(instance)
                raise
            return instance.served

    async def _make_room(self, size: int) -> None:
        while sum(each.source.size for each in self._resident) + size > self._memory:
            oldest = min(self._resident, key=lambda each: (each.users > 0, each.used))
            self._instances.pop(oldest.source.name)
            await oldest.idle.wait()
            self._resident.remove(oldest)
            await asyncio.to_thread(_unload, oldest)

    def _opened(self, source: Source) -> Served:
        engine = source.open()
        _ = engine.decoder  # with its memory
        counted = self._counted[source.name]
        return Served(source.name, engine, self._created, counted, self._most_tokens)


def _card(
    name: str, created: int, context_length: int, byte_stable: bool | None, state: str
) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "camelid",
        "context_length": context_length,
        "byte_stable": byte_stable,
        "state": state,
    }


def _unload(instance: _Instance) -> None:
    served, instance.served, instance.loading = instance.served, None, None
    assert served is not None
    served.engine.close()
    del served
    gc.collect()
    return_freed_memory()
