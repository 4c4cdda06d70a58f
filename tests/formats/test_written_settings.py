"""The config.json and tensors that we write, against what transformers reads from them."""

import json
from dataclasses import replace

import pytest
import torch
from lineage import CLASSES

from camelid.formats.hugging_face.checkpoint import stored_tensors
from camelid.formats.hugging_face.families import family_for
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
NEOX = replace(
    PLAIN,
    num_kv_heads=4,
    feed_forward=FeedForward(20, "exact_gelu", bias=True),
    positions=Rotary(dims=4),
    norm=Norm("layer", 1e-6, bias=True),
    attention_bias="all",
    parallel=True,
    separate_norms=True,
    dropout=0.2,
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
    "gpt-neox": (
        "GPTNeoXForCausalLM",
        NEOX,
        {
            "rope_parameters": DEFAULT | {"partial_rotary_factor": 4 / 6},
            "hidden_act": "gelu",
            "intermediate_size": 20,
            "use_parallel_residual": True,
            "layer_norm_eps": 1e-6,
            "hidden_dropout": 0.2,
            "attention_bias": True,
        },
    ),
    "gpt-j": (
        "GPTJForCausalLM",
        replace(
            NEOX,
            positions=Rotary(dims=2),
            feed_forward=FeedForward(20, "gelu", bias=True),
            attention_bias="none",
            separate_norms=False,
            output_bias=True,
        ),
        {"rotary_dim": 2, "activation_function": "gelu_new", "n_inner": 20, "attn_pdrop": 0.2},
    ),
    "galactica": (
        "OPTForCausalLM",
        replace(
            PLAIN,
            num_kv_heads=4,
            feed_forward=FeedForward(20, "exact_gelu"),
            positions=Learned(2),
            norm=Norm("layer", gain=False),
            tie_embeddings=True,
        ),
        {
            "activation_function": "gelu",
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
            "ffn_dim": 20,
            "do_layer_norm_before": True,
            "word_embed_proj_dim": 24,
        },
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
    if architecture == "GPTNeoXForCausalLM":  # the name in files, before and since transformers 5
        expected["embed_out.weight"] = expected.pop("lm_head.weight")
    assert shapes == {name: shape for name, shape in expected.items() if name not in tied | copies}


def test_what_transformers_cannot_say_is_written_as_our_own():
    for spec in (
        replace(GPT2, window=Window(5, (1,))),
        replace(PLAIN, output_scale=0.5),
        replace(PALM, norm=Norm(eps=1e-6)),
    ):
        assert family_for(spec).architecture == "CamelidModel"
        assert json.loads(json.dumps(family_for(spec).write(spec)))["spec"]["hidden_size"] == 24
