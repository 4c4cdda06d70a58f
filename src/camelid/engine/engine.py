"""The engine: requests in, steps out; sequences join and leave the batch after any step (Orca, OSDI 2022)."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, get_args
from weakref import WeakSet

import torch
from torch import Tensor

from camelid.base.errors import CamelidError, WrongCall
from camelid.engine.blocks import CachedSequence, NoBlocksError
from camelid.engine.choose_decoder import choose_decoder, fitting_tokens
from camelid.engine.choose_proposer import choose_proposer
from camelid.engine.decoder import Decoder, Extension, Predictions
from camelid.engine.device import GPU_STEP_TOKENS, STEP_TOKENS, choose_device
from camelid.engine.encoding import Ids, check_bias, check_ids, encode_pair, encode_prompt
from camelid.engine.finished import finished
from camelid.engine.generation import Generation
from camelid.engine.listening import Listener, Listening, Updates
from camelid.engine.memory import refuse_too_large
from camelid.engine.running import NewText, Request
from camelid.engine.scheduler import Scheduler
from camelid.engine.scoring import Scoring
from camelid.engine.speculative import PLAIN_STEPS, step_seconds
from camelid.engine.weights import copy_weights
from camelid.engine.worker import Worker
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_config
from camelid.formats.load import check_dtype, check_tokenizer_fits, load_model, load_tokenizer, stored_dtype
from camelid.lm.constraint import Grammars
from camelid.lm.interface import LM, Completion, Outcomes, Prompt, Score, Stream, as_pairs
from camelid.lm.sampling import Sampling, with_changes
from camelid.model.transformer import Transformer
from camelid.recipes.engine import CacheKind, MarkerName
from camelid.text.markers import steered
from camelid.text.tokenizer import Tokenizer

AnyRequest = TypeVar("AnyRequest", bound=Request)


class Engine(LM):
    """A model and its tokenizer as an `LM`, on the device of the model's parameters.

    dtype: of activations and cache, by default that of the weights; max_batch: most sequences in a batch;
    step_tokens: most tokens of a step, by default what keeps the device busy; cache_tokens: capacity of the
    cache over all sequences, by default half of the free memory, at most `max_batch` contexts; cache: `8-bit`
    halves the memory of a token; draft: for speculative decoding a smaller engine of the same vocabulary, or
    `prompt` to draft from the text so far; draft_tokens: most draft tokens of a step, by default 4 of an
    engine, 8 of the text; native: use the decoder in C if it supports the model and can be compiled
    (otherwise torch computes the same, and one message says that it is slower); compiled: let torch.compile
    fuse the operations between products on a GPU, which takes some ten seconds at the first steps.

    One thread, started at first use, computes for the engine and its draft. `generate`, `stream` and `score`
    may be called from any thread, and share the batch. The thread ends with `close`, which `with` calls, or
    with the engine. A model in training may be given: the engine computes in evaluation mode with its own
    parameters and does not change its mode. Call `set_weights` after they have changed; without it requests
    fail.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        dtype: torch.dtype | None = None,
        max_batch: int = 64,
        step_tokens: int | None = None,
        cache_tokens: int | None = None,
        cache: CacheKind = "whole",
        draft: "Engine | str | Path | None" = None,
        draft_tokens: int | None = None,
        native: bool = True,
        compiled: bool = False,
    ) -> None:
        check_tokenizer_fits(model.spec, tokenizer)
        counts = {"max_batch": max_batch, "step_tokens": step_tokens, "cache_tokens": cache_tokens}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise WrongCall(f"{name} is {count}; at least 1")
        if cache not in get_args(CacheKind):
            raise WrongCall(f"cache is {cache!r}; it is one of {', '.join(get_args(CacheKind))}")
        self.model, self.tokenizer, self.max_batch = model, tokenizer, max_batch
        self.dtype = dtype or model.embed_tokens.weight.dtype
        self.context_length = model.spec.context_length
        on_cpu = model.embed_tokens.weight.device.type == "cpu"
        self.step_tokens = step_tokens or (STEP_TOKENS if on_cpu else GPU_STEP_TOKENS)
        self.cache_tokens, self.cache = cache_tokens, cache
        self.native, self.compiled = native, compiled
        self.proposer = choose_proposer(draft, draft_tokens, tokenizer, model.spec.vocab_size)
        self._draft = draft if isinstance(draft, Engine) else None
        self.worker: Worker = draft.worker if isinstance(draft, Engine) else Worker()
        # Engines that draft for one another; parameters may be shared among them.
        self._together: WeakSet[Engine] = draft._together if isinstance(draft, Engine) else WeakSet()
        self._together.add(self)
        self._grammars = Grammars(tokenizer)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        draft: "str | Path | Engine | None" = None,
        adapter: str | Path | None = None,
        marker: MarkerName | None = None,
        **settings: Any,
    ) -> "Engine":
        """The engine of a checkpoint folder or hub name.

        dtype: by default the folder's; device: `cpu`, `cuda` or `cuda:N`, by default a GPU where there is
        one; draft: an engine, a folder or hub name, or `prompt`; adapter: see `load_model`; marker: of
        answers.
        """
        place, folder = choose_device(device), resolve(path)
        check_dtype(kind := dtype or stored_dtype(read_config(folder)))
        refuse_too_large(folder, kind, place)
        if isinstance(draft, str | Path) and draft != "prompt":
            draft = cls.load(draft, device=place, native=settings.get("native", True))
        tokenizer = steered(load_tokenizer(folder, adapter), Path(adapter or folder), marker)
        return cls(load_model(folder, kind, adapter).to(place), tokenizer, draft=draft, **settings)

    @cached_property
    def decoder(self) -> Decoder:
        """The model with its cache, made when first asked for."""
        most = self.max_batch * self.context_length
        tokens = self.cache_tokens or fitting_tokens(self.model, self.dtype, self.cache, most)
        return choose_decoder(
            self.model,
            self.dtype,
            tokens,
            self.cache,
            start_id=self.tokenizer.pad_id or 0,
            native=self.native,
            compiled=self.compiled,
        )

    @cached_property
    def scheduler(self) -> Scheduler:
        """What decides who is computed next."""
        return Scheduler(self.decoder, self.max_batch, self.step_tokens, self.proposer)

    @cached_property
    def _listening(self) -> Listening:
        decoders = [self.decoder] if self._draft is None else [self.decoder, self._draft.decoder]
        listening = Listening(self.scheduler, decoders)
        self.worker.add(listening)
        return listening

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Completions; raises `PromptTooLong` where a prompt leaves no room in the context."""
        samples = range(sampling.samples)
        groups = [[self.request(prompt, sampling, sample) for sample in samples] for prompt in prompts]
        for _ in self.updates([generation for group in groups for generation in group]):
            pass
        return [[generation.completion() for generation in group] for group in groups]

    def each(self, prompts: Sequence[Prompt], sampling: Sampling) -> Outcomes:
        """Each prompt's completions as they leave the batch."""
        return finished(self, prompts, sampling)

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Stream:
        """The text of one completion in pieces; what a stop string could still take back waits."""
        return self._stream(self.request(prompt, with_changes(sampling, changes)))

    def _stream(self, generation: Generation) -> Stream:
        for _, piece in self.run([generation]):
            if piece:
                yield piece
        return generation.completion()

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """Scores of continuations; those of one prompt share its computation.

        A continuation's tokens are those of prompt and continuation together, past as many as the prompt has
        by itself; where a token spans the border and none is left, the continuation's own.
        """
        requests = [
            Scoring(*encode_pair(self.tokenizer, self.model.spec, *pair))
            for pair in as_pairs(prompts, continuations)
        ]
        # Those of one prompt in a row, to begin while it is being read.
        first = {request.prompt: index for index, request in reversed([*enumerate(requests)])}
        for _ in self.updates(sorted(requests, key=lambda request: first[request.prompt])):
            pass
        return [request.score() for request in requests]

    def extend(self, sequence: CachedSequence, tokens: Sequence[int], wanted: int = 1) -> Predictions:
        """Reads tokens into a sequence of the cache, step by step; predictions after the last `wanted`.

        Call it in a task of `worker`. A full cache preempts requests, else raises `NoBlocksError`.
        """
        before = max(0, len(tokens) - max(1, wanted))
        for begin in range(0, before, self.step_tokens):
            self._extend(Extension(sequence, tokens[begin : min(begin + self.step_tokens, before)], 0))
        return self._extend(Extension(sequence, tokens[before:], wanted))

    def _extend(self, extension: Extension) -> Predictions:
        self._listening.check_weights()
        while True:
            try:
                return self.decoder.extend([extension])
            except NoBlocksError:
                if not self.scheduler.preempt():
                    raise

    def set_weights(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Continues with new weights: a state dict to copy into the model, or its changed parameters.

        Everything computed with the old ones is dropped. Running requests keep their tokens, which the new
        weights read first; scores begin again. A draft that shares parameters is renewed too. Raises
        `WrongCall` if the state's names or shapes are not the model's. For other modules, make a new engine.
        """
        self.worker.call(lambda: self._set_weights(state))

    def _set_weights(self, state: Mapping[str, Tensor] | None) -> None:
        if state is not None:
            copy_weights(self.model, state)
        computing = [each for each in self._together if "decoder" in vars(each)]
        # A draft's cache holds the texts of those that it drafts for.
        for engine in computing:
            engine.scheduler.renew()
        for engine in computing:
            if engine is self or engine.decoder.weights.changed:
                engine.decoder.renew()

    def request(
        self,
        prompt: Prompt | Ids,
        sampling: Sampling,
        sample: int = 0,
        alternatives: int = 0,
        shown: Sequence[str] = (),
    ) -> Generation:
        """One sample of a prompt or of its ids, for `run` or `submit`, see `Generation`; raises
        `PromptTooLong`."""
        ids = prompt if isinstance(prompt, tuple) else self.encode(prompt)
        room = check_ids(ids, self.model.spec, room=1)
        check_bias(sampling, self.model.spec)
        most, constraint = min(sampling.max_new_tokens, room), self._grammars.constraint(sampling)
        return Generation(ids, sampling, sample, most, self.tokenizer, constraint, alternatives, shown)

    def scoring(self, ids: Ids, alternatives: int = 0) -> Scoring:
        """The probabilities of a text's tokens after its first; raises `PromptTooLong`."""
        check_ids(ids, self.model.spec, room=0)
        return Scoring(ids[:1], ids[1:], alternatives)

    def submit(self, generation: Generation) -> None:
        """Queues a request, which goes on when `step` is called, or while others are listened to."""
        self.worker.call(lambda: self._listening.scheduler.submit(generation))

    def step(self) -> list[NewText]:
        """Advances all requests by one step; those with new text, or at their end."""
        return self.worker.call(lambda: self._listening.step())

    def cancel(self, generation: Generation) -> None:
        """Ends a request, wherever it is, and gives its part of the cache back."""
        self.worker.call(lambda: self._listening.cancel(generation))

    def run(self, generations: Sequence[Generation]) -> Iterator[tuple[Generation, str]]:
        """Computes the generations to their ends; yields each with its new text after each token.

        They go on while nobody asks for the next text, and are cancelled where nobody will. Raises the error
        of one that failed, after the others have ended.
        """
        with closing(self.updates(generations, every_token=True)) as updates:
            for generation in updates:
                while generation.pieces:
                    yield generation, generation.pieces.popleft()

    def updates(
        self, requests: Sequence[AnyRequest], every_token: bool = False
    ) -> Generator[AnyRequest, None, None]:
        """Each request when it has ended, or after each of its tokens."""
        updates: SimpleQueue[tuple[Any, bool]] = SimpleQueue()
        left = len(requests)
        try:
            self.worker.call(lambda: self._listening.enter(requests, Listener(updates, every_token)))
            while left:
                request, ended = updates.get()
                left -= ended
                yield request
        finally:
            if left:
                self.leave(updates)
        for request in requests:
            if request.error is not None:
                raise request.error

    def enter(
        self, requests: Sequence[Request], updates: Updates, every_token: bool = False
    ) -> "Future[None]":
        """Queues requests, and has each put into `updates` when it has ended, or after each of its tokens."""
        return self.worker.post(lambda: self._listening.enter(requests, Listener(updates, every_token)))

    def leave(self, updates: Updates) -> None:
        """Nobody reads these updates any more: what is left of their requests is cancelled."""

        def leave() -> None:
            self._listening.leave(updates)

        with suppress(CamelidError):  # closed, which has ended them
            if self.worker.is_current:  # in the middle of a step, where a forgotten stream was collected
                self.worker.post(leave)
            else:
                self.worker.call(leave)

    def close(self) -> None:
        """Ends the engine and its draft: all requests, with an error, and the thread that computes."""
        self.worker.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plain_step_seconds(self, prompt: Prompt) -> float:
        """Median duration of a few steps without draft tokens after a prompt; their tokens are dropped."""
        ids = self.encode(prompt)[-(self.context_length - PLAIN_STEPS) :]
        return self.worker.call(lambda: step_seconds(self.decoder, self.extend, ids))

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt: a conversation opened for the answer, or text with the folder's BOS."""
        return encode_prompt(self.tokenizer, self.model.spec, prompt)
