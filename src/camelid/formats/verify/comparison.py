"""An exported artefact asked in its real reader, beside the model that was trained: `camelid export --verify`.

Good in training and garbage after export has few causes: other tokens, another template, a missing BOS, a stop that is
not known, weights in another order. Each is a check here, and says where it failed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.base.errors import CamelidError, shortened
from camelid.formats.gguf.vocabulary import texts_alone_begin
from camelid.formats.verify.readers import Consumer, Trained
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear
from camelid.text.conversation import Conversation, Message

TEXTS = (
    "Once upon a time there was a small camel who",
    " The answer is 42, or 3.14 at 10:30; 1,000,000 at most!",
    "naïve café — 東京 🦙\n\n\tif x == 1:\n        return 'yes'",
)
TALK = Conversation(
    (
        Message("user", "What is the capital of France?"),
        Message("assistant", "Paris."),
        Message("user", "And of Spain, in one word?"),
    )
)
NEW_TOKENS = 24
NEAR_TIE = 5
"""Two tokens are as good as equal within so many tolerances: that bounds the mean difference, single ones are larger."""


@dataclass
class Verification:
    """What was found equal, and what was not."""

    equal: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    def check(self, what: str, same: bool, otherwise: str = "") -> None:
        """Files one check."""
        (self.equal if same else self.different).append(what if same else f"{what}: {otherwise}")

    def raise_on_difference(self, reader: str) -> None:
        """Raises `CamelidError` that lists the differences."""
        if self.different:
            listed = "\n  ".join(self.different)
            raise CamelidError(
                f"{reader} does not behave as what was trained, so nothing was exported:\n  {listed}"
            )


def compare_behaviour(
    trained: Trained, reader: Consumer, stored: Trained | None, tolerance: float
) -> Verification:
    """Compares vocabulary, template, stops, logits and greedy text.

    stored: the artefact as Camelid reads it, where its weights are no longer those that were trained: then logits and
    greedy text are held to these, and how far they are from the trained ones is said; that they are the trained ones
    rounded is for the caller to see. tolerance: of the logits' root mean square difference, as a share of their
    standard deviation; `None` for `stored` holds them to the trained.
    """
    result = Verification()
    compare_texts(trained, reader, result)
    room = trained.model.spec.context_length - NEW_TOKENS
    prompts = [ids for ids in (trained.ids(text)[: max(room, 1)] for text in TEXTS) if ids]
    truth = stored or trained
    stops = trained.stop_ids() | _named_ends(reader)
    for number, ids in enumerate(prompts, 1):
        found, wanted = reader.logits(ids), truth.logits(ids)
        apart = float((found - wanted).square().mean().sqrt() / wanted.std().clamp(min=1e-9))
        worst = int((found - wanted).abs().amax(1).argmax())
        what = f"logits after text {number} within {tolerance:g} of their spread ({apart:.1e})"
        result.check(what, apart <= tolerance, f"{apart:.3g} apart, most after token {worst} of {len(ids)}")
        count = min(NEW_TOKENS, trained.model.spec.context_length - len(ids))
        if count > 0:
            said = reader.greedy(ids, count)
            what = f"greedy text after text {number} ({len(said)} tokens)"
            if len(said) < count and (not said or said[-1] not in stops):
                result.check(what, False, f"it ends with {said[-3:]}, where the model goes on")
                continue
            wrong = _first_untenable(truth, ids, said, tolerance)
            result.check(what, wrong is None, f"token {wrong} of {said} is not the model's")
    if stored is not None:
        result.equal.append(_distance(trained, reader, prompts))
    return result


def compare_exactly(source: Trained, again: Trained, dtype: torch.dtype = torch.float32) -> Verification:
    """Compares what was written with what is read back of it: settings, vocabulary, template and stops, and bit for bit
    every weight, rounded to `dtype`; where that rounds none, also the logits after every token of a text.
    """
    result = Verification()
    compare_texts(source, again, result)
    one, other = source.tokenizer, again.tokenizer
    wrong = [key for key in one.description if one.description[key] != other.description[key]]
    wrong += [key for key in one.config | other.config if one.config.get(key) != other.config.get(key)]
    result.check("every rule of the tokenizer", not wrong, f"not so {', '.join(wrong)}")
    specs = (replace(each.model.spec, dropout=0.0) for each in (source, again))
    wrong = [name for name, pair in _pairs(*map(vars, specs)) if pair[0] != pair[1]]
    result.check("the settings of the model", not wrong, f"not so {', '.join(wrong)}")
    weights = list(_pairs(dict(_weights(source.model)), dict(_weights(again.model))))
    wrong = [name for name, (before, after) in weights if not _same_weight(before, after, dtype)]
    result.check(f"all {len(weights)} weights bit for bit", not wrong, f"not so {', '.join(wrong[:3])}")
    ids = source.ids(TEXTS[0])[: source.model.spec.context_length]
    if ids and not wrong and dtype == torch.float32:
        same = torch.equal(source.logits(ids), again.logits(ids))
        result.check("logits after text 1 bit for bit", same, "they differ")
    return result


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in {**one, **other}:
        yield name, (one.get(name), other.get(name))


def _weights(model: Transformer) -> Iterator[tuple[str, Tensor | PackedLinear]]:
    yield from model.named_parameters()
    for path, module in model.named_modules():
        if isinstance(module, PackedLinear):
            yield f"{path}.weight", module
            if module.bias is not None:
                yield f"{path}.bias", module.bias


def _same_weight(
    before: Tensor | PackedLinear | None, after: Tensor | PackedLinear | None, dtype: torch.dtype
) -> bool:
    """Packed weights are compared by what they stand for, one at a time."""
    if isinstance(before, PackedLinear) and isinstance(after, PackedLinear):
        return torch.equal(before.quantized().dequantize(), after.quantized().dequantize())
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return torch.equal(before.to(dtype).float(), after.float())
    return False


def compare_texts(trained: Trained, reader: Consumer, result: Verification) -> None:
    """Compares every token, the tokens of texts and of a conversation, the template, and what begins and ends a text."""
    _compare_vocabularies(trained, reader, result)
    facts = reader.facts()
    for what, wanted in trained.facts().items():
        # A token that training does not name can be any.
        if what in facts and (wanted is not None or what == "chat template"):
            result.check(what, facts[what] == wanted, _unlike(wanted, facts[what]))
    # Where GGUF's one setting for BOS cannot suit both, the export tells which it suits.
    bos = trained.tokenizer.bos_id if reader.ends and texts_alone_begin(trained.tokenizer) else None
    for number, text in enumerate(TEXTS, 1):
        _same_ids(result, f"tokens of text {number}", trained.ids(text), reader.ids(text), bos)
    wanted, found = trained.chat_ids(TALK), reader.chat_ids(TALK)
    if wanted is not None and found is not None:
        _same_ids(result, "tokens of a conversation", wanted, found, bos)
    own, theirs = trained.stop_ids(), reader.stop_ids()
    missing, more = sorted(own - theirs), sorted(theirs - own - _named_ends(reader))
    otherwise = [f"goes on after {missing}"] * bool(missing) + [f"stops at {more} too"] * bool(more)
    result.check("stop tokens", not otherwise, f"{reader.name} {' and '.join(otherwise)}")


def _compare_vocabularies(trained: Trained, reader: Consumer, result: Verification) -> None:
    own, theirs = trained.pieces(), reader.pieces()
    wrong = [
        index
        for index, token in enumerate(own)
        if token and token != (theirs[index] if index < len(theirs) else "")
    ]
    shown = ", ".join(f"{index} is {theirs[index : index + 1]} and was {own[index]!r}" for index in wrong[:3])
    result.check(f"all {len(own)} tokens", not wrong, f"{len(wrong)} differ: {shown}")
    differing = (trained.special_ids() ^ reader.special_ids()) - {trained.tokenizer.unk_id}
    named = [own[index] for index in sorted(differing) if index < len(own)]
    result.check("which tokens are no text", not named, f"not so {', '.join(named[:5])}")


def _named_ends(reader: Consumer) -> frozenset[int]:
    return frozenset(index for index, token in enumerate(reader.pieces()) if token in reader.ends)


def _unlike(wanted: Any, found: Any) -> str:
    """Two values where they part."""
    if isinstance(wanted, str) and isinstance(found, str):
        begin = max(_parting(wanted, found) - 8, 0)
        wanted, found = wanted[begin:], found[begin:]
    return f"{shortened(found)} where training has {shortened(wanted)}"


def _same_ids(result: Verification, what: str, wanted: list[int], found: list[int], bos: int | None) -> None:
    """bos: the token whose presence at the beginning does not count."""
    if bos is not None:
        wanted, found = ([*ids[ids[:1] == [bos] :]] for ids in (wanted, found))
    first = _parting(wanted, found)
    shown = slice(max(first - 2, 0), first + 4)
    result.check(
        what,
        wanted == found,
        f"from token {first} on {found[shown]} where training has {wanted[shown]}",
    )


def _parting(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The place of the first difference."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))


def _first_untenable(truth: Trained, ids: list[int], said: list[int], tolerance: float) -> int | None:
    """The place of the first token that the model would not say: one clearly less probable than its most probable."""
    if truth.model.encoder is not None:
        first = _parting(truth.greedy(ids, len(said)), said)
        return first if first < len(said) else None
    logits = truth.logits([*ids, *said])[len(ids) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(said)[:, None])[:, 0]
    untenable = logits.amax(1) - chosen > NEAR_TIE * tolerance * logits.std(1) + 1e-6
    return int(untenable.nonzero()[0]) if untenable.any() else None


def _distance(trained: Trained, reader: Consumer, prompts: list[list[int]]) -> str:
    """How far quantising has moved the predictions, in words."""
    pairs = [(trained.logits(ids), reader.logits(ids)) for ids in prompts]
    before = torch.cat([logits for logits, _ in pairs])
    after = torch.cat([logits for _, logits in pairs])
    same = float((before.argmax(1) == after.argmax(1)).float().mean())
    return (
        f"beside the weights before rounding: {_divergence(before, after):.4f} nats apart a token, "
        f"the same most probable token after {100 * same:.0f} % of {len(before)}"
    )


def _divergence(before: Float[Tensor, "time vocab"], after: Float[Tensor, "time vocab"]) -> float:
    """Mean Kullback-Leibler divergence."""
    own = before.log_softmax(1)
    return float((own.exp() * (own - after.log_softmax(1))).sum(1).mean())
