"""The description of a model: every supported architecture is a value of `ModelSpec`."""

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
    """Llama 3.1's frequency-dependent interpolation: long wavelengths divided by `factor`, not short ones."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context_length: int


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864, eq. 34) on halves, as Hugging Face stores
    it.
    """

    theta: float = 10000.0
    scaling: LinearScaling | Llama3Scaling | None = None
    dims: int | None = None
    """Rotated dimensions at the start of each head (GPT-NeoX, GPT-J); None: all."""


@dataclass(frozen=True)
class Learned:
    """A learned vector for each of `context_length` positions, added to the embedding (GPT-2)."""

    offset: int = 0
    """Vectors before that of the first position: OPT has two, which no text uses."""


@dataclass(frozen=True)
class RelativeBuckets:
    """T5's learned bias per head and bucket of distances, one table per stack (arXiv:1910.10683, section
    2.1).

    Attention scores are then not divided by sqrt(head_dim); the initialisation compensates for it.
    """

    buckets: int = 32
    most_distance: int = 128
    """Distances from here on share the last bucket."""


Positions = Rotary | Learned | RelativeBuckets


@dataclass(frozen=True)
class Norm:
    """The normalisation before a sub-layer; without `gain` (Galactica) it has no parameters.

    rms: gain * x / sqrt(mean(x^2) + eps) (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4). layer: the same
    for x - mean(x), plus an optional bias (Ba et al. 2016, arXiv:1607.06450).
    """

    kind: Literal["rms", "layer"] = "rms"
    eps: float = 1e-5
    bias: bool = False
    gain: bool = True


@dataclass(frozen=True)
class FeedForward:
    """The feed-forward network with inner size `width`.

    Gated: W_down (f(W_gate x) * W_up x), f the SiLU (swiglu) or the tanh form of GELU (geglu) (Shazeer 2020,
    arXiv:2002.05202, eqs. 5 and 6). Plain: W_down f(W_up x), f the tanh form of GELU, GELU itself (exact) or
    ReLU.
    """

    width: int
    kind: Literal["swiglu", "geglu", "gelu", "exact_gelu", "relu"] = "swiglu"
    bias: bool = False

    @property
    def gated(self) -> bool:
        """Whether it has a gate, a third matrix."""
        return self.kind in ("swiglu", "geglu")


@dataclass(frozen=True)
class Window:
    """Sliding-window attention over the last `size` tokens, the current one included; layers: None: all."""

    size: int
    layers: tuple[int, ...] | None = None


SIZES = ("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim", "context_length")
LARGEST = 2**40
"""Upper limit of every size: beyond any model, but small enough to print products of sizes."""


@dataclass(frozen=True)
class ModelSpec:
    """A Transformer, decoder-only or with an encoder; sizes in units (not multiples), `context_length` in
    tokens.

    Raises `CamelidError` if the sizes contradict each other.
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
    """Which attention linears have a bias: none, those of queries, keys and values, or also the output's."""
    query_key_norm: bool = False
    """RMSNorm of every query and key before rotation (Qwen3)."""
    window: Window | None = None
    parallel: bool = False
    """Attention and feed-forward read the same norm and are added together (PaLM, arXiv:2204.02311, section
    2).
    """
    separate_norms: bool = False
    """In parallel blocks, attention and feed-forward have a norm each (GPT-NeoX, arXiv:2204.06745, section
    2.1).
    """
    output_bias: bool = False
    """Whether the output projection, then not tied, has a bias (GPT-J)."""
    output_scale: float = 1.0
    """Factor on the last hidden states before the output projection."""
    encoder_layers: int = 0
    """Layers of an encoder for a source text, to which the decoder's layers attend; 0: no encoder."""
    dropout: float = 0.0
    """Dropout probability in training, on embeddings, attention weights and sub-layers; in T5 in its five
    places.
    """

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
                raise CamelidError(f"{name} is {number}; it must be a finite number above 0")
        if self.num_heads % self.num_kv_heads:
            raise CamelidError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                f"choose num_kv_heads among the divisors of {self.num_heads}"
            )
        if isinstance(self.positions, Rotary) and self.head_dim % 2:
            raise CamelidError(f"head_dim is {self.head_dim}; rotary positions need an even one")
        dims = self.positions.dims if isinstance(self.positions, Rotary) else None
        if dims is not None and (dims % 2 or not 2 <= dims <= self.head_dim):
            raise CamelidError(
                f"positions.dims is {shortened(dims)}; it must be even, from 2 to head_dim {self.head_dim}"
            )
        if self.output_bias and self.tie_embeddings:
            raise CamelidError("output_bias needs an output projection: set tie_embeddings to false")
        if self.window is not None and self.window.size < 1:
            raise CamelidError(f"window.size is {self.window.size}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise CamelidError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if not 0 <= self.encoder_layers <= LARGEST or (
            self.encoder_layers and not isinstance(self.positions, RelativeBuckets)
        ):
            raise CamelidError(
                f"encoder_layers is {shortened(self.encoder_layers)}; an encoder needs at least 1 and "
                "relative positions, as in T5"
            )

    def _numbers(self) -> dict[str, float]:
        """The fields that are factors or divisors."""
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
        """LLaMA (arXiv:2302.13971): heads divide the width; the feed-forward is 8/3 of it by default.

        The default feed-forward width is rounded up to a multiple of 32; the paper's code rounds to 256,
        which is too coarse for small models. Raises `CamelidError` if the heads do not divide the width.
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
        """Factor on the products of queries and keys."""
        return 1.0 if isinstance(self.positions, RelativeBuckets) else float(self.head_dim**-0.5)

    def window_of(self, layer: int) -> int | None:
        """The attention window of this layer in tokens; None: unlimited."""
        if self.window is None or (self.window.layers is not None and layer not in self.window.layers):
            return None
        return self.window.size

    def parameter_count(self) -> int:
        """Number of parameters, with a tied embedding counted once."""
        norm = self.hidden_size * (self.norm.gain + self.norm.bias)
        attention = self._attention() + self._attention_extras()
        feed_forward = self._feed_forward() + self._feed_forward_biases()
        encoder = decoder = attention + feed_forward + self._norms() * norm
        stacks = 1
        if self.encoder_layers:
            decoder += attention + norm
            stacks = 2
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        embeddings += self.vocab_size if self.output_bias else 0
        layers = self.num_layers * decoder + self.encoder_layers * encoder
        return layers + embeddings + stacks * (norm + self._position_table())

    def matmul_parameters(self) -> int:
        """Number of weights in matrix products: all linears and the output projection, not the embedding."""
        layer = self._attention() + self._feed_forward()
        cross = self._attention() if self.encoder_layers else 0
        layers = self.num_layers * (layer + cross) + self.encoder_layers * layer
        return layers + self.vocab_size * self.hidden_size

    @property
    def most_tokens(self) -> float:
        """The most tokens that are read at a time; without end where positions are relative."""
        return math.inf if isinstance(self.positions, RelativeBuckets) else self.context_length

    def training_flops_per_token(self, context: int | None = None) -> float:
        """6 N + 12 L H Q T with N the matmul weights (PaLM, arXiv:2204.02311, App. B), T at most a layer's
        window.

        For an encoder-decoder this is halved, since a token passes only one of the two stacks (T5's
        convention: an encoder-decoder of 2 P parameters costs as much as a decoder of P; arXiv:1910.10683,
        section 3.2.2).
        """
        context = context or self.context_length
        windows = (self.window_of(layer) for layer in range(self.num_layers))
        reach = sum(context if window is None else min(window, context) for window in windows)
        attention = 12 * self.num_heads * self.head_dim * (reach + 2 * self.encoder_layers * context)
        total = 6 * self.matmul_parameters() + attention
        return total / 2 if self.encoder_layers else total

    def _norms(self) -> int:
        """Norms of a block without cross-attention."""
        return 1 if self.parallel and not self.separate_norms else 2

    def _attention(self) -> int:
        queries = self.hidden_size * self.num_heads * self.head_dim
        keys_values = 2 * self.hidden_size * self.num_kv_heads * self.head_dim
        return 2 * queries + keys_values

    def _attention_extras(self) -> int:
        """Parameters of biases and of query and key norms."""
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
        """Parameters of a stack's position table."""
        match self.positions:
            case Learned(offset):
                return (self.context_length + offset) * self.hidden_size
            case RelativeBuckets(buckets):
                return buckets * self.num_heads
            case Rotary():
                return 0

    def kv_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes of one cached token over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value
