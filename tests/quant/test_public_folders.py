"""Quantised folders as AutoGPTQ, AutoAWQ and GPTQModel published them: other names, files and zero points."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from camelid.base.errors import CamelidError
from camelid.base.json import read_table
from camelid.formats.hugging_face.stored_files import weight_files
from camelid.formats.load import load_model
from camelid.formats.packed.storage import save_quantized
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.choices import ALL_LINEARS
from camelid.quant.packed import packed_linears
from camelid.quant.packing import packed_int32
from camelid.quant.quantize import quantize_model

SIZES = {"vocab_size": 300, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
IDS = torch.arange(12)[None]


def written(folder: Path, layout: str = "gptq", bits: int = 4, symmetric: bool = True) -> torch.Tensor:
    """A quantised folder, and the logits of the model in it."""
    model = Transformer(ModelSpec.llama(**SIZES)).initialize(0, std=0.2).eval()
    packed = quantize_model(model, bits, 32, ALL_LINEARS, torch.float16)
    if symmetric:
        for linear in packed_linears(packed).values():
            linear.zeros.fill_(2 ** (bits - 1))
    folder.mkdir(exist_ok=True)
    save_quantized(folder, packed, dtype=torch.float16, layout=layout)
    return logits(folder)


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_model(folder)(IDS)


def change(folder: Path, name: str = "config.json", **settings: object) -> None:
    """Changes the quantization_config; None removes a key."""
    config = read_table(folder / name)
    table = config.get("quantization_config", config) | settings
    table = {key: value for key, value in table.items() if value is not None}
    config = config | {"quantization_config": table} if "quantization_config" in config else table
    (folder / name).write_text(json.dumps(config))


def edit(folder: Path, part: str, new) -> None:
    """Replaces the tensors of one part, or removes them."""
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        value = new(tensor) if name.endswith(part) else tensor
        if value is not None:
            tensors[name] = value.contiguous()
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_sym_decides_the_zero_point_where_the_format_is_wrong(tmp_path: Path, bits: int):
    right, folder = written(tmp_path / "a", bits=bits), tmp_path / "a"
    change(folder, checkpoint_format="gptq_v2")
    assert torch.equal(logits(folder), right)
    middle = 2 ** (bits - 1)
    edit(
        folder,
        "qzeros",
        lambda zeros: packed_int32(torch.full((zeros.shape[1] * 32 // bits, len(zeros)), middle), bits).T,
    )
    for form in ("gptq", "gptq_v2", None):
        change(folder, checkpoint_format=form)
        assert torch.equal(logits(folder), right)
    change(folder, sym=False, checkpoint_format="gptq")
    assert not torch.equal(logits(folder), right)


def test_zero_points_that_contradict_sym_are_named(tmp_path: Path):
    written(tmp_path, symmetric=False)
    change(tmp_path, sym=True)
    with pytest.raises(
        CamelidError, match=r"proj: quantization_config has sym true, so every zero point is 8"
    ):
        load_model(tmp_path)
    change(tmp_path, sym=False)
    load_model(tmp_path)


@pytest.mark.parametrize(("layout", "name"), [("gptq", "quantize_config.json"), ("awq", "quant_config.json")])
def test_a_quantisers_own_settings_are_read(tmp_path: Path, layout: str, name: str):
    right = written(tmp_path, layout)
    config = read_table(tmp_path / "config.json")
    own = config.pop("quantization_config")
    for key in ("quant_method", "checkpoint_format", "modules_to_not_convert"):
        own.pop(key, None)
    if layout == "awq":
        own = {"w_bit": own["bits"], "q_group_size": own["group_size"], "version": "GEMM", "zero_point": True}
    (tmp_path / name).write_text(json.dumps(own))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / name).rename(tmp_path / "other.json")
    with pytest.raises(CamelidError, match="holds quantised weights, but no settings of them"):
        load_model(tmp_path)
    (tmp_path / "other.json").rename(tmp_path / name)
    for settings in ({}, {"quantization_config": None}):
        (tmp_path / "config.json").write_text(json.dumps(config | settings))
        assert torch.equal(logits(tmp_path), right)
    change(tmp_path, name, bits=5, w_bit=None)
    with pytest.raises(CamelidError, match="with 5 bits"):
        load_model(tmp_path)


def test_groups_in_order_need_no_list(tmp_path: Path):
    """text-generation-inference#601."""
    right = written(tmp_path)
    edit(tmp_path, "g_idx", lambda _: None)
    assert torch.equal(logits(tmp_path), right)
    change(tmp_path, desc_act=True)
    with pytest.raises(CamelidError, match="qweight without g_idx"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["gptq_model-4bit-128g.safetensors"],
        ["awq_model_w4_g128.safetensors"],
        ["WizardLM-30B-Uncensored-GPTQ-4bit.act-order.safetensors"],  # AutoGPTQ#133
        [
            "gptq_model-4bit-128g-00001-of-00002.safetensors",
            "gptq_model-4bit-128g-00002-of-00002.safetensors",
        ],
    ],
)
@pytest.mark.parametrize("indexed", [True, False])
def test_weights_under_other_names(tmp_path: Path, names: list[str], indexed: bool):
    right = written(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    where = {name: names[index % len(names)] for index, name in enumerate(tensors)}
    for file in names:
        save_file({name: tensors[name] for name in tensors if where[name] == file}, tmp_path / file)
    if indexed:
        stem = names[0].removesuffix(".safetensors").removesuffix("-00001-of-00002")
        (tmp_path / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    assert torch.equal(logits(tmp_path), right)


def test_incomplete_and_several_weights_are_named(tmp_path: Path):
    (tmp_path / "a-00002-of-00003.safetensors").touch()
    with pytest.raises(CamelidError, match=r"lacks a-00001-of-00003.safetensors; download it"):
        weight_files(tmp_path)
    (tmp_path / "b.safetensors").touch()
    with pytest.raises(
        CamelidError, match=r"holds several models: a-00002-of-00003.safetensors, b.safetensors"
    ):
        weight_files(tmp_path)
