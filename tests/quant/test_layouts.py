"""The public layouts of GPTQ and AWQ, by hand, by an unpacking of our own from their definitions, and there
and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from camelid.base.errors import CamelidError
from camelid.engine.engine import Engine
from camelid.formats.load import load_model
from camelid.formats.packed.layouts import LAYOUTS, Scheme
from camelid.formats.packed.storage import load_quantized, save_quantized
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.choices import ALL_LINEARS
from camelid.quant.packed import PackedLinear, pack
from camelid.quant.quantize import quantize_model
from camelid.quant.round_to_nearest import QuantizedWeight
from camelid.text.tokenizer import train_tokenizer

NAME = "model.layers.1.mlp.up_proj"


def packed_model(bits=4, group=32, selector=ALL_LINEARS, scale_dtype=torch.float16, **changes):
    sizes = {"vocab_size": 300, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
    model = Transformer(ModelSpec.llama(**{**sizes, **changes})).initialize(0, std=0.2).eval()
    return quantize_model(model, bits, group, selector, scale_dtype)


def random_weight(seed, bits=4, groups=3, size=8, lowest_zero=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (32, groups * size), generator=generator).to(torch.uint8)
    zeros = torch.randint(lowest_zero, 2**bits, (32, groups), generator=generator).int()
    return QuantizedWeight(codes, torch.rand(32, groups, generator=generator).half(), zeros, bits)


def unpacked(tensors, name, layout, bits):
    """The weight [outer, inner] from a folder's tensors in numpy, number by number, as the layouts are
    published."""
    words, zeros = (tensors[f"{name}.{part}"].numpy().view(np.uint32) for part in ("qweight", "qzeros"))
    scales = tensors[f"{name}.scales"].float().numpy()
    groups, outer = scales.shape
    if layout == "awq":
        place = {output: 4 * nibble for nibble, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7))}
        inner, mask = len(words), 15

        def code(o, i):
            return words[i, o // 8] >> place[o % 8] & mask

        def zero(o, g):
            return zeros[g, o // 8] >> place[o % 8] & mask
    else:
        per, mask = 32 // bits, 2**bits - 1
        inner = len(words) * per

        def code(o, i):
            return words[i // per, o] >> bits * (i % per) & mask

        def zero(o, g):
            return (zeros[g, o // per] >> bits * (o % per) & mask) + 1

    weight = np.empty((outer, inner), np.float32)
    for o in range(outer):
        for i in range(inner):
            g = i * groups // inner
            weight[o, i] = scales[g, o] * (int(code(o, i)) - int(zero(o, g)))
    return weight


def test_words_of_awq_by_hand():
    # Output o has the code o throughout, and the zero point 15 - o.
    codes = torch.arange(8, dtype=torch.uint8)[:, None].expand(8, 4)
    weight = QuantizedWeight(codes, torch.ones(8, 1).half(), 15 - torch.arange(8)[:, None].int(), 4)
    written = LAYOUTS["awq"].write(pack(weight))
    assert [f"{word:x}" for word in written["qweight"][:, 0]] == ["75316420"] * 4
    assert [f"{int(word) & 0xFFFFFFFF:x}" for word in written["qzeros"][0]] == ["8ace9bdf"]
    assert [list(written[part].shape) for part in written] == [[4, 1], [1, 1], [1, 8]]


def test_words_of_gptq_by_hand():
    codes = torch.arange(8, dtype=torch.uint8)[None].expand(8, 8)
    weight = QuantizedWeight(codes, torch.ones(8, 1).half(), 1 + torch.arange(8)[:, None].int(), 4)
    written = LAYOUTS["gptq"].write(pack(weight))
    assert [f"{word:x}" for word in written["qweight"][0]] == ["76543210"] * 8
    assert [f"{word:x}" for word in written["qzeros"][0]] == ["76543210"]


@given(st.integers(0, 999), st.sampled_from([("awq", 4), ("gptq", 2), ("gptq", 3), ("gptq", 4), ("gptq", 8)]))
def test_what_is_written_is_read(seed, kind):
    name, bits = kind
    layout, size = LAYOUTS[name], 32
    weight = random_weight(seed, bits, size=size, lowest_zero=layout.lowest_zero)
    written = layout.write(pack(weight))
    shapes = {part: tuple(tensor.shape) for part, tensor in written.items()}
    assert shapes == layout.shapes(32, 3 * size, 3, bits)
    again = layout.read(written, *layout.check(layout.describe(Scheme(bits, size, False, [], []))))
    read = PackedLinear(*again, bits, 3 * size).quantized()
    assert torch.equal(read.codes, weight.codes)
    assert torch.equal(read.zeros, weight.zeros)
    assert torch.equal(read.scales, weight.scales)


@pytest.mark.parametrize(("layout", "bits"), [("awq", 4), ("gptq", 4), ("gptq", 8), ("gptq", 2)])
@pytest.mark.parametrize("group", [16, -1])
def test_loaded_weights_are_those_of_the_definition(layout, bits, group, tmp_path):
    save_quantized(tmp_path, packed_model(bits, group), dtype=torch.float16, layout=layout)
    tensors, loaded = load_file(tmp_path / "model.safetensors"), load_model(tmp_path)
    module = loaded.layers[1].mlp.up_proj
    assert isinstance(module, PackedLinear)
    wanted = unpacked(tensors, NAME, layout, bits)
    assert np.array_equal(module.quantized().dequantize().numpy(), wanted)


def test_both_layouts_compute_the_same_and_the_engine_takes_them(tmp_path):
    model = packed_model()
    for layout in ("gptq", "awq"):
        (tmp_path / layout).mkdir()
        save_quantized(tmp_path / layout, model, dtype=torch.float16, layout=layout)
    ids = torch.randint(300, (2, 12), generator=torch.Generator().manual_seed(0))
    gptq, awq = (load_quantized(tmp_path / layout) for layout in ("gptq", "awq"))
    with torch.inference_mode():
        assert torch.equal(gptq(ids), awq(ids))
    tokenizer = train_tokenizer(["the camel walks to the well"] * 5, 300)
    said = [
        Engine(each, tokenizer).generate(["the camel"], max_new_tokens=8, temperature=0)
        for each in (gptq, awq)
    ]
    assert said[0] == said[1]


def test_config_of_awq(tmp_path):
    save_quantized(
        tmp_path,
        packed_model(selector=["layers.*_proj", "!layers.0.mlp.*"]),
        dtype=torch.float16,
        layout="awq",
    )
    left = [f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")]
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"] == {
        "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 32, "zero_point": True,
        "modules_to_not_convert": [*left, "lm_head"],
    }  # fmt: skip
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {
        torch.int32,
        torch.float16,
    }


@pytest.fixture
def awq(tmp_path):
    save_quantized(tmp_path, packed_model(), dtype=torch.float16, layout="awq")
    return tmp_path


def change(folder: Path, **keys):
    config = json.loads((folder / "config.json").read_text())
    method = {key: value for key, value in config["quantization_config"].items() if key not in keys}
    added = {key: value for key, value in keys.items() if value is not None}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": method | added}))


def test_keys_of_older_folders_are_read(awq):
    ids = torch.arange(20)[None]
    before = load_model(awq)(ids)
    change(awq, bits=None, group_size=None, w_bit=4, q_group_size=32, version="GEMM")
    assert torch.equal(load_model(awq)(ids), before)
    change(awq, version=None, checkpoint_format="gemm", zero_point=None)
    assert torch.equal(load_model(awq)(ids), before)
    change(awq, checkpoint_format=None, modules_to_not_convert=None)
    assert torch.equal(load_model(awq)(ids), before)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bits": 8}, "awq with 8 bits, version 'gemm', zero_point True; supported: awq with 4 bits"),
        ({"version": "gemv"}, "version 'gemv'"),
        ({"version": "gemv_fast"}, "version 'gemv_fast'"),
        ({"version": "marlin"}, "version 'marlin'"),
        ({"zero_point": False}, "zero_point False"),
        ({"quant_method": "bitsandbytes"}, "has quant_method 'bitsandbytes'; supported: gptq, awq"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(awq, keys, message):
    change(awq, **keys)
    with pytest.raises(CamelidError, match=message) as raised:
        load_model(awq)
    assert "config.json" in str(raised.value)


def test_damaged_folders_are_refused_by_name(awq):
    path = awq / "model.safetensors"
    tensors = load_file(path)
    for part in ("qweight", "qzeros", "scales"):
        wrong = {**tensors, f"{NAME}.{part}": tensors[f"{NAME}.{part}"][:, 1:].contiguous()}
        save_file(wrong, path)
        with pytest.raises(CamelidError, match=rf"{NAME}: {part} is (int32|float16) \["):
            load_model(awq)
        save_file({key: value for key, value in tensors.items() if key != f"{NAME}.{part}"}, path)
        missing = "missing tensors" if part == "qweight" else f"{NAME}: qweight without {part}"
        with pytest.raises(CamelidError, match=missing):
            load_model(awq)


def with_zero_point_zero(model):
    module = model.layers[1].mlp.up_proj
    weight = module.quantized()
    zeros = weight.zeros.clone()
    zeros[3, 1] = 0
    model.layers[1].mlp.up_proj = pack(QuantizedWeight(weight.codes, weight.scales, zeros, 4))
    return model


def test_what_a_layout_cannot_say_is_refused_by_name(tmp_path):
    def refuse(message, model, layout, dtype=torch.float16):
        with pytest.raises(CamelidError, match=message):
            save_quantized(tmp_path, model, dtype=dtype, layout=layout)
        assert not list(tmp_path.iterdir())

    refuse("have 8 bits, but the awq layout supports only 4", packed_model(8, -1), "awq")
    refuse("have 3 bits", packed_model(3, 32, feed_forward_width=96), "awq")
    refuse("the awq layout stores scales as float16, not bfloat16", packed_model(), "awq", torch.bfloat16)
    single = packed_model(scale_dtype=torch.float32)
    refuse("float32 scales would change .* as float16.*; quantise .* --dtype float16", single, "awq")
    refuse("float32 scales would change .*; store them with --dtype float32", single, "gptq")
    refuse(
        r"layers.1.mlp.up_proj: 1 of its zero points are 0.*awq", with_zero_point_zero(packed_model()), "gptq"
    )


def test_scales_in_bfloat16_are_written_as_float16_exactly(tmp_path):
    model = packed_model(scale_dtype=torch.bfloat16)
    save_quantized(tmp_path, model, dtype=torch.float16, layout="awq")
    before, after = (each.layers[1].mlp.up_proj.quantized() for each in (model, load_quantized(tmp_path)))
    assert torch.equal(before.dequantize(), after.dequantize())


def test_zero_points_of_zero_live_in_awq_and_are_read_in_gptq_v2(tmp_path):
    model = with_zero_point_zero(packed_model())
    wanted = model.layers[1].mlp.up_proj.quantized()
    save_quantized(tmp_path, model, dtype=torch.float16, layout="awq")
    assert torch.equal(load_quantized(tmp_path).layers[1].mlp.up_proj.quantized().zeros, wanted.zeros)
    written = LAYOUTS["gptq"].write(pack(QuantizedWeight(wanted.codes, wanted.scales, wanted.zeros + 1, 4)))
    as_they_are = LAYOUTS["gptq"].check({"bits": 4, "checkpoint_format": "gptq_v2"})
    _, _, zeros = LAYOUTS["gptq"].read(written, *as_they_are)
    assert torch.equal(zeros.int(), wanted.zeros)
