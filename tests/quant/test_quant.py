"""Quantisation against its published formulas, worked by hand and derived anew from the files."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.checkpoint import load_checkpoint, save_checkpoint
from camelid.formats.load import load_model
from camelid.formats.packed.storage import load_quantized, save_quantized
from camelid.model.spec import ModelSpec, Norm, RelativeBuckets
from camelid.model.surgery import select
from camelid.model.transformer import Transformer
from camelid.quant.packed import pack
from camelid.quant.packing import packed_int32, packing_multiple, unpacked_integers
from camelid.quant.quantize import quantize_head, quantize_model
from camelid.quant.round_to_nearest import round_to_nearest
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.quantize import QuantizeRecipe
from camelid.workflows.quantize import quantize


def tiny(seed: int = 0, **changes: bool | int) -> Transformer:
    sizes = {"vocab_size": 50, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
    return Transformer(ModelSpec.llama(**{**sizes, **changes})).initialize(seed, std=0.2).eval()  # type: ignore[arg-type]


def test_worked_example() -> None:
    # Range -0.5..1.0, scale 0.1, zero point 5: codes 0, 5, 8, 15.
    weight = round_to_nearest(torch.tensor([[-0.5, 0.0, 0.26, 1.0]]), 4, 4)
    assert weight.codes.tolist() == [[0, 5, 8, 15]]
    assert weight.zeros.tolist() == [[5]]
    assert weight.dequantize()[0].tolist() == pytest.approx([-0.5, 0.0, 0.3, 1.0], abs=1e-6)
    # The lowest weight is nearer to 0 than to a step below it: steps of 0.5, so that 1.0 is kept.
    assert round_to_nearest(torch.tensor([[-0.04, 1.0, 0.5, 0.2]]), 2, 4).dequantize().tolist() == [
        [0, 1, 0.5, 0]
    ]
    # All positive: the zero point stays 1 and 14 steps are left.
    assert round_to_nearest(torch.tensor([[0.7, 1.4, 0.1, 0.0]]), 4, 4).codes.tolist() == [[8, 15, 2, 1]]
    assert round_to_nearest(torch.tensor([[255.0, -255.0, 2.0, 0.0]]), 8, 4).codes.tolist() == [
        [255, 0, 129, 128]
    ]
    assert round_to_nearest(torch.zeros(2, 8), 4, 4).dequantize().eq(0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([2, 3, 4, 8]), st.sampled_from([8, 16, 32]), st.floats(-3, 3))
def test_every_weight_is_within_half_a_step(seed: int, bits: int, group: int, shift: float) -> None:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(seed)) + shift
    quantized = round_to_nearest(weight, bits, group)  # type: ignore[arg-type]
    error = (quantized.dequantize() - weight).abs().reshape(6, -1, group)
    # A rounded zero point moves the grid by up to half a step against the range, which costs its ends as much
    # again.
    assert (error <= quantized.scales[..., None] * 1.001).all()
    if bits < 8:
        # Where the grid begins at 0 or one below, its other end is the highest weight.
        lowest, highest = weight.reshape(error.shape).aminmax(dim=-1)
        fitted = (quantized.zeros == 1) & (-lowest < quantized.scales / 2)
        ends = quantized.scales * (2**bits - 2)
        assert torch.allclose(ends[fitted], highest.clamp(min=0)[fitted], rtol=1e-4)
    assert quantized.zeros.min() >= 1
    assert quantized.zeros.max() < 2**bits


@given(st.sampled_from([2, 3, 4, 8]), st.integers(1, 4), st.integers(1, 5), st.integers(0, 999))
def test_integers_survive_packing(bits: int, words: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2**bits, (words * packing_multiple(bits), columns), generator=generator)
    packed = packed_int32(values, bits)
    assert packed.dtype == torch.int32
    # The published layout is a stream of bits, the lowest first, cut into words.
    stream = sum(int(value) << bits * index for index, value in enumerate(values[:, 0]))
    words_of = [int(word) & 0xFFFFFFFF for word in packed[:, 0]]
    assert words_of == [stream >> 32 * index & 0xFFFFFFFF for index in range(len(words_of))]
    assert torch.equal(unpacked_integers(packed, bits).long(), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("outer", "inner", "group"), [(48, 128, 32), (16, 64, 64), (24, 96, 32), (32, 48, 16), (8, 16, 8)]
)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("rows", [1, 5, 30])
def test_packed_product_is_the_dequantised_one(
    bits: int, rows: int, outer: int, inner: int, group: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    weight = round_to_nearest(torch.randn(outer, inner), bits, inner if bits == 8 else group, dtype)  # type: ignore[arg-type]
    layer = pack(weight, torch.randn(outer))
    x = torch.randn(2, rows, inner).to(dtype)
    assert layer.bias is not None
    exact = x.double() @ weight.dequantize(torch.float64).T + layer.bias
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for product in (layer(x[:1]), layer(x), layer.reference(x)):
        assert product.dtype == dtype
        assert (product.double() - exact[: len(product)]).abs().max() < tolerance * exact.abs().max()
    for mine, theirs in zip(vars(layer.quantized()).values(), vars(weight).values(), strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs


@pytest.mark.parametrize(
    ("bits", "group"), [(2, 16), (3, 32), (4, 16), (4, None), (4, -1), (8, None), (8, 32)]
)
@pytest.mark.parametrize("tie", [True, False])
def test_folder_round_trip_is_exact(tmp_path: Path, bits: int, group: int | None, tie: bool) -> None:
    model = quantize_model(tiny(tie_embeddings=tie), bits, group)  # type: ignore[arg-type]
    save_quantized(tmp_path, model, dtype=torch.bfloat16)
    again = load_quantized(tmp_path, torch.bfloat16)
    tokens = torch.randint(0, 50, (2, 20))
    with torch.no_grad():
        assert torch.equal(again(tokens), model.to(torch.bfloat16)(tokens))
    assert isinstance(again.head.weight, torch.nn.Parameter)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_follow_from_the_file_by_the_published_formula(tmp_path: Path, bits: int) -> None:
    original = tiny()
    weight = original.layers[1].mlp.up_proj.weight.detach().clone().numpy()  # type: ignore[union-attr, operator]
    model = quantize_model(tiny(), bits, 32, scale_dtype=torch.float16)  # type: ignore[arg-type]
    save_quantized(tmp_path, model, dtype=torch.float16)
    config = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert {key: config[key] for key in ("quant_method", "bits", "group_size", "desc_act", "sym")} == {
        "quant_method": "gptq", "bits": bits, "group_size": 32, "desc_act": False, "sym": bits == 8,
    }  # fmt: skip
    file = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.up_proj."
    words, zeros = file[name + "qweight"].view(np.uint32), file[name + "qzeros"].view(np.uint32)
    scales, groups = file[name + "scales"].astype(np.float32), file[name + "g_idx"]
    per_word, mask = 32 // bits, 2**bits - 1
    outer, inner = weight.shape
    derived = np.empty((outer, inner), np.float32)
    for o in range(outer):
        for i in range(inner):
            group = groups[i]
            code = int(words[i // per_word, o]) >> bits * (i % per_word) & mask
            zero = (int(zeros[group, o // per_word]) >> bits * (o % per_word) & mask) + 1
            derived[o, i] = scales[group, o] * (code - zero)
    loaded = load_quantized(tmp_path).layers[1].mlp.up_proj.quantized().dequantize()  # type: ignore[union-attr, operator]
    assert np.array_equal(loaded.numpy(), derived)
    assert np.abs(derived - weight).max() <= scales.max() * 1.001


def test_selected_linears_only(tmp_path: Path) -> None:
    model = quantize_model(tiny(), 4, 32, ["layers.*_proj", "!layers.0.*"])
    save_quantized(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text())
    assert r"-:.*model\.layers\.0\.mlp\.up_proj$" in config["quantization_config"]["dynamic"]
    assert isinstance(load_quantized(tmp_path).layers[0].mlp.up_proj, torch.nn.Linear)  # type: ignore[union-attr]
    with pytest.raises(
        CamelidError, match=r"'decoder.\*' matches nothing; available: layers.0.self_attn.q_proj"
    ):
        quantize_model(tiny(), 4, 32, ["decoder.*"])
    with pytest.raises(CamelidError, match="leave nothing"):
        select(["a"], ["a", "!a"])


def test_shapes_that_do_not_fit_are_named() -> None:
    odd = tiny(hidden_size=48, feed_forward_width=72)
    with pytest.raises(
        CamelidError, match=r"layers.0.self_attn.q_proj has 48 inputs.*size 32; .*: 24, 12, 8, -1"
    ):
        quantize_model(odd, 4, 32)
    assert quantize_model(odd, 4).layers[0].mlp.down_proj.group_size == 8  # type: ignore[union-attr]
    with pytest.raises(CamelidError, match=r"of 8; exclude .*'!\*.mlp.gate_proj' .*or use --bits 8"):
        quantize_model(tiny(feed_forward_width=100), 4)


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    save_quantized(tmp_path, quantize_model(tiny(), 4, 32))
    path, config_path = tmp_path / "model.safetensors", tmp_path / "config.json"
    config = json.loads(config_path.read_text())

    def refuse(match: str, **method: object) -> None:
        changed = {**config, "quantization_config": {**config["quantization_config"], **method}}
        config_path.write_text(json.dumps(changed))
        with pytest.raises(CamelidError, match=match):
            load_quantized(tmp_path)

    refuse("quant_method 'fp8'; supported: gptq, awq", quant_method="fp8")
    refuse("gptq with 5 bits", bits=5)
    file = {name: np.array(tensor) for name, tensor in _arrays(path).items()}
    name = "model.layers.0.mlp.up_proj."
    save_file({**file, name + "g_idx": file[name + "g_idx"][::-1].copy()}, path)
    refuse("g_idx reorders")
    save_file({**file, name + "qzeros": file[name + "qzeros"][:, 1:].copy()}, path)
    refuse("qzeros is ")
    save_file({key: value for key, value in file.items() if key != name + "scales"}, path)
    refuse("without scales")
    save_file({**file, name + "bias": np.ones(len(file[name + "scales"][0]), np.float32)}, path)
    refuse("layers.0.mlp.up_proj: its bias is not zero, but config.json declares none")
    save_file({**file, name + "bias": np.zeros(3, np.float32)}, path)
    refuse(r"bias is float32 \[3\]")


@pytest.mark.parametrize("bias", [True, False])
def test_biases_of_zeros_are_dropped_where_the_model_has_none_and_missing_ones_are_told(
    tmp_path: Path, bias: bool
) -> None:
    spec = dataclasses.replace(tiny().spec, attention_bias="all" if bias else "none")
    model = quantize_model(Transformer(spec).initialize(0, std=0.2).eval(), 4, 32)
    save_quantized(tmp_path, model, dtype=torch.float32)
    path = tmp_path / "model.safetensors"
    file = _arrays(path)
    name = "model.layers.1.self_attn.o_proj.bias"
    if bias:
        del file[name]
        save_file(file, path)
        with pytest.raises(CamelidError, match="o_proj: its bias is missing"):
            load_quantized(tmp_path)
        return
    zeros = {
        key.replace("scales", "bias"): np.zeros(value.shape[1], np.float16)
        for key, value in file.items()
        if key.endswith("scales")
    }
    save_file({**file, **zeros}, path)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        assert torch.equal(load_quantized(tmp_path)(ids), model(ids))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in load_tensors(path).items()
    }


def test_verb_quantizes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    source = shared / "weights" / "tinystories-656k"
    quantize(QuantizeRecipe(model=source, out=tmp_path / "q4", group_size=32))
    said = capsys.readouterr().out
    assert "tinystories-656k: 2.6 MB" in said
    assert "4." in said
    assert "bits per weight" in said
    tokens = torch.arange(3, 40)[None]
    full, small = load_model(source), load_model(tmp_path / "q4")
    with torch.no_grad():
        agreement = (full(tokens).argmax(-1) == small(tokens).argmax(-1)).float().mean()
    assert agreement > 0.7
    with pytest.raises(CamelidError, match="not empty"):
        quantize(QuantizeRecipe(model=source, out=tmp_path / "q4"))


def test_a_full_precision_reader_refuses(tmp_path: Path) -> None:
    save_quantized(tmp_path, quantize_model(tiny(), 4, 32))
    with pytest.raises(CamelidError, match="quantised"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "cohere", "t5"])
def test_what_the_layout_has_no_place_for_is_refused(name: str, tmp_path: Path) -> None:
    shape = ModelShape(
        architecture={"cohere": "palm"}.get(name, name),
        hidden_size=32,
        num_layers=1,
        num_heads=2,
        context_length=16,
    )
    model = Transformer(shape.spec(40)).initialize(0)
    save_checkpoint(tmp_path, model)
    refused = pytest.raises(CamelidError, match="supported: LlamaForCausalLM")
    with refused:
        quantize(QuantizeRecipe(model=tmp_path, out=tmp_path / "small"))
    with refused:
        save_quantized(tmp_path / "small", quantize_model(model, 4, 16))
    assert not (tmp_path / "small").exists()


def test_an_encoder_of_our_own_is_refused(tmp_path: Path) -> None:
    norm, positions = Norm("layer", bias=True), RelativeBuckets()
    spec = dataclasses.replace(tiny().spec, encoder_layers=1, norm=norm, positions=positions)
    save_checkpoint(tmp_path, Transformer(spec).initialize(0))
    for method in ("rtn", "gptq"):
        with pytest.raises(CamelidError, match="this CamelidModel has an encoder"):
            quantize(QuantizeRecipe(model=tmp_path, out=tmp_path / "small", method=method))


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "mistral", "gpt3"])
def test_relatives_and_our_own_mixtures_are_packed_exactly(architecture: str, tmp_path: Path) -> None:
    shape = ModelShape(
        architecture=architecture, hidden_size=64, num_layers=2, num_heads=2, context_length=16
    )
    packed = quantize_model(Transformer(shape.spec(40)).initialize(0), 4, 16)
    save_quantized(tmp_path, packed, dtype=torch.float32)
    ids = torch.randint(0, 40, (2, 10))
    with torch.inference_mode():
        assert torch.equal(load_quantized(tmp_path)(ids), packed(ids))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_an_output_projection_of_8_bits_is_saved_and_computed(tmp_path: Path, tied: bool, bits: int) -> None:
    spec = ModelSpec.llama(
        vocab_size=96, hidden_size=64, num_layers=1, num_heads=2, context_length=64, tie_embeddings=tied
    )
    model = Transformer(spec).initialize(0, std=0.1).eval()
    weight = model.head.weight.detach().clone()
    embedding = model.embed_tokens.weight.detach().bfloat16()
    quantize_head(quantize_model(model, bits))  # type: ignore[arg-type]
    assert model.lm_head.quantized().dequantize() == pytest.approx(
        weight, abs=float(weight.abs().max()) / 100
    )
    save_quantized(tmp_path, model)
    method = json.loads((tmp_path / "config.json").read_text())
    assert not method["tie_word_embeddings"]
    assert method["quantization_config"]["lm_head"] is True
    assert method["quantization_config"]["dynamic"]["+:^lm_head$"] == {"bits": 8, "group_size": -1}
    again = load_quantized(tmp_path, torch.bfloat16)
    assert torch.equal(again.embed_tokens.weight, embedding)
    assert torch.equal(again.lm_head.quantized().codes, model.lm_head.quantized().codes)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.allclose(load_quantized(tmp_path)(ids), model.bfloat16().float()(ids), atol=1e-4)
    with pytest.raises(CamelidError, match="cannot hold a quantised output projection"):
        save_quantized(
            tmp_path,
            quantize_head(quantize_model(Transformer(spec).initialize(0), 4)),
            layout="awq",
            dtype=torch.float16,
        )
