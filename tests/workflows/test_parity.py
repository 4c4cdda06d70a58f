"""The parity gate: a model is the same in training, in the engine and exported; a broken export fails."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from camelid.cli.main import main
from camelid.formats.exporting import export
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.formats.load import load_model, special_ids
from camelid.formats.packed.storage import load_quantized
from camelid.model.presets import published
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.packed import packed_linears
from camelid.text.tokenizer import train_tokenizer
from camelid.workflows.parity import BOUNDS, parity

TEXTS = ["What is the capital of France? Paris. And of Spain? Madrid, since 1561."] * 9


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def write(folder, spec: ModelSpec, tokenizer):
    model = Transformer(spec).initialize(0, std=0.3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(float("norm" in name and "weight" in name), 0.3, generator=generator)
    folder.mkdir()
    save_checkpoint(folder, model, special_ids=special_ids(tokenizer))
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def model(tokenizer, tmp_path_factory):
    spec = ModelSpec.llama(
        vocab_size=300, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, context_length=256
    )
    return write(tmp_path_factory.mktemp("parity") / "model", spec, tokenizer)


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def outcome(capsys, *words) -> tuple[int, str]:
    code = main(["check", "--parity", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_a_model_and_its_exports_are_the_same(model, copy, tmp_path, capsys):
    for name, dtype in (("exact", "float32"), ("half", "float16"), ("eight", "q8_0")):
        export(str(model), tmp_path / f"{name}.gguf", dtype=dtype)
    files = [tmp_path / f"{name}.gguf" for name in ("exact", "half", "eight")]
    code, shown = outcome(capsys, model, copy, *files)
    assert code == 0, shown
    rows = [line.split() for line in shown.splitlines() if "4/4" in line]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("model", "forward", "float32"),
        ("model", "engine", "float32"),
        ("copy", "forward", "float32"),
        ("copy", "engine", "float32"),
        ("copy", "transformers", "float32"),
        ("exact.gguf", "import", "float32"),
        ("half.gguf", "import", "float16"),
        ("eight.gguf", "import", "8-bit"),
    ]
    assert {row[-1] for row in rows} == {"ok"}


def test_every_base_of_an_assistant_is_the_same(tokenizer, tmp_path):
    for architecture in ("gpt2", "gpt-neox", "gpt-j", "opt", "galactica"):
        spec = published(architecture, 24, 2, 3, vocab_size=300, context_length=256)
        parity(write(tmp_path / architecture, spec, tokenizer))


def change_template(folder):
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant\\n", "assistant: "))


def swap_norms(folder):
    tensors = load_file(folder / "model.safetensors")
    one, other = (f"model.layers.0.{name}_layernorm.weight" for name in ("input", "post_attention"))
    tensors[one], tensors[other] = tensors[other], tensors[one]
    save_file(tensors, folder / "model.safetensors")


def change_tokenizer(folder):
    train_tokenizer(["a zebra fills my quiz box; why, john, do exports vex?"] * 9, 300).save(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_template, "other ids of prompt 1"),
        (swap_norms, "nats apart"),
        (change_tokenizer, "other ids of prompt 2"),
    ],
)
def test_a_broken_export_fails(damage, message, model, copy, capsys):
    damage(copy)
    code, shown = outcome(capsys, model, "--against", copy)
    assert code == 1
    assert "copy, read by forward: " in shown
    assert message in shown
    assert "model, read by" not in shown.splitlines()[-1]


def test_the_drift_of_a_quantised_folder_is_bounded(model, tmp_path, capsys):
    assert main(["quantize", str(model), "--out", str(tmp_path / "packed"), "--bits", "8"]) == 0
    code, shown = outcome(capsys, model, tmp_path / "packed")
    rows = [line.split() for line in shown.splitlines() if line.startswith("packed")]
    assert code == 0, shown
    assert [(row[1], row[2], row[3]) for row in rows] == [
        ("forward", "8-bit", "4/4"),
        ("engine", "8-bit", "4/4"),
    ]
    assert float(rows[0][4].rstrip(",")) < BOUNDS["8-bit"].mean
    code, shown = outcome(capsys, model, tmp_path / "packed", "--drift", "1e-6")
    assert (code, "1e-06, 1e-05" in shown) == (1, True)


def test_what_is_refused(model, copy, tokenizer, tmp_path, capsys):
    assert outcome(capsys, model, "--drift", "-1")[0] == 2
    t5 = write(
        tmp_path / "t5", published("t5", 24, 1, 3, vocab_size=300, context_length=64, head_dim=8), tokenizer
    )
    assert "encoder-decoder" in outcome(capsys, t5)[1]
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8}))
    assert "too short for any prompt" in outcome(capsys, copy)[1]


@pytest.mark.parametrize("architecture", ["gpt-neox", "gpt-j", "opt"])
@pytest.mark.parametrize("method", ["rtn", "awq"])
def test_the_bases_of_assistants_are_quantised(architecture, method, tokenizer, tmp_path, capsys):
    """Their files hold the rows in another order, GPT-NeoX's also three linears as one."""
    spec = published(architecture, 96, 1, 3, vocab_size=300, context_length=256)
    folder, text = write(tmp_path / "model", spec, tokenizer), tmp_path / "text.txt"
    text.write_text("\n\n".join(TEXTS * 9))
    rows = ["--calibration", text, "--calibration-rows", "2", "--calibration-length", "32"]
    words = ["quantize", folder, "--out", tmp_path / "packed", "--bits", "8", "--method", method]
    assert main(list(map(str, [*words, *(rows if method == "awq" else [])]))) == 0
    capsys.readouterr()
    made = load_quantized(tmp_path / "packed")
    packed = packed_linears(made)
    assert len(packed) == 6
    exact = load_model(folder)
    for path, weight in packed.items():
        wanted = exact.get_submodule(path).weight
        # The weight is scaled for AWQ, and rows in another order would be all wrong.
        assert (weight.quantized().dequantize() - wanted).norm() < (
            0.02 if method == "rtn" else 1
        ) * wanted.norm()
    code, shown = outcome(capsys, folder, tmp_path / "packed")
    assert code == 0, shown
