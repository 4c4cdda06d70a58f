"""The engine: requests in, text out; sequences join and leave the batch after any step (Orca, OSDI 2022)."""

import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from camelid.errors import CamelidError, WrongCall
from camelid.infer.decoder import Decoder, TorchDecoder
from camelid.infer.encoder_decoder import EncoderDecoder
from camelid.infer.generation import Generation
from camelid.infer.memory import refuse_too_large
from camelid.infer.native.build import NoCompilerError
from camelid.infer.native.decoder import NativeDecoder, supports
from camelid.lm import LM, Completion, Prompt, PromptTooLong, Sampling, Score, Stream, as_list, with_changes
from camelid.load import check_tokenizer_fits, load_model
from camelid.model.checkpoint import read_config
from camelid.model.hub import resolve
from camelid.model.transformer import Transformer
from camelid.text.chat_template import encode_conversation
from camelid.text.tokenizer import Tokenizer, load_tokenizer

PREFILL_TOKENS = 2048
"""Tokens of waiting prompts that join the batch in one pass, padding included."""


class Engine(LM):
    """A model and its tokenizer as an `LM`.

    dtype: of activations and cache, by default the weights'; max_batch: sequences that run at once, fewer where their
    cache would not fit into half of the free memory; native: whether to use the decoder in C where it knows the model
    and can be compiled (otherwise torch computes the same, and it is said once what speed is lost).
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        dtype: torch.dtype | None = None,
        max_batch: int = 64,
        native: bool = True,
    ) -> None:
        check_tokenizer_fits(model.spec, tokenizer)
        self.model, self.tokenizer, self.max_batch = model.eval(), tokenizer, max_batch
        self.dtype = dtype or model.embed_tokens.weight.dtype
        self.context_length = model.spec.context_length
        self.native = native

    @classmethod
    def load(cls, path: str | Path, *, dtype: torch.dtype | None = None, **settings: Any) -> "Engine":
        """The engine of a checkpoint folder or hub name; dtype: by default the one that the folder stores."""
        folder = resolve(path)
        kind = dtype or stored_dtype(read_config(folder))
        refuse_too_large(folder, kind)
        return cls(load_model(folder, kind), load_tokenizer(folder), **settings)

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Completions; raises `PromptTooLong` where a prompt leaves no room in the context."""
        generations = [
            self._generation(self.encode(prompt), sampling, sample)
            for prompt in prompts
            for sample in range(sampling.samples)
        ]
        for _ in self.run(generations):
            pass
        done = iter(generation.completion() for generation in generations)
        return [[next(done) for _ in range(sampling.samples)] for _ in prompts]

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **changes: Any) -> Stream:
        """The text of one completion in pieces; what a stop string could still take back waits."""
        generation = self._generation(self.encode(prompt), with_changes(sampling, changes), 0)
        for _, piece in self.run([generation]):
            if piece:
                yield piece
        return generation.completion()

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        """Scores of continuations; continuations of one prompt share its computation.

        A continuation's tokens are those of prompt and continuation together, past as many as the prompt alone
        has; where a token spans the border and none is left, the continuation's own.
        """
        pairs = zip(as_list(prompts), as_list(continuations), strict=True)
        encoded = [self._encode_pair(prompt, continuation) for prompt, continuation in pairs]
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, (context, _) in enumerate(encoded):
            groups[context].append(index)
        scores: dict[int, Score] = {}
        for context, members in groups.items():
            targets = [encoded[index][1] for index in members]
            scores.update(zip(members, self._score(context, targets), strict=True))
        return [scores[index] for index in range(len(encoded))]

    def run(self, generations: Sequence[Generation]) -> Iterator[tuple[Generation, str]]:
        """Advances the generations to their ends; yields each with its new text after every one of its tokens."""
        # Equal prompts stand side by side, to be computed once; long ones start first, so that padding is small.
        waiting = deque(sorted(generations, key=lambda g: (-len(g.prompt), g.prompt)))
        if not waiting:
            return
        capacity = max(len(g.prompt) + g.limit for g in waiting)
        slots = min(len(waiting), self._slots(capacity))
        decoder = self.decoder(slots, capacity)
        active: list[Generation] = []
        while waiting or active:
            if waiting and len(active) < slots:
                begin = len(active)
                logits = _admit(decoder, waiting, active, slots)
            else:
                begin = 0
                logits = decoder.extend(0, [g.tokens[-1:] for g in active])
            for generation, token, logprob in _choose(decoder, active[begin:], logits):
                yield generation, generation.accept(token, logprob)
            _retire(decoder, active)

    def decoder(self, slots: int, capacity: int) -> Decoder:
        """A decoder of `slots` sequences of up to `capacity` tokens."""
        if self.model.encoder is not None:
            return EncoderDecoder(self.model, self.dtype, slots, capacity, self.tokenizer.pad_id or 0)
        if self.native and supports(self.model, self.dtype):
            try:
                return NativeDecoder(self.model, self.dtype, slots, capacity)
            except NoCompilerError as reason:
                _say_once(f"{reason}; generating on torch alone, at about a third of the speed")
        return TorchDecoder(self.model, self.dtype, slots, capacity)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt: a conversation opened for the assistant's turn, or text with BOS as the folder asks."""
        if not isinstance(prompt, str):
            ids, _ = encode_conversation(self.tokenizer, prompt, add_generation_prompt=True)
            return tuple(ids)
        if self.model.encoder is not None:
            ids = self.tokenizer.encode(prompt, special_tokens=True)
        else:
            ids = self.tokenizer.encode_prompt(prompt)
        if not ids:
            if self.tokenizer.bos_id is None:
                raise WrongCall("the prompt is empty, and this model has no token to begin a text with")
            ids = [self.tokenizer.bos_id]
        return tuple(ids)

    def _generation(self, prompt: tuple[int, ...], sampling: Sampling, sample: int) -> Generation:
        # An encoder's text and the answer do not share one context.
        room = self.context_length - (len(prompt) if self.model.encoder is None else 0)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(prompt)} tokens; the context holds {self.context_length}, one of them for the "
                f"answer: {1 - room} tokens too many, shorten the prompt"
            )
        if sampling.logit_bias and (highest := max(dict(sampling.logit_bias))) >= self.model.spec.vocab_size:
            raise WrongCall(f"logit_bias names token {highest}; the model has {self.model.spec.vocab_size}")
        return Generation(prompt, sampling, sample, min(sampling.max_new_tokens, room), self.tokenizer)

    def _slots(self, capacity: int) -> int:
        """Sequences of `capacity` tokens whose cache fits into half of the free memory, at most `max_batch`."""
        sides = 1 if self.model.encoder is None else 2
        each = sides * self.model.spec.kv_bytes_per_token(self.dtype.itemsize) * capacity
        device = self.model.embed_tokens.weight.device
        cuda = device.type == "cuda"
        free = torch.cuda.mem_get_info(device)[0] if cuda else psutil.virtual_memory().available
        if free < each:
            raise CamelidError(
                f"a cache of {capacity} tokens takes {each / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
                "ask for fewer new tokens or give a shorter prompt"
            )
        return max(1, min(self.max_batch, free // 2 // each))

    def _encode_pair(self, prompt: Prompt, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        context = self.encode(prompt)
        if self.model.encoder is not None:
            whole = (*context, *self.tokenizer.encode(continuation))
        elif isinstance(prompt, str):
            whole = self.encode(prompt + continuation)
            # Where a token of the whole spans the border and leaves nothing, the continuation is spelt by itself.
            if len(whole) <= len(context):
                whole = (*context, *self.tokenizer.encode(continuation, continues=True))
        else:
            whole = (*context, *self.tokenizer.encode(continuation, continues=True))
        if len(whole) <= len(context):
            raise WrongCall(f"the continuation {continuation!r} adds no token to its prompt")
        if (excess := len(whole) - self.context_length) > 0 and self.model.encoder is None:
            raise WrongCall(
                f"prompt and continuation have {len(whole)} tokens and the context holds {self.context_length}: "
                f"{excess} too many"
            )
        return whole[: len(context)], whole[len(context) :]

    def _score(self, context: tuple[int, ...], targets: list[tuple[int, ...]]) -> list[Score]:
        capacity = len(context) + max(map(len, targets))
        slots = min(len(targets), self._slots(capacity))
        decoder = self.decoder(slots, capacity)
        first = decoder.extend(0, [context])
        scores = []
        for target in targets:
            decoder.truncate(0, len(context))
            logits = torch.cat([first, decoder.extend(0, [target[:-1]], every=True)]) if target[1:] else first
            logprobs = logits.log_softmax(-1)
            own = logprobs.gather(1, torch.tensor(target, device=logits.device)[:, None])
            greedy = bool((own[:, 0] == logprobs.amax(1)).all())
            scores.append(Score(float(own.sum()), len(target), greedy))
        return scores


@cache
def _say_once(text: str) -> None:
    print(f"camelid: {text}", file=sys.stderr)


def stored_dtype(config: Mapping[str, Any]) -> torch.dtype:
    """The dtype that a config.json says its weights have; float32 for half precision, which no CPU computes well."""
    named = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    return named if named in (torch.bfloat16, torch.float32) else torch.float32


def _admit(decoder: Decoder, waiting: deque[Generation], active: list[Generation], slots: int) -> Tensor:
    """Moves waiting generations into free slots; logits after their prompts, an equal prompt computed once."""
    begin = len(active)
    rows: dict[tuple[int, ...], list[Generation]] = {}
    width = len(waiting[0].prompt)
    for _ in range(slots - begin):
        if not waiting:
            break
        prompt = waiting[0].prompt
        if rows and prompt not in rows and (len(rows) + 1) * width > PREFILL_TOKENS:
            break
        rows.setdefault(prompt, []).append(waiting.popleft())
    logits = decoder.extend(begin, list(rows))
    active += [generations[0] for generations in rows.values()]
    origins = list(range(len(rows)))
    for origin, (prompt, generations) in enumerate(rows.items()):
        for generation in generations[1:]:
            decoder.fork(begin + origin, len(active), len(prompt))
            active.append(generation)
            origins.append(origin)
    return logits[origins]


def _choose(
    decoder: Decoder, generations: Sequence[Generation], logits: Tensor
) -> list[tuple[Generation, int, float]]:
    """Every generation's next token with its log-probability under the model itself."""
    greedy, log_totals = (column.tolist() for column in decoder.summarise(logits))
    chosen = []
    for row, generation in enumerate(generations):
        token = (
            greedy[row]
            if generation.sampling.temperature == 0 and not generation.sampling.changes_logits
            else generation.choose(logits[row].cpu().numpy())
        )
        chosen.append((generation, token, float(logits[row, token]) - log_totals[row]))
    return chosen


def _retire(decoder: Decoder, active: list[Generation]) -> None:
    """Takes finished generations out; the last ones move into the gaps."""
    for slot in reversed(range(len(active))):
        if active[slot].finish_reason is None:
            continue
        last = len(active) - 1
        if slot != last:
            decoder.fork(last, slot, decoder.lengths[last])
            active[slot] = active[last]
        decoder.truncate(last, 0)
        active.pop()
