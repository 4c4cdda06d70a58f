"""Distillation: a student learns the distributions of a teacher, which are computed once and kept.

sum_i w_i ((1 - a) (-log p(y_i | x_<i)) + a T^2 D(teacher_i, student_i)), with both softmaxes at temperature
T (Hinton et al. 2015, arXiv:1503.02531). D is the forward KL divergence, the reverse one (MiniLLM,
arXiv:2306.08543) or Jensen and Shannon's (GKD, arXiv:2306.13649). Of the teacher the k most probable tokens
are kept; all others count as one, which makes D a lower bound of that over the whole vocabulary.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from camelid.base.atomic import atomic_file
from camelid.base.errors import CamelidError
from camelid.data.rows.batches import AnyBatch
from camelid.data.rows.packing import Row, Rows, digest_of
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.formats.load import load_model
from camelid.model.transformer import Transformer
from camelid.recipes.distill import DistillSettings, Divergence
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import Run
from camelid.text.tokenizer import Tokenizer, load_tokenizer
from camelid.train.fit import precision, rows_of_update
from camelid.train.loop import Objective
from camelid.train.losses import chunked_cross_entropy, row_chunks
from camelid.train.objectives import read_out
from camelid.train.parallel import ProcessGroup

logger = logging.getLogger(__name__)
TEACHER = "teacher"
"""The subfolder of a run with the teacher's distributions."""

IDS, LOGPROBS = "teacher_ids", "teacher_logprobs"
"""Columns of a batch: the teacher's most probable tokens at each place, and their log-probabilities."""
Kept = tuple[NDArray[np.int64], NDArray[np.float32]]


def teacher_of(recipe: TuneRecipe, base: Path, tokenizer: Tokenizer, encodes: bool) -> Path:
    """The teacher's folder; raises `CamelidError` unless it has the student's ids and reads as much."""
    assert recipe.distill.teacher is not None  # the caller has asked
    teacher = resolve(recipe.distill.teacher)
    if encodes or read_spec(teacher).encoder_layers:
        raise CamelidError(f"{base} or its teacher {teacher} is an encoder-decoder; decoders are distilled")
    if tokenizer.digest != load_tokenizer(teacher).digest:
        raise CamelidError(
            f"{base} and its teacher {teacher} have different vocabularies, so a distribution over the "
            "tokens of one says nothing about those of the other; take a teacher of the same vocabulary, or "
            "let it answer with `camelid make answers` and tune on that"
        )
    if (most := read_spec(teacher).context_length) < recipe.training.context_length:
        raise CamelidError(
            f"training.context_length is {recipe.training.context_length}, and the context of the teacher "
            f"{teacher} holds {most} tokens; give --training.context-length {most}"
        )
    return teacher


def taught_rows(recipe: TuneRecipe, run: Run, rows: Rows, group: ProcessGroup) -> "TaughtRows":
    """The rows with the teacher's distributions, computed now as far as one epoch goes."""
    assert recipe.distill.teacher is not None  # the caller has asked
    training, teacher = recipe.training.for_rows(rows.per_epoch), resolve(recipe.distill.teacher)
    dtype = precision(run, training, group)
    needed = min(rows.per_epoch, training.total_steps * rows_of_update(training, group.data_size))
    began = time.perf_counter()
    taught = TaughtRows(
        rows, lambda: load_model(teacher).to(group.device), recipe.distill, recipe.out / TEACHER, dtype
    )
    if recipe.distill.on_policy < 1:
        taught.read(range(group.rank, needed, group.size))
    if group.is_main and recipe.distill.on_policy < 1:
        logger.info(f"the teacher has read {needed:,} rows in {time.perf_counter() - began:.0f} s")
    group.barrier()
    return taught


class TaughtRows:
    """Rows with the teacher's distribution at each trained place.

    It is computed when a row is first read, and kept in `folder` by what the row holds, so that the teacher
    runs once for all epochs and after a restart. `load` gives the teacher when there is something to compute.
    """

    def __init__(
        self,
        rows: Rows,
        load: Callable[[], Transformer],
        settings: DistillSettings,
        folder: Path,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.context, self.per_epoch = rows.context, rows.per_epoch
        self.digest = digest_of("taught", rows.digest, settings.temperature, settings.top_k)
        self._rows, self._load, self._dtype = rows, load, dtype
        self._settings, self._folder = settings, folder
        self._teacher: Transformer | None = None

    def read(self, indices: Sequence[int]) -> None:
        """Computes what is not kept yet of these rows, and lets the teacher go."""
        for index in indices:
            _ = self[index]
        self._teacher = None

    def __getitem__(self, index: int) -> Row:
        row = self._rows[index]
        return self._with(row, *self._kept(row, row.weights > 0))

    def untaught(self, index: int) -> Row:
        """A row without the teacher's distributions."""
        return self._rows[index]

    def teach(self, row: Row) -> Row:
        """Any row with the teacher's distributions, computed now and not kept."""
        return self._with(row, *self._computed(row, row.weights > 0))

    def _with(self, row: Row, kept_ids: NDArray[np.int64], kept_logprobs: NDArray[np.float32]) -> Row:
        trained = row.weights > 0
        ids = np.zeros((self.context, kept_ids.shape[1]), dtype=np.int64)
        logprobs = np.zeros(ids.shape, dtype=np.float32)
        ids[trained], logprobs[trained] = kept_ids, kept_logprobs
        return replace(row, extra={**row.extra, IDS: ids, LOGPROBS: logprobs})

    def _kept(self, row: Row, trained: NDArray[np.bool_]) -> Kept:
        name = hashlib.blake2b(digest_size=16)
        for column in (row.tokens, row.documents, trained):
            name.update(np.ascontiguousarray(column).tobytes())
        path = self._folder / f"{name.hexdigest()}.npz"
        if not path.is_file():
            ids, logprobs = self._computed(row, trained)
            with atomic_file(path, replace=True) as draft, draft.open("wb") as file:
                np.savez(file, teacher_ids=ids.astype(np.int32), teacher_logprobs=logprobs)
        with np.load(path) as kept:
            return kept[IDS].astype(np.int64), kept[LOGPROBS]

    @torch.no_grad()
    def _computed(self, row: Row, trained: NDArray[np.bool_]) -> Kept:
        teacher = self._teacher = self._teacher or self._load().eval()
        device = teacher.embed_tokens.weight.device
        places = torch.from_numpy(trained).to(device)
        count = min(self._settings.top_k, teacher.spec.vocab_size)

        def top(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            parts = []
            for states in row_chunks(hidden[0][places], len(weight)):
                logits = F.linear(states, weight.to(states.dtype)).float() / self._settings.temperature
                parts.append(logits.log_softmax(-1).topk(count))
            return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])

        columns = (
            torch.from_numpy(each)[None].to(device) for each in (row.tokens, row.positions, row.documents)
        )
        tokens, positions, documents = columns
        logprobs, ids = teacher(
            tokens, positions=positions, documents=documents, dtype=self._dtype, output=top
        )
        return ids.cpu().numpy(), logprobs.float().cpu().numpy()


def distilled(settings: DistillSettings, model: Transformer, dtype: torch.dtype, z_loss: float) -> Objective:
    """The summed, weighted loss of a student on `TaughtRows`; its formula is the module's."""

    def summed_loss(batch: AnyBatch) -> Tensor:
        def loss(hidden: Tensor, weight: Tensor) -> Tensor:
            taught = _taught(hidden, weight, batch, settings) * (settings.share * settings.temperature**2)
            if settings.share == 1:
                return taught
            left = batch.weights * (1 - settings.share)
            return taught + chunked_cross_entropy(hidden, weight, batch.targets, left, z_loss)

        return read_out(model, batch, loss, dtype)

    return summed_loss


def _taught(hidden: Tensor, weight: Tensor, batch: AnyBatch, settings: DistillSettings) -> Float[Tensor, ""]:
    """The summed divergence; the logits of one chunk of places exist at a time, and again in the backward
    pass."""

    def part(states: Tensor, matrix: Tensor, ids: Tensor, logprobs: Tensor, weights: Tensor) -> Tensor:
        logits = F.linear(states, matrix.to(states.dtype)).float() / settings.temperature
        own = logits.log_softmax(-1).gather(-1, ids)
        whole = ids.shape[-1] == logits.shape[-1]
        return (weights * divergence(logprobs, own, settings.divergence, whole=whole)).sum()

    flat = hidden.flatten(0, 1)
    ids, logprobs = batch.extra[IDS].flatten(0, 1), batch.extra[LOGPROBS].flatten(0, 1)
    weights, total = batch.weights.flatten().float(), flat.new_zeros((), dtype=torch.float32)
    for chosen in row_chunks(weights.nonzero().flatten(), len(weight)):
        columns = (flat[chosen], weight, ids[chosen], logprobs[chosen], weights[chosen])
        total = total + checkpoint(part, *columns, use_reentrant=False)
    return total


def divergence(
    teacher: Float[Tensor, "places k"],
    student: Float[Tensor, "places k"],
    kind: Divergence,
    *,
    whole: bool,
) -> Float[Tensor, " places"]:
    """The divergence of two distributions given by log-probabilities of the same tokens, in nats.

    whole: whether these are all tokens; otherwise what is missing to 1 counts as one more.
    """
    p, q = (teacher, student) if whole else (_with_rest(teacher), _with_rest(student))
    if kind == "forward":
        return _kl(p, q)
    if kind == "reverse":
        return _kl(q, p)
    middle = torch.logaddexp(p, q) - math.log(2)
    return (_kl(p, middle) + _kl(q, middle)) / 2


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1)


def _with_rest(logprobs: Float[Tensor, "places k"]) -> Float[Tensor, "places more"]:
    """The log-probabilities with that of all other tokens together; rounding may leave none, 1e-6 then."""
    left = (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=1e-6)
    return torch.cat([logprobs, left.log()], -1)
