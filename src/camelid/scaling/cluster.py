"""What training costs on a mesh of data x tensor processes: memory, communication, and the peers' layouts.

All sizes are per process. The formulas are those of this code (`train.sharding`): weights, gradients and
AdamW's moments in float32, activations in 2 bytes.
"""

from dataclasses import dataclass

from camelid.model.spec import ModelSpec
from camelid.scaling.plan import TRAINING_BYTES

GATHERED_BYTES, ACTIVATION_BYTES = 4, 2


@dataclass(frozen=True)
class Mesh:
    """Processes that share rows and weights, times those that share each matrix."""

    data: int
    tensor: int = 1

    @property
    def size(self) -> int:
        """All processes."""
        return self.data * self.tensor


def split_parameters(spec: ModelSpec) -> int:
    """The parameters that tensor parallelism splits: linears of the blocks, without keys and values that all
    heads share (multi-query attention)."""
    heads = spec.num_heads * spec.head_dim * spec.hidden_size
    shared = 0 if spec.num_kv_heads == 1 else 2 * spec.num_kv_heads * spec.head_dim * spec.hidden_size
    feed_forward = (3 if spec.feed_forward.gated else 2) * spec.hidden_size * spec.feed_forward.width
    attention = 2 * heads + shared
    decoder = spec.num_layers * (attention * (2 if spec.encoder_layers else 1) + feed_forward)
    return decoder + spec.encoder_layers * (attention + feed_forward)


def state_bytes(spec: ModelSpec, mesh: Mesh) -> float:
    """Weights, gradients and moments: 16 (S / tensor + N - S) / data, with S split of N parameters."""
    split = split_parameters(spec)
    return TRAINING_BYTES * (split / mesh.tensor + spec.parameter_count() - split) / mesh.data


def activation_bytes(spec: ModelSpec, tokens: int) -> float:
    """The states between blocks that are kept for `tokens` tokens of a pass with recomputed activations."""
    return float(ACTIVATION_BYTES * (spec.num_layers + spec.encoder_layers) * tokens * spec.hidden_size)


def gathered_bytes(spec: ModelSpec, mesh: Mesh) -> float:
    """The weights of two blocks, the one computed and the one gathered ahead, and those outside of blocks."""
    blocks = spec.num_layers + spec.encoder_layers
    block = split_parameters(spec) / blocks / mesh.tensor
    embeddings = spec.vocab_size * spec.hidden_size * (1 if spec.tie_embeddings else 2)
    return GATHERED_BYTES * (2 * block + embeddings)


def data_traffic(spec: ModelSpec, mesh: Mesh, micro_batches: int = 1) -> float:
    """Bytes that a process sends per update for the data dimension.

    A ring sends (D - 1) / D of a tensor to gather it or to sum and scatter it. Weights are gathered twice per
    micro-batch, for the forward and the backward pass; gradients are summed after the last one, and after the
    first one to measure the gradient noise.
    """
    held = GATHERED_BYTES * (state_bytes(spec, Mesh(1, mesh.tensor)) / TRAINING_BYTES)
    return (mesh.data - 1) / mesh.data * held * (2 * micro_batches + min(2, micro_batches))


def tensor_traffic(spec: ModelSpec, mesh: Mesh, tokens: int, recomputed: bool = True) -> float:
    """Bytes that a process sends per update to sum the states of its tokens over the tensor dimension.

    Two sums per block forward, after attention and feed-forward, two backward, and two more where the forward
    pass is repeated; a ring sends 2 (T - 1) / T of a tensor to sum it.
    """
    blocks = spec.num_layers + spec.encoder_layers
    sums = blocks * (6 if recomputed else 4)
    return sums * 2 * (mesh.tensor - 1) / mesh.tensor * tokens * spec.hidden_size * ACTIVATION_BYTES


def pipeline_bubble(stages: int, micro_batches: int, interleaved: int = 1) -> float:
    """The idle share of a pipeline's time: b / (1 + b) with b = (stages - 1) / (interleaved micro_batches).

    Narayanan et al. 2021, arXiv:2104.04473, section 2.2: b is relative to the time of the computation.
    """
    bubble = (stages - 1) / (interleaved * micro_batches)
    return bubble / (1 + bubble)


def model_flops_utilisation(
    tokens_per_second: float, devices: int, peak: float, flops_per_token: float
) -> float:
    """The share of the peak FLOP/s that the model's own products use (PaLM, arXiv:2204.02311, app. B)."""
    return tokens_per_second * flops_per_token / (devices * peak)
