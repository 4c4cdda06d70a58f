"""What config.json may say, and what it is told when it says something else."""

import pytest

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.families import FAMILIES, family_for, family_of
from camelid.model.spec import LinearScaling, Llama3Scaling, ModelSpec, Rotary

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def read(**changes) -> ModelSpec:
    config = CONFIG | changes
    config = {key: value for key, value in config.items() if value is not ...}
    return family_of(config).read(config)


def test_defaults_are_those_of_transformers():
    from transformers import LlamaConfig

    spec, theirs = read(), LlamaConfig(**CONFIG)
    assert spec.num_kv_heads == theirs.num_key_value_heads
    assert spec.head_dim == theirs.head_dim
    assert spec.context_length == theirs.max_position_embeddings
    assert spec.norm.eps == theirs.rms_norm_eps
    assert spec.positions.theta == theirs.rope_parameters["rope_theta"]
    assert spec.tie_embeddings == theirs.tie_word_embeddings
    assert (spec.attention_bias == "all") == theirs.attention_bias
    assert spec.feed_forward.bias == theirs.mlp_bias


@pytest.mark.parametrize(
    "rotary", [Rotary(), Rotary(5e5, LinearScaling(2.0)), Rotary(1e4, Llama3Scaling(8.0, 1.0, 4.0, 64))]
)
def test_written_and_read_again(rotary):
    spec = read(num_key_value_heads=2, head_dim=6, tie_word_embeddings=True, attention_bias=True)
    spec = ModelSpec(**{**vars(spec), "positions": rotary})
    family = family_for(spec)
    assert family.read(family.write(spec)) == spec


def test_model_type_serves_where_no_architecture_is_named():
    assert family_of({"model_type": "llama"}) is FAMILIES[0]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"architectures": ["MambaForCausalLM"]}, ("MambaForCausalLM", "supported: LlamaForCausalLM")),
        ({"architectures": "LlamaForCausalLM"}, ("architectures", "a list of names")),
        ({"architectures": ..., "model_type": ...}, ("the architecture is none",)),
        ({"hidden_act": "gelu"}, ("hidden_act is 'gelu'", "'silu'")),
        ({"rope_scaling": {"type": "yarn", "factor": 2}}, ("rope_type is 'yarn'", "llama3")),
        ({"rope_parameters": {"rope_type": "linear"}}, ("factor is None",)),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8}}, ("low_freq_factor is None",)),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            ("partial_rotary_factor",),
        ),
        ({"rope_scaling": "linear"}, ("a table is needed",)),
        ({"rope_theta": -1.0}, ("rope_theta is -1.0",)),
        ({"vocab_size": ...}, ("vocab_size is None",)),
        ({"hidden_size": "32"}, ("hidden_size is '32'",)),
        ({"hidden_size": 30}, ("hidden_size 30", "num_attention_heads 4")),
        ({"num_key_value_heads": 3}, ("num_kv_heads 3", "divisors of 4")),
        ({"num_hidden_layers": 0}, ("num_hidden_layers is 0",)),
        ({"num_attention_heads": True}, ("num_attention_heads is True",)),
        ({"head_dim": 5}, ("head_dim is 5", "even")),
        ({"rms_norm_eps": "1e-5"}, ("rms_norm_eps is '1e-5'",)),
        ({"tie_word_embeddings": "yes"}, ("tie_word_embeddings is 'yes'",)),
    ],
)
def test_what_is_refused(changes, parts):
    with pytest.raises(CamelidError) as raised:
        read(**changes)
    for part in parts:
        assert part in str(raised.value)
