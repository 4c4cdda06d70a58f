"""The published shapes have the published parameters and settings, and the models built from them are
transformers' own."""

import subprocess
import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    T5Config,
)

from camelid.base.errors import CamelidError, WrongCall
from camelid.formats.hugging_face.checkpoint import blank_model
from camelid.formats.hugging_face.families import FAMILIES, family_for, family_of, why_own
from camelid.model.presets import PRESETS, preset
from camelid.model.spec import Llama3Scaling, Rotary, Window

# Millions or billions of parameters as printed, and how far from that the exact number may be by rounding.
PRINTED = {
    # Brown et al. 2020 (arXiv:2005.14165), Table 2.1. "350M" is 1.7 % short of the shape beside it, and
    # "13.0B" has a width of 5,140, which its 40 heads do not divide; ours is 5,120.
    "gpt3-125m": (125e6, 1e6),
    "gpt3-350m": (350e6, 6e6),
    "gpt3-760m": (760e6, 1e6),
    "gpt3-1.3b": (1.3e9, 0.05e9),
    "gpt3-2.7b": (2.7e9, 0.05e9),
    "gpt3-6.7b": (6.7e9, 0.05e9),
    "gpt3-13b": (13.0e9, 0.15e9),
    "gpt3-175b": (175.0e9, 0.5e9),
    # Chowdhery et al. 2022 (arXiv:2204.02311), Table 1; 540.35 is cut, not rounded.
    "palm-8b": (8.63e9, 0.005e9),
    "palm-62b": (62.50e9, 0.005e9),
    "palm-540b": (540.35e9, 0.01e9),
    # Touvron et al. 2023 (arXiv:2302.13971), Table 2; 65.2 is cut, not rounded.
    "llama-7b": (6.7e9, 0.05e9),
    "llama-13b": (13.0e9, 0.05e9),
    "llama-33b": (32.5e9, 0.05e9),
    "llama-65b": (65.2e9, 0.1e9),
    # Raffel et al. 2020 (arXiv:1910.10683), section 3.7, "approximately": the shape given for 770 million has
    # 738.
    "t5-small": (60e6, 1e6),
    "t5-base": (220e6, 5e6),
    "t5-large": (770e6, 35e6),
    "t5-3b": (2.8e9, 0.06e9),
    "t5-11b": (11e9, 0.5e9),
    # Zhang et al. 2022 (arXiv:2205.01068), Table 1.
    "opt-125m": (125e6, 1e6),
    "opt-1.3b": (1.3e9, 0.05e9),
    "opt-2.7b": (2.7e9, 0.05e9),
    "opt-6.7b": (6.7e9, 0.05e9),
    "opt-13b": (13e9, 0.5e9),
    "opt-30b": (30e9, 0.5e9),
    "opt-66b": (66e9, 0.5e9),
    "opt-175b": (175e9, 0.5e9),
    # Taylor et al. 2022 (arXiv:2211.09085), its table of sizes; 120 is cut, not rounded.
    "galactica-125m": (125e6, 0.5e6),
    "galactica-1.3b": (1.3e9, 0.05e9),
    "galactica-6.7b": (6.7e9, 0.05e9),
    "galactica-30b": (30e9, 0.5e9),
    "galactica-120b": (120e9, 1.5e9),
}
# GPT-2, T5 and LLaMA 1: counted from the papers' shapes. The others: the values that the published weights
# hold, the counts beside the safetensors files on the hub, a tied table once. transformers' own models are
# counted below.
STORED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "t5-v1.1-small": 76_961_152,
    "t5-v1.1-base": 247_577_856,
    "t5-v1.1-large": 783_150_080,
    "t5-v1.1-xl": 2_849_757_184,
    "t5-v1.1-xxl": 11_135_332_352,
    "pythia-14m": 14_067_712,  # EleutherAI/pythia
    "pythia-31m": 30_494_720,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
    "gpt-neox-20b": 20_554_567_680,  # arXiv:2204.06745, section 2.1
    "gpt-j-6b": 6_050_882_784,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,  # meta-llama/Llama-2-7b-hf
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,  # meta-llama/Meta-Llama-3-8B
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "tinyllama-1.1b": 1_100_048_384,
    "smollm-135m": 134_515_008,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "mistral-7b": 7_241_732_096,  # mistralai/Mistral-7B-v0.1
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-8b": 8_190_735_360,
}
# From the config.json beside the weights: positions, rope_theta, scaling, eps, key heads, tied embeddings.
SETTINGS = {
    "llama2-7b": (4096, 1e4, None, 1e-5, 32, False),
    "llama2-70b": (4096, 1e4, None, 1e-5, 8, False),
    "llama3-8b": (8192, 5e5, None, 1e-5, 8, False),
    "llama3.1-8b": (131_072, 5e5, Llama3Scaling(8.0, 1.0, 4.0, 8192), 1e-5, 8, False),
    "llama3.2-1b": (131_072, 5e5, Llama3Scaling(32.0, 1.0, 4.0, 8192), 1e-5, 8, True),
    "tinyllama-1.1b": (2048, 1e4, None, 1e-5, 4, False),
    "smollm2-135m": (8192, 1e5, None, 1e-5, 3, True),
    "smollm2-1.7b": (8192, 1.3e5, None, 1e-5, 32, True),
    "mistral-7b": (32_768, 1e4, None, 1e-5, 8, False),
    "qwen2.5-0.5b": (32_768, 1e6, None, 1e-6, 2, True),
    "qwen3-0.6b": (40_960, 1e6, None, 1e-6, 8, True),
    "qwen3-8b": (40_960, 1e6, None, 1e-6, 8, False),
}
# Beside the two embeddings, arXiv:2304.01373, Table 1.
NOT_EMBEDDED = {
    "pythia-70m": 18_915_328,
    "pythia-160m": 85_056_000,
    "pythia-410m": 302_311_424,
    "pythia-1b": 805_736_448,
    "pythia-1.4b": 1_208_602_624,
    "pythia-2.8b": 2_517_652_480,
    "pythia-6.9b": 6_444_163_072,
    "pythia-12b": 11_327_027_200,
}
ARCHITECTURES = {
    "pythia": "GPTNeoXForCausalLM",
    "opt": "OPTForCausalLM",
    "galactica": "OPTForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt3": "CamelidModel",
    "palm": "CohereForCausalLM",
    "t5": "T5ForConditionalGeneration",
    "mistral": "MistralForCausalLM",
    "qwen2.5": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""By the first word of a name; all others are `LlamaForCausalLM`."""


def test_every_shape_has_a_published_count():
    assert PRINTED.keys() | STORED.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_the_model_has_the_published_parameters(name):
    counted = sum(parameter.numel() for parameter in blank_model(preset(name)).parameters())
    assert preset(name).parameter_count() == counted
    assert counted == STORED.get(name, counted)
    printed, rounding = PRINTED.get(name, (counted, 0))
    assert abs(counted - printed) <= rounding


@pytest.mark.parametrize("name", NOT_EMBEDDED)
def test_the_layers_have_the_published_parameters(name):
    spec = preset(name)
    assert spec.parameter_count() - 2 * spec.vocab_size * spec.hidden_size == NOT_EMBEDDED[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_those_published(name):
    context, theta, scaling, eps, kv_heads, tied = SETTINGS[name]
    spec = preset(name)
    assert (spec.context_length, spec.positions) == (context, Rotary(theta, scaling))
    assert (spec.norm.eps, spec.num_kv_heads, spec.tie_embeddings) == (eps, kv_heads, tied)
    assert spec.window == (Window(4096) if name == "mistral-7b" else None)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("gpt2", GPT2Config()),
        ("llama-7b", LlamaConfig()),
        ("t5-small", T5Config()),
        ("gpt-neox-20b", GPTNeoXConfig()),
        ("gpt-j-6b", GPTJConfig()),
        ("opt-125m", OPTConfig()),
    ],
)
def test_what_transformers_ships_as_its_default_is_the_shape_of_that_name(name, config):
    assert family_of({"model_type": config.model_type}).read(config.to_dict()) == preset(name)


def test_the_largest_is_built_without_memory_and_without_the_compiler():
    """Drawing numbers on the meta device would import torch's compiler, which takes longer than all else."""
    script = (
        "import sys\n"
        "from camelid.formats.hugging_face.checkpoint import blank_model\n"
        "from camelid.model.presets import preset\n"
        "model = blank_model(preset('palm-540b'))\n"
        "print({parameter.device.type for parameter in model.parameters()}, 'torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "{'meta'} False\n"


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.startswith("gpt3")])
def test_transformers_builds_as_many_parameters(name):
    """From the config.json that we write, the largest model too, on a device without memory."""
    spec = preset(name)
    family = family_for(spec)
    config = AutoConfig.for_model(family.model_type, **family.write(spec))
    auto = AutoModelForSeq2SeqLM if spec.encoder_layers else AutoModelForCausalLM
    with torch.device("meta"):
        theirs = auto.from_config(config)
    # On this device nothing is tied yet, so what is one table in two places is there twice.
    again = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    again |= {"lm_head.weight"} if spec.tie_embeddings else set()
    sizes = {name: tensor.numel() for name, tensor in theirs.state_dict().items() if name not in again}
    assert sum(sizes.values()) == spec.parameter_count()


@pytest.mark.parametrize("name", PRESETS)
def test_every_shape_is_written_as_the_architecture_that_it_was_published_in(name):
    first = name.partition("-")[0]
    of_its_own = {"gpt-neox-20b": "GPTNeoXForCausalLM", "gpt-j-6b": "GPTJForCausalLM"}
    usual = ARCHITECTURES.get(first, "LlamaForCausalLM")
    assert family_for(preset(name)).architecture == of_its_own.get(name, usual)
    assert (why_own(preset(name)) is not None) == (first == "gpt3")


def test_building_initialises_nothing():
    drawn = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if getattr(function, "__name__", "") in (
                "normal_",
                "uniform_",
                "trunc_normal_",
                "kaiming_uniform_",
            ):
                drawn.append(function)
            return function(*args, **(kwargs or {}))

    with Watch():
        model = blank_model(preset("palm-540b"))
    assert not drawn
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    with Watch():
        torch.nn.Linear(2, 2)
    assert drawn


def test_an_unknown_name_is_told_those_that_there_are():
    with pytest.raises(WrongCall, match="gpt2-medium"):
        preset("gpt5")


def test_a_spec_of_our_own_comes_back_and_a_damaged_one_is_refused():
    spec = preset("gpt3-125m")
    table = FAMILIES[-1].write(spec)
    assert table["spec"]["window"] == {"size": 256, "layers": (1, 3, 5, 7, 9, 11)}
    assert FAMILIES[-1].read(table) == spec
    table["spec"]["num_layers"] = "many"
    with pytest.raises(CamelidError, match="spec"):
        FAMILIES[-1].read(table)
    with pytest.raises(CamelidError, match="spec"):
        FAMILIES[-1].read({})
