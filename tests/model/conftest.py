"""Tiny random LLaMA models over the spread of shapes that the family allows."""

import random
from typing import Any

import pytest
import torch
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


@torch.no_grad()
def randomise(model: torch.nn.Module, seed: int) -> None:
    """Fills every parameter, norms and biases too, so that none can be mixed up unseen."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        centre = 1.0 if "norm" in name else 0.0
        parameter.normal_(centre, 0.2, generator=generator)


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
    """A function from a vocabulary's size to token ids [2, 40], longer than llama3's original context above."""

    def draw(vocab_size: int) -> torch.Tensor:
        return torch.randint(vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))

    return draw


@pytest.fixture
def follow():
    """A function (model, prompt, continuation) to the logits after the prompt and the greedy choice at every step.

    The choices equal the continuation exactly where greedy decoding would have written it.
    """

    def run(
        model: torch.nn.Module, prompt: list[int], continuation: list[int]
    ) -> tuple[torch.Tensor, list[int]]:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + continuation[:-1]]))[0, len(prompt) - 1 :]
        return logits[0], logits.argmax(-1).tolist()

    return run
