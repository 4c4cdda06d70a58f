"""What is exported behaves as what was trained, and where it does not, nothing is exported."""

import importlib.util
import json
from contextlib import closing
from dataclasses import replace

import pytest
import tokenizers
import torch
from exported import LLAMA, write

from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.formats.exporting import export
from camelid.formats.gguf.writing import write_gguf
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.formats.load import load_model, load_tokenizer
from camelid.formats.verify.comparison import TALK, compare_behaviour
from camelid.formats.verify.comparison import TEXTS as PROMPTS
from camelid.formats.verify.readers import HuggingFace, LlamaCpp, Trained
from camelid.model.spec import Norm
from camelid.recipes.model_shape import ModelShape
from camelid.text.tokenizer import Tokenizer

SHAPES = {
    name: ModelShape(architecture=name, hidden_size=64, num_layers=2, num_heads=4, context_length=160)
    for name in ("gpt2", "palm", "t5", "qwen3")
}
NEEDS_LLAMA_CPP = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)


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
        (no_stop, "stop tokens: camelid does not stop at [0, 2] and also stops at [5]"),
        (one_more_stop, "greedy text after text 1 (1 tokens): it ends with"),
        (one_more_stop, "stop tokens: camelid also stops at"),
        (other_branch, "chat template: "),
        (swapped_tokens, "all 307 tokens: 2 differ: 4 is"),
        (speakable_end, "which tokens are not text: <|im_end|>"),
        (shorter_context, "context length: 100, training has 160"),
    ],
)
def test_every_kind_of_difference_is_found_and_named(broken, message, folder):
    trained = Trained(load_model(folder), load_tokenizer(folder))
    assert not compare_behaviour(
        trained, Trained(load_model(folder), load_tokenizer(folder)), None, 1e-6
    ).different
    found = compare_behaviour(
        trained, Trained(*broken(load_model(folder), load_tokenizer(folder))), None, 1e-3
    )
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
        (swapped_layers, dict, {}, "tensor blk.0.attn_q.weight has different values"),
        (swapped_layers, dict, {}, "layers.0.self_attn.q_proj.weight is far from the original"),
        (without_a_row, dict, {}, "tensor token_embd.weight has different values"),
        (dict, other_key("tokenizer.ggml.eos_token_id", 5), {}, "eos_token_id is 5, expected 0"),
        (dict, other_key("tokenizer.ggml.scores", [1.5]), {}, "scores is [1.5], expected None"),
        (dict, dict, {"norm": Norm(eps=1e-3)}, "layer_norm_rms_epsilon is 0.00100"),
        (dict, dict, {"context_length": 16}, "llama.context_length is 16, expected 160"),
    ],
)
def test_whatever_a_gguf_file_has_otherwise_is_found(
    weights, keys, spec, message, dtype, folder, tmp_path, monkeypatch, capsys
):
    def write_otherwise(path, own, parameters, *, metadata, dtype):
        return write_gguf(
            path, replace(own, **spec), weights(parameters), metadata=keys(metadata), dtype=dtype
        )

    monkeypatch.setattr("camelid.formats.exporting.installed", lambda package: True)
    monkeypatch.setattr("camelid.formats.exporting.write_gguf", write_otherwise)
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

    monkeypatch.setattr("camelid.formats.exporting.save_checkpoint", save_otherwise)
    words = ["export", str(folder), str(tmp_path / "out"), "--to", "hf", "--dtype", "bfloat16", "--verify"]
    assert main(words) == 1
    assert "weights bit for bit: different: lm_head.weight" in capsys.readouterr().err


def test_what_transformers_cannot_read_is_not_written_for_it(tmp_path, vocabulary, capsys):
    source = write(tmp_path / "model", replace(LLAMA, parallel=True), vocabulary)
    assert main(["export", str(source), str(tmp_path / "out"), "--to", "hf"]) == 1
    assert "LlamaForCausalLM, would change parallel" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(CamelidError, match="transformers cannot load the export"):
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
    with pytest.raises(CamelidError, match=r"llama.cpp exited during facts .*GGML_ASSERT"):
        LlamaCpp(tmp_path / "out.gguf", 64)


@pytest.mark.parametrize("layout", ["hf", "gguf"])
def test_nothing_is_exported_where_the_reader_says_otherwise(layout, folder, tmp_path, monkeypatch, capsys):
    class Other(Trained):
        name = "reader"

        def __init__(self, *_, **__):
            super().__init__(*other_rotation(load_model(folder), load_tokenizer(folder)))

        def close(self):
            pass

    monkeypatch.setattr("camelid.formats.exporting.installed", lambda package: True)
    for reader in ("HuggingFace", "LlamaCpp"):
        monkeypatch.setattr(f"camelid.formats.exporting.{reader}", Other)
    words = ["export", str(folder), str(tmp_path / "out"), "--to", layout, "--dtype", "float32", "--verify"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "reader does not behave like the trained model, so nothing was exported" in said
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


def test_a_reader_that_is_missing_and_a_dtype_of_another_layout_are_told(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("camelid.formats.exporting.installed", lambda package: False)
    assert main(["export", str(folder), str(tmp_path / "a.gguf"), "--verify"]) == 1
    assert "pip install llama-cpp-python" in capsys.readouterr().err
    assert main(["export", str(folder), str(tmp_path / "a"), "--to", "hf", "--dtype", "q4_0"]) == 2
    assert "float32, float16, bfloat16" in capsys.readouterr().err


@NEEDS_LLAMA_CPP
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_k"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_llama_cpp_behaves_as_trained(name, dtype, tmp_path, vocabulary):
    shape = ModelShape(architecture=name, hidden_size=256, num_layers=2, num_heads=4, context_length=160)
    source = write(tmp_path / "model", shape.spec(330), vocabulary, std=0.08)
    export(str(source), tmp_path / "out.gguf", dtype=dtype, verify=True)
