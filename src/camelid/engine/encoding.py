"""The ids of prompts, and of prompts with a continuation."""

from camelid.base.errors import WrongCall
from camelid.lm.interface import Prompt, PromptTooLong
from camelid.lm.sampling import Sampling
from camelid.model.spec import ModelSpec
from camelid.text.chat_template import encode_chat_prompt
from camelid.text.tokenizer import Tokenizer

Ids = tuple[int, ...]


def encode_prompt(tokenizer: Tokenizer, spec: ModelSpec, prompt: Prompt) -> Ids:
    """The ids of a prompt: a conversation opened for the assistant's turn, or text with BOS as the folder
    asks."""
    if not isinstance(prompt, str):
        return tuple(encode_chat_prompt(tokenizer, prompt))
    if tokenizer.chat_template is not None and tokenizer.chat_template.marker:
        raise WrongCall("a marker is for conversations, and this prompt is plain text; use --chat")
    if spec.encoder_layers:
        ids = tokenizer.encode(prompt, special_tokens=True)
    else:
        ids = tokenizer.encode_prompt(prompt)
    if not ids:
        if tokenizer.bos_id is None:
            raise WrongCall("the prompt is empty, and this model has no token to begin a text with")
        ids = [tokenizer.bos_id]
    return tuple(ids)


def check_ids(ids: Ids, spec: ModelSpec, room: int) -> int:
    """How many tokens of an answer fit after a prompt; raises `PromptTooLong` where it is less than `room`.

    Raises `WrongCall` where there is no id, or one that the model has no embedding of.
    """
    if not ids:
        raise WrongCall("the prompt has no tokens")
    if not 0 <= min(ids) <= max(ids) < spec.vocab_size:
        wrong = next(index for index in ids if not 0 <= index < spec.vocab_size)
        raise WrongCall(f"the prompt has token {wrong}; the model's are 0 to {spec.vocab_size - 1}")
    # An encoder's text and the answer do not share one context.
    left = spec.context_length - (0 if spec.encoder_layers else len(ids))
    if left < room:
        answer = ", one of them for the answer" if room else ""
        raise PromptTooLong(
            f"the prompt has {len(ids)} tokens; the context holds {spec.context_length}{answer}: "
            f"{room - left} tokens too many, shorten the prompt"
        )
    return left


def check_bias(sampling: Sampling, spec: ModelSpec) -> None:
    """Raises `WrongCall` where a bias is for a token that the model does not have."""
    if sampling.logit_bias and (highest := max(dict(sampling.logit_bias))) >= spec.vocab_size:
        raise WrongCall(f"logit_bias names token {highest}; the model has {spec.vocab_size}")


def encode_pair(tokenizer: Tokenizer, spec: ModelSpec, prompt: Prompt, continuation: str) -> tuple[Ids, Ids]:
    """The ids of a prompt and of its continuation.

    Raises `PromptTooLong` where there are too many, `WrongCall` where there is none to score.
    """
    context = encode_prompt(tokenizer, spec, prompt)
    if spec.encoder_layers:
        whole = (*context, *tokenizer.encode(continuation))
    elif isinstance(prompt, str):
        whole = encode_prompt(tokenizer, spec, prompt + continuation)
        if not prompt and whole[: len(context)] != context:
            # BOS stands for the empty prompt alone: this tokenizer puts none before a text.
            whole = (*context, *whole)
        # Where a token of the whole spans the border and leaves nothing, the continuation is spelt by itself.
        if len(whole) <= len(context):
            whole = (*context, *tokenizer.encode(continuation, continues=True))
    else:
        whole = (*context, *tokenizer.encode(continuation, continues=tokenizer.goes_on(context)))
    if len(whole) <= len(context):
        raise WrongCall(f"the continuation {continuation!r} adds no token to its prompt")
    if (excess := len(whole) - spec.context_length) > 0 and not spec.encoder_layers:
        raise PromptTooLong(
            f"prompt and continuation have {len(whole)} tokens; the context holds {spec.context_length}: "
            f"{excess} tokens too many, shorten the prompt"
        )
    return whole[: len(context)], whole[len(context) :]
