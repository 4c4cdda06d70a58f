"""Models of every kind that the decoder in C computes, and how tests ask a decoder."""

import shutil
from dataclasses import replace

import pytest
import torch

from camelid.engine.blocks import CachedSequence
from camelid.engine.decoder import Decoder, Extension
from camelid.model.spec import FeedForward, LinearScaling, ModelSpec, Norm, Rotary, Window
from camelid.model.transformer import Transformer

NEEDS_COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: torch computes alone here"
)

PLAIN = ModelSpec(
    vocab_size=99,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    context_length=128,
    feed_forward=FeedForward(96),
)
SPECS = {
    "plain": PLAIN,
    "tied, one key-value head": replace(PLAIN, tie_embeddings=True, num_kv_heads=1),
    "biases": replace(PLAIN, attention_bias="all", feed_forward=replace(PLAIN.feed_forward, bias=True)),
    "sizes that fill no vector": replace(PLAIN, hidden_size=37, head_dim=10, feed_forward=FeedForward(71)),
    "heads that do not share": replace(PLAIN, num_heads=5, num_kv_heads=5, head_dim=34),
    "norms of queries and keys, windows": replace(PLAIN, query_key_norm=True, window=Window(7, (1,))),
    "many heads share": replace(PLAIN, num_heads=20, num_kv_heads=1, head_dim=8),
    "six heads share": replace(PLAIN, num_heads=6, num_kv_heads=1, head_dim=8, norm=Norm(eps=1e-2)),
    "scaled positions": replace(
        PLAIN, positions=Rotary(1000.0, LinearScaling(4.0)), feed_forward=FeedForward(33)
    ),
}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2}


def extend(
    decoder: Decoder, sequences: list[CachedSequence], tokens: list[list[int]], every: bool = False
) -> torch.Tensor:
    return decoder.extend(
        [
            Extension(sequence, ids, len(ids) if every else 1)
            for sequence, ids in zip(sequences, tokens, strict=True)
        ]
    ).logits


def fresh(decoder: Decoder, count: int) -> list[CachedSequence]:
    return [CachedSequence(decoder.pool) for _ in range(count)]


def random_model(spec: ModelSpec) -> Transformer:
    model = Transformer(spec).initialize(1, std=0.15).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(
                    torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)), alpha=0.3
                )
    return model


def ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 99, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool((ours - theirs).abs().max() <= TOLERANCE[dtype] * theirs.abs().max())
