"""Formulas of meshes against sharded models, numbers worked by hand, and PaLM's table 3."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.model.presets import preset
from camelid.model.spec import FeedForward, ModelSpec
from camelid.scaling.cluster import (
    TRAINING_BYTES,
    Mesh,
    activation_bytes,
    data_traffic,
    gathered_bytes,
    model_flops_utilisation,
    peak_activation_bytes,
    pipeline_bubble,
    process_bytes,
    split_parameters,
    state_bytes,
    tensor_traffic,
)
from camelid.train.sharding import local, shard

SPEC = ModelSpec.llama(vocab_size=10, hidden_size=4, num_layers=3, num_heads=2, context_length=8)
WIDTH = SPEC.feed_forward.width
SPLIT = 3 * (4 * 16 + 3 * 4 * WIDTH)
MT_NLG = ModelSpec.llama(
    vocab_size=50257, hidden_size=20480, num_layers=105, num_heads=128, context_length=2048
)
SPECS = {
    "palm-540b": preset("palm-540b"),
    "gpt3-175b": preset("gpt3-175b"),
    # MT-NLG's sizes: arXiv:2201.11990, section 3.2
    "mt-nlg-530b": replace(MT_NLG, feed_forward=FeedForward(4 * 20480, "gelu")),
}


@pytest.mark.parametrize(("name", "mesh"), [("llama-65b", Mesh(512)), ("palm-540b", Mesh(64, 8))])
def test_the_first_of_512_processes_holds_what_the_formula_says(name, mesh):
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=mesh.size)
    try:
        devices = init_device_mesh("cpu", (mesh.data, mesh.tensor), mesh_dim_names=("data", "tensor"))
        model = shard(blank_model(preset(name)), devices)
        held = TRAINING_BYTES * sum(local(each.detach()).numel() for each in model.parameters())
    finally:
        dist.destroy_process_group()
    assert held == pytest.approx(state_bytes(preset(name), mesh), rel=0.05)


def test_sizes_by_hand():
    assert split_parameters(SPEC) == SPLIT
    rest = SPEC.parameter_count() - SPLIT
    assert state_bytes(SPEC, Mesh(4, 2)) == 16 * (SPLIT / 8 + rest / 4)
    assert activation_bytes(SPEC, 100) == 2 * 3 * 100 * 4
    inner = 2 * (2 + 2) * 2 + 2 * WIDTH  # two heads of 2 values; two matrices into the feed-forward width
    assert activation_bytes(SPEC, 100, "selective", 4) == 3 * 100 * 4 * (3 * 4 + inner)
    assert activation_bytes(SPEC, 100, "none", 4) == 3 * 100 * (2 * 12 * 4 + 4 * (inner + 2 * WIDTH))
    embeddings = 10 * 4 * (1 if SPEC.tie_embeddings else 2)
    assert gathered_bytes(SPEC, Mesh(4, 2)) == 4 * (SPLIT / 3 + embeddings)


def test_the_memory_of_a_process_by_hand():
    """From the third micro-batch on a process holds the whole gradient; alone it gathers nothing."""
    activations = peak_activation_bytes(SPEC, 8, "none")
    assert process_bytes(SPEC, Mesh(1), 5, 8, "none") == 16 * SPEC.parameter_count() + activations
    two = state_bytes(SPEC, Mesh(4, 2)) + gathered_bytes(SPEC, Mesh(4, 2)) + activations
    assert process_bytes(SPEC, Mesh(4, 2), 2, 8, "none") == two
    whole = SPLIT / 2 + SPEC.parameter_count() - SPLIT
    assert process_bytes(SPEC, Mesh(4, 2), 3, 8, "none") == two + 4 * whole
    assert process_bytes(SPEC, Mesh(4), 3, 8, "full") < process_bytes(SPEC, Mesh(4), 3, 8, "none")


def test_traffic_by_hand():
    """Three quarters of every tensor leave a process in a ring of 4; nothing leaves it alone."""
    assert data_traffic(SPEC, Mesh(1)) == 0
    assert data_traffic(SPEC, Mesh(4)) == 0.75 * 4 * SPEC.parameter_count() * 3
    assert data_traffic(SPEC, Mesh(4), micro_batches=5) == 0.75 * 4 * SPEC.parameter_count() * 12
    assert data_traffic(SPEC, Mesh(4), gathered=2) == 0.75 * (2 * 2 + 4) * SPEC.parameter_count()
    assert tensor_traffic(SPEC, Mesh(4), 100) == 0
    assert tensor_traffic(SPEC, Mesh(1, 2), 100, recomputed=False) == 3 * 4 * (2 * 0.5) * 100 * 4 * 2


def test_bubbles_by_hand():
    """Four stages idle for 3 of 11 steps of 8 micro-batches, and for 3 of 19 with half-stages."""
    assert pipeline_bubble(4, 8) == pytest.approx(3 / 11)
    assert pipeline_bubble(4, 8, interleaved=2) == pytest.approx(3 / 19)
    assert pipeline_bubble(1, 8) == 0


def flops(name: str) -> float:
    return SPECS[name].training_flops_per_token(2048)


GPT3_WEIGHTS = SPECS["gpt3-175b"].matmul_parameters()
GPT3_TOKENS = 24.6e12 / (6 * GPT3_WEIGHTS)
"""Tokens a second of one GPU, from FLOP/s without attention."""
GPT3_ATTENTION = 12 * 96 * 12288 * 2048
"""As PaLM counts it, of full layers; half of GPT-3's are local."""
# sizes of Gopher: arXiv:2112.11446, table 1; its relative positions have weights that no spec here has
GOPHER_ATTENTION = 12 * 80 * 16384 * 2048


@pytest.mark.parametrize(
    ("tokens_per_second", "devices", "peak", "flops_per_token", "printed"),
    [
        (238.3e3, 6144, 275e12, flops("palm-540b"), 0.462),
        (65.43e3, 2240, 312e12, flops("mt-nlg-530b"), 0.302),
        (0.0152 * 3072 * 2048, 4096, 123e12, 6 * 280e9 + GOPHER_ATTENTION, 0.325),
        (GPT3_TOKENS, 1, 125e12, 6 * GPT3_WEIGHTS + GPT3_ATTENTION, 0.202),  # the table says 0.213
        (GPT3_TOKENS, 1, 125e12, 6 * GPT3_WEIGHTS + 3 * GPT3_ATTENTION, 0.213),
        (GPT3_TOKENS, 1, 125e12, flops("gpt3-175b"), 0.200),
    ],
)
def test_the_utilisations_of_palms_table_3(tokens_per_second, devices, peak, flops_per_token, printed):
    """With attention; from speeds in PaLM's section 4.1. GPT-3's follows with three times the attention."""
    found = model_flops_utilisation(tokens_per_second, devices, peak, flops_per_token)
    assert found == pytest.approx(printed, abs=0.0006)


def test_the_page_has_the_table_of_the_script():
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "distributed.md").read_text(encoding="utf-8")
    for line in runpy.run_path(str(docs / "plan_cluster.py"))["rows"]():
        assert line in page
