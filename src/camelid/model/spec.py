"""The small frozen description of a model: every architecture of the survey is a value of `ModelSpec`."""

import math
from dataclasses import dataclass, field
from typing import Literal

from camelid.base.errors import CamelidError, shortened


@dataclass(frozen=True)
class LinearScaling:
    """Position interpolation (Chen et al. 2023, arXiv:2306.15595): every angle divided by `factor`."""

    factor: float


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's frequency-dependent interpolation: long wavelengths divided by `factor`, short ones kept."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context_length: int


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864, eq. 34) on halves, as Hugging Face stores it."""

    theta: float = 10000.0
    scaling: LinearScaling | Llama3Scaling | None = None


@dataclass(frozen=True)
class Learned:
    """A learned vector for each of `context_length` positions, added to the embedding (GPT-2)."""


@dataclass(frozen=True)
class RelativeBuckets:
    """T5's learned bias for each head and bucket of distances, one table for a stack (arXiv:1910.10683, section 2.1).

    Attention scores are not divided by sqrt(head_dim) where this is used, which the initialisation makes up for.
    """

    buckets: int = 32
    most_distance: int = 128
    """From here on all distances share the last bucket."""


Positions = Rotary | Learned | RelativeBuckets


@dataclass(frozen=True)
class Norm:
    """What stands before a sub-layer.

    rms: gain * x / sqrt(mean(x^2) + eps) (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4). layer: the same of
    x - mean(x), plus a bias where there is one (Ba et al. 2016, arXiv:1607.06450).
    """

    kind: Literal["rms", "layer"] = "rms"
    eps: float = 1e-5
    bias: bool = False


@dataclass(frozen=True)
class FeedForward:
    """The position-wise transformation of inner size `width`.

    Gated: W_down (f(W_gate x) * W_up x), f the SiLU (swiglu) or the tanh form of GELU (geglu) (Shazeer 2020,
    arXiv:2002.05202, eqs. 5 and 6). Plain: W_down f(W_up x), f the tanh form of GELU or ReLU.
    """

    width: int
    kind: Literal["swiglu", "geglu", "gelu", "relu"] = "swiglu"
    bias: bool = False

    @property
    def gated(self) -> bool:
        """Whether there is a third matrix, the gate."""
        return self.kind in ("swiglu", "geglu")


@dataclass(frozen=True)
class Window:
    """Attention that reaches `size` tokens back, the token itself counted, in some layers (all where none is named)."""

    size: int
    layers: tuple[int, ...] | None = None


SIZES = ("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "context_length")
LARGEST = 2**40
"""Of every size: beyond any model, and small enough that products of sizes can be said in a message."""


@dataclass(frozen=True)
class ModelSpec:
    """A Transformer, decoder-only or with an encoder; sizes in units (not multiples), `context_length` in tokens.

    Raises `CamelidError` where the sizes contradict each other.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    feed_forward: FeedForward
    positions: Positions = field(default_factory=Rotary)
    norm: Norm = field(default_factory=Norm)
    tie_embeddings: bool = False
    attention_bias: Literal["none", "qkv", "all"] = "none"
    """Which of the attention's linears have a bias: none, those of queries, keys and values, or the output's too."""
    query_key_norm: bool = False
    """RMSNorm of every query and key before their rotation (Qwen3)."""
    window: Window | None = None
    parallel: bool = False
    """Attention and feed-forward read the same norm and are added together (PaLM, arXiv:2204.02311, section 2)."""
    output_scale: float = 1.0
    """What the last hidden states are multiplied by before they become logits."""
    encoder_layers: int = 0
    """Layers of an encoder that reads a source text; the decoder's layers then attend to it."""
    dropout: float = 0.0
    """Share of activations dropped in training: of embeddings, attention weights, sub-layers; T5 in its five places."""

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in SIZES} | {
            "feed_forward.width": self.feed_forward.width
        }
        if isinstance(self.positions, RelativeBuckets):
            sizes |= {"positions.buckets": self.positions.buckets}
        for name, size in sizes.items():
            if not 1 <= size <= LARGEST:
                raise CamelidError(f"{name} is {shortened(size)}; it must be from 1 to {LARGEST:,}")
        for name, number in self._numbers().items():
            if not 0 < number < math.inf:
                raise CamelidError(f"{name} is {number}; it must be a number above 0")
        if self.num_heads % self.num_kv_heads:
            raise CamelidError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                f"choose num_kv_heads among the divisors of {self.num_heads}"
            )
        if isinstance(self.positions, Rotary) and self.head_dim % 2:
            raise CamelidError(f"head_dim is {self.head_dim}; rotary positions need an even one")
        if self.window is not None and self.window.size < 1:
            raise CamelidError(f"window.size is {self.window.size}; a token sees at least itself: at least 1")
        if not 0 <= self.dropout < 1:
            raise CamelidError(f"dropout is {self.dropout}; a share from 0 up to 1 is needed")
        if not 0 <= self.encoder_layers <= LARGEST or (
            self.encoder_layers and not isinstance(self.positions, RelativeBuckets)
        ):
            raise CamelidError(
                f"encoder_layers is {shortened(self.encoder_layers)}; an encoder needs at least 1 and relative positions, as T5 has"
            )

    def _numbers(self) -> dict[str, float]:
        """Those by which something is multiplied or divided."""
        numbers = {"norm.eps": self.norm.eps, "output_scale": self.output_scale}
        if isinstance(self.positions, Rotary):
            numbers["positions.theta"] = self.positions.theta
            scaling = {} if self.positions.scaling is None else vars(self.positions.scaling)
            numbers |= {f"positions.scaling.{name}": number for name, number in scaling.items()}
        return numbers

    @classmethod
    def llama(
        cls,
        *,
        vocab_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        feed_forward_width: int | None = None,
        context_length: int = 2048,
        rope_theta: float = 10000.0,
        tie_embeddings: bool = False,
    ) -> "ModelSpec":
        """LLaMA (arXiv:2302.13971): heads share the width; the feed-forward is 8/3 of it unless given.

        The default width rounds up to a multiple of 32, where the paper's code rounds to 256: the same rule at
        sizes that fit a laptop. Raises `CamelidError` where the heads do not divide the width.
        """
        if num_heads < 1 or (head_dim is None and hidden_size % num_heads):
            raise CamelidError(
                f"hidden_size {hidden_size} is not a multiple of num_heads {num_heads}; "
                "change one of them so that every head gets the same width"
            )
        width = feed_forward_width or -(-8 * hidden_size // 3 // 32) * 32
        return cls(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads or num_heads,
            head_dim=head_dim or hidden_size // num_heads,
            context_length=context_length,
            feed_forward=FeedForward(width),
            positions=Rotary(rope_theta),
            tie_embeddings=tie_embeddings,
        )

    @property
    def attention_scale(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return 1.0 if isinstance(self.positions, RelativeBuckets) else float(self.head_dim**-0.5)

    def window_of(self, layer: int) -> int | None:
        """How many tokens a query of this layer sees at most; None: all before it."""
        if self.window is None or (self.window.layers is not None and layer not in self.window.layers):
            return None
        return self.window.size

    def parameter_count(self) -> int:
        """All parameters, a tied embedding counted once."""
        norm = self.hidden_size * (2 if self.norm.bias else 1)
        attention = self._attention() + self._attention_extras()
        feed_forward = self._feed_forward() + self._feed_forward_biases()
        encoder = decoder = attention + feed_forward + (1 if self.parallel else 2) * norm
        stacks = 1
        if self.encoder_layers:
            decoder += attention + norm
            stacks = 2
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        layers = self.num_layers * decoder + self.encoder_layers * encoder
        return layers + embeddings + stacks * (norm + self._position_table())

    def matmul_parameters(self) -> int:
        """Weights that multiply activations: all linears and the output projection, not the embedding look-up."""
        layer = self._attention() + self._feed_forward()
        cross = self._attention() if self.encoder_layers else 0
        layers = self.num_layers * (layer + cross) + self.encoder_layers * layer
        return layers + self.vocab_size * self.hidden_size

    def training_flops_per_token(self, context: int | None = None) -> float:
        """6 N + 12 L H Q T with N the matmul weights (PaLM, arXiv:2204.02311, App. B), T no more than a layer's window.

        A token of an encoder-decoder passes one of the two stacks, so that is taken as half of it (T5's convention that
        an encoder-decoder of 2 P parameters costs what a decoder of P does; arXiv:1910.10683, section 3.2.2).
        """
        context = context or self.context_length
        windows = (self.window_of(layer) for layer in range(self.num_layers))
        reach = sum(context if window is None else min(window, context) for window in windows)
        attention = 12 * self.num_heads * self.head_dim * (reach + 2 * self.encoder_layers * context)
        total = 6 * self.matmul_parameters() + attention
        return total / 2 if self.encoder_layers else total

    def _attention(self) -> int:
        queries = self.hidden_size * self.num_heads * self.head_dim
        keys_values = 2 * self.hidden_size * self.num_kv_heads * self.head_dim
        return 2 * queries + keys_values

    def _attention_extras(self) -> int:
        """Biases, and the gains of query and key norms."""
        projected = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        biases = {"none": 0, "qkv": projected, "all": projected + self.hidden_size}[self.attention_bias]
        return biases + (2 * self.head_dim if self.query_key_norm else 0)

    def _feed_forward(self) -> int:
        return (3 if self.feed_forward.gated else 2) * self.hidden_size * self.feed_forward.width

    def _feed_forward_biases(self) -> int:
        if not self.feed_forward.bias:
            return 0
        return (2 if self.feed_forward.gated else 1) * self.feed_forward.width + self.hidden_size

    def _position_table(self) -> int:
        """Entries of a stack's table of positions."""
        match self.positions:
            case Learned():
                return self.context_length * self.hidden_size
            case RelativeBuckets(buckets):
                return buckets * self.num_heads
            case Rotary():
                return 0

    def kv_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes that one cached token takes over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value
