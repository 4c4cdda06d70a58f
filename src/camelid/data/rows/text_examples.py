"""Rows of a supervised task as what a model is trained on: pairs for an encoder-decoder, examples for a decoder."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from camelid.base.errors import CamelidError
from camelid.data.rows.examples import (
    ConversationExamples,
    TooLong,
    hold_out_rows,
    is_held_out,
    prompted_example,
)
from camelid.data.rows.pairs import Pair, pair
from camelid.text.tokenizer import Tokenizer

SEPARATOR = "\n"
"""Between the input and the target of a decoder, where GPT-1 has a token of its own: every tool can write it."""
Texts = Iterable[tuple[tuple[str, str], str]]


@dataclass
class PairExamples:
    """What came of a set of texts: pairs in order, and by name what was left out or cut."""

    pairs: list[Pair] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)


def text_pairs(
    tokenizer: Tokenizer,
    texts: Texts,
    source_length: int,
    target_length: int,
    *,
    start_id: int,
    too_long: TooLong = "error",
) -> PairExamples:
    """Pairs of at most so many tokens, EOS at both ends included, from pairs of texts and where they stand.

    `too_long` says what happens to longer ones: "error" stops, "drop" leaves them out, "cut" cuts the text before its
    EOS, as T5 does. What was cut or dropped is listed by name. Raises `CamelidError` where nothing is left.
    """
    eos = _eos(tokenizer)
    result = PairExamples()
    for (source_text, target_text), where in texts:
        source, target = tokenizer.encode(source_text), tokenizer.encode(target_text)
        if len(source) >= source_length or len(target) >= target_length:
            problem = (
                f"{where}: {len(source) + 1} and {len(target) + 1} tokens, there is room for {source_length} "
                f"and {target_length}"
            )
            if not _cuts(problem, too_long, result):
                continue
            source, target = source[: source_length - 1], target[: target_length - 1]
        result.pairs.append(pair([*source, eos], [*target, eos], start_id))
    if not result.pairs:
        raise _nothing_left(result)
    return result


def text_examples(
    tokenizer: Tokenizer,
    texts: Texts,
    context: int,
    *,
    input_weight: float = 0.0,
    too_long: TooLong = "error",
) -> ConversationExamples:
    """Examples of at most `context` tokens: the input as a prompt, a line break, the target and EOS.

    input_weight: of the loss of each token of the input; with 0.5 and a class for a target this is GPT-1's
    fine-tuning, L3 = L2 + 0.5 L1 (Radford et al. 2018, equation 5). `too_long` as for `text_pairs`; what is cut is
    the end of the input, and a row whose target alone is too long is left out.
    """
    eos = _eos(tokenizer)
    result = ConversationExamples()
    separator = tokenizer.encode(SEPARATOR, continues=True)
    for (source_text, target_text), where in texts:
        prompt = [*tokenizer.encode_prompt(source_text), *separator]
        answer = [*tokenizer.encode(target_text, continues=True), eos]
        if (excess := len(prompt) + len(answer) - 1 - context) > 0:
            problem = f"{where}: {excess + context} tokens, the context holds {context}"
            if not _cuts(problem, too_long, result, possible=excess < len(prompt) - len(separator)):
                continue
            prompt = [*prompt[: -len(separator) - excess], *separator]
        result.examples.append(prompted_example(prompt, answer, input_weight))
    if not result.examples:
        raise _nothing_left(result)
    return result


def hold_out_pairs(whole: PairExamples, fraction: float) -> tuple[PairExamples, PairExamples]:
    """The pairs to train on and those to validate on, about `fraction` of them, by the hash of their sources."""
    kept, held_out = hold_out_rows(whole.pairs, lambda one: is_held_out(one.source, fraction), fraction)
    return PairExamples(kept, whole.dropped, whole.cut), PairExamples(held_out)


def _eos(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_id is None:
        raise CamelidError("the tokenizer has no EOS token, so a target could not end; name an eos_token")
    return tokenizer.eos_id


def _cuts(
    problem: str, too_long: TooLong, result: PairExamples | ConversationExamples, possible: bool = True
) -> bool:
    """Whether a row that is too long is cut; writes it down where it is cut or left out."""
    if too_long == "error":
        raise CamelidError(
            f"{problem}; make room, or say that longer rows are to be dropped or cut (too_long)"
        )
    cut = too_long == "cut" and possible
    (result.cut if cut else result.dropped).append(problem)
    return cut


def _nothing_left(result: PairExamples | ConversationExamples) -> CamelidError:
    dropped = f": {len(result.dropped)} were dropped as too long" if result.dropped else ""
    return CamelidError(f"no pair is left to train on{dropped}")
