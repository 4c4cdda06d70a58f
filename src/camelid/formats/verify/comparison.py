"""`camelid export --verify`: compares an export, loaded in its real reader, with the trained model.

A model that is good in training and bad after export has few causes: different tokens, another template, a
missing BOS or stop token, weights in a wrong order. Each is checked here, and failures say where.
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
"""Logits tie within this many tolerances: tolerances bound the mean difference, single ones are larger."""


@dataclass
class Verification:
    """The checks that passed and those that failed."""

    equal: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    def check(self, what: str, same: bool, otherwise: str = "") -> None:
        """Records one check."""
        (self.equal if same else self.different).append(what if same else f"{what}: {otherwise}")

    def raise_on_difference(self, reader: str) -> None:
        """Raises `CamelidError` with the list of differences."""
        if self.different:
            listed = "\n  ".join(self.different)
            raise CamelidError(
                f"{reader} does not behave like the trained model, so nothing was exported:\n  {listed}"
            )


def compare_behaviour(
    trained: Trained, reader: Consumer, stored: Trained | None, tolerance: float
) -> Verification:
    """Compares vocabulary, template, stops, logits and greedy text.

    stored: the artefact as Camelid reads it, if its weights were rounded. Logits and greedy text are then
    compared with it, and its distance from the trained weights is reported; the caller checks that it is the
    trained weights rounded. With None, they are compared with the trained model. tolerance: bound on the
    logits' root mean square difference, as a fraction of their standard deviation.
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
        result.check(
            what, apart <= tolerance, f"{apart:.3g} apart, largest after token {worst} of {len(ids)}"
        )
        count = min(NEW_TOKENS, trained.model.spec.context_length - len(ids))
        if count > 0:
            generated = reader.greedy(ids, count)
            what = f"greedy text after text {number} ({len(generated)} tokens)"
            if len(generated) < count and (not generated or generated[-1] not in stops):
                result.check(what, False, f"it ends with {generated[-3:]}, but the model continues")
                continue
            wrong = _first_untenable(truth, ids, generated, tolerance)
            result.check(what, wrong is None, f"token {wrong} of {generated} is not the model's")
    if stored is not None:
        result.equal.append(_distance(trained, reader, prompts))
    return result


def compare_exactly(source: Trained, again: Trained, dtype: torch.dtype = torch.float32) -> Verification:
    """Compares an export read back with the original: settings, vocabulary, template, stops, and every weight
    bit for bit after rounding to `dtype`; if no weight was rounded, also the logits after every token of a
    text.
    """
    result = Verification()
    compare_texts(source, again, result)
    one, other = source.tokenizer, again.tokenizer
    wrong = [key for key in one.description if one.description[key] != other.description[key]]
    wrong += [key for key in one.config | other.config if one.config.get(key) != other.config.get(key)]
    result.check("every rule of the tokenizer", not wrong, f"different: {', '.join(wrong)}")
    specs = (replace(each.model.spec, dropout=0.0) for each in (source, again))
    wrong = [name for name, pair in _pairs(*map(vars, specs)) if pair[0] != pair[1]]
    result.check("the settings of the model", not wrong, f"different: {', '.join(wrong)}")
    weights = list(_pairs(dict(_weights(source.model)), dict(_weights(again.model))))
    wrong = [name for name, (before, after) in weights if not _same_weight(before, after, dtype)]
    result.check(f"all {len(weights)} weights bit for bit", not wrong, f"different: {', '.join(wrong[:3])}")
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
    """Packed weights are compared dequantised, one at a time."""
    if isinstance(before, PackedLinear) and isinstance(after, PackedLinear):
        return torch.equal(before.quantized().dequantize(), after.quantized().dequantize())
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return torch.equal(before.to(dtype).float(), after.float())
    return False


def compare_texts(trained: Trained, reader: Consumer, result: Verification) -> None:
    """Compares every token, the ids of texts and a conversation, the template, BOS, EOS and stops."""
    _compare_vocabularies(trained, reader, result)
    facts = reader.facts()
    for what, wanted in trained.facts().items():
        # A token that training does not name may differ.
        if what in facts and (wanted is not None or what == "chat template"):
            result.check(what, facts[what] == wanted, _unlike(wanted, facts[what]))
    # If GGUF's one BOS setting cannot match both, the export prints which one it matches.
    bos = trained.tokenizer.bos_id if reader.ends and texts_alone_begin(trained.tokenizer) else None
    for number, text in enumerate(TEXTS, 1):
        _same_ids(result, f"tokens of text {number}", trained.ids(text), reader.ids(text), bos)
    wanted, found = trained.chat_ids(TALK), reader.chat_ids(TALK)
    if wanted is not None and found is not None:
        _same_ids(result, "tokens of a conversation", wanted, found, bos)
    own, theirs = trained.stop_ids(), reader.stop_ids()
    missing, more = sorted(own - theirs), sorted(theirs - own - _named_ends(reader))
    otherwise = [f"does not stop at {missing}"] * bool(missing) + [f"also stops at {more}"] * bool(more)
    result.check("stop tokens", not otherwise, f"{reader.name} {' and '.join(otherwise)}")


def _compare_vocabularies(trained: Trained, reader: Consumer, result: Verification) -> None:
    own, theirs = trained.pieces(), reader.pieces()
    wrong = [
        index
        for index, token in enumerate(own)
        if token and token != (theirs[index] if index < len(theirs) else "")
    ]
    shown = ", ".join(
        f"{index} is {theirs[index : index + 1]}, expected {own[index]!r}" for index in wrong[:3]
    )
    result.check(f"all {len(own)} tokens", not wrong, f"{len(wrong)} differ: {shown}")
    differing = (trained.special_ids() ^ reader.special_ids()) - {trained.tokenizer.unk_id}
    named = [own[index] for index in sorted(differing) if index < len(own)]
    result.check("which tokens are not text", not named, f"{', '.join(named[:5])}")


def _named_ends(reader: Consumer) -> frozenset[int]:
    return frozenset(index for index, token in enumerate(reader.pieces()) if token in reader.ends)


def _unlike(wanted: Any, found: Any) -> str:
    """Two values from their first difference on, in words."""
    if isinstance(wanted, str) and isinstance(found, str):
        begin = max(_parting(wanted, found) - 8, 0)
        wanted, found = wanted[begin:], found[begin:]
    return f"{shortened(found)}, training has {shortened(wanted)}"


def _same_ids(result: Verification, what: str, wanted: list[int], found: list[int], bos: int | None) -> None:
    """bos: the token that may be missing at the start."""
    if bos is not None:
        wanted, found = ([*ids[ids[:1] == [bos] :]] for ids in (wanted, found))
    first = _parting(wanted, found)
    shown = slice(max(first - 2, 0), first + 4)
    result.check(
        what,
        wanted == found,
        f"from token {first} on {found[shown]}, training has {wanted[shown]}",
    )


def _parting(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The index of the first difference."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))


def _first_untenable(truth: Trained, ids: list[int], generated: list[int], tolerance: float) -> int | None:
    """The index of the first token clearly less probable than the model's most probable one."""
    if truth.model.encoder is not None:
        first = _parting(truth.greedy(ids, len(generated)), generated)
        return first if first < len(generated) else None
    logits = truth.logits([*ids, *generated])[len(ids) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(generated)[:, None])[:, 0]
    untenable = logits.amax(1) - chosen > NEAR_TIE * tolerance * logits.std(1) + 1e-6
    return int(untenable.nonzero()[0]) if untenable.any() else None


def _distance(trained: Trained, reader: Consumer, prompts: list[list[int]]) -> str:
    """How far quantisation moved the predictions, in words."""
    pairs = [(trained.logits(ids), reader.logits(ids)) for ids in prompts]
    before = torch.cat([logits for logits, _ in pairs])
    after = torch.cat([logits for _, logits in pairs])
    same = float((before.argmax(1) == after.argmax(1)).float().mean())
    return (
        f"compared with the unrounded weights: {_divergence(before, after):.4f} nats per token, "
        f"the same most probable token after {100 * same:.0f} % of {len(before)}"
    )


def _divergence(before: Float[Tensor, "time vocab"], after: Float[Tensor, "time vocab"]) -> float:
    """Mean Kullback-Leibler divergence."""
    own = before.log_softmax(1)
    return float((own.exp() * (own - after.log_softmax(1))).sum(1).mean())
