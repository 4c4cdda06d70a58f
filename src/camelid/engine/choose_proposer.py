"""Where an engine's draft tokens come from: a draft model, the text itself, or nowhere."""

from pathlib import Path
from typing import Protocol

from camelid.base.errors import WrongCall
from camelid.engine.decoder import Decoder
from camelid.engine.speculative import DraftModel, PromptLookup, Proposer
from camelid.text.tokenizer import Tokenizer


class Draft(Protocol):
    """The parts of an engine that drafting needs."""

    tokenizer: Tokenizer

    @property
    def decoder(self) -> Decoder:
        """The model with its own cache."""


def choose_proposer(
    draft: Draft | str | Path | None, draft_tokens: int | None, tokenizer: Tokenizer, vocab_size: int
) -> Proposer | None:
    """The proposer for a model with this tokenizer and vocabulary; raises `WrongCall` if `draft` does not
    suit it."""
    settings = {} if draft_tokens is None else {"draft_tokens": draft_tokens}
    if draft is None and draft_tokens is not None:
        raise WrongCall("draft_tokens needs a draft: an engine, or 'prompt' to draft from the text so far")
    if draft is None:
        return None
    if isinstance(draft, str | Path):
        if draft != "prompt":
            raise WrongCall(
                f"draft is {draft!r}; it must be an engine, or 'prompt' to draft from the text so far"
            )
        return PromptLookup(**settings)
    if draft.tokenizer.backend.get_vocab() != tokenizer.backend.get_vocab():
        raise WrongCall(
            f"the draft model has another vocabulary ({draft.tokenizer.vocab_size} tokens, the model "
            f"{tokenizer.vocab_size}): its draft tokens would mean other tokens"
        )
    if draft.decoder.spec.encoder_layers:
        raise WrongCall("the draft has an encoder; only decoder-only models can draft")
    return DraftModel(draft.decoder, vocab_size=vocab_size, **settings)
