"""One loss, many ways to compute it: packed = separate, recomputed = kept, bfloat16 near float32, compiled =
eager."""

import shutil

import numpy as np
import pytest
import torch

from camelid.data.rows.batches import collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import PackedExamples
from camelid.train.compilation import compile_blocks
from camelid.train.objectives import cross_entropy


def loss_and_gradients(model, batch, dtype=None):
    model.zero_grad()
    loss = cross_entropy(model, dtype)(batch)
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return loss.detach(), gradients


def close(one, other, **tolerance):
    torch.testing.assert_close(one[0], other[0], **tolerance)
    for name, gradient in one[1].items():
        torch.testing.assert_close(
            gradient, other[1][name], **tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def documents(*lengths):
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 50, length + 1) for length in lengths]
    weights = [generator.random(length).astype(np.float32) for length in lengths]
    return [Example(whole[:-1], whole[1:], weight) for whole, weight in zip(ids, weights, strict=True)]


def packed(examples, context):
    rows = PackedExamples(examples, context, pad_id=0, digest="")
    return collate([rows[index] for index in range(rows.per_epoch)])


@pytest.mark.parametrize("tied", [True, False])
def test_a_packed_row_equals_its_documents_alone(tiny, tied):
    model, examples = tiny(tie_embeddings=tied), documents(9, 6, 4, 1)
    together = packed(examples, 24)
    assert len(together.tokens) == 1
    assert len(together.documents.unique()) == 5
    total, sums = torch.zeros(()), {}
    for example in examples:
        alone = packed([example], max(2, len(example)))
        loss, gradients = loss_and_gradients(model, alone)
        total = total + loss
        sums = {name: sums.get(name, 0) + gradient for name, gradient in gradients.items()}
    close(loss_and_gradients(model, together), (total, sums), rtol=1e-4, atol=1e-4)


def test_recomputed_activations_change_nothing(tiny, random_batch):
    model, batch = tiny(), random_batch()
    kept = loss_and_gradients(model, batch)
    model.recompute_activations = True
    close(loss_and_gradients(model, batch), kept, rtol=0, atol=0)


def test_bfloat16_is_close_to_float32_and_leaves_float32_gradients(tiny, random_batch):
    model, batch = tiny(), random_batch()
    loss, gradients = loss_and_gradients(model, batch)
    half_loss, half_gradients = loss_and_gradients(model, batch, torch.bfloat16)
    assert half_loss == pytest.approx(float(loss), rel=0.02)
    for name, gradient in half_gradients.items():
        assert gradient.dtype == torch.float32
        assert (gradient - gradients[name]).norm() < 0.1 * gradients[name].norm(), name


@pytest.mark.slow
def test_compiled_equals_eager(tiny, random_batch):
    if shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler, so nothing is compiled")
    model, batch = tiny(num_layers=1), random_batch()
    eager = loss_and_gradients(model, batch)
    compile_blocks(model, True)
    close(loss_and_gradients(model, batch), eager, rtol=1e-4, atol=1e-5)
