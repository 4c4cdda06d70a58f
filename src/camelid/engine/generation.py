"""One completion in the making: its random numbers, its text, and when it ends."""

import hashlib
import random
from collections import deque
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from camelid.engine.decoder import Predictions, Top
from camelid.engine.sampling import (
    Draw,
    Logits,
    apply_penalties,
    check_changed,
    draw,
    exponentials,
    filter_logits,
    sampling_probabilities,
)
from camelid.engine.stop_strings import StopStrings
from camelid.lm.constraint import Constraint
from camelid.lm.interface import Completion, FinishReason
from camelid.lm.sampling import Sampling
from camelid.text.stream import StreamDecoder
from camelid.text.tokenizer import Tokenizer


class Generation:
    """One sample of one prompt; it knows nothing of the model or of what else is in the batch.

    `limit` is the number of tokens after which it is cut; `constraint` is what its text is held to.
    `finish_reason` is None until it ends, and stays so where an `error` ended it, or who `cancelled` it.
    `pieces` is text that nobody has taken yet. `top` has the most probable tokens of each place with their
    log-probabilities, as many as the `alternatives` asked for; `shown` special tokens stay in the text.
    `cached` counts the tokens of the prompt that were not computed for it.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        sample: int,
        limit: int,
        tokenizer: Tokenizer,
        constraint: Constraint | None = None,
        alternatives: int = 0,
        shown: Sequence[str] = (),
    ) -> None:
        self.prompt, self.sampling, self.limit = tuple(prompt), sampling, limit
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.sampled_logprobs: list[float] = []
        self.alternatives = alternatives
        self.top: list[Top] = []
        self.cached = 0
        self.finish_reason: FinishReason | None = None
        self.error: Exception | None = None
        self.submitted = self.cancelled = False
        self.pieces: deque[str] = deque()
        identity = repr((sampling.seed, sample, self.prompt)).encode()
        self._random = random.Random(hashlib.blake2b(identity).digest())
        self._constraint = constraint
        self._stop_ids = tokenizer.stop_ids
        self._stops = StopStrings(sampling.stop)
        self._special = (
            {index: token for token, index in tokenizer.special_ids.items()} if sampling.stop else {}
        )
        self._decoder = StreamDecoder(tokenizer)
        special = tokenizer.special_ids
        self._shown = {special[token]: token for token in shown if token in special}
        self._text = ""
        self._released = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.finish_reason is not None or self.error is not None or self.cancelled

    @property
    def stopped_by(self) -> str | None:
        """The stop string that ended it."""
        return self._stops.found

    @property
    def is_greedy(self) -> bool:
        """Whether it always says the most probable token of the model itself."""
        return self.sampling.temperature == 0 and not self.sampling.changes_logits

    @property
    def may_speculate(self) -> bool:
        """Whether several tokens may be drafted at once."""
        return self._constraint is None

    def choose(self, logits: Float[Tensor, " vocab"], greedy: int) -> Draw:
        """The next token, by this generation's own random numbers; `greedy` is the index of the largest
        logit."""
        if self.is_greedy:  # on a GPU, without waiting for the logits
            return Draw(greedy, 0.0)
        changed = self._changed(logits.cpu().numpy(), self.tokens)
        if self.sampling.temperature == 0:
            return Draw(int(changed.argmax()), 0.0)
        return self.draw(exponentials(filter_logits(changed, self.sampling)))

    def probabilities(self, logits: Logits, drafted: Sequence[int] = ()) -> Logits:
        """The distribution that the next token is drawn from, after `drafted` follows the tokens so far."""
        return sampling_probabilities(
            self._changed(logits, [*self.tokens, *drafted] if drafted else self.tokens), self.sampling
        )

    def draw(self, weights: Logits) -> Draw:
        """A token drawn in proportion to its weight."""
        return draw(weights, self.uniform())

    def uniform(self) -> float:
        """This generation's next random number in [0, 1)."""
        return self._random.random()

    def fail(self, error: Exception) -> None:
        """Ends it without a completion."""
        self.error = error

    def _changed(self, logits: Logits, generated: Sequence[int]) -> Logits:
        """Logits under constraint, penalties and bias, checked by `check_changed`."""
        masked = logits if self._constraint is None else self._constraint.masked(logits)
        changed = apply_penalties(masked, self.sampling, self.prompt, generated)
        check_changed(changed, self.sampling)
        return changed

    def report(self, predictions: Predictions, row: int) -> None:
        """Notes the alternatives to the next token, if any were asked for."""
        if self.alternatives:
            self.top.append(predictions.top(row, self.alternatives))

    def accept(self, token: int, logprob: float, sampled_logprob: float) -> str:
        """Appends a token with its log-probabilities of `Completion`; returns the text that a stop string can
        no longer take back.
        """
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.sampled_logprobs.append(sampled_logprob)
        searched = len(self._text)
        if token in self._stop_ids:
            self.finish_reason = "stop"
        else:
            if token in self._special:
                self._stops.add_special(len(self._text + self._decoder.held), self._special[token])
            self._text += self._shown.get(token) or self._decoder.push(token)
            if self._is_complete_by(token):
                self.finish_reason = "stop"
            elif len(self.tokens) == self.limit:
                self.finish_reason = "length"
        if self.finish_reason:
            self._text += self._decoder.finish()
        self._cut_at_stop_string(searched)
        piece = self._release()
        self.pieces.append(piece)
        return piece

    def completion(self) -> Completion:
        """The finished completion."""
        assert self.finish_reason is not None
        return Completion(
            self._text,
            tuple(self.tokens),
            tuple(self.logprobs),
            self.finish_reason,
            prompt_tokens=self.prompt,
            sampled_logprobs=tuple(self.sampled_logprobs),
        )

    def _is_complete_by(self, token: int) -> bool:
        """Whether the constraint, which goes on by `token`, lets nothing follow it."""
        if self._constraint is None:
            return False
        self._constraint.accept(token)
        return self._constraint.is_complete

    def _cut_at_stop_string(self, searched: int) -> None:
        if not self.sampling.stop:
            return
        # The text held back counts too: should the completion end here, it ends with that.
        text = self._text + self._decoder.held
        cut = self._stops.find(text, searched)
        if cut is not None:
            self._text = text[:cut]
            self.finish_reason = "stop"

    def _release(self) -> str:
        end = len(self._text) if self.finish_reason else len(self._text) - self._stops.pending(self._text)
        piece = self._text[self._released : end]
        self._released = max(self._released, end)
        return piece
