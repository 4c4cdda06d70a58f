"""A state saved and loaded into fresh objects goes on exactly as the one that was never saved."""

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from camelid.base.errors import CamelidError
from camelid.train.loop import training_steps
from camelid.train.objectives import cross_entropy
from camelid.train.optim import OPTIMIZERS, adamw
from camelid.train.state import load_state, naming_process, save_state, training_state


def optimizer_of(model):
    return adamw(model.named_parameters(), weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)


def losses(model, optimizer, batches, start=0):
    steps = training_steps(
        model,
        batches,
        cross_entropy(model),
        optimizer,
        lambda step: 0.01 * (1 + step),
        micro_batch_size=2,
        gradient_clip=1.0,
        start=start,
    )
    return [(step.number, step.loss, step.grad_norm) for step in steps]


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_state_goes_on_identically(tiny, random_batch, tmp_path, tied):
    batches = [random_batch(seed=seed) for seed in range(6)]
    unbroken = tiny(tie_embeddings=tied)
    optimizer = optimizer_of(unbroken)
    losses(unbroken, optimizer, batches[:3])
    save_state(tmp_path, training_state(unbroken, optimizer, 3))
    rest = losses(unbroken, optimizer, batches[3:], start=3)

    resumed = tiny(seed=1, tie_embeddings=tied)
    fresh = optimizer_of(resumed)
    assert load_state(tmp_path, resumed, fresh) == 3
    assert losses(resumed, fresh, batches[3:], start=3) == rest
    for (name, one), other in zip(unbroken.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
def test_matrices_that_are_stored_transposed_go_on_identically(tiny, random_batch, tmp_path, optimizer_name):
    """As GPT-2's folders store them; a fused update pairs parameters and moments by their place in memory."""

    def transposed(seed):
        model = tiny(seed=seed)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = module.weight.data.T.contiguous().T
        settings = {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}
        return model, OPTIMIZERS[optimizer_name](model.named_parameters(), **settings)

    batches = [random_batch(seed=seed) for seed in range(6)]
    unbroken, optimizer = transposed(0)
    losses(unbroken, optimizer, batches[:3])
    save_state(tmp_path, training_state(unbroken, optimizer, 3))
    rest = losses(unbroken, optimizer, batches[3:], start=3)
    resumed, fresh = transposed(1)
    load_state(tmp_path, resumed, fresh)
    assert losses(resumed, fresh, batches[3:], start=3) == rest


def test_frozen_parameters_are_not_in_the_state(tiny, random_batch, tmp_path):
    model = tiny()
    model.embed_tokens.weight.requires_grad_(False)
    optimizer = optimizer_of(model)
    losses(model, optimizer, [random_batch()])
    save_state(tmp_path, training_state(model, optimizer, 1))
    assert b"embed_tokens" not in (tmp_path / "weights.safetensors").read_bytes()[:4096]


def test_a_state_before_the_first_update_loads(tiny, tmp_path):
    model = tiny()
    save_state(tmp_path, training_state(model, optimizer_of(model), 0))
    other = tiny(seed=1)
    assert load_state(tmp_path, other, optimizer_of(other)) == 0
    assert torch.equal(other.embed_tokens.weight, model.embed_tokens.weight)


def test_the_state_of_another_model_is_refused(tiny, random_batch, tmp_path):
    model = tiny()
    optimizer = optimizer_of(model)
    losses(model, optimizer, [random_batch()])
    save_state(tmp_path, training_state(model, optimizer, 1))
    other = tiny(num_layers=1)
    with pytest.raises(
        CamelidError, match=r"the saved state is of another model; tensors that differ: layers\.1"
    ):
        load_state(tmp_path, other, optimizer_of(other))


def test_the_process_that_could_not_write_is_named(tmp_path):
    full = OSError(28, "No space left on device")
    words = "process 1 could not read or write its part: .Errno 28. No space left"
    with pytest.raises(CamelidError, match=words), naming_process(tmp_path):
        raise CheckpointException("write", {2: (full, None), 1: (full, None)})
