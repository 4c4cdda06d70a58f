"""Training examples: tokens, the target after each token, and the loss weight of each target."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from camelid.base.errors import CamelidError
from camelid.data.rows.holdout import uniform
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation
from camelid.text.hidden_keys import hidden_keys
from camelid.text.tokenizer import Tokenizer

TooLong = Literal["error", "drop", "cut"]


@dataclass(frozen=True)
class Example:
    """Three arrays of one length: `targets[i]` follows `tokens[i]` with loss weight `weights[i]`.

    extra: further arrays of that length for an objective, by name.
    """

    tokens: NDArray[np.integer]
    targets: NDArray[np.integer]
    weights: NDArray[np.float32]
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class ConversationExamples:
    """Examples in order, and lists of the conversations that were dropped or cut.

    places: the file and line of each example. draws: a number in [0, 1) for each, that depends only on the
    text of its row; it decides what is held out. hidden: how many rows give a key that the template does not
    show;
    hidden_at: the first of them.
    """

    examples: list[Example] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    hidden: Counter[str] = field(default_factory=Counter)
    hidden_at: dict[str, str] = field(default_factory=dict)

    @property
    def hidden_summary(self) -> str:
        """One line about the keys that the template does not show."""
        keys = "; ".join(
            f"{name} ({n:,} rows, first {self.hidden_at[name]})" for name, n in self.hidden.items()
        )
        return f"the chat template does not show these keys of the rows: {keys}"

    def add(self, example: Example, where: str, draw: float) -> None:
        """Appends an example, with the place and the draw of its row."""
        self.examples.append(example)
        self.places.append(where)
        self.draws.append(draw)

    def part(self, chosen: Sequence[bool]) -> "ConversationExamples":
        """The chosen examples, without the lists."""
        places, draws = compress(self.places, chosen), compress(self.draws, chosen)
        return ConversationExamples(list(compress(self.examples, chosen)), list(places), list(draws))

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
    """A conversation rendered by the chat template; weight above 0 exactly where the target is trained.

    Raises `CamelidError`, prefixed with `where`, if there is no assistant turn, no token is trained, no
    trained token ends a turn, BOS is doubled, or the template rejects the conversation.
    """
    try:
        return _example(tokenizer, conversation)
    except CamelidError as error:
        raise CamelidError(f"{where}: {error}" if where else str(error)) from error


def _example(tokenizer: Tokenizer, conversation: Conversation) -> Example:
    if not any(message.role == "assistant" for message in conversation.messages):
        raise CamelidError("no assistant turn, so nothing to train on; remove the row")
    ids, loss_weights = encode_conversation(tokenizer, conversation)
    whole = np.array(ids, dtype=np.int32)
    weights = np.array(loss_weights, dtype=np.float32)[1:]
    if not weights.any():
        raise CamelidError(
            "no token is trained: the chat template marks none of the assistant's tokens, or the row gives "
            "all of its turns the loss weight 0"
        )
    if tokenizer.bos_id is not None and ids[:2] == [tokenizer.bos_id] * 2:
        raise CamelidError(f"BOS (id {tokenizer.bos_id}) is doubled; the chat template should write it once")
    if not np.isin(whole[1:][weights > 0], list(tokenizer.stop_ids)).any():
        raise CamelidError(
            f"the turn terminator is not trained: none of the stop ids {sorted(tokenizer.stop_ids)} "
            "is among the trained tokens, so the model would never stop; end the assistant's turns with one "
            "in the chat template, or add the template's terminator to eos_token_id in generation_config.json"
        )
    return Example(whole[:-1], whole[1:], weights)


def refuse_row(where: str, problem: str) -> NoReturn:
    """Stops at a bad row; `Conversations.refuse` and `TextPairs.refuse` can skip it instead."""
    raise CamelidError(f"{where}: {problem}")


def conversation_examples(
    tokenizer: Tokenizer,
    conversations: Iterable[tuple[Conversation, str]],
    context: int,
    too_long: TooLong = "error",
    refuse: Callable[[str, str], None] = refuse_row,
) -> ConversationExamples:
    """Examples of at most `context` tokens from (conversation, location) pairs.

    too_long: what to do with longer ones. "error" refuses them, "drop" leaves them out, "cut" keeps as many
    whole turns from the start as fit, ending with an assistant's turn, and drops the conversation if not even
    the first fits. The result lists what was cut or dropped. refuse: is given the location and the problem of
    a row that makes no example, and returns if it is to be skipped.
    """
    template = tokenizer.chat_template
    if template is None:
        raise CamelidError("this tokenizer has no chat template, which conversations need")
    template.compile()  # what is wrong with it is not a fault of the first row
    result, refused = ConversationExamples(), ""
    for conversation, where in conversations:
        try:
            example = _example(tokenizer, conversation)
            hidden = hidden_keys(template, conversation)
            if len(example) > context:
                too_long_by = f"{len(example)} tokens, the context holds {context}"
                if too_long == "error":
                    raise CamelidError(f"{too_long_by}; raise the context, or set too_long to drop or cut")
                _shorten(tokenizer, conversation, context, too_long, f"{where}: {too_long_by}", where, result)
                continue
        except CamelidError as error:
            refuse(where, str(error))
            refused = refused or f"{where}: {error}"
            continue
        for name in hidden:
            result.hidden[name] += 1
            result.hidden_at.setdefault(name, where)
        result.add(example, where, draw_of(conversation))
    if not result.examples:
        raise CamelidError(
            f"no conversations left to train on: {len(result.dropped)} were dropped as too long"
            if result.dropped
            else "there are no conversations to train on"
            + (f"; the first that was refused: {refused}" if refused else "")
        )
    return result


def draw_of(conversation: Conversation) -> float:
    """A number in [0, 1) that depends only on the words of a conversation, not on how they are rendered.

    With markers only on those before the last answer, so that good and bad answers to a prompt stay together.
    """
    messages = conversation.messages[:-1] if conversation.marker else conversation.messages
    words = [(one.role, one.content or "", one.reasoning, one.tool_calls) for one in messages]
    return uniform(json.dumps(words, sort_keys=True))


def hold_out_examples(
    whole: ConversationExamples, fraction: float
) -> tuple[ConversationExamples, ConversationExamples]:
    """Training and validation examples, about `fraction` of them held out, by the hash of their rows' words.

    Equal rows stay together; at least one row is held out. Raises `CamelidError` if none is left to train on.
    """
    chosen = hold_out_rows(whole.draws, fraction)
    return whole.part([not held_out for held_out in chosen]), whole.part(chosen)


def highest_held_out(draws: Iterable[float], fraction: float) -> float:
    """The highest draw of a row that is held out: up to the fraction, or the lowest draw if none is below."""
    return max(min(draws, default=0.0), math.nextafter(fraction, 0)) if fraction else -1.0


def hold_out_rows(draws: Sequence[float], fraction: float) -> list[bool]:
    """Which rows are held out: those whose draw is below the fraction, at least those with the lowest.

    Raises `CamelidError` if all are.
    """
    highest = highest_held_out(draws, fraction)
    chosen = [draw <= highest for draw in draws]
    if len(set(chosen)) < 2:
        raise CamelidError(
            f"{len(draws)} rows are too few to hold out a fraction of {fraction:g}; give separate files "
            "with --data.validation, or set --data.validation-fraction to 0"
        )
    return chosen


def _shorten(
    tokenizer: Tokenizer,
    conversation: Conversation,
    context: int,
    too_long: TooLong,
    problem: str,
    where: str,
    result: ConversationExamples,
) -> None:
    """Adds the turns of a conversation that fit, and lists it as cut or dropped."""
    shorter = _longest_that_fits(tokenizer, conversation, context) if too_long == "cut" else None
    if shorter is None:
        result.dropped.append(problem)
    else:
        result.add(shorter, where, draw_of(conversation))
        result.cut.append(f"{problem}; kept {len(shorter)}")


def _longest_that_fits(tokenizer: Tokenizer, conversation: Conversation, context: int) -> Example | None:
    messages = conversation.messages
    for end in range(len(messages) - 1, 0, -1):
        shorter = conversation.first(end)
        if messages[end - 1].role == "assistant" and any(
            message.role == "assistant" and message.loss_weight for message in shorter.messages
        ):
            example = _example(tokenizer, shorter)
            if len(example) <= context:
                return example
    return None
