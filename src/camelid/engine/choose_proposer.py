"""What guesses for an engine: a draft model, the text itself, or nothing."""

from pathlib import Path
from typing import Protocol

from camelid.base.errors import WrongCall
from camelid.engine.decoder import Decoder
from camelid.engine.speculative import DraftModel, PromptLookup, Proposer
from camelid.text.tokenizer import Tokenizer


class Draft(Protocol):
    """An engine, as far as it drafts."""

    tokenizer: Tokenizer

    @property
    def decoder(self) -> Decoder:
        """Its model with a cache of its own."""


def choose_proposer(
    draft: Draft | str | Path | None, guesses: int | None, tokenizer: Tokenizer, vocab_size: int
) -> Proposer | None:
    """The proposer for a model of this tokenizer and so many embeddings; raises `WrongCall` where `draft` is none for it."""
    settings = {} if guesses is None else {"guesses": guesses}
    if draft is None and guesses is not None:
        raise WrongCall("guesses need a draft: an engine, or 'prompt' for what the text itself holds")
    if draft is None:
        return None
    if isinstance(draft, str | Path):
        if draft != "prompt":
            raise WrongCall(
                f"draft is {draft!r}; it is an engine, or 'prompt' for what the text itself holds"
            )
        return PromptLookup(**settings)
    if draft.tokenizer.backend.get_vocab() != tokenizer.backend.get_vocab():
        raise WrongCall(
            f"the draft model has another vocabulary ({draft.tokenizer.vocab_size} tokens, the model "
            f"{tokenizer.vocab_size}): its guesses would mean other tokens"
        )
    if draft.decoder.spec.encoder_layers:
        raise WrongCall(
            "the draft has an encoder, which reads a prompt apart from the answer: it cannot guess here"
        )
    return DraftModel(draft.decoder, vocab_size=vocab_size, **settings)
