"""What config.json may say, and what it is told when it says something else."""

import re

import pytest
from lineage import CLASSES

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.families import FAMILIES, family_of
from camelid.model.spec import (
    FeedForward,
    ModelSpec,
    RelativeBuckets,
    Rotary,
    Window,
)

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
    found = (getattr(theirs, name) for name in eps if hasattr(theirs, name))
    assert spec.norm.eps == next(found, 1e-5)  # OPT's is fixed
    assert spec.tie_embeddings == theirs.tie_word_embeddings
    biased = getattr(theirs, "enable_bias", architecture == "GPT2LMHeadModel")
    assert (spec.attention_bias == "all") == getattr(theirs, "attention_bias", biased)
    if hasattr(theirs, "max_position_embeddings"):
        assert spec.context_length == theirs.max_position_embeddings
    if hasattr(theirs, "rope_parameters"):
        factor = theirs.rope_parameters.get("partial_rotary_factor", 1)
        dims = None if factor == 1 else int(spec.head_dim * factor)
        assert spec.positions == Rotary(theirs.rope_parameters["rope_theta"], dims=dims)
    if hasattr(theirs, "sliding_window"):
        assert spec.window == (theirs.sliding_window and Window(theirs.sliding_window))
    if architecture == "CohereForCausalLM":
        assert spec.output_scale == theirs.logit_scale
    if architecture in ("GPT2LMHeadModel", "GPTJForCausalLM"):
        assert {spec.dropout} == {theirs.resid_pdrop, theirs.embd_pdrop, theirs.attn_pdrop}
    if architecture == "T5ForConditionalGeneration":
        buckets, distance = theirs.relative_attention_num_buckets, theirs.relative_attention_max_distance
        assert spec.positions == RelativeBuckets(buckets, distance)
        assert (spec.encoder_layers, spec.dropout) == (theirs.num_layers, theirs.dropout_rate)
        assert spec.feed_forward == FeedForward(theirs.d_ff, theirs.dense_act_fn)


@pytest.mark.parametrize("architecture", CLASSES)
def test_the_model_type_serves_where_no_architecture_is_named(architecture):
    model_type = CLASSES[architecture][0].config_class.model_type
    assert family_of({"model_type": model_type}).architecture == architecture


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


@pytest.mark.parametrize(
    ("architecture", "changes", "part"),
    [
        ("GPTNeoXForCausalLM", {"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ("GPTNeoXForCausalLM", {"rotary_pct": 0.31}, "positions.dims is 29"),
        ("GPTNeoXForCausalLM", {"rotary_pct": 1.5}, "to head_dim 96"),
        ("GPTNeoXForCausalLM", {"hidden_dropout": 0.1}, "hidden_dropout, attention_dropout differ"),
        ("GPTNeoXForCausalLM", {"rope_theta": 5e5}, "rope_theta is 500000.0"),
        ("GPTJForCausalLM", {"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ("GPTJForCausalLM", {"rotary_dim": None}, "rotary_dim is None"),
        ("OPTForCausalLM", {"do_layer_norm_before": False}, "do_layer_norm_before is False"),
        ("OPTForCausalLM", {"word_embed_proj_dim": 512}, "word_embed_proj_dim is 512"),
        ("OPTForCausalLM", {"num_attention_heads": 5}, "768 is not a multiple of the 5 heads"),
    ],
)
def test_what_the_bases_of_assistants_refuse(architecture, changes, part):
    with pytest.raises(CamelidError, match=re.escape(part)):
        family_of({"architectures": [architecture]}).read(changes)


def test_the_keys_of_old_folders_mean_the_same():
    """Pythia's config.json of 2023, and Dolly's, say rotary_pct and rotary_emb_base."""
    old = {"rotary_pct": 0.25, "rotary_emb_base": 5e4}
    new = {"rope_parameters": {"rope_theta": 5e4, "partial_rotary_factor": 0.25, "rope_type": "default"}}
    neox = family_of({"model_type": "gpt_neox"})
    assert neox.read(old) == neox.read(new)
    assert neox.read(old).positions == Rotary(5e4, dims=24)
