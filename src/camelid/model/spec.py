"""The small frozen description of a model: every architecture of the survey is a value of `ModelSpec`."""

from dataclasses import dataclass, field
from typing import Literal

from camelid.errors import CamelidError


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
class Norm:
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4): gain * x / sqrt(mean(x^2) + eps)."""

    kind: Literal["rms"] = "rms"
    eps: float = 1e-5


@dataclass(frozen=True)
class FeedForward:
    """SwiGLU (Shazeer 2020, arXiv:2002.05202, eq. 6) of inner size `width`."""

    width: int
    kind: Literal["swiglu"] = "swiglu"


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only Transformer; sizes in units (not multiples), `context_length` in tokens.

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
    positions: Rotary = field(default_factory=Rotary)
    norm: Norm = field(default_factory=Norm)
    tie_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise CamelidError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise CamelidError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}; "
                f"choose num_kv_heads among the divisors of {self.num_heads}"
            )
        if self.head_dim % 2:
            raise CamelidError(f"head_dim is {self.head_dim}; rotary positions need an even one")

    @classmethod
    def llama(
        cls,
        *,
        vocab_size: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        feed_forward_width: int | None = None,
        context_length: int = 2048,
        rope_theta: float = 10000.0,
        tie_embeddings: bool = False,
    ) -> "ModelSpec":
        """LLaMA (arXiv:2302.13971): heads share the width; the feed-forward is 8/3 of it unless given.

        The default width rounds up to a multiple of 32, where the paper's code rounds to 256: the same rule at
        sizes that fit a laptop. Raises `CamelidError` where the heads do not divide the width.
        """
        if num_heads < 1 or hidden_size % num_heads:
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
            head_dim=hidden_size // num_heads,
            context_length=context_length,
            feed_forward=FeedForward(width),
            positions=Rotary(rope_theta),
            tie_embeddings=tie_embeddings,
        )

    def layer_matmul_parameters(self) -> int:
        """Weights of one layer that multiply activations."""
        queries = self.hidden_size * self.num_heads * self.head_dim
        keys_values = 2 * self.hidden_size * self.num_kv_heads * self.head_dim
        return 2 * queries + keys_values + 3 * self.hidden_size * self.feed_forward.width

    def matmul_parameters(self) -> int:
        """Weights that multiply activations: all linears and the output projection, not the embedding look-up."""
        return self.num_layers * self.layer_matmul_parameters() + self.vocab_size * self.hidden_size

    def parameter_count(self) -> int:
        """All parameters, a tied embedding counted once."""
        attention_biases = (self.num_heads + 2 * self.num_kv_heads) * self.head_dim + self.hidden_size
        mlp_biases = 2 * self.feed_forward.width + self.hidden_size
        per_layer = (
            self.layer_matmul_parameters()
            + 2 * self.hidden_size
            + attention_biases * self.attention_bias
            + mlp_biases * self.mlp_bias
        )
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_embeddings else 2)
        return self.num_layers * per_layer + embeddings + self.hidden_size

    def training_flops_per_token(self, context: int | None = None) -> float:
        """FLOPs to train on one token, 6 N + 12 L H Q T with N the matmul weights (PaLM, arXiv:2204.02311, App. B)."""
        attention = 12 * self.num_layers * self.num_heads * self.head_dim * (context or self.context_length)
        return 6 * self.matmul_parameters() + attention

    def kv_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes that one cached token takes over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value
