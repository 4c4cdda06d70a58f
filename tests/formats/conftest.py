"""Tiny random LLaMA models over the spread of shapes that the family allows, and the same as GGUF files."""

import random
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from lineage import randomise
from transformers import LlamaConfig, LlamaForCausalLM

ROPES: tuple[dict[str, Any], ...] = (
    {"rope_type": "default", "rope_theta": 10000.0},
    {"rope_type": "default", "rope_theta": 500000.0},
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
)


def llama_config(seed: int) -> LlamaConfig:
    draw = random.Random(seed)
    kv_heads, group = draw.choice((1, 2, 3)), draw.choice((1, 2, 4))
    heads, head_dim = kv_heads * group, draw.choice((4, 6, 8))
    return LlamaConfig(
        vocab_size=draw.randrange(50, 90),
        hidden_size=heads * draw.choice((head_dim, 5, 10)),
        intermediate_size=draw.choice((16, 44)),
        num_hidden_layers=draw.choice((1, 2, 3)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=64,
        rms_norm_eps=draw.choice((1e-5, 1e-6)),
        rope_parameters=ROPES[seed % len(ROPES)],
        tie_word_embeddings=draw.random() < 0.5,
        attention_bias=draw.random() < 0.3,
        mlp_bias=draw.random() < 0.3,
    )


@pytest.fixture
def random_llama():
    """A function from a seed to a random `LlamaForCausalLM` of transformers."""

    def make(seed: int) -> LlamaForCausalLM:
        model = LlamaForCausalLM(llama_config(seed)).eval()
        randomise(model, seed)
        return model

    return make


@pytest.fixture
def tokens():
    """A function from a vocabulary's size to token ids [2, 40], longer than llama3's original context
    above."""

    def draw(vocab_size: int) -> torch.Tensor:
        return torch.randint(vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))

    return draw


@pytest.fixture
def follow():
    """A function (model, prompt, continuation) to the logits after the prompt and the greedy choice at every
    step.

    The choices equal the continuation exactly where greedy decoding would have written it.
    """

    def run(
        model: torch.nn.Module, prompt: list[int], continuation: list[int]
    ) -> tuple[torch.Tensor, list[int]]:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + continuation[:-1]]))[0, len(prompt) - 1 :]
        return logits[0], logits.argmax(-1).tolist()

    return run


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def name_in_gguf(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    if not module.startswith("model.layers."):
        return f"{GGUF_NAMES[module]}.{kind}"
    _, _, layer, module = module.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[module]}.{kind}"


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py: halves of a head become neighbouring
    pairs."""
    pairs = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def write_gguf(path, model, *, skip=(), changes=None, extra=None, **options) -> None:
    """A transformers model in float32 with a vocabulary as large as its embedding; `changes` replace keys."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama", **options)
    values = {
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.rope.dimension_count": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*(chr(0x100 + index) for index in range(config.vocab_size - 1)), "Āā"],
        "tokenizer.ggml.merges": ["Ā ā"],
        "tokenizer.ggml.eos_token_id": 2,
    } | (changes or {})
    for key, value in values.items():
        if key not in skip:
            add = {
                str: writer.add_string,
                int: writer.add_uint32,
                bool: writer.add_bool,
                float: writer.add_float32,
                list: writer.add_array,
            }
            add[type(value)](key, value)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if (stored := name_in_gguf(name)) in skip or (
            name == "lm_head.weight" and config.tie_word_embeddings
        ):
            continue
        weights = tensor.numpy()
        if (owner := name.split(".")[-2]) in heads:
            weights = permuted(weights, heads[owner])
        writer.add_tensor(stored, weights)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def write(random_llama, tmp_path):
    """A function that writes a random model as tmp_path/model.gguf and gives its path and the model."""

    def make(seed: int = 0, **options):
        model, path = random_llama(seed), tmp_path / "model.gguf"
        write_gguf(path, model, **options)
        return path, model

    return make
