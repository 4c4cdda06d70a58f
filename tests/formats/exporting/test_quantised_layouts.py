"""Quantised folders go from one public layout to the other with the codes that they have."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from camelid.cli.main import main
from camelid.formats.exporting import export
from camelid.formats.load import load_model, load_tokenizer
from camelid.quant.packed import PackedLinear, pack
from camelid.quant.round_to_nearest import QuantizedWeight
from camelid.recipes.quantize import QuantizeRecipe
from camelid.workflows.quantize import quantize

NEEDS_GPTQMODEL = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gptqmodel", "optimum", "accelerate")),
    reason="gptqmodel, optimum and accelerate are not installed",
)


@pytest.fixture
def small(folder, tmp_path):
    """A folder as `camelid quantize` writes it: the GPTQ layout, in bfloat16."""
    assert main(["quantize", str(folder), str(tmp_path / "small"), "--group-size", "32"]) == 0
    return tmp_path / "small"


def packed(folder):
    """All weights of a folder: codes, scales and zero points of those that are quantised."""
    model = load_model(folder)
    whole = {path: vars(m.quantized()) for path, m in model.named_modules() if isinstance(m, PackedLinear)}
    return model.state_dict(), whole


def test_codes_go_from_one_layout_to_the_other_and_back(small, tmp_path, capsys):
    assert main(["export", str(small), str(tmp_path / "awq"), "--to", "awq"]) == 0
    said = capsys.readouterr().out
    for what in ("awq of", "read back", "tokens of a conversation", "stop tokens", "logits after text 1 bit"):
        assert what in said
    assert main(["export", str(tmp_path / "awq"), str(tmp_path / "gptq"), "--to", "gptq"]) == 0
    (rest, first), (_, awq), (_, gptq) = (
        packed(each) for each in (small, tmp_path / "awq", tmp_path / "gptq")
    )
    assert len(first) == 14
    for path, weight in first.items():
        for key in ("codes", "scales", "zeros"):
            for other in (awq, gptq):
                assert torch.equal(weight[key].float(), other[path][key].float()), (path, key)
    # The embedding and the norms in float16, which nearly every number in bfloat16 is.
    changed = sum(int((tensor != tensor.half().float()).sum()) for tensor in rest.values())
    assert (f"; {changed:,} unquantised values were rounded to float16" in said) == bool(changed)
    before, after = (load_file(each / "model.safetensors") for each in (small, tmp_path / "gptq"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor.half() if tensor.is_floating_point() else tensor, after[name])
    table = json.loads((tmp_path / "gptq" / "camelid.json").read_text())
    assert table["quantized"]["method"] == "rtn"
    assert table["parents"][0]["name"] == str(tmp_path / "awq")


def test_all_stops_of_a_public_folder_are_kept(folder, tmp_path):
    generation = folder / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": [7, 1]}))
    made = [tmp_path / "small", tmp_path / "awq", tmp_path / "hf"]
    quantize(QuantizeRecipe(model=folder, out=made[0], bits=4, group_size=16, dtype="float16"))
    export(str(made[0]), made[1], to="awq")
    export(str(made[1]), made[2], to="hf")
    for each in made:
        assert json.loads((each / "generation_config.json").read_text())["eos_token_id"] == [1, 7]
        assert load_tokenizer(each).stop_ids == {1, 7}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["model", "--to", "awq"], 1, "is in full precision, but awq folders hold quantised weights"),
        (["model", "--to", "gptq"], 1, "camelid quantize (--bits 4, --method rtn, gptq or awq)"),
        (["small", "--to", "awq", "--dtype", "bfloat16"], 2, "a folder in awq takes float16"),
        (["small", "--to", "gptq", "--dtype", "q8_0"], 2, "takes float16, bfloat16, float32"),
        (["small8", "--to", "awq"], 1, "the weights have 8 bits, but the awq layout supports only 4"),
    ],
)
def test_what_a_quantised_layout_cannot_say_is_refused(words, code, message, small, tmp_path, capsys):
    assert main(["quantize", str(tmp_path / "model"), str(tmp_path / "small8"), "--bits", "8"]) == 0
    source, *rest = words
    assert main(["export", str(tmp_path / source), str(tmp_path / "out"), *rest]) == code
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(child.name for child in tmp_path.iterdir()) == ["model", "small", "small8"]


def test_values_too_large_for_float16_are_refused(small, tmp_path, capsys):
    tensors = load_file(small / "model.safetensors")
    tensors["model.norm.weight"][3] = 1e5
    save_file(tensors, small / "model.safetensors")
    assert main(["export", str(small), str(tmp_path / "out"), "--to", "awq"]) == 1
    assert "norm.weight has values up to 9.98e+04, too large for float16" in capsys.readouterr().err


def other_code(model):
    layer = model.layers[1].mlp
    weight = layer.up_proj.quantized()
    codes = weight.codes.clone()
    codes[2, 3] ^= 1
    layer.up_proj = pack(QuantizedWeight(codes, weight.scales, weight.zeros, 4))


def other_norm(model):
    model.norm.weight.data = model.norm.weight * 1.001


@pytest.mark.parametrize(
    ("broken", "message"), [(other_code, "layers.1.mlp.up_proj.weight"), (other_norm, "norm.weight")]
)
def test_nothing_is_exported_where_a_bit_differs_when_read_back(
    broken, message, small, tmp_path, monkeypatch, capsys
):
    def read(folder):
        model = load_model(folder)
        broken(model)
        return model

    monkeypatch.setattr("camelid.formats.exporting.load_quantized", read)
    assert main(["export", str(small), str(tmp_path / "out"), "--to", "awq"]) == 1
    said = capsys.readouterr().err
    assert f"weights bit for bit: different: {message}" in said
    assert "nothing was exported" in said
    assert sorted(child.name for child in tmp_path.iterdir()) == ["model", "small"]


def test_the_reader_of_quantised_folders_is_asked_for(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("camelid.formats.exporting.installed", lambda package: package == "transformers")
    assert main(["export", str(small), str(tmp_path / "out"), "--to", "gptq", "--verify"]) == 1
    assert "pip install accelerate optimum gptqmodel" in " ".join(capsys.readouterr().err.split())


@NEEDS_GPTQMODEL
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["gptq", "awq"])
@pytest.mark.parametrize("left", [(), ("!layers.0.*",)])
def test_transformers_with_gptqmodel_behaves_as_here(layout, left, folder, tmp_path, capsys):
    words = ["quantize", str(folder), str(tmp_path / "small"), "--group-size", "32"]
    assert main([*words, "--select", "layers.*_proj", *left]) == 0
    assert main(["export", str(tmp_path / "small"), str(tmp_path / "out"), "--to", layout, "--verify"]) == 0
    assert "in transformers as trained" in capsys.readouterr().out
