"""Hostile checkpoint folders: a model, or a message that names the folder; no other end, and no memory
beyond the file's."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hostile import (
    VALUES,
    damaged_bytes,
    dumped,
    edited_header,
    edited_table,
    header_of,
    message,
    read_json,
    with_header,
)
from hypothesis import given, settings

from camelid.engine.memory import plan
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.formats.load import load_model
from camelid.formats.packed.storage import save_quantized
from camelid.model.presets import preset
from camelid.model.spec import ModelSpec, Window
from camelid.model.transformer import Transformer
from camelid.quant.quantize import quantize_model

FEW = settings(max_examples=20, deadline=None, derandomize=True, database=None)
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def tiny(name: str) -> ModelSpec:
    sizes = {
        "vocab_size": 20,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "num_kv_heads": 2,
        "head_dim": 16,
    }
    spec = replace(preset(name), **sizes, context_length=32)
    return replace(
        spec, feed_forward=replace(spec.feed_forward, width=32), encoder_layers=min(2, spec.encoder_layers)
    )


KINDS = {
    "llama": tiny("llama3.1-8b"),
    "mistral": tiny("mistral-7b"),
    "qwen2": replace(tiny("qwen2.5-0.5b"), window=Window(8, (1,))),
    "gpt2": tiny("gpt2"),
    "palm": tiny("palm-8b"),
    "t5": tiny("t5-small"),
    "own": replace(tiny("gpt3-125m"), window=Window(8, (1,))),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A sound folder of each kind, and one of packed weights."""
    made = {}
    for name, spec in {**KINDS, "packed": KINDS["llama"], "sharded": KINDS["llama"]}.items():
        made[name] = tmp_path_factory.mktemp(name)
        model = Transformer(spec).initialize(0)
        if name == "packed":
            save_quantized(made[name], quantize_model(model, 4))
        else:
            save_checkpoint(made[name], model, max_shard_bytes=16_000 if name == "sharded" else 10**9)
        load_model(made[name])
    return made


def outcome(folder: Path) -> str | None:
    """None where the folder is a model, else the message, which has to name it; any other error is a
    failure."""
    said = [message(lambda: plan(folder, torch.float32, context=1)), message(lambda: load_model(folder))]
    assert all(text is None or (str(folder) in text and len(text) < 20_000) for text in said)
    return said[1]


def changed(folder: Path, name: str, content: bytes) -> str | None:
    """What comes of the folder with one file replaced."""
    with TemporaryDirectory() as place:
        for path in folder.iterdir():
            if path.name != name:
                (Path(place) / path.name).symlink_to(path)
        (Path(place) / name).write_bytes(content)
        return outcome(Path(place))


@pytest.mark.parametrize("kind", [*KINDS, "packed"])
def test_any_config(folders, kind):
    config = read_json(folders[kind] / "config.json")

    @FEW
    @given(edited_table(config))
    def run(table):
        changed(folders[kind], "config.json", dumped(table))

    run()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "packed"])
def test_any_header(folders, kind):
    header, data = header_of((folders[kind] / WEIGHTS).read_bytes())

    @settings(FEW, max_examples=60)
    @given(edited_header(header))
    def run(text):
        changed(folders[kind], WEIGHTS, with_header(text, data))

    run()


def test_any_damaged_bytes(folders):
    whole = (folders["llama"] / WEIGHTS).read_bytes()
    length = len(whole) - len(header_of(whole)[1])

    @FEW
    @given(damaged_bytes(whole, length))
    def run(content):
        changed(folders["llama"], WEIGHTS, content)

    run()


@FEW
@given(value=VALUES)
def test_any_index(folders, value):
    index = read_json(folders["sharded"] / INDEX)
    names = list(index["weight_map"])
    for table in (
        {**index, "weight_map": value},
        {"weight_map": {**index["weight_map"], names[0]: value}},
        value,
    ):
        changed(folders["sharded"], INDEX, dumped(table))


@pytest.mark.parametrize(
    ("kind", "changes", "part"),
    [
        ("packed", {"quantization_config": None}, "quantization_config is None"),
        (
            "packed",
            {"quantization_config": ["gptq"]},
            "quantization_config is ['gptq']; it must be an object",
        ),
        ("packed", {"quantization_config": {"quant_method": "gptq", "bits": 4.0}}, "4.0 bits"),
        ("packed", {"num_hidden_layers": 10**9}, "do not belong together"),
        ("qwen2", {"layer_types": [["full_attention"], {}]}, "layer_types needs 2 entries"),
        (
            "qwen2",
            {"layer_types": None, "max_window_layers": 1, "num_hidden_layers": 10**12},
            "at most 65,536",
        ),
        ("llama", {"rms_norm_eps": 10**400}, "rms_norm_eps is 1000"),
        ("llama", {"vocab_size": 10**4000}, "vocab_size is 1000"),
        ("own", {"spec": {"feed_forward": {"width": -5}}}, "feed_forward.width is -5"),
        ("own", {"spec": {"norm": {"eps": float("nan")}}}, "norm.eps is nan"),
    ],
)
def test_what_the_fuzzer_found_in_configs(folders, kind, changes, part):
    config = read_json(folders[kind] / "config.json")
    for key, value in changes.items():
        if key == "spec":
            value = config["spec"] | {each: config["spec"][each] | inner for each, inner in value.items()}
        config[key] = value
    assert part in str(changed(folders[kind], "config.json", dumped(config)))


@pytest.mark.parametrize(
    ("kind", "name", "entry", "part"),
    [
        ("llama", "more", {"dtype": "F32", "shape": [0, 2**64 - 1]}, "cannot be read as safetensors"),
        ("llama", "model.norm.weight", {"dtype": "F8_E8M0", "shape": [128]}, "model.norm.weight"),
        ("packed", "model.layers.0.mlp.up_proj.scales", {"shape": [32]}, "up_proj: qzeros is int32 [1, 4]"),
        (
            "packed",
            "model.layers.0.mlp.up_proj.qweight",
            {"dtype": "F32"},
            "up_proj: qweight is float32",
        ),
        ("packed", "model.layers.0.mlp.up_proj.g_idx", {"dtype": "F32"}, "up_proj: g_idx is float32"),
    ],
)
def test_what_the_fuzzer_found_in_headers(folders, kind, name, entry, part):
    header, data = header_of((folders[kind] / WEIGHTS).read_bytes())
    header[name] = header.get(name, {"data_offsets": [len(data)] * 2}) | entry
    assert part in str(changed(folders[kind], WEIGHTS, with_header(dumped(header), data)))
