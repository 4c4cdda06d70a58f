"""Training examples: tokens, the target after each token, and the loss weight of each target."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from camelid.base.errors import CamelidError
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer

TooLong = Literal["error", "drop", "cut"]
T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """Three arrays of one length: `targets[i]` follows `tokens[i]` with loss weight `weights[i]`."""

    tokens: NDArray[np.integer]
    targets: NDArray[np.integer]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class ConversationExamples:
    """Examples in order, and lists of the conversations that were dropped or cut."""

    examples: list[Example] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """A digest of the content: equal digests mean equal examples in equal order."""
        content = hashlib.blake2b(digest_size=16)
        for example in self.examples:
            for array in (example.tokens, example.targets, example.weights):
                content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


def prompted_example(
    prompt: Sequence[int], answer: Sequence[int] | NDArray[np.integer], input_weight: float
) -> Example:
    """A prompt and its answer: answer targets have weight 1, prompt targets `input_weight`."""
    whole = np.array([*prompt, *answer], dtype=np.int32)
    weights = np.ones(len(whole) - 1, dtype=np.float32)
    weights[: len(prompt) - 1] = input_weight
    return Example(whole[:-1], whole[1:], weights)


def conversation_example(tokenizer: Tokenizer, conversation: Conversation, where: str = "") -> Example:
    """A conversation rendered by the chat template; weight 1 exactly where the target is trained.

    Raises `CamelidError`, prefixed with `where`, if there is no assistant turn, no token is trained, no
    trained token ends a turn, BOS is doubled, or the template rejects the conversation.
    """
    prefix = f"{where}: " if where else ""
    if not any(message.role == "assistant" for message in conversation.messages):
        raise CamelidError(f"{prefix}no assistant turn, so nothing to train on; remove the row")
    try:
        ids, trained = encode_conversation(tokenizer, conversation)
    except CamelidError as error:
        raise CamelidError(f"{prefix}{error}") from error
    whole = np.array(ids, dtype=np.int32)
    weights = np.array(trained, dtype=np.float32)[1:]
    if not weights.any():
        raise CamelidError(
            f"{prefix}no token is trained: the chat template marks none of the assistant's tokens"
        )
    if tokenizer.bos_id is not None and ids[:2] == [tokenizer.bos_id] * 2:
        raise CamelidError(
            f"{prefix}BOS (id {tokenizer.bos_id}) is doubled; the chat template should write it once"
        )
    if not np.isin(whole[1:][weights > 0], list(tokenizer.stop_ids)).any():
        raise CamelidError(
            f"{prefix}the turn terminator is not trained: none of the stop ids {sorted(tokenizer.stop_ids)} "
            "is among the trained tokens, so the model would never stop; end the assistant's turns with one "
            "in the chat template, or add the template's terminator to eos_token_id in generation_config.json"
        )
    return Example(whole[:-1], whole[1:], weights)


def conversation_examples(
    tokenizer: Tokenizer,
    conversations: Iterable[tuple[Conversation, str]],
    context: int,
    too_long: TooLong = "error",
) -> ConversationExamples:
    """Examples of at most `context` tokens from (conversation, location) pairs.

    too_long: what to do with longer ones. "error" raises, "drop" leaves them out, "cut" keeps as many whole
    turns from the start as fit, ending with an assistant's turn, and drops the conversation if not even the
    first fits. The result lists what was cut or dropped.
    """
    result = ConversationExamples()
    for conversation, where in conversations:
        example = conversation_example(tokenizer, conversation, where)
        if len(example) <= context:
            result.examples.append(example)
            continue
        too_long_by = f"{where}: {len(example)} tokens, the context holds {context}"
        if too_long == "error":
            raise CamelidError(f"{too_long_by}; raise the context, or set too_long to drop or cut")
        shorter = _longest_that_fits(tokenizer, conversation, context, where) if too_long == "cut" else None
        if shorter is None:
            result.dropped.append(too_long_by)
        else:
            result.examples.append(shorter)
            result.cut.append(f"{too_long_by}; kept {len(shorter)}")
    if not result.examples:
        raise CamelidError(
            f"no conversations left to train on: {len(result.dropped)} were dropped as too long"
            if result.dropped
            else "there are no conversations to train on"
        )
    return result


def hold_out_examples(
    whole: ConversationExamples, fraction: float
) -> tuple[ConversationExamples, ConversationExamples]:
    """Training and validation examples, about `fraction` of them held out, by the hash of their tokens.

    Equal examples stay together. Raises `CamelidError` if either part would be empty.
    """
    kept, held_out = hold_out_rows(
        whole.examples, lambda example: is_held_out(example.tokens, fraction), fraction
    )
    return ConversationExamples(kept, whole.dropped, whole.cut), ConversationExamples(held_out)


def hold_out_rows(rows: Sequence[T], chosen: Callable[[T], bool], fraction: float) -> tuple[list[T], list[T]]:
    """Training rows and the `chosen` validation rows; raises `CamelidError` if either part is empty."""
    parts: tuple[list[T], list[T]] = ([], [])
    for row in rows:
        parts[chosen(row)].append(row)
    if not parts[0] or not parts[1]:
        raise CamelidError(
            f"{len(rows)} rows are too few to hold out a fraction of {fraction:g}; give separate files "
            "with --data.validation, or set --data.validation-fraction to 0"
        )
    return parts


def is_held_out(tokens: NDArray[np.integer], fraction: float) -> bool:
    """Whether a row of these tokens is held out."""
    content = np.ascontiguousarray(tokens, dtype=np.int32).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) / 2**64 < fraction


def _longest_that_fits(
    tokenizer: Tokenizer, conversation: Conversation, context: int, where: str
) -> Example | None:
    messages = conversation.messages
    for end in range(len(messages) - 1, 0, -1):
        if messages[end - 1].role == "assistant":
            shorter = Conversation(messages[:end], conversation.tools)
            example = conversation_example(tokenizer, shorter, where)
            if len(example) <= context:
                return example
    return None
