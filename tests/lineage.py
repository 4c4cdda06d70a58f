"""Random small models of every family, made by transformers, over the spread of shapes that each allows."""

import random
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from camelid.model.cache import KeyValueCache
from camelid.model.spec import ModelSpec


def empty_cache(spec: ModelSpec, batch: int, capacity: int) -> KeyValueCache:
    """A cache of `batch` sequences of up to `capacity` tokens, a block for each."""
    keys, values = torch.zeros(2, spec.num_layers, batch, capacity, spec.num_kv_heads, spec.head_dim)
    lengths = torch.zeros(batch, dtype=torch.long)
    return KeyValueCache(keys, values, torch.arange(batch)[:, None], lengths, fresh=True)


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Fills every parameter, norms and biases too, so that none can be mixed up unseen."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        centre = 1.0 if "norm" in name else 0.0
        parameter.normal_(centre, 0.2, generator=generator)


def _heads(draw: random.Random) -> dict[str, Any]:
    kv_heads, group = draw.choice((1, 2, 3)), draw.choice((1, 2, 4))
    return {"num_attention_heads": kv_heads * group, "num_key_value_heads": kv_heads}


def _llama_like(draw: random.Random, **more: Any) -> dict[str, Any]:
    heads = _heads(draw)
    return {
        "vocab_size": draw.randrange(50, 90),
        "hidden_size": heads["num_attention_heads"] * draw.choice((8, 10)),
        "intermediate_size": draw.choice((16, 44)),
        "num_hidden_layers": draw.choice((1, 2, 3)),
        **heads,
        "head_dim": draw.choice((4, 6, 8)),
        "max_position_embeddings": 64,
        "rms_norm_eps": draw.choice((1e-5, 1e-6)),
        "rope_parameters": {"rope_type": "default", "rope_theta": draw.choice((1e4, 1e6))},
        "tie_word_embeddings": draw.random() < 0.5,
        "pad_token_id": None,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def mistral(seed: int) -> PreTrainedModel:
    draw = random.Random(seed)
    return MistralForCausalLM(
        MistralConfig(**_llama_like(draw, sliding_window=draw.choice((None, 1, 5, 40))))
    )


def _some_windows(draw: random.Random, count: int) -> dict[str, Any]:
    if draw.random() < 0.4:
        return {"use_sliding_window": False}
    kinds = [draw.choice(("full_attention", "sliding_attention")) for _ in range(count)]
    return {"use_sliding_window": True, "sliding_window": draw.choice((2, 6)), "layer_types": kinds}


def qwen2(seed: int) -> PreTrainedModel:
    draw = random.Random(seed)
    config = _llama_like(draw)
    # transformers' Qwen 2 gives every head the same part of the width.
    config["hidden_size"] = config["num_attention_heads"] * config.pop("head_dim")
    return Qwen2ForCausalLM(Qwen2Config(**config, **_some_windows(draw, config["num_hidden_layers"])))


def qwen3(seed: int) -> PreTrainedModel:
    draw = random.Random(seed)
    config = _llama_like(draw, attention_bias=draw.random() < 0.3)
    return Qwen3ForCausalLM(Qwen3Config(**config, **_some_windows(draw, config["num_hidden_layers"])))


def gpt2(seed: int) -> PreTrainedModel:
    draw = random.Random(seed)
    heads = draw.choice((1, 2, 3, 5))
    dropout = draw.choice((0.0, 0.1))
    config = GPT2Config(
        vocab_size=draw.randrange(50, 90),
        n_positions=64,
        n_embd=heads * draw.choice((4, 6, 7)),
        n_layer=draw.choice((1, 2, 3)),
        n_head=heads,
        n_inner=draw.choice((None, 20)),
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        layer_norm_epsilon=draw.choice((1e-5, 1e-6)),
        tie_word_embeddings=draw.random() < 0.7,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(config)


def cohere(seed: int) -> PreTrainedModel:
    """PaLM's block: parallel, one norm, often one key-value head, an output scale."""
    draw = random.Random(seed)
    config = _llama_like(draw)
    del config["rms_norm_eps"]
    if draw.random() < 0.5:
        config["num_key_value_heads"] = 1
    return CohereForCausalLM(
        CohereConfig(
            **config,
            layer_norm_eps=draw.choice((1e-5, 1e-6)),
            logit_scale=draw.choice((0.0625, 0.3, 1.5)),
            attention_bias=draw.random() < 0.3,
        )
    )


def t5(seed: int) -> PreTrainedModel:
    draw = random.Random(seed)
    ends: dict[str, Any] = {"tie_word_embeddings": seed % 2 == 0, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=draw.randrange(50, 90),
            d_model=draw.choice((12, 16)),
            d_kv=draw.choice((3, 4, 6)),
            d_ff=draw.choice((16, 44)),
            num_layers=draw.choice((1, 2, 3)),
            num_decoder_layers=draw.choice((1, 2, 3)),
            num_heads=draw.choice((1, 2, 4)),
            relative_attention_num_buckets=draw.choice((8, 32)),
            relative_attention_max_distance=draw.choice((20, 128)),
            dropout_rate=draw.choice((0.0, 0.1)),
            layer_norm_epsilon=draw.choice((1e-6, 1e-5)),
            feed_forward_proj=draw.choice(("relu", "gated-gelu")),
            **ends,
        )
    )


def gpt_neox(seed: int) -> PreTrainedModel:
    draw = random.Random(seed)
    heads, head_dim = draw.choice((1, 2, 3)), draw.choice((8, 16, 24))
    rope = {"rope_type": "default", "rope_theta": draw.choice((1e4, 5e4))}
    if draw.random() < 0.3:
        rope |= {"rope_type": "linear", "factor": 4.0}
    config = GPTNeoXConfig(
        vocab_size=draw.randrange(50, 90),
        hidden_size=heads * head_dim,
        num_hidden_layers=draw.choice((1, 2, 3)),
        num_attention_heads=heads,
        intermediate_size=draw.choice((16, 44)),
        hidden_act=draw.choice(("gelu", "gelu", "gelu_new", "relu")),
        max_position_embeddings=64,
        layer_norm_eps=draw.choice((1e-5, 1e-6)),
        rope_parameters=rope | {"partial_rotary_factor": draw.choice((0.25, 0.5, 1.0))},
        use_parallel_residual=draw.random() < 0.6,
        attention_bias=draw.random() < 0.7,
        tie_word_embeddings=draw.random() < 0.3,
    )
    return GPTNeoXForCausalLM(config)


def gpt_j(seed: int) -> PreTrainedModel:
    draw = random.Random(seed)
    heads, head_dim = draw.choice((1, 2, 3)), draw.choice((4, 8, 10))
    dropout = draw.choice((0.0, 0.1))
    config = GPTJConfig(
        vocab_size=draw.randrange(50, 90),
        n_positions=64,
        n_embd=heads * head_dim,
        n_layer=draw.choice((1, 2, 3)),
        n_head=heads,
        rotary_dim=draw.choice((2, 4, head_dim)),
        n_inner=draw.choice((None, 20)),
        activation_function=draw.choice(("gelu_new", "gelu_new", "gelu")),
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        layer_norm_epsilon=draw.choice((1e-5, 1e-6)),
    )
    return GPTJForCausalLM(config)


def opt(seed: int) -> PreTrainedModel:
    """Also Galactica, whose larger models have neither biases nor parameters in their norms."""
    draw = random.Random(seed)
    heads = draw.choice((1, 2, 3))
    config = OPTConfig(
        vocab_size=draw.randrange(50, 90),
        hidden_size=heads * draw.choice((4, 7, 8)),
        num_hidden_layers=draw.choice((1, 2, 3)),
        num_attention_heads=heads,
        ffn_dim=draw.choice((16, 44)),
        max_position_embeddings=64,
        activation_function=draw.choice(("relu", "gelu")),
        enable_bias=draw.random() < 0.6,
        layer_norm_elementwise_affine=draw.random() < 0.6,
        tie_word_embeddings=draw.random() < 0.7,
    )
    return OPTForCausalLM(config)


LINEAGE: dict[str, Callable[[int], PreTrainedModel]] = {
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gpt2": gpt2,
    "cohere": cohere,
    "t5": t5,
    "gpt_neox": gpt_neox,
    "gpt_j": gpt_j,
    "opt": opt,
}

LEAST = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
CLASSES = {
    "LlamaForCausalLM": (LlamaForCausalLM, LEAST),
    "MistralForCausalLM": (MistralForCausalLM, LEAST | {"num_attention_heads": 8}),
    "Qwen2ForCausalLM": (Qwen2ForCausalLM, LEAST | {"hidden_size": 64, "num_attention_heads": 32}),
    "Qwen3ForCausalLM": (Qwen3ForCausalLM, LEAST | {"num_attention_heads": 32}),
    "GPT2LMHeadModel": (GPT2LMHeadModel, {}),
    "CohereForCausalLM": (CohereForCausalLM, {}),
    "T5ForConditionalGeneration": (T5ForConditionalGeneration, {}),
    "GPTNeoXForCausalLM": (GPTNeoXForCausalLM, {}),
    "GPTJForCausalLM": (GPTJForCausalLM, {}),
    "OPTForCausalLM": (OPTForCausalLM, {}),
}
"""Every architecture of transformers that is read, with the least that our reader needs of its
config.json."""
