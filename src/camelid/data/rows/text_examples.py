"""Supervised tasks as training data: pairs for encoder-decoders, examples for decoders."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

from camelid.base.errors import CamelidError
from camelid.data.rows.examples import (
    ConversationExamples,
    TooLong,
    hold_out_rows,
    prompted_example,
    refuse_row,
)
from camelid.data.rows.holdout import uniform
from camelid.data.rows.pairs import Pair, pair
from camelid.text.tokenizer import Tokenizer

SEPARATOR = "\n"
"""Separates input and target for a decoder; GPT-1 has a special token, but every tool can write this."""
Texts = Iterable[tuple[tuple[str, str], str]]


@dataclass
class PairExamples:
    """Pairs in order, and lists of the rows that were dropped or cut; see `ConversationExamples`."""

    pairs: list[Pair] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)

    def add(self, one: Pair, where: str, draw: float) -> None:
        """Appends a pair, with the place and the draw of its row."""
        self.pairs.append(one)
        self.places.append(where)
        self.draws.append(draw)

    def part(self, chosen: Sequence[bool]) -> "PairExamples":
        """The chosen pairs, without the lists."""
        places, draws = compress(self.places, chosen), compress(self.draws, chosen)
        return PairExamples(list(compress(self.pairs, chosen)), list(places), list(draws))


def text_pairs(
    tokenizer: Tokenizer,
    texts: Texts,
    source_length: int,
    target_length: int,
    *,
    start_id: int,
    too_long: TooLong = "error",
    refuse: Callable[[str, str], None] = refuse_row,
) -> PairExamples:
    """Pairs of at most these lengths, EOS included in both, from pairs of texts and their locations.

    too_long: what to do with longer ones. "error" refuses them, "drop" leaves them out, "cut" truncates the
    text before its EOS, as T5 does. The result lists what was cut or dropped. refuse: as in
    `conversation_examples`. Raises `CamelidError` if nothing is left.
    """
    eos = _eos(tokenizer)
    result = PairExamples()
    for (source_text, target_text), where in texts:
        source, target = tokenizer.encode(source_text), tokenizer.encode(target_text)
        if len(source) >= source_length or len(target) >= target_length:
            problem = (
                f"{len(source) + 1} and {len(target) + 1} tokens, the limits are {source_length} "
                f"and {target_length}"
            )
            if not _cuts(where, problem, too_long, result, refuse):
                continue
            source, target = source[: source_length - 1], target[: target_length - 1]
        result.add(pair([*source, eos], [*target, eos], start_id), where, uniform(source_text))
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
    refuse: Callable[[str, str], None] = refuse_row,
) -> ConversationExamples:
    """Examples of at most `context` tokens: the input as a prompt, a line break, the target and EOS.

    input_weight: loss weight of each token of the input; with 0.5 and a class as the target this is GPT-1's
    fine-tuning, L3 = L2 + 0.5 L1 (Radford et al. 2018, equation 5). too_long: as in `text_pairs`; "cut"
    truncates the input, and drops rows whose target does not fit by itself.
    """
    eos = _eos(tokenizer)
    result = ConversationExamples()
    separator = tokenizer.encode(SEPARATOR, continues=True)
    for (source_text, target_text), where in texts:
        prompt = [*tokenizer.encode_prompt(source_text), *separator]
        answer = [*tokenizer.encode(target_text, continues=True), eos]
        if (excess := len(prompt) + len(answer) - 1 - context) > 0:
            problem = f"{excess + context} tokens, the context holds {context}"
            possible = excess < len(prompt) - len(separator)
            if not _cuts(where, problem, too_long, result, refuse, possible):
                continue
            prompt = [*prompt[: -len(separator) - excess], *separator]
        result.add(prompted_example(prompt, answer, input_weight), where, uniform(source_text))
    if not result.examples:
        raise _nothing_left(result)
    return result


def hold_out_pairs(whole: PairExamples, fraction: float) -> tuple[PairExamples, PairExamples]:
    """Training and validation pairs, about `fraction` of them held out, by the hash of their inputs."""
    chosen = hold_out_rows(whole.draws, fraction)
    return whole.part([not held_out for held_out in chosen]), whole.part(chosen)


def _eos(tokenizer: Tokenizer) -> int:
    if tokenizer.eos_id is None:
        raise CamelidError("the tokenizer has no EOS token to end targets; set an eos_token")
    return tokenizer.eos_id


def _cuts(
    where: str,
    problem: str,
    too_long: TooLong,
    result: PairExamples | ConversationExamples,
    refuse: Callable[[str, str], None],
    possible: bool = True,
) -> bool:
    """Whether to cut a row that is too long; records rows that are cut or dropped."""
    if too_long == "error":
        refuse(where, f"{problem}; raise the limits, or set too_long to drop or cut")
        return False
    cut = too_long == "cut" and possible
    (result.cut if cut else result.dropped).append(f"{where}: {problem}")
    return cut


def _nothing_left(result: PairExamples | ConversationExamples) -> CamelidError:
    dropped = f": {len(result.dropped)} were dropped as too long" if result.dropped else ""
    return CamelidError(f"no pairs left to train on{dropped}")
