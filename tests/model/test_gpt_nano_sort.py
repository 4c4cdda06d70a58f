"""A trained GPT-2-architecture model, against the activations that were published with it."""

import base64
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from camelid.formats.hugging_face.checkpoint import load_checkpoint

CONV1D = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def decoded(table: dict) -> dict[str, torch.Tensor]:
    values = {}
    for name, entry in table.items():
        if isinstance(entry, dict) and "data" in entry:
            flat = np.frombuffer(base64.b64decode(entry["data"]), np.float32)
            values[name] = torch.from_numpy(flat.copy()).view(entry["shape"])
    return values


@pytest.fixture(scope="module")
def sort(shared, tmp_path_factory):
    folder = shared / "weights" / "gpt_nano_sort"
    table = json.loads((folder / "gpt-nano-sort-model.json").read_text())
    config, tensors = table["config"], decoded(table)
    # minGPT keeps [outputs, inputs]; GPT-2's file keeps [inputs, outputs].
    stored = {
        name: (tensor.T if name.endswith(CONV1D) else tensor).contiguous() for name, tensor in tensors.items()
    }
    made = tmp_path_factory.mktemp("sort")
    save_file(stored, made / "model.safetensors")
    names = {"n_layer", "n_head", "n_embd", "vocab_size", "embd_pdrop", "resid_pdrop", "attn_pdrop"}
    description = {key: config[key] for key in names} | {
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": config["block_size"],
        "tie_word_embeddings": False,
    }
    (made / "config.json").write_text(json.dumps(description))
    return load_checkpoint(made), decoded(json.loads((folder / "gpt-nano-sort-t0-partials.json").read_text()))


def test_every_block_and_the_probabilities(sort):
    model, published = sort
    seen: dict[str, torch.Tensor] = {}
    for index, block in enumerate(model.layers):
        block.register_forward_hook(lambda *call, index=index: seen.update({f"block{index}": call[2]}))
    model.layers[0].input_layernorm.register_forward_hook(lambda *call: seen.update(ln1=call[2]))
    model.layers[0].self_attn.register_forward_hook(lambda *call: seen.update(yProj=call[2]))
    model.layers[0].mlp.register_forward_hook(lambda *call: seen.update(mlp=call[2]))
    model.norm.register_forward_hook(lambda *call: seen.update(ln_f=call[2]))
    with torch.inference_mode():
        logits = model(published["idx"].long())
    seen |= {"lm_head": logits, "probs": logits.softmax(-1)}
    assert {"block0", "block1", "block2", "ln1", "yProj", "mlp"} <= seen.keys()
    for name, values in seen.items():
        torch.testing.assert_close(values, published[name], atol=1e-5, rtol=0, msg=name)


def test_it_sorts(sort):
    model, published = sort
    letters = published["idx"].long()[:, :6]
    with torch.inference_mode():
        ids = letters
        for _ in range(5):
            ids = torch.cat([ids, model(ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(ids[:, 6:], letters.sort(1).values[:, :5])
