"""Prints the tables of docs/distributed.md: a budget of 10^25 FLOPs on 1 to 4,096 GPUs, and published runs.

    python docs/plan_cluster.py

Assumed of a GPU: 80 GB, 989 TFLOP/s in bfloat16 of which 40 % are used, 450 GB/s to the 8 of its node and
50 GB/s to others (an H100 with NVLink and one 400 Gb/s port).
"""

from dataclasses import replace

from camelid.model.presets import preset
from camelid.model.spec import FeedForward, ModelSpec
from camelid.scaling.cluster import (
    Mesh,
    activation_bytes,
    data_traffic,
    gathered_bytes,
    model_flops_utilisation,
    pipeline_bubble,
    state_bytes,
    tensor_traffic,
)

BUDGET, BATCH, CONTEXT, NODE = 1e25, 2048 * 2048, 2048, 8
MEMORY, PEAK, USED, NEAR, FAR = 80e9, 989e12, 0.4, 450e9, 50e9
YEAR = 365 * 86400.0
MESHES = (Mesh(1), Mesh(8), Mesh(1, 8), Mesh(8, 8), Mesh(512, 8))
SPEC = replace(
    ModelSpec.llama(
        vocab_size=128_000, hidden_size=16_384, num_layers=80, num_heads=128, context_length=CONTEXT
    ),
    feed_forward=FeedForward(43_712),
)
"""About what Chinchilla's first approach takes: 280 B parameters for 9.9e24 (arXiv:2203.15556, table 3)."""
MT_NLG = replace(
    ModelSpec.llama(
        vocab_size=50_257, hidden_size=20_480, num_layers=105, num_heads=128, context_length=CONTEXT
    ),
    feed_forward=FeedForward(4 * 20_480, "gelu"),
)
"""arXiv:2201.11990, section 3.2."""
BUBBLE = pipeline_bubble(35, 1920 // 8)
"""Of MT-NLG's pipeline of 35 stages: 8 times data parallel, 1,920 rows a batch, one row at a time."""


def rows() -> list[str]:
    """The table, one line per mesh: memory in GB, what a process sends per update in GB, and times.

    Years are those of all updates: computing alone, and with sending that overlaps it perfectly, where the
    longer of both counts.
    """
    flops = SPEC.training_flops_per_token(CONTEXT)
    updates = BUDGET / flops / BATCH
    lines = [
        "| GPUs | data x tensor | state GB | gathered GB | kept states GB | fits 80 GB | data GB sent | "
        "tensor GB sent | compute s | sending s | years computing | years with sending |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for mesh in MESHES:
        state, gathered = state_bytes(SPEC, mesh), gathered_bytes(SPEC, mesh)
        tokens = BATCH // mesh.data
        micro = min(tokens, 2 * CONTEXT)
        kept = activation_bytes(SPEC, micro)
        by_data = data_traffic(SPEC, mesh, tokens // micro)
        by_tensor = tensor_traffic(SPEC, mesh, tokens)
        compute = BATCH * flops / (mesh.size * PEAK * USED)
        sending = by_data / (NEAR if mesh.size <= NODE else FAR) + by_tensor / NEAR
        cells = (
            f"{mesh.size:,}",
            f"{mesh.data:,} x {mesh.tensor}",
            *(f"{part / 1e9:,.1f}" for part in (state, gathered, kept)),
            "yes" if state + gathered + kept < MEMORY else "no",
            *(f"{part / 1e9:,.0f}" for part in (by_data, by_tensor)),
            *(f"{seconds:,.1f}" for seconds in (compute, sending)),
            *(f"{updates * each / YEAR:,.3g}" for each in (compute, max(compute, sending))),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def utilisations() -> list[str]:
    """PaLM's table 3 (arXiv:2204.02311), from the speeds in its section 4.1, with attention."""
    gpt3 = 6 * preset("gpt3-175b").matmul_parameters()
    runs = (
        ("PaLM 540B", "238,300 tokens/s", 238.3e3, "TPU v4", 6144, 275, 46.2, _flops(preset("palm-540b"))),
        ("MT-NLG 530B", "65,430 tokens/s", 65.43e3, "A100", 2240, 312, 30.2, _flops(MT_NLG)),
        # the larger of the two batches of arXiv:2112.11446, table 1
        (
            "Gopher 280B",
            "0.0152 batches/s of 3,072 x 2,048 tokens",
            0.0152 * 3072 * 2048,
            "TPU v3",
            4096,
            123,
            32.5,
            6 * 280e9 + _attention(80, 16_384),  # its relative positions have weights that no spec here has
        ),
        (
            "GPT-3 175B",
            "24.6 TFLOP/s for each GPU, without attention",
            24.6e12 / gpt3,
            "V100",
            1,
            125,
            21.3,
            gpt3 + _attention(96, 12_288),  # all layers full; with its local ones it is 20.0 %
        ),
    )
    lines = [
        "| model | speed | chips | peak TFLOP/s | MFU, published | MFU, recomputed |",
        "|---|---|---|---|---|---|",
    ]
    for name, speed, tokens_per_second, chip, chips, peak, published, flops in runs:
        found = model_flops_utilisation(tokens_per_second, chips, peak * 1e12, flops)
        of = chip if chips == 1 else f"{chips:,} {chip}"
        lines.append(f"| {name} | {speed} | {of} | {peak} | {published} % | {100 * found:.1f} % |")
    return lines


def _flops(spec: ModelSpec) -> float:
    return spec.training_flops_per_token(CONTEXT)


def _attention(layers: int, width: int) -> float:
    """Of a token, as PaLM counts it: 12 L H Q T, in full layers."""
    return 12.0 * layers * width * CONTEXT


if __name__ == "__main__":
    tokens = BUDGET / SPEC.training_flops_per_token(CONTEXT)
    print(f"{SPEC.parameter_count() / 1e9:.0f} B parameters, {tokens / 1e12:.2f} T tokens")
    print("\n".join(rows()))
    print(f"MT-NLG's pipeline idles for {BUBBLE:.1%} of the time")
    print("\n".join(utilisations()))
