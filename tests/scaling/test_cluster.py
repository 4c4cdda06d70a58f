"""Formulas of meshes against sharded models, numbers worked by hand, and PaLM's table 3."""

import runpy
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.model.presets import preset
from camelid.model.spec import ModelSpec
from camelid.scaling.cluster import (
    CHUNK_VALUES,
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
from camelid.train import losses
from camelid.train.sharding import STATE_BYTES, local, shard

SPEC = ModelSpec.llama(vocab_size=10, hidden_size=4, num_layers=3, num_heads=2, context_length=8)
WIDTH = SPEC.feed_forward.width
SPLIT = 3 * (4 * 16 + 3 * 4 * WIDTH)


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


def test_the_formulas_count_as_training_does():
    assert CHUNK_VALUES == losses.CHUNK_VALUES
    assert TRAINING_BYTES == STATE_BYTES


def test_bubbles_by_hand():
    """Four stages idle for 3 of 11 steps of 8 micro-batches, and for 3 of 19 with half-stages."""
    assert pipeline_bubble(4, 8) == pytest.approx(3 / 11)
    assert pipeline_bubble(4, 8, interleaved=2) == pytest.approx(3 / 19)
    assert pipeline_bubble(1, 8) == 0


GPT3_WEIGHTS = preset("gpt3-175b").matmul_parameters()


@pytest.mark.parametrize(("attentions", "printed"), [(1, 0.202), (3, 0.213)])
def test_palms_utilisation_of_gpt3_follows_with_three_times_the_attention(attentions, printed):
    """Of 24.6 TFLOP/s without attention, out of 125; the other three are as published, to a digit."""
    flops = 6 * GPT3_WEIGHTS + attentions * 12 * 96 * 12288 * 2048
    found = model_flops_utilisation(24.6e12 / (6 * GPT3_WEIGHTS), 1, 125e12, flops)
    assert found == pytest.approx(printed, abs=0.0005)


def test_gpt3s_local_layers_take_less():
    flops = preset("gpt3-175b").training_flops_per_token(2048)
    found = model_flops_utilisation(24.6e12 / (6 * GPT3_WEIGHTS), 1, 125e12, flops)
    assert found == pytest.approx(0.200, abs=0.0005)


def test_the_page_has_the_tables_of_the_script():
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "distributed.md").read_text(encoding="utf-8")
    script = runpy.run_path(str(docs / "plan_cluster.py"))
    for line in (*script["rows"](), *script["utilisations"]()):
        assert line in page
    assert f"34 / 274 = {100 * script['BUBBLE']:.1f} %" in page
    published = [line.split(" | ")[-2:] for line in script["utilisations"]()[2:5]]
    assert all(mfu == found.removesuffix(" |") for mfu, found in published)
