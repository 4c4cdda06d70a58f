"""What the machine decides where the recipe leaves it open."""

import json

import pytest
import torch

from camelid.train import fit, machine
from camelid.train.machine import fastest_dtype, peak_flops, rows_at_once

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("rows", "context", "width", "dtype", "expected"),
    [
        (8, 512, 512, torch.bfloat16, 4),  # 2 MiB / 1024 bytes a token = 2048 tokens
        (8, 512, 512, torch.float32, 2),
        (9, 512, 512, torch.bfloat16, 3),  # the largest divisor of 9 below 4
        (32, 256, 256, torch.bfloat16, 16),
        (8, 512, 2048, torch.float32, 2),  # never fewer than 1024 tokens
        (3, 4096, 512, torch.bfloat16, 1),
    ],
)
def test_rows_at_once_stay_in_the_cache_and_divide_the_batch(rows, context, width, dtype, expected):
    assert rows_at_once(rows, context, width, dtype, CPU) == expected


def test_a_gpu_takes_more_rows_at_once():
    assert rows_at_once(64, 512, 512, torch.bfloat16, torch.device("cuda")) == 32


@pytest.mark.parametrize(
    ("float32", "expected"), [(3e11, torch.float32), (1.1e11, torch.bfloat16), (5e10, torch.bfloat16)]
)
def test_float32_is_taken_where_it_is_clearly_faster(monkeypatch, float32, expected):
    peaks = {torch.float32: float32, torch.bfloat16: 1e11}
    monkeypatch.setattr(machine, "peak_flops", lambda device, dtype: peaks[dtype])
    fastest_dtype.cache_clear()
    try:
        assert fastest_dtype(CPU) == expected
    finally:
        fastest_dtype.cache_clear()


@pytest.fixture
def fresh_peaks():
    peak_flops.cache_clear()
    yield
    peak_flops.cache_clear()


@pytest.mark.parametrize(("rate", "sizes"), [(4e8, [256]), (1e11, [256, 2048])])
def test_slow_products_are_timed_only_at_a_small_size(monkeypatch, fresh_peaks, rate, sizes):
    """At the 0.4 GFLOP/s of bfloat16 on an AVX2 CPU, five products of 2048^3 take 215 s, of 256^3 0.4 s."""
    timed = []

    def product_flops(device, dtype, size, repeats):
        timed.append(size)
        return rate

    monkeypatch.setattr(machine, "_product_flops", product_flops)
    assert peak_flops(CPU, torch.bfloat16) == rate
    assert timed == sizes


def test_measuring_leaves_the_global_generator_alone(fresh_peaks):
    before = torch.get_rng_state()
    assert peak_flops(CPU, torch.float32, size=64) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resumed_run_keeps_the_precision_that_it_began_with(tmp_path, monkeypatch):
    from camelid.recipes.training import Training
    from camelid.train.parallel import ProcessGroup

    class Begun:
        folder = tmp_path

    training = Training(steps=1, context_length=512)
    monkeypatch.setattr(fit, "fastest_dtype", lambda device: torch.bfloat16)
    assert fit.precision(Begun, training, ProcessGroup()) == torch.bfloat16
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 0, "dtype": "float32"}) + "\n")
    assert fit.precision(Begun, training, ProcessGroup()) == torch.float32
    assert (
        fit.precision(Begun, training.model_copy(update={"dtype": "bfloat16"}), ProcessGroup())
        == torch.bfloat16
    )


def test_training_on_a_gpu_leaves_out_cudnn(monkeypatch):
    """See `camelid.model.attention.leave_out_cudnn`: gradients under a mask may be NaN there."""
    from camelid.train.parallel import join_process_group

    torch.backends.cuda.enable_cudnn_sdp(True)
    assert join_process_group().device.type == "cpu"
    assert torch.backends.cuda.cudnn_sdp_enabled()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert join_process_group().device == torch.device("cuda", 0)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
