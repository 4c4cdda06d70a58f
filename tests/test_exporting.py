"""What is exported behaves as what was trained, and where it does not, nothing is exported."""

import importlib.util

import pytest
import torch

from camelid.cli import main
from camelid.consumers import Trained
from camelid.exporting import export
from camelid.load import load_model, load_tokenizer
from camelid.model.checkpoint import save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.shape import ModelShape
from camelid.text.tokenizer import Tokenizer, train_tokenizer
from camelid.verifying import compare

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


def no_stop(model, tokenizer):
    other = Tokenizer(
        tokenizer.backend, tokenizer.config, chat_template=tokenizer.chat_template.source, stop_ids=[5]
    )
    return model, other


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (other_rotation, "logits after text 1"),
        (other_rotation, "greedy text after text 1"),
        (other_template, "tokens of a conversation: from token"),
        (no_stop, "stop tokens: camelid goes on after"),
    ],
)
def test_every_kind_of_difference_is_found_and_named(broken, message, folder):
    trained = Trained(load_model(folder), load_tokenizer(folder))
    assert not compare(trained, Trained(load_model(folder), load_tokenizer(folder)), None, 1e-6).different
    found = compare(trained, Trained(*broken(load_model(folder), load_tokenizer(folder))), None, 1e-3)
    assert any(line.startswith(message) for line in found.different), found.different


@pytest.mark.parametrize("layout", ["hf", "gguf"])
def test_nothing_is_exported_where_the_reader_says_otherwise(layout, folder, tmp_path, monkeypatch, capsys):
    class Other(Trained):
        name = "reader"

        def __init__(self, *_, **__):
            super().__init__(*other_rotation(load_model(folder), load_tokenizer(folder)))

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


@NEEDS_LLAMA_CPP
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "q8_0", "q4_0", "q4_k"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_llama_cpp_behaves_as_trained(name, dtype, tmp_path, vocabulary):
    shape = ModelShape(architecture=name, hidden_size=256, num_layers=2, num_heads=4, context_length=160)
    source = write(tmp_path / "model", shape.spec(330), vocabulary, std=0.08)
    export(str(source), tmp_path / "out.gguf", dtype=dtype, verify=True)
