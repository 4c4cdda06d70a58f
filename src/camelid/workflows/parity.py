"""The parity gate: the same conversations in training, in the engine, and in what was exported.

Each face of a model encodes the same prompts and gives the log-probability of the same answers. The reference
is the training forward: float32, all conversations packed into one row, as the chat template renders them for
training. Another template, tokenizer, norm or order of weights gives other ids or far other probabilities;
rounding gives small ones, bounded by the precision in which a face is stored.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.examples import Example, conversation_example
from camelid.engine.blocks import CachedSequence
from camelid.engine.engine import Engine
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_config, read_spec
from camelid.formats.hugging_face.families import why_own
from camelid.formats.importing import read_gguf
from camelid.formats.load import load_model, load_tokenizer
from camelid.formats.verify.comparison import TEXTS
from camelid.formats.verify.readers import HuggingFace, Trained, installed
from camelid.model.transformer import Transformer
from camelid.text.chat_template import encode_chat_prompt
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer

CONVERSATIONS = (
    Conversation.of(("Hi.", "Hello!")),
    Conversation.of(("What is the capital of France?", "Paris."), ("And of Spain?", "Madrid, since 1561.")),
    Conversation.of(("Add 2 and 40.", "2 + 40 = 42"), system="You answer briefly."),
    Conversation.of(("Translate: the café is closed 🦙", "«Le café est fermé»\n\n1. fermé\n2. clos")),
)


class Bounds(NamedTuple):
    """The largest differences of log-probabilities that are rounding, in nats: their mean, and any one."""

    mean: float
    largest: float


BOUNDS = {
    "float32": Bounds(1e-4, 2e-3),
    "float16": Bounds(5e-3, 5e-2),
    "bfloat16": Bounds(5e-2, 0.5),
    "8-bit": Bounds(0.1, 1.0),
    "6-bit": Bounds(0.15, 1.5),
    "5-bit": Bounds(0.2, 2.0),
    "4-bit": Bounds(0.5, 5.0),
    "3-bit": Bounds(1.0, 10.0),
    "2-bit": Bounds(3.0, 30.0),
}
"""By the precision of the stored weights. A swapped norm or another template costs several nats a token."""


class Face(Protocol):
    """One way in which a model is used."""

    def ids(self, text: str) -> Sequence[int]:
        """The ids of a text."""
        ...

    def chat_ids(self, conversation: Conversation) -> Sequence[int] | None:
        """The ids of a conversation, opened for the answer; None without a template."""
        ...

    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        """Float32 logits after each token."""
        ...


class Served:
    """The engine: prompts read in steps, answers token by token, over a cache."""

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        self.engine = Engine.load(folder, device="cpu", max_batch=1, adapter=adapter)

    def ids(self, text: str) -> Sequence[int]:
        return self.engine.encode(text)

    def chat_ids(self, conversation: Conversation) -> Sequence[int] | None:
        return None if self.engine.tokenizer.chat_template is None else self.engine.encode(conversation)

    def logits(self, ids: Sequence[int]) -> Float[Tensor, "time vocab"]:
        return self.engine.worker.call(lambda: self._logits(ids))

    def _logits(self, ids: Sequence[int]) -> Tensor:
        sequence, half = CachedSequence(self.engine.decoder.pool), len(ids) // 2
        try:
            steps = [ids[:half], *([each] for each in ids[half:])]
            found = [self.engine.extend(sequence, step, len(step)).logits for step in steps if step]
            return torch.cat([each.clone() for each in found]).cpu()
        finally:
            sequence.release()


@dataclass(frozen=True)
class Case:
    """What is asked: a prompt, its ids in training, and the whole with the weight of each target."""

    prompt: Conversation | str
    prompt_ids: tuple[int, ...]
    example: Example


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    artefact: str
    face: str
    precision: str
    same_ids: int
    cases: int
    mean: float
    largest: float
    wrong: str

    def cells(self, bounds: Bounds) -> tuple[str, ...]:
        """The line as text."""
        ids = f"{self.same_ids}/{self.cases}"
        limits = f"{bounds.mean:g}, {bounds.largest:g}"
        differences = f"{self.mean:.1e}, {self.largest:.1e}"
        return (self.artefact, self.face, self.precision, ids, differences, limits, self.wrong or "ok")


COLUMNS = ("artefact", "read by", "precision", "same ids", "mean, largest difference", "allowed", "result")


def parity(
    model: str | Path,
    exports: Sequence[str | Path] = (),
    drift: float | None = None,
    adapter: Path | None = None,
) -> None:
    """Prints the table of a model, with an adapter or without, and its exports; raises `CamelidError` if a
    face differs.

    exports: folders, also quantised ones, and GGUF files made from the model; drift: the largest mean
    difference of a quantised one, in nats a token, in place of `BOUNDS`. Differences are of log-probabilities
    of the trained tokens (of a model without a chat template, of all).
    """
    folder = resolve(model)
    if drift is not None and not drift > 0:
        raise WrongCall(f"--drift is {drift}; it is a number of nats above 0")
    if read_spec(folder).encoder_layers:
        raise WrongCall(f"{folder} is an encoder-decoder; parity is checked for decoders")
    trained, tokenizer = load_model(folder, adapter=adapter), load_tokenizer(folder, adapter)
    cases = cases_for(tokenizer, trained.spec.context_length)
    if not cases:
        raise WrongCall(f"{folder} has a context of {trained.spec.context_length}, too short for any prompt")
    reference = _trained_logprobs(trained, cases)
    lines: list[Line] = []
    table: list[Sequence[str]] = [COLUMNS]
    for name, face, precision, given in _faces(folder, trained, tokenizer, exports, adapter):
        bounds = BOUNDS[precision]
        if drift is not None and precision.endswith("-bit"):
            bounds = Bounds(drift, 10 * drift)
        line = _compared(name, face, precision, bounds, given, cases, reference)
        lines.append(line)
        table.append(line.cells(bounds))
    print(_aligned(table))
    print(
        f"{len(cases)} {'texts' if tokenizer.chat_template is None else 'conversations'}, "
        f"{sum(map(len, reference))} tokens; differences from the training forward in float32, in nats"
    )
    if wrong := [f"{line.artefact}, read by {line.face}: {line.wrong}" for line in lines if line.wrong]:
        raise CamelidError(f"{folder} is not the same everywhere: {'; '.join(wrong)}")


def _faces(
    folder: Path,
    trained: Transformer,
    tokenizer: Tokenizer,
    exports: Sequence[str | Path],
    adapter: Path | None,
) -> Iterator[tuple[str, str, str, Face]]:
    """The model by itself and in the engine, and every export as all that read it do."""
    name = folder.name if adapter is None else f"{folder.name} + {adapter.name}"
    yield name, "forward", "float32", Trained(trained, tokenizer)
    yield name, "engine", _precision(folder), Served(folder, adapter)
    for export in exports:
        path = Path(export)
        if path.suffix == ".gguf":
            model, vocabulary, formats = read_gguf(path)
            yield path.name, "import", _coarsest(formats), Trained(model, vocabulary)
            continue
        place = resolve(export)
        precision = _precision(place)
        yield place.name, "forward", precision, Trained(load_model(place), load_tokenizer(place))
        yield place.name, "engine", precision, Served(place)
        plain = "quantization_config" not in read_config(place) and why_own(read_spec(place)) is None
        if plain and installed("transformers"):
            yield place.name, "transformers", precision, HuggingFace(place)


def _precision(folder: Path) -> str:
    config = read_config(folder)
    if method := config.get("quantization_config"):
        return f"{method.get('bits')}-bit"
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _coarsest(formats: str) -> str:
    """The coarsest precision of a GGUF file's tensors, given their formats."""
    whole = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    found = [whole.get(name) or f"{re.sub('[^0-9]', '', name)[:1]}-bit" for name in formats.split(", ")]
    return max(found, key=list(BOUNDS).index)


def cases_for(tokenizer: Tokenizer, context: int) -> list[Case]:
    """The conversations that the template takes and the context holds; without a template, texts.

    Raises `CamelidError` if the template takes none of them.
    """
    found: list[Case] = []
    refused: CamelidError | None = None
    if tokenizer.chat_template is None:
        for text in TEXTS:
            ids = tuple(tokenizer.encode(text, special_tokens=True))
            whole = np.array(ids[:context], dtype=np.int32)
            ones = np.ones(len(whole) - 1, dtype=np.float32)
            found.append(Case(text, ids, Example(whole[:-1], whole[1:], ones)))
    for conversation in CONVERSATIONS if tokenizer.chat_template is not None else ():
        try:
            example = conversation_example(tokenizer, conversation)
            prompt = conversation.first(len(conversation.messages) - 1)
            case = Case(prompt, tuple(encode_chat_prompt(tokenizer, prompt)), example)
        except CamelidError as error:  # not every template takes a system message
            refused = error
            continue
        found.append(case)
    if refused is not None and not found:
        raise refused
    return [case for case in found if len(case.example) <= context]


def _trained_logprobs(model: Transformer, cases: Sequence[Case]) -> list[Tensor]:
    """The log-probabilities of each case's trained tokens, all cases in one row as in training."""
    examples = [case.example for case in cases]
    lengths = [len(example) for example in examples]
    tokens = np.concatenate([example.tokens for example in examples]).astype(np.int64)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    documents = torch.arange(len(examples)).repeat_interleave(torch.tensor(lengths))[None]
    with torch.inference_mode():
        logits = model(torch.from_numpy(tokens)[None], positions=positions, documents=documents)[0].float()
    parts = logits.split(lengths)
    return [_logprobs(part, example) for part, example in zip(parts, examples, strict=True)]


def _logprobs(logits: Float[Tensor, "time vocab"], example: Example) -> Float[Tensor, " trained"]:
    targets = torch.from_numpy(example.targets.astype(np.int64))
    own = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    return own[torch.from_numpy(example.weights > 0)]


def _compared(
    artefact: str,
    name: str,
    precision: str,
    bounds: Bounds,
    face: Face,
    cases: Sequence[Case],
    reference: Sequence[Tensor],
) -> Line:
    same, apart, wrong = 0, [], []
    for number, (case, wanted) in enumerate(zip(cases, reference, strict=True), 1):
        found = face.ids(case.prompt) if isinstance(case.prompt, str) else face.chat_ids(case.prompt)
        ids = tuple(found or ())
        whole = [*case.example.tokens.tolist(), int(case.example.targets[-1])]
        if ids == case.prompt_ids and [*ids[: len(whole)]] == whole[: len(ids)]:
            same += 1
        else:
            wrong.append(f"other ids of prompt {number}, {_parting(ids, case.prompt_ids, whole)}")
        logits = face.logits(whole[:-1])
        if logits.shape[1] <= max(whole):
            wrong.append(f"logits of {logits.shape[1]} tokens, but answers have id {max(whole)}")
            continue
        apart.append((_logprobs(logits, case.example) - wanted).abs())
    every = torch.cat(apart) if apart else torch.zeros(1)
    mean, largest = float(every.mean()), float(every.max())
    if not (mean <= bounds.mean and largest <= bounds.largest):  # also where one is NaN
        few = ", by rounding or worse (--drift sets the bound)" if precision.endswith("-bit") else ""
        wrong.append(f"log-probabilities {mean:.2g} nats apart, up to {largest:.2g}{few}")
    return Line(artefact, name, precision, same, len(cases), mean, largest, "; ".join(wrong))


def _parting(ids: Sequence[int], prompt: Sequence[int], whole: Sequence[int]) -> str:
    """Where the ids of a prompt leave those of training."""
    wanted = prompt if tuple(ids) != tuple(prompt) else whole
    pairs = zip(ids, wanted, strict=False)
    first = next((at for at, pair in enumerate(pairs) if pair[0] != pair[1]), min(len(ids), len(wanted)))
    return f"from token {first} on {[*ids[first : first + 3]]}, in training {[*wanted[first : first + 3]]}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
