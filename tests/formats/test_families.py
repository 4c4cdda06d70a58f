"""What config.json may say, and what it is told when it says something else."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import (
    CohereForCausalLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
    T5ForConditionalGeneration,
)

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.checkpoint import stored_tensors
from camelid.formats.hugging_face.families import FAMILIES, family_for, family_of
from camelid.model.spec import (
    FeedForward,
    Learned,
    LinearScaling,
    Llama3Scaling,
    ModelSpec,
    Norm,
    RelativeBuckets,
    Rotary,
    Window,
)
from camelid.model.transformer import Transformer

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
}
"""Every architecture of transformers that is read, with the least that our reader needs of its
config.json."""


def test_these_are_all_architectures_but_our_own():
    assert [family.architecture for family in FAMILIES] == [*CLASSES, "CamelidModel"]


@pytest.mark.parametrize("architecture", CLASSES)
def test_defaults_are_those_of_transformers(architecture):
    """What config.json leaves out means what transformers takes it to mean."""
    model, least = CLASSES[architecture]
    spec = family_of({"architectures": [architecture]}).read(least)
    theirs = model.config_class(**least)
    heads = theirs.num_attention_heads
    assert spec.vocab_size == theirs.vocab_size
    assert spec.hidden_size == theirs.hidden_size
    assert (spec.num_layers, spec.num_heads) == (theirs.num_hidden_layers, heads)
    assert spec.num_kv_heads == getattr(theirs, "num_key_value_heads", heads)
    head_dim = getattr(theirs, "head_dim", None) or getattr(theirs, "d_kv", None)
    assert spec.head_dim == (head_dim or theirs.hidden_size // heads)
    eps = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")
    assert spec.norm.eps == next(getattr(theirs, name) for name in eps if hasattr(theirs, name))
    assert spec.tie_embeddings == theirs.tie_word_embeddings
    assert (spec.attention_bias == "all") == getattr(
        theirs, "attention_bias", architecture == "GPT2LMHeadModel"
    )
    if hasattr(theirs, "max_position_embeddings"):
        assert spec.context_length == theirs.max_position_embeddings
    if hasattr(theirs, "rope_parameters"):
        assert spec.positions == Rotary(theirs.rope_parameters["rope_theta"])
    if hasattr(theirs, "sliding_window"):
        assert spec.window == (theirs.sliding_window and Window(theirs.sliding_window))
    if architecture == "CohereForCausalLM":
        assert spec.output_scale == theirs.logit_scale
    if architecture == "GPT2LMHeadModel":
        assert {spec.dropout} == {theirs.resid_pdrop, theirs.embd_pdrop, theirs.attn_pdrop}
    if architecture == "T5ForConditionalGeneration":
        buckets, distance = theirs.relative_attention_num_buckets, theirs.relative_attention_max_distance
        assert spec.positions == RelativeBuckets(buckets, distance)
        assert (spec.encoder_layers, spec.dropout) == (theirs.num_layers, theirs.dropout_rate)
        assert spec.feed_forward == FeedForward(theirs.d_ff, theirs.dense_act_fn)


PLAIN = ModelSpec(90, 24, 3, 4, 2, 6, 64, FeedForward(20))
"""90 tokens, width 24, 3 layers, 4 heads that share 2 keys of 6, 64 positions."""
SCALED = Rotary(1e4, Llama3Scaling(8.0, 1.0, 4.0, 64))
GPT2 = replace(
    PLAIN,
    num_kv_heads=4,
    feed_forward=FeedForward(20, "gelu", bias=True),
    positions=Learned(),
    norm=Norm("layer", 1e-6, bias=True),
    tie_embeddings=True,
    attention_bias="all",
    dropout=0.2,
)
T5 = replace(
    PLAIN,
    num_kv_heads=4,
    head_dim=5,
    feed_forward=FeedForward(20, "geglu"),
    positions=RelativeBuckets(8, 20),
    encoder_layers=2,
    dropout=0.1,
)
PALM = replace(
    PLAIN, num_kv_heads=1, norm=Norm("layer", 1e-6), parallel=True, output_scale=0.25, tie_embeddings=True
)
SIZES = {
    "vocab_size": 90,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
DEFAULT = {"rope_type": "default", "rope_theta": 1e4}
WINDOWED = ["full_attention", "sliding_attention", "full_attention"]
BY_HAND: dict[str, tuple[str, ModelSpec, dict[str, object]]] = {
    "llama": ("LlamaForCausalLM", PLAIN, SIZES | {"rope_parameters": DEFAULT, "tie_word_embeddings": False}),
    "llama, tied, with biases": (
        "LlamaForCausalLM",
        replace(PLAIN, tie_embeddings=True, attention_bias="all", feed_forward=FeedForward(20, bias=True)),
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "llama, frequencies of 3.1": (
        "LlamaForCausalLM",
        replace(PLAIN, positions=SCALED),
        {"rope_parameters": LLAMA3},
    ),
    "llama, frequencies scaled": (
        "LlamaForCausalLM",
        replace(PLAIN, positions=Rotary(5e5, LinearScaling(2.0)), norm=Norm(eps=1e-6)),
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}, "rms_norm_eps": 1e-6},
    ),
    "mistral": ("MistralForCausalLM", replace(PLAIN, window=Window(5)), SIZES | {"sliding_window": 5}),
    "qwen2": (
        "Qwen2ForCausalLM",
        replace(PLAIN, attention_bias="qkv", window=Window(5, (1,))),
        {"use_sliding_window": True, "sliding_window": 5, "layer_types": WINDOWED},
    ),
    "qwen3": ("Qwen3ForCausalLM", replace(PLAIN, query_key_norm=True), SIZES | {"attention_bias": False}),
    "gpt2": (
        "GPT2LMHeadModel",
        GPT2,
        {
            "vocab_size": 90,
            "n_embd": 24,
            "n_layer": 3,
            "n_head": 4,
            "n_inner": 20,
            "n_positions": 64,
            "layer_norm_epsilon": 1e-6,
            "resid_pdrop": 0.2,
            "activation_function": "gelu_new",
        },
    ),
    "palm": (
        "CohereForCausalLM",
        PALM,
        SIZES | {"num_key_value_heads": 1, "logit_scale": 0.25, "layer_norm_eps": 1e-6, "use_qk_norm": False},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        T5,
        {
            "d_model": 24,
            "d_kv": 5,
            "d_ff": 20,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 4,
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 20,
            "is_gated_act": True,
            "dense_act_fn": "gelu_new",
            "scale_decoder_outputs": False,
        },
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_transformers_reads_what_is_written_as_it_was_meant(name):
    """The architecture chosen, the settings that transformers reads, and the tensors that its model then
    has."""
    architecture, spec, settings = BY_HAND[name]
    family = family_for(spec)
    assert family.architecture == architecture
    model = CLASSES[architecture][0]
    config = model.config_class.from_dict({"model_type": family.model_type, **family.write(spec)})
    assert {key: getattr(config, key) for key in settings} == settings
    with torch.device("meta"):
        theirs, ours = model(config), Transformer(spec)
    stored = stored_tensors(family.place, spec, ours.state_dict().items())
    shapes = {name: tuple(tensor.shape) for name, tensor in stored}
    tied = {"lm_head.weight"} if spec.tie_embeddings else set()
    copies = {f"{stack}.embed_tokens.weight" for stack in ("encoder", "decoder")}  # T5's of `shared`
    expected = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert shapes == {name: shape for name, shape in expected.items() if name not in tied | copies}


@pytest.mark.parametrize("architecture", CLASSES)
def test_the_model_type_serves_where_no_architecture_is_named(architecture):
    model_type = CLASSES[architecture][0].config_class.model_type
    assert family_of({"model_type": model_type}).architecture == architecture


def test_what_transformers_cannot_say_is_written_as_our_own():
    for spec in (
        replace(GPT2, window=Window(5, (1,))),
        replace(PLAIN, output_scale=0.5),
        replace(PALM, norm=Norm(eps=1e-6)),
    ):
        assert family_for(spec).architecture == "CamelidModel"
        assert json.loads(json.dumps(family_for(spec).write(spec)))["spec"]["hidden_size"] == 24


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
        ({"rope_scaling": "linear"}, ("must be an object",)),
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
