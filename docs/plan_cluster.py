"""Prints the tables of docs/distributed.md: a budget of 10^25 FLOPs on 1 to 4,096 GPUs.

    python docs/plan_cluster.py

Assumed of a GPU: 80 GB, 989 TFLOP/s in bfloat16 of which 40 % are used, 450 GB/s to the 8 of its node and
50 GB/s to others (an H100 with NVLink and one 400 Gb/s port).
"""

from dataclasses import replace

from camelid.model.spec import FeedForward, ModelSpec
from camelid.scaling.cluster import (
    Mesh,
    activation_bytes,
    data_traffic,
    gathered_bytes,
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


if __name__ == "__main__":
    tokens = BUDGET / SPEC.training_flops_per_token(CONTEXT)
    print(f"{SPEC.parameter_count() / 1e9:.0f} B parameters, {tokens / 1e12:.2f} T tokens")
    print("\n".join(rows()))
