"""Distillation: the divergences by hand, the kept distributions by brute force, and a student that learns."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from camelid.cli import main as cli
from camelid.data.rows.batches import collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import PackedExamples, Row
from camelid.model.transformer import Transformer
from camelid.recipes.distill import DistillSettings
from camelid.train.distillation import IDS, LOGPROBS, TaughtRows, distilled, divergence
from camelid.train.on_policy import prompts_of

KINDS = ("forward", "reverse", "jensen-shannon")


def logs(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64).log()


def test_divergences_by_hand() -> None:
    teacher, student = logs(0.5, 0.25, 0.25), logs(0.25, 0.25, 0.5)
    values = {kind: divergence(teacher, student, kind, whole=True).item() for kind in KINDS}
    assert values["forward"] == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))
    assert values["reverse"] == pytest.approx(values["forward"])  # by symmetry
    middle = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3)
    assert values["jensen-shannon"] == pytest.approx(middle)
    first, second = logs(0.5, 0.25), logs(0.25, 0.25)  # the rest is 0.25 and 0.5
    for kind in KINDS:
        assert divergence(first, second, kind, whole=False).item() == pytest.approx(values[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_kept_only_lowers_the_divergence(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 40, 30, generator=generator, dtype=torch.float64).log_softmax(-1)
    whole = divergence(p, q, kind, whole=True)
    for count in (1, 5, 29):
        kept, ids = p.topk(count)
        part = divergence(kept, q.gather(-1, ids), kind, whole=False)
        assert (part <= whole + 1e-9).all()
        assert (part >= 0).all()
    assert torch.allclose(whole, part, atol=1e-6)  # one token is missing, so the rest is that token


@pytest.fixture
def rows() -> PackedExamples:
    generator = torch.Generator().manual_seed(1)

    def example(length: int) -> Example:
        tokens = torch.randint(50, (length,), generator=generator).numpy().astype("int32")
        weights = torch.ones(length).numpy()
        weights[: length // 2] = 0
        return Example(tokens, tokens[::-1].copy(), weights)

    return PackedExamples([example(length) for length in (9, 12, 5, 8)], 16, pad_id=0, digest="x")


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_whole_distributions(
    tiny: Callable[..., Transformer], rows: PackedExamples, tmp_path: Path, kind: str
) -> None:
    teacher, student, temperature = tiny(1), tiny(2), 2.0
    settings = DistillSettings(teacher="t", divergence=kind, temperature=temperature, share=0.75, top_k=50)
    taught = TaughtRows(rows, lambda: teacher, settings, tmp_path)
    batch = collate([taught[0], taught[1]])
    loss = distilled(settings, student, torch.float32, 0.0)(batch)
    loss.backward()
    found = [parameter.grad.clone() for parameter in student.parameters()]
    student.zero_grad()
    given = {"positions": batch.positions, "documents": batch.documents}
    own = student(batch.tokens, **given)
    with torch.no_grad():
        other = teacher(batch.tokens, **given)
    p, q = (other / temperature).softmax(-1), (own / temperature).softmax(-1)
    if kind == "jensen-shannon":
        middle = (p + q) / 2
        parts = (p * (p / middle).log() + q * (q / middle).log()).sum(-1) / 2
    else:
        first, second = (p, q) if kind == "forward" else (q, p)
        parts = (first * (first / second).log()).sum(-1)
    nll = F.cross_entropy(own.flatten(0, 1), batch.targets.flatten(), reduction="none")
    expected = 0.75 * temperature**2 * (batch.weights * parts).sum() + 0.25 * batch.weights.flatten() @ nll
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    for parameter, gradient in zip(student.parameters(), found, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-4)


def test_the_teacher_runs_once(
    tiny: Callable[..., Transformer], rows: PackedExamples, tmp_path: Path
) -> None:
    teacher, loads = tiny(1), list[int]()

    def load() -> Transformer:
        loads.append(1)
        return teacher

    settings = DistillSettings(teacher="t", top_k=7)
    first = TaughtRows(rows, load, settings, tmp_path)
    first.read(range(rows.per_epoch))
    assert loads == [1]
    again = TaughtRows(rows, load, settings, tmp_path)
    for index in range(3 * rows.per_epoch):  # later epochs hold the same rows in another order
        row = again[index]
        place = int(row.weights.nonzero()[0][0])
        with torch.no_grad():
            batch = collate([row])
            logits = teacher(batch.tokens, positions=batch.positions, documents=batch.documents)[0, place]
        best = logits.log_softmax(-1).topk(7)
        assert row.extra[IDS][place].tolist() == best.indices.tolist()
        assert row.extra[LOGPROBS][place] == pytest.approx(best.values.numpy(), abs=1e-5)
        assert not row.extra[LOGPROBS][row.weights == 0].any()
    assert loads == [1]


def test_a_student_learns_from_the_command_line(
    pretrained: Path, tune_words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert cli.main(tune_words(teacher, training__learning_rate=0.02, training__steps=20)) == 0
    words = tune_words(
        student, training__learning_rate=0.01, training__steps=20, distill__teacher=teacher / "model"
    )
    assert cli.main(words) == 0
    assert "the teacher has read" in capsys.readouterr().err
    losses = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    steps = [line["loss"] for line in losses if "loss" in line]
    assert steps[-1] < steps[0] / 2
    run = json.loads((student / "run.json").read_text())
    assert len(run["parents"]) == 2


def test_teachers_that_cannot_teach(
    pretrained: Path,
    tune_words: Callable[..., list[str]],
    shared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = shared / "weights" / "tinystories-656k"
    assert cli.main(tune_words(tmp_path / "a", distill__teacher=other)) == 1
    assert "have different vocabularies" in capsys.readouterr().err
    assert cli.main(tune_words(tmp_path / "b", distill__temperature=2)) == 2
    assert "distill.teacher is not given" in capsys.readouterr().err


def test_a_student_learns_from_its_own_answers(
    pretrained: Path, tune_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    assert cli.main(tune_words(teacher, training__learning_rate=0.02, training__steps=20)) == 0
    settings = {
        "training__learning_rate": 0.01,
        "training__steps": 16,
        "training__checkpoint_every": 6,
        "distill__teacher": teacher / "model",
        "distill__divergence": "reverse",
        "distill__on_policy": 1.0,
        "distill__max_new_tokens": 12,
    }
    curves = []
    for name in ("a", "b"):
        assert cli.main(tune_words(tmp_path / name, **settings)) == 0
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        curves.append([json.loads(line).get("loss") for line in lines])
    assert curves[0] == curves[1]  # the samples depend on the weights and the step only
    steps = [loss for loss in curves[0] if loss is not None]
    assert steps[-1] < steps[0] / 2
    shutil.rmtree(tmp_path / "b" / "model")  # resumed from the last checkpoint
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-00000016")
    assert cli.main(tune_words(tmp_path / "b", **settings)) == 0
    lines = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line).get("loss") for line in lines] == curves[0]


def test_prompts_end_where_the_last_answer_begins() -> None:
    tokens = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
    weights = np.array([0, 1, 1, 0, 0, 1, 0, 1, 1, 0.0], dtype=np.float32)
    documents = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    row = Row(tokens, tokens, weights, documents, documents)
    assert [*prompts_of([row])] == [(1, 2, 3, 4, 5, 6), (7, 8)]
