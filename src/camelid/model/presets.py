"""Published models by name: GPT-2, GPT-3, PaLM, T5, LLaMA, the bases of early assistants (Pythia, GPT-J, OPT,
Galactica), and close relatives in use today.

Sizes of GPT-2 to LLaMA come from the papers (see docs/lineage.md for sources and open points), the others
from the config.json published with the weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from camelid.base.errors import WrongCall
from camelid.model.architectures import Architecture, of_architecture
from camelid.model.spec import Llama3Scaling, ModelSpec, Norm, Rotary


def published(
    architecture: Architecture,
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    width: int | None = None,
    *,
    vocab_size: int,
    context_length: int,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    tied: bool = True,
    **own: object,
) -> ModelSpec:
    """A spec of an architecture; width: of the feed-forward, by default the architecture's; own: other fields
    to set.
    """
    plain = ModelSpec.llama(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        context_length=context_length,
        tie_embeddings=tied,
    )
    spec = of_architecture(architecture, plain)
    if width is not None:
        own["feed_forward"] = replace(spec.feed_forward, width=width)
    return replace(spec, **own)  # type: ignore[arg-type]


def gpt2(hidden_size: int, num_layers: int, num_heads: int) -> ModelSpec:
    """GPT-2 (Radford et al. 2019), with its vocabulary, context and dropout."""
    return published(
        "gpt2", hidden_size, num_layers, num_heads, vocab_size=50257, context_length=1024, dropout=0.1
    )


def gpt3(hidden_size: int, num_layers: int, num_heads: int) -> ModelSpec:
    """GPT-3 (arXiv:2005.14165, Table 2.1)."""
    return published("gpt3", hidden_size, num_layers, num_heads, vocab_size=50257, context_length=2048)


def palm(hidden_size: int, num_layers: int, num_heads: int) -> ModelSpec:
    """PaLM (arXiv:2204.02311, Table 1): heads of 256 at every size."""
    return published(
        "palm", hidden_size, num_layers, num_heads, vocab_size=256_000, context_length=2048, head_dim=256
    )


def t5(
    hidden_size: int, num_layers: int, num_heads: int, width: int, *, head_dim: int = 64, v1_1: bool = False
) -> ModelSpec:
    """T5 (arXiv:1910.10683, section 3.5); 1.1 is pretrained without dropout."""
    return published(
        "t5-v1.1" if v1_1 else "t5",
        hidden_size,
        num_layers,
        num_heads,
        width,
        vocab_size=32128,
        context_length=512,
        head_dim=head_dim,
        dropout=0.0 if v1_1 else 0.1,
    )


def llama(
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    width: int,
    *,
    architecture: Architecture = "llama",
    vocab_size: int = 32000,
    context_length: int = 2048,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    positions: Rotary | None = None,
    eps: float = 1e-5,
    tied: bool = False,
) -> ModelSpec:
    """LLaMA (arXiv:2302.13971, Table 2) and its relatives."""
    return published(
        architecture,
        hidden_size,
        num_layers,
        num_heads,
        width,
        vocab_size=vocab_size,
        context_length=context_length,
        kv_heads=kv_heads,
        head_dim=head_dim,
        tied=tied,
        positions=positions or Rotary(),
        norm=Norm(eps=eps),
    )


def neox(hidden_size: int, num_layers: int, num_heads: int, vocab_size: int = 50304) -> ModelSpec:
    """GPT-NeoX-20B (arXiv:2204.06745) and Pythia (arXiv:2304.01373, Table 1), on which Dolly 2.0 stands."""
    sizes = (hidden_size, num_layers, num_heads)
    return published("gpt-neox", *sizes, vocab_size=vocab_size, context_length=2048)


def opt(hidden_size: int, num_layers: int, num_heads: int) -> ModelSpec:
    """OPT (arXiv:2205.01068, Table 1), with the 50,272 rows that its embedding is padded to."""
    return published("opt", hidden_size, num_layers, num_heads, vocab_size=50272, context_length=2048)


def galactica(hidden_size: int, num_layers: int, num_heads: int) -> ModelSpec:
    """Galactica (arXiv:2211.09085, section 4.1 and its table of sizes), on which Galpaca stands."""
    return published("galactica", hidden_size, num_layers, num_heads, vocab_size=50000, context_length=2048)


def _llama3(
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    width: int,
    *,
    scaling: float | None = None,
    tied: bool = False,
) -> ModelSpec:
    return llama(
        hidden_size,
        num_layers,
        num_heads,
        width,
        kv_heads=8,
        vocab_size=128_256,
        context_length=8192 if scaling is None else 131_072,
        positions=Rotary(5e5, None if scaling is None else Llama3Scaling(scaling, 1.0, 4.0, 8192)),
        tied=tied,
    )


def _qwen2(
    hidden_size: int,
    num_layers: int,
    num_heads: int,
    width: int,
    *,
    kv_heads: int,
    vocab_size: int = 151_936,
    tied: bool = False,
) -> ModelSpec:
    return llama(
        hidden_size,
        num_layers,
        num_heads,
        width,
        kv_heads=kv_heads,
        vocab_size=vocab_size,
        context_length=32_768,
        positions=Rotary(1e6),
        eps=1e-6,
        tied=tied,
        architecture="qwen2",
    )


def _qwen3(hidden_size: int, num_layers: int, num_heads: int, width: int, *, tied: bool = False) -> ModelSpec:
    return llama(
        hidden_size,
        num_layers,
        num_heads,
        width,
        kv_heads=8,
        head_dim=128,
        vocab_size=151_936,
        context_length=40_960,
        positions=Rotary(1e6),
        eps=1e-6,
        tied=tied,
        architecture="qwen3",
    )


PRESETS: Mapping[str, Callable[[], ModelSpec]] = {
    "gpt2": lambda: gpt2(768, 12, 12),
    "gpt2-medium": lambda: gpt2(1024, 24, 16),
    "gpt2-large": lambda: gpt2(1280, 36, 20),
    "gpt2-xl": lambda: gpt2(1600, 48, 25),
    "gpt3-125m": lambda: gpt3(768, 12, 12),
    "gpt3-350m": lambda: gpt3(1024, 24, 16),
    "gpt3-760m": lambda: gpt3(1536, 24, 16),
    "gpt3-1.3b": lambda: gpt3(2048, 24, 16),  # the table says 24 heads of 128, but that is 3,072, not 2,048
    "gpt3-2.7b": lambda: gpt3(2560, 32, 32),
    "gpt3-6.7b": lambda: gpt3(4096, 32, 32),
    "gpt3-13b": lambda: gpt3(5120, 40, 40),  # the table says 5,140, which is not divisible by 40 heads
    "gpt3-175b": lambda: gpt3(12288, 96, 96),
    "palm-8b": lambda: palm(4096, 32, 16),
    "palm-62b": lambda: palm(8192, 64, 32),
    "palm-540b": lambda: palm(18432, 118, 48),
    "t5-small": lambda: t5(512, 6, 8, 2048),
    "t5-base": lambda: t5(768, 12, 12, 3072),
    "t5-large": lambda: t5(1024, 24, 16, 4096),
    "t5-3b": lambda: t5(1024, 24, 32, 16384, head_dim=128),
    "t5-11b": lambda: t5(1024, 24, 128, 65536, head_dim=128),
    "t5-v1.1-small": lambda: t5(512, 8, 6, 1024, v1_1=True),
    "t5-v1.1-base": lambda: t5(768, 12, 12, 2048, v1_1=True),
    "t5-v1.1-large": lambda: t5(1024, 24, 16, 2816, v1_1=True),
    "t5-v1.1-xl": lambda: t5(2048, 24, 32, 5120, v1_1=True),
    "t5-v1.1-xxl": lambda: t5(4096, 24, 64, 10240, v1_1=True),
    "pythia-14m": lambda: neox(128, 6, 4),
    "pythia-31m": lambda: neox(256, 6, 8),
    "pythia-70m": lambda: neox(512, 6, 8),
    "pythia-160m": lambda: neox(768, 12, 12),
    "pythia-410m": lambda: neox(1024, 24, 16),
    "pythia-1b": lambda: neox(2048, 16, 8),
    "pythia-1.4b": lambda: neox(2048, 24, 16),
    "pythia-2.8b": lambda: neox(2560, 32, 32),
    "pythia-6.9b": lambda: neox(4096, 32, 32, vocab_size=50432),
    "pythia-12b": lambda: neox(5120, 36, 40, vocab_size=50688),
    "gpt-neox-20b": lambda: neox(6144, 44, 64, vocab_size=50432),
    "gpt-j-6b": lambda: published("gpt-j", 4096, 28, 16, vocab_size=50400, context_length=2048),
    "opt-125m": lambda: opt(768, 12, 12),  # opt-350m normalises after its sub-layers; it is not supported
    "opt-1.3b": lambda: opt(2048, 24, 32),
    "opt-2.7b": lambda: opt(2560, 32, 32),
    "opt-6.7b": lambda: opt(4096, 32, 32),
    "opt-13b": lambda: opt(5120, 40, 40),
    "opt-30b": lambda: opt(7168, 48, 56),
    "opt-66b": lambda: opt(9216, 64, 72),
    "opt-175b": lambda: opt(12288, 96, 96),
    "galactica-125m": lambda: galactica(768, 12, 12),
    "galactica-1.3b": lambda: galactica(2048, 24, 32),
    "galactica-6.7b": lambda: galactica(4096, 32, 32),
    "galactica-30b": lambda: galactica(7168, 48, 56),
    "galactica-120b": lambda: galactica(10240, 96, 80),
    "llama-7b": lambda: llama(4096, 32, 32, 11008, eps=1e-6),
    "llama-13b": lambda: llama(5120, 40, 40, 13824, eps=1e-6),
    "llama-33b": lambda: llama(6656, 60, 52, 17920, eps=1e-6),
    "llama-65b": lambda: llama(8192, 80, 64, 22016),
    "llama2-7b": lambda: llama(4096, 32, 32, 11008, context_length=4096),
    "llama2-13b": lambda: llama(5120, 40, 40, 13824, context_length=4096),
    "llama2-70b": lambda: llama(8192, 80, 64, 28672, kv_heads=8, context_length=4096),
    "llama3-8b": lambda: _llama3(4096, 32, 32, 14336),
    "llama3-70b": lambda: _llama3(8192, 80, 64, 28672),
    "llama3.1-8b": lambda: _llama3(4096, 32, 32, 14336, scaling=8.0),
    "llama3.2-1b": lambda: _llama3(2048, 16, 32, 8192, scaling=32.0, tied=True),
    "llama3.2-3b": lambda: _llama3(3072, 28, 24, 8192, scaling=32.0, tied=True),
    "tinyllama-1.1b": lambda: llama(2048, 22, 32, 5632, kv_heads=4),
    "smollm-135m": lambda: llama(576, 30, 9, 1536, kv_heads=3, vocab_size=49152, tied=True),
    "smollm2-135m": lambda: llama(
        576, 30, 9, 1536, kv_heads=3, vocab_size=49152, tied=True, context_length=8192, positions=Rotary(1e5)
    ),
    "smollm2-360m": lambda: llama(
        960, 32, 15, 2560, kv_heads=5, vocab_size=49152, tied=True, context_length=8192, positions=Rotary(1e5)
    ),
    "smollm2-1.7b": lambda: llama(
        2048, 24, 32, 8192, vocab_size=49152, tied=True, context_length=8192, positions=Rotary(130_000.0)
    ),
    "mistral-7b": lambda: llama(
        4096, 32, 32, 14336, kv_heads=8, context_length=32768, architecture="mistral"
    ),
    "qwen2.5-0.5b": lambda: _qwen2(896, 24, 14, 4864, kv_heads=2, tied=True),
    "qwen2.5-1.5b": lambda: _qwen2(1536, 28, 12, 8960, kv_heads=2, tied=True),
    "qwen2.5-7b": lambda: _qwen2(3584, 28, 28, 18944, kv_heads=4, vocab_size=152064),
    "qwen3-0.6b": lambda: _qwen3(1024, 28, 16, 3072, tied=True),
    "qwen3-1.7b": lambda: _qwen3(2048, 28, 16, 6144, tied=True),
    "qwen3-8b": lambda: _qwen3(4096, 36, 32, 12288),
}


def preset(name: str) -> ModelSpec:
    """The published model of this name; raises `WrongCall` with the available names."""
    if name not in PRESETS:
        raise WrongCall(f"no model is called {name!r}; available: {', '.join(PRESETS)} (see camelid models)")
    return PRESETS[name]()
