"""Adapters as GGUF: their keys, and that adding them to the tensors of the base's file gives the merged
model's."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from lineage import gpt2

from camelid.cli import main as cli
from camelid.formats.gguf.writing import write_gguf
from camelid.formats.hugging_face.checkpoint import load_checkpoint
from camelid.formats.hugging_face.peft_folder import save_adapter
from camelid.model.adapters import adapted, add_lora, merge_adapters
from camelid.model.lora import LoRA


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("targets", [("*_proj",), ("*.q_proj", "*.v_proj")], ids=["all", "q and v"])
@torch.no_grad()
def test_base_plus_update_is_the_merged_file(
    tmp_path: Path, random_llama: Any, family: str, targets: tuple[str, ...]
) -> None:
    base, adapter, file = tmp_path / "base", tmp_path / "adapter", tmp_path / "adapter.gguf"
    (random_llama if family == "llama" else gpt2)(0).save_pretrained(base)
    model = add_lora(load_checkpoint(base), LoRA(2, 6.0, rank_stabilised=True), targets)
    for module in adapted(model).values():
        module.lora_b.uniform_(-0.3, 0.3)
    adapter.mkdir()
    save_adapter(adapter, model, base)
    assert cli.main(["export", str(adapter), str(file), "--dtype", "float32"]) == 0

    reader = gguf.GGUFReader(file)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["general.type"] == "adapter"
    assert keys["adapter.type"] == "lora"
    assert keys["general.architecture"] == family
    for name, each in (("before", load_checkpoint(base)), ("after", merge_adapters(model))):
        state = {key: value.detach() for key, value in each.state_dict().items()}
        write_gguf(tmp_path / name, each.spec, state, metadata={}, dtype="float32")
    before, after, updates = (tensors(path) for path in (tmp_path / "before", tmp_path / "after", file))
    changed = {name.removesuffix(".lora_a") for name in updates if name.endswith(".lora_a")}
    for name in before:
        if name not in changed:
            np.testing.assert_array_equal(after[name], before[name])
            continue
        a, b = updates[f"{name}.lora_a"], updates[f"{name}.lora_b"]
        update = keys["adapter.lora.alpha"] / len(a) * b @ a
        np.testing.assert_allclose(after[name], before[name] + update, atol=1e-5)
    assert changed <= before.keys()


def test_what_an_adapter_cannot_be_exported_to(tmp_path: Path, random_llama: Any, capsys: Any) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    random_llama(0).save_pretrained(base)
    adapter.mkdir()
    save_adapter(adapter, add_lora(load_checkpoint(base), LoRA(2, 6.0), ("*.q_proj",)), base)
    out = tmp_path / "out"
    for words in (["--to", "hf"], ["--dtype", "q4_0"], ["--verify"]):
        assert cli.main(["export", str(adapter), str(out), *words]) == 2
        assert "camelid merge" in capsys.readouterr().err
    assert cli.main(["export", str(base), str(out), "--base", str(base)]) == 2
    assert "whole model" in capsys.readouterr().err
    random_llama(1).save_pretrained(tmp_path / "other")
    assert cli.main(["export", str(adapter), str(out), "--base", str(tmp_path / "other")]) == 1
    assert "another base" in capsys.readouterr().err
    assert not out.exists()
