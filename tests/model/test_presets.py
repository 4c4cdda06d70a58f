"""The published shapes have the published number of parameters, and the model built from each has exactly that many."""

import subprocess
import sys

import pytest
import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.formats.hugging_face.checkpoint import _NoInitialization
from camelid.formats.hugging_face.families import FAMILIES, family_for, why_own
from camelid.model.presets import PRESETS, preset
from camelid.model.transformer import Transformer

# GPT-2, T5 and LLaMA-1: counted from the papers' shapes; the others: the weights published on the hub.
EXACT = {
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
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3.2-1b": 1_235_814_400,
    "tinyllama-1.1b": 1_100_048_384,
    "smollm2-135m": 134_515_008,
    "mistral-7b": 7_241_732_096,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
}
# GPT-3 (Table 2.1) and PaLM (Table 1), in millions and as far as they are given.
ROUNDED = {
    "gpt3-125m": 125.2,
    "gpt3-350m": 355.9,
    "gpt3-760m": 760.3,
    "gpt3-1.3b": 1315.7,
    "gpt3-2.7b": 2651.6,
    "gpt3-6.7b": 6658.4,
    "palm-8b": 8632.0,
    "palm-62b": 62495.7,
    "palm-540b": 540356.5,
}


def on_no_device(name: str) -> Transformer:
    with torch.device("meta"), _NoInitialization():
        return Transformer(preset(name))


@pytest.mark.parametrize("name", PRESETS)
def test_the_count_is_that_of_the_model(name):
    model = on_no_device(name)
    assert preset(name).parameter_count() == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "published"), EXACT.items())
def test_exact_counts(name, published):
    assert preset(name).parameter_count() == published


@pytest.mark.parametrize(("name", "published"), ROUNDED.items())
def test_rounded_counts(name, published):
    assert round(preset(name).parameter_count() / 1e6, 1) == published


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


@pytest.mark.parametrize("name", PRESETS)
def test_every_shape_has_an_architecture_that_gives_it_back(name):
    spec = preset(name)
    family = family_for(spec)
    assert family.read(family.write(spec)) == spec
    assert (family is FAMILIES[-1]) == name.startswith("gpt3")
    assert (why_own(spec) is not None) == name.startswith("gpt3")


def test_an_unknown_name_is_told_those_that_there_are():
    with pytest.raises(WrongCall, match="gpt2-medium"):
        preset("gpt5")


def test_a_damaged_spec_of_our_own_is_refused():
    spec = preset("gpt3-125m")
    table = FAMILIES[-1].write(spec)
    table["spec"]["num_layers"] = "many"
    with pytest.raises(CamelidError, match="spec"):
        FAMILIES[-1].read(table)
    with pytest.raises(CamelidError, match="spec"):
        FAMILIES[-1].read({})
