"""What is exported behaves as what was trained, and where it does not, nothing is exported."""

import importlib.util
import json
from contextlib import closing
from dataclasses import replace

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

from camelid.cli import main
from camelid.consumers import HuggingFace, LlamaCpp, Trained
from camelid.errors import CamelidError
from camelid.exporting import export
from camelid.load import load_model, load_tokenizer
from camelid.model.checkpoint import save_checkpoint
from camelid.model.gguf_writing import write_gguf
from camelid.model.spec import ModelSpec, Norm
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear, pack
from camelid.quant.round_to_nearest import QuantizedWeight
from camelid.quant.stage import quantize
from camelid.shape import ModelShape
from camelid.text.tokenizer import Tokenizer, train_tokenizer
from camelid.verifying import TALK, compare
from camelid.verifying import TEXTS as PROMPTS

TEXTS = ["the camel walks to the well", "naïve café 東京 1,000,000 at 10:30", "if x == 1:\n        return"]
LLAMA = ModelSpec.llama(
    vocab_size=330, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2, context_length=160
)
SHAPES = {
    name: ModelShape(architecture=name, hidden_size=64, num_layers=2, num_heads=4, context_length=160)
    for name in ("gpt2", "palm", "t5", "qwen3")
}
NEEDS_LLAMA_CPP = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
NEEDS_GPTQMODEL = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gptqmodel", "optimum", "accelerate")),
    reason="gptqmodel, optimum and accelerate are not installed",
)


@pytest.fixture(scope="module")
def vocabulary() -> Tokenizer:
    return train_tokenizer(TEXTS * 5, 330)


@pytest.fixture
def folder(tmp_path, vocabulary):
    return write(tmp_path / "model", LLAMA, vocabulary)


def write(folder, spec, vocabulary, std=0.3):
    """A checkpoint of random weights large enough for logits that differ."""
    folder.mkdir()
    model = Transformer(spec).initialize(0, std=std)
    ids = {"eos_token_id": sorted(vocabulary.stop_ids), "bos_token_id": vocabulary.bos_id}
    save_checkpoint(folder, model, special_ids={**ids, "pad_token_id": vocabulary.pad_id or 0})
    vocabulary.save(folder)
    return folder


@pytest.mark.parametrize("name", ["llama", *SHAPES])
def test_a_folder_behaves_in_transformers_as_here(name, tmp_path, vocabulary, capsys):
    spec = SHAPES[name].spec(330) if name in SHAPES else LLAMA
    source = write(tmp_path / "model", spec, vocabulary)
    words = ["export", str(source), str(tmp_path / "out"), "--to", "hf", "--dtype", "float32", "--verify"]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    for what in (
        "tokens of a conversation",
        "stop tokens",
        "logits after text 3",
        "greedy text after text 2",
    ):
        assert what in said


def test_a_quantised_folder_becomes_an_ordinary_one(folder, tmp_path):
    assert main(["quantize", str(folder), str(tmp_path / "small")]) == 0
    export(str(tmp_path / "small"), tmp_path / "plain", to="hf", dtype="float32")
    ids = torch.randint(330, (2, 9), generator=torch.Generator().manual_seed(0))
    packed, plain = load_model(tmp_path / "small"), load_model(tmp_path / "plain")
    assert torch.allclose(packed(ids), plain(ids), atol=1e-5)
    assert "quantization_config" not in (tmp_path / "plain" / "config.json").read_text()


def other_rotation(model, tokenizer):
    for layer in model.layers:
        weight = layer.self_attn.q_proj.weight
        weight.data = weight.view(-1, 2, 8, 64).transpose(1, 2).reshape(weight.shape).clone()
    return model, tokenizer


def other_template(model, tokenizer):
    changed = tokenizer.chat_template.source.replace("user", "human").replace("<|im_start|>", "<|im_start|> ")
    return model, Tokenizer(tokenizer.backend, tokenizer.config, chat_template=changed)


def like(tokenizer, backend=None, template=None, **settings):
    """The tokenizer with something else in it."""
    source = template or tokenizer.chat_template.source
    return Tokenizer(backend or tokenizer.backend, tokenizer.config, chat_template=source, **settings)


def no_stop(model, tokenizer):
    return model, like(tokenizer, stop_ids=[5])


def one_more_stop(model, tokenizer):
    first = Trained(model, tokenizer).greedy(tokenizer.encode(PROMPTS[0], special_tokens=True), 1)
    return model, like(tokenizer, stop_ids={*tokenizer.stop_ids, *first})


def other_branch(model, tokenizer):
    added = "{% if messages[0].role == 'system' %}X{% endif %}"
    return model, like(tokenizer, template=added + tokenizer.chat_template.source)


def swapped_tokens(model, tokenizer):
    table = json.loads(tokenizer.backend.to_str())
    vocabulary = table["model"]["vocab"]
    one, other = (next(key for key, index in vocabulary.items() if index == each) for each in (4, 5))
    vocabulary[one], vocabulary[other] = 5, 4
    return model, like(tokenizer, tokenizers.Tokenizer.from_str(json.dumps(table)))


def speakable_end(model, tokenizer):
    table = json.loads(tokenizer.backend.to_str())
    table["added_tokens"][2]["special"] = False
    template = "{{ bos_token }}"  # ours is not rendered without its terminator
    backend = tokenizers.Tokenizer.from_str(json.dumps(table))
    return model, like(tokenizer, backend, template, stop_ids=tokenizer.stop_ids)


def shorter_context(model, tokenizer):
    model.spec = replace(model.spec, context_length=100)
    return model, tokenizer


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (other_rotation, "logits after text 1"),
        (other_rotation, "greedy text after text 1"),
        (other_template, "tokens of a conversation: from token"),
        (no_stop, "stop tokens: camelid goes on after [0, 2] and stops at [5] too"),
        (one_more_stop, "greedy text after text 1 (1 tokens): it ends with"),
        (one_more_stop, "stop tokens: camelid stops at"),
        (other_branch, "chat template: "),
        (swapped_tokens, "all 307 tokens: 2 differ: 4 is"),
        (speakable_end, "which tokens are no text: not so <|im_end|>"),
        (shorter_context, "context length: 100 where training has 160"),
    ],
)
def test_every_kind_of_difference_is_found_and_named(broken, message, folder):
    trained = Trained(load_model(folder), load_tokenizer(folder))
    assert not compare(trained, Trained(load_model(folder), load_tokenizer(folder)), None, 1e-6).different
    found = compare(trained, Trained(*broken(load_model(folder), load_tokenizer(folder))), None, 1e-3)
    assert any(line.startswith(message) for line in found.different), found.different


def swapped_layers(tensors):
    one, other = (f"layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1))
    return {**tensors, one: tensors[other], other: tensors[one]}


def without_a_row(tensors):
    rows = tensors["embed_tokens.weight"].clone()
    rows[299] = 0
    return {**tensors, "embed_tokens.weight": rows}


def other_key(key, value):
    return lambda metadata: {**metadata, key: value}


@pytest.mark.parametrize("dtype", ["float32", "q8_0", "q4_k"])
@pytest.mark.parametrize(
    ("weights", "keys", "spec", "message"),
    [
        (swapped_layers, dict, {}, "tensor blk.0.attn_q.weight holds other values"),
        (swapped_layers, dict, {}, "layers.0.self_attn.q_proj.weight is far from what it was"),
        (without_a_row, dict, {}, "tensor token_embd.weight holds other values"),
        (dict, other_key("tokenizer.ggml.eos_token_id", 5), {}, "eos_token_id is 5 and was to be 0"),
        (dict, other_key("tokenizer.ggml.scores", [1.5]), {}, "scores is [1.5] and was to be None"),
        (dict, dict, {"norm": Norm(eps=1e-3)}, "layer_norm_rms_epsilon is 0.00100"),
        (dict, dict, {"context_length": 16}, "llama.context_length is 16 and was to be 160"),
    ],
)
def test_whatever_a_gguf_file_has_otherwise_is_found(
    weights, keys, spec, message, dtype, folder, tmp_path, monkeypatch, capsys
):
    def write_otherwise(path, own, parameters, *, metadata, dtype):
        return write_gguf(
            path, replace(own, **spec), weights(parameters), metadata=keys(metadata), dtype=dtype
        )

    monkeypatch.setattr("camelid.exporting.installed", lambda package: True)
    monkeypatch.setattr("camelid.exporting.write_gguf", write_otherwise)
    assert main(["export", str(folder), str(tmp_path / "out"), "--dtype", dtype, "--verify"]) == 1
    assert message in capsys.readouterr().err
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_held_to_every_weight_and_every_rule(folder, tmp_path, monkeypatch, capsys):
    def save_otherwise(draft, model, **settings):
        with torch.no_grad():
            kept = model.lm_head.weight[5].clone()
            model.lm_head.weight[5] *= 1.01
            save_checkpoint(draft, model, **settings)
            model.lm_head.weight[5] = kept

    monkeypatch.setattr("camelid.exporting.save_checkpoint", save_otherwise)
    words = ["export", str(folder), str(tmp_path / "out"), "--to", "hf", "--dtype", "bfloat16", "--verify"]
    assert main(words) == 1
    assert "weights bit for bit: not so lm_head.weight" in capsys.readouterr().err


def test_what_transformers_cannot_read_is_not_written_for_it(tmp_path, vocabulary, capsys):
    source = write(tmp_path / "model", replace(LLAMA, parallel=True), vocabulary)
    assert main(["export", str(source), str(tmp_path / "out"), "--to", "hf"]) == 1
    assert "LlamaForCausalLM, would change parallel" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(CamelidError, match="transformers cannot load what was written"):
        HuggingFace(tmp_path / "empty")


@NEEDS_LLAMA_CPP
def test_conversations_begin_as_llama_server_begins_them(folder, tmp_path):
    trained = Trained(load_model(folder), load_tokenizer(folder))
    recipe = {"recipe": {"stage": "tune", "task": "chat"}}
    for name, table, begun in (("base", {}, [0]), ("chat", recipe, [])):
        (folder / "camelid.json").write_text(json.dumps(table))
        export(str(folder), tmp_path / name, dtype="float32", verify=True)
        with closing(LlamaCpp(tmp_path / name, 64)) as reader:
            assert reader.chat_ids(TALK) == [*begun, *trained.chat_ids(TALK)]
            assert reader.ids("a") == [*begun, *trained.ids("a")[1:]]


@NEEDS_LLAMA_CPP
def test_a_file_on_which_llama_cpp_ends_is_told(folder, tmp_path):
    export(str(folder), tmp_path / "out.gguf", dtype="float32")
    damaged = (tmp_path / "out.gguf").read_bytes().replace(b"[PAD329]", b"[PAD328]")
    (tmp_path / "out.gguf").write_bytes(damaged)
    with pytest.raises(CamelidError, match=r"llama.cpp ended when asked for facts .*GGML_ASSERT"):
        LlamaCpp(tmp_path / "out.gguf", 64)


@pytest.mark.parametrize("layout", ["hf", "gguf"])
def test_nothing_is_exported_where_the_reader_says_otherwise(layout, folder, tmp_path, monkeypatch, capsys):
    class Other(Trained):
        name = "reader"

        def __init__(self, *_, **__):
            super().__init__(*other_rotation(load_model(folder), load_tokenizer(folder)))

        def close(self):
            pass

    monkeypatch.setattr("camelid.exporting.installed", lambda package: True)
    for reader in ("HuggingFace", "LlamaCpp"):
        monkeypatch.setattr(f"camelid.exporting.{reader}", Other)
    words = ["export", str(folder), str(tmp_path / "out"), "--to", layout, "--dtype", "float32", "--verify"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "reader does not behave as what was trained, so nothing was exported" in said
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


def test_a_reader_that_is_missing_and_a_dtype_of_another_layout_are_told(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("camelid.exporting.installed", lambda package: False)
    assert main(["export", str(folder), str(tmp_path / "a.gguf"), "--verify"]) == 1
    assert "pip install llama-cpp-python" in capsys.readouterr().err
    assert main(["export", str(folder), str(tmp_path / "a"), "--to", "hf", "--dtype", "q4_0"]) == 2
    assert "float32, float16, bfloat16" in capsys.readouterr().err


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
    assert (f"; {changed:,} values that are not quantised were rounded to float16" in said) == bool(changed)
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
    quantize(folder, made[0], bits=4, group_size=16, dtype="float16")
    export(str(made[0]), made[1], to="awq")
    export(str(made[1]), made[2], to="hf")
    for each in made:
        assert json.loads((each / "generation_config.json").read_text())["eos_token_id"] == [1, 7]
        assert load_tokenizer(each).stop_ids == {1, 7}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["model", "--to", "awq"], 1, "is in full precision, and awq folders hold codes"),
        (["model", "--to", "gptq"], 1, "camelid quantize (--bits 4, --method rtn, gptq or awq)"),
        (["small", "--to", "awq", "--dtype", "bfloat16"], 2, "a folder in awq takes float16"),
        (["small", "--to", "gptq", "--dtype", "q8_0"], 2, "takes float16, bfloat16, float32"),
        (["small8", "--to", "awq"], 1, "the weights have 8 bits, and the awq layout holds 4 alone"),
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

    monkeypatch.setattr("camelid.exporting.load_quantized", read)
    assert main(["export", str(small), str(tmp_path / "out"), "--to", "awq"]) == 1
    said = capsys.readouterr().err
    assert f"weights bit for bit: not so {message}" in said
    assert "nothing was exported" in said
    assert sorted(child.name for child in tmp_path.iterdir()) == ["model", "small"]


def test_the_reader_of_quantised_folders_is_asked_for(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("camelid.exporting.installed", lambda package: package == "transformers")
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


@NEEDS_LLAMA_CPP
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_k"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_llama_cpp_behaves_as_trained(name, dtype, tmp_path, vocabulary):
    shape = ModelShape(architecture=name, hidden_size=256, num_layers=2, num_heads=4, context_length=160)
    source = write(tmp_path / "model", shape.spec(330), vocabulary, std=0.08)
    export(str(source), tmp_path / "out.gguf", dtype=dtype, verify=True)
