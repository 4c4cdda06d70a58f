"""What training costs on a mesh of data x tensor processes: memory, communication, and the peers' layouts.

All sizes are per process. The formulas are those of this code (`train.sharding`): weights, gradients and
AdamW's moments in float32, activations in 2 bytes.
"""

from dataclasses import dataclass
from typing import Literal

from camelid.model.spec import ModelSpec

TRAINING_BYTES = 16
"""Bytes per parameter in float32 with AdamW: weight, gradient and two moments, without activations."""
GATHERED_BYTES, ACTIVATION_BYTES = 4, 2
CHUNK_VALUES = 16 * 2**20
"""Logits that exist at a time, as in `train.losses`."""
Recomputed = Literal["none", "selective", "full"]
"""What the backward pass computes again of the forward pass of a block."""


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


def activation_bytes(
    spec: ModelSpec, tokens: int, recomputed: Recomputed = "full", bytes_each: int = ACTIVATION_BYTES
) -> float:
    """What is kept of `tokens` tokens from the forward to the backward pass of the blocks of a decoder.

    Per token and block, with b bytes for each value, width d, A values of queries and K of keys (and as many
    of values), and G matrices into a feed-forward width F, where all of a block is recomputed (full): b d,
    its input. selective: b (3 d + 2 A + 2 K + G F), with the results of linears and attention. none: (8 + b)
    d for each norm and b (2 A + 2 K + 2 G F). Rows of up to 1,024 tokens on CPUs also keep probabilities,
    which are left out.
    """
    blocks = spec.num_layers + spec.encoder_layers
    return float(blocks * tokens * _kept_of_token(spec, recomputed, bytes_each))


def _kept_of_token(spec: ModelSpec, recomputed: Recomputed, bytes_each: int) -> float:
    width, feed_forward = spec.hidden_size, spec.feed_forward.width
    attention = 2 * (spec.num_heads + spec.num_kv_heads) * spec.head_dim
    into = 2 if spec.feed_forward.gated else 1
    match recomputed:
        case "full":
            return bytes_each * width
        case "selective":
            return bytes_each * (3 * width + attention + into * feed_forward)
        case "none":
            # An RMS norm keeps its input and the normalised one in float32, and its result.
            count = 2 if not spec.parallel or spec.separate_norms else 1
            norms = count * ((8 if spec.norm.kind == "rms" else 4) + bytes_each) * width
            # What enters the activation, what leaves it, the other factor, and their product.
            inner = (2 * into) * feed_forward
            return norms + bytes_each * (attention + inner)


def peak_activation_bytes(
    spec: ModelSpec, tokens: int, recomputed: Recomputed, bytes_each: int = ACTIVATION_BYTES
) -> float:
    """The most memory above weights and gradients in a pass over `tokens` tokens.

    That is what is kept of all blocks and what the loss needs: the states and their gradient, a chunk of
    logits, the gradient of the output matrix. Or, where it is more, what is kept of all blocks but one,
    everything of that one, and gradients inside of it: of the feed-forward width's values and three states.
    """
    into = 2 if spec.feed_forward.gated else 1
    kept = activation_bytes(spec, tokens, recomputed, bytes_each)
    chunk = min(tokens * spec.vocab_size, CHUNK_VALUES)
    loss = bytes_each * (2 * tokens * spec.hidden_size + chunk) + 4 * spec.vocab_size * spec.hidden_size
    others = kept - tokens * _kept_of_token(spec, recomputed, bytes_each)
    gradients = bytes_each * ((into + 1) * spec.feed_forward.width + 3 * spec.hidden_size)
    return max(kept + loss, others + tokens * (_kept_of_token(spec, "none", bytes_each) + gradients))


def gathered_bytes(spec: ModelSpec, mesh: Mesh) -> float:
    """The weights of two blocks, the one computed and the one gathered ahead, and those outside of blocks."""
    blocks = spec.num_layers + spec.encoder_layers
    block = split_parameters(spec) / blocks / mesh.tensor
    embeddings = spec.vocab_size * spec.hidden_size * (1 if spec.tie_embeddings else 2)
    return GATHERED_BYTES * (2 * block + embeddings)


def process_bytes(
    spec: ModelSpec, mesh: Mesh, micro_batches: int, tokens: int, recomputed: Recomputed
) -> float:
    """The memory of a process at its most, in an update of `micro_batches` passes over `tokens` tokens each.

    State and the peak of activations; where weights are sharded also what is gathered, and from the third
    micro-batch on the whole gradient, which is summed after the first and the last one only.
    """
    needed = state_bytes(spec, mesh) + peak_activation_bytes(spec, tokens, recomputed)
    if mesh.data > 1:
        needed += gathered_bytes(spec, mesh)
        if micro_batches > 2:
            needed += GATHERED_BYTES / TRAINING_BYTES * state_bytes(spec, Mesh(1, mesh.tensor))
    return needed


def data_traffic(
    spec: ModelSpec, mesh: Mesh, micro_batches: int = 1, gathered: int = GATHERED_BYTES
) -> float:
    """Bytes that a process sends per update for the data dimension.

    A ring sends (D - 1) / D of a tensor to gather it or to sum and scatter it. Weights are gathered twice per
    micro-batch, for the forward and the backward pass, in `gathered` bytes a parameter; gradients are summed
    in float32 after the last one, and after the first one to measure the gradient noise.
    """
    held = state_bytes(spec, Mesh(1, mesh.tensor)) / TRAINING_BYTES
    sent = 2 * micro_batches * gathered + min(2, micro_batches) * GATHERED_BYTES
    return (mesh.data - 1) / mesh.data * held * sent


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
