"""Keys of config.json that disagree, or are nested or incomplete: equal to transformers, or refused by
name."""

from itertools import product

import pytest
import torch
from transformers import AutoConfig, GPT2Config, T5Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.families import family_of
from camelid.model.rotary import inverse_frequencies
from camelid.model.spec import LinearScaling, Rotary

SIZES = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPES = [
    None,
    {},
    {"rope_type": "default"},
    {"rope_theta": 500.0},  # only here since transformers 5: DeepSpeed#8345
    {"rope_theta": 500.0, "rope_type": "default"},
    {"rope_theta": 10000.0, "rope_type": "default"},
    LINEAR,
    {"type": "linear", "factor": 2.0},
    {"rope_type": "linear", "type": "dynamic", "factor": 2.0, "rope_theta": 500.0},
    {"rope_type": "default", "factor": 2.0},
    {"factor": 2.0},
    {"rope_type": "linear"},
    {"rope_type": None, "type": "linear", "factor": 2.0},
    {"rope_theta": None, "rope_type": "default"},
    LLAMA3,
    LLAMA3 | {"original_max_position_embeddings": 1024},
    {key: value for key, value in LLAMA3.items() if key != "low_freq_factor"},
    # nested: vllm#28542
    {"full_attention": LINEAR, "sliding_attention": {"rope_type": "default"}},
    {"full_attention": LINEAR | {"rope_theta": 500.0}},
    {"rope_type": "yarn", "factor": 4.0},
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    "linear",
    4.0,
    [4.0],
]
BESIDE = [{}, {"rope_theta": 500.0}, {"original_max_position_embeddings": 512}, {"rope_theta": None}]


def theirs(config: dict, type_: str) -> torch.Tensor:
    """transformers' inverse frequencies; raises if it does not take the config."""
    read = AutoConfig.for_model(type_, **{key: value for key, value in config.items() if key != "model_type"})
    embedding = LlamaRotaryEmbedding(read)
    assert embedding.attention_scaling == 1
    return embedding.inv_freq


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_rope_settings_equal_transformers_or_are_refused(kind: str):
    names = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    equal = refused = 0
    for scaling, parameters, beside in product(ROPES, ROPES, BESIDE):
        config = (
            SIZES | beside | {"architectures": [names.get(kind, "MistralForCausalLM")], "model_type": kind}
        )
        for key, value in (("rope_scaling", scaling), ("rope_parameters", parameters)):
            if value is not None:
                config[key] = dict(value) if isinstance(value, dict) else value
        try:
            positions = family_of(config).read(config).positions
        except CamelidError as error:
            assert any(word in str(error) for word in ("rope", "factor", "original_max")), error  # noqa: PT017
            refused += 1
            continue
        assert isinstance(positions, Rotary)
        copied = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
        assert torch.allclose(inverse_frequencies(positions, 16), theirs(copied, kind), rtol=1e-6), config
        equal += 1
    assert equal > 300
    assert refused > 300


def test_scaling_added_by_hand_beside_rope_parameters_counts():
    config = SIZES | {"architectures": ["Qwen2ForCausalLM"], "rope_scaling": LINEAR}
    for parameters in ({"rope_type": "default", "rope_theta": 10000.0}, {"rope_type": "default"}):
        for beside in ({}, {"rope_theta": 10000.0}):
            both = config | beside | {"rope_parameters": parameters}
            assert family_of(both).read(both).positions == Rotary(10000.0, LinearScaling(4.0))
    lost = config | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    with pytest.raises(
        CamelidError, match=r"rope_scaling takes the place of rope_parameters, and lacks its rope_theta"
    ):
        family_of(lost).read(lost)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model_type": "qwen2"},
            "model_type is 'qwen2', but LlamaForCausalLM in architectures is of type 'llama'",
        ),
        ({"model_type": 3}, "model_type is 3"),
        (
            {"architectures": ["Qwen2ForCausalLM"], "layer_types": ["full_attention", "sliding_attention"]},
            "layer_types has sliding_attention, but use_sliding_window is false",
        ),
    ],
)
def test_keys_that_disagree_are_refused(change: dict, message: str):
    config = SIZES | {"architectures": ["LlamaForCausalLM"]} | change
    with pytest.raises(CamelidError, match=message):
        family_of(config).read(config)


@pytest.mark.parametrize(
    ("kind", "own", "general"),
    [
        ("gpt2", "n_embd", "hidden_size"),
        ("gpt2", "n_positions", "max_position_embeddings"),
        ("gpt2", "n_layer", "num_hidden_layers"),
        ("gpt2", "n_head", "num_attention_heads"),
        ("t5", "d_model", "hidden_size"),
        ("t5", "num_heads", "num_attention_heads"),
        ("t5", "num_layers", "num_hidden_layers"),
        ("t5", "d_kv", "head_dim"),
    ],
)
def test_general_names_mean_the_same_as_in_transformers(kind: str, own: str, general: str):
    base = {
        "model_type": kind,
        "architectures": {"gpt2": ["GPT2LMHeadModel"], "t5": ["T5ForConditionalGeneration"]}[kind],
    }
    known = {"gpt2": GPT2Config, "t5": T5Config}[kind](**{general: 24})
    assert getattr(known, own) == 24
    family = family_of(base)
    assert family.read(base | {general: 24}) == family.read(base | {own: 24}) != family.read(base)
    with pytest.raises(CamelidError, match=f"{own} is 36 and {general}, which means the same, is 24"):
        family.read(base | {own: 36, general: 24})
