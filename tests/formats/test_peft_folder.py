"""Adapters in PEFT's layout: its names and formula, computed by hand in transformers' models, and PEFT
itself where it is installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lineage import LINEAGE
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.checkpoint import load_checkpoint
from camelid.formats.hugging_face.peft_folder import CONFIG, WEIGHTS, load_adapter, save_adapter
from camelid.model.adapters import adapted, add_lora
from camelid.model.lora import LoRA
from camelid.model.transformer import Transformer

SETTINGS = LoRA(2, 8.0, rank_stabilised=True)
PREFIX = "base_model.model."
TOKENS = torch.arange(20).view(2, 10)


@pytest.fixture(params=["llama", "gpt2", "t5", "gpt_neox", "gpt_j", "opt"])
def base(request: Any, random_llama: Any, tmp_path: Path) -> Path:
    """A random model of transformers in a folder."""
    make = random_llama if request.param == "llama" else LINEAGE[request.param]
    make(1).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@torch.no_grad()
def adapt(base: Path, folder: Path, targets: tuple[str, ...] = ("*layers.*_proj",)) -> Transformer:
    """Our model with random updates, saved as an adapter."""
    model = add_lora(load_checkpoint(base), SETTINGS, targets)
    generator = torch.Generator().manual_seed(2)
    for module in adapted(model).values():
        module.lora_b.uniform_(-0.2, 0.2, generator=generator)
    folder.mkdir()
    save_adapter(folder, model, base)
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(model, Transformer):
            return model(TOKENS, TOKENS) if model.encoder is not None else model(TOKENS)
        if model.config.is_encoder_decoder:
            return model(input_ids=TOKENS, decoder_input_ids=TOKENS).logits
        return model(TOKENS).logits


def transformers_model(base: Path) -> Any:
    encodes = json.loads((base / "config.json").read_text()).get("is_encoder_decoder")
    kind = AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM
    return kind.from_pretrained(base).eval()


def test_adding_the_stored_updates_to_transformers_weights_gives_our_logits(base, tmp_path):
    model = adapt(base, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    tensors = load_file(tmp_path / "adapter" / WEIGHTS)
    theirs = transformers_model(base)
    for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
        name = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        a, b = tensors[key], tensors[key.replace("lora_A", "lora_B")]
        rank, alpha = (
            config[f"{kind}_pattern"].get(name, config[default])
            for kind, default in (("rank", "r"), ("alpha", "lora_alpha"))
        )
        assert len(a) == rank
        delta = alpha / rank**0.5 * b @ a
        module = theirs.get_submodule(name)
        assert any(name.endswith(target) for target in config["target_modules"])
        module.weight.data += delta.T if config["fan_in_fan_out"] else delta
    torch.testing.assert_close(logits(model), logits(theirs), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("targets", [("*layers.*_proj",), ("*.q_proj", "*.v_proj", "!*layers.0.*v_proj")])
def test_what_was_saved_is_read_back(base, tmp_path, targets):
    model = adapt(base, tmp_path / "adapter", targets)
    again = load_adapter(load_checkpoint(base), tmp_path / "adapter", base)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5)


def test_peft_loads_ours_and_we_load_pefts(base, tmp_path):
    peft = pytest.importorskip("peft", reason="PEFT is not installed: pip install peft")
    model = adapt(base, tmp_path / "adapter", ("*.q_proj", "*.v_proj", "*.down_proj"))
    theirs = peft.PeftModel.from_pretrained(transformers_model(base), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits(theirs), logits(model), rtol=1e-5, atol=2e-5)
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        use_rslora=True,
        init_lora_weights=False,
        rank_pattern={"q": 2, "q_proj": 2, "attn.c_proj": 2},
        target_modules="all-linear",
        task_type=json.loads((tmp_path / "adapter" / CONFIG).read_text())["task_type"],
    )
    own = peft.get_peft_model(transformers_model(base), config).eval()
    own.save_pretrained(tmp_path / "theirs")
    ours = load_adapter(load_checkpoint(base), tmp_path / "theirs", base)
    torch.testing.assert_close(logits(ours), logits(own), rtol=1e-5, atol=2e-5)


def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    adapt(base, tmp_path / "adapter")
    tensors = load_file(base / "model.safetensors")
    first = next(iter(tensors.values()))
    first.view(-1)[0] += 1
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CamelidError, match=r"trained on another base.*give that base"):
        load_adapter(load_checkpoint(base), tmp_path / "adapter", base)


REFUSED = {
    "peft_type": ("LOHA", "supported: LORA"),
    "use_dora": (True, "DoRA"),
    "bias": ("all", "biases"),
    "modules_to_save": (["lm_head"], "beside the updates"),
    "init_lora_weights": ("pissa_niter_4", "changes the base"),
    "r": (3, "gives .* rank 3, but its A has 2 rows"),
    "lora_alpha": ("strong", "not a number"),
}


@pytest.fixture
def adapter(random_llama: Any, tmp_path: Path) -> tuple[Path, Path]:
    random_llama(1).save_pretrained(tmp_path / "base")
    adapt(tmp_path / "base", tmp_path / "adapter", ("*.q_proj", "*.v_proj"))
    return tmp_path / "base", tmp_path / "adapter"


@pytest.mark.parametrize("key", REFUSED)
def test_settings_that_would_change_the_result_are_refused(adapter, key):
    base, folder = adapter
    value, message = REFUSED[key]
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {key: value}))
    with pytest.raises(CamelidError, match=message):
        load_adapter(load_checkpoint(base), folder, base)


def test_tensors_that_do_not_fit_are_named(adapter):
    base, folder = adapter
    tensors = load_file(folder / WEIGHTS)
    name = f"{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight"
    cases = {
        "is not one of a pair": {key: each for key, each in tensors.items() if key != name},
        "the adapter is for another model": tensors | {name: torch.zeros(2, 7)},
        r"updates 'model.layers.9.self_attn.q_proj'": {
            key.replace("layers.0.", "layers.9."): each for key, each in tensors.items()
        },
    }
    for message, changed in cases.items():
        save_file(changed, folder / WEIGHTS)
        with pytest.raises(CamelidError, match=message):
            load_adapter(load_checkpoint(base), folder, base)
    (folder / WEIGHTS).write_bytes(b"no")
    with pytest.raises(CamelidError, match="cannot be read as safetensors"):
        load_adapter(load_checkpoint(base), folder, base)
