"""Meta's LLaMA folders: models written in that layout by hand come back with transformers' logits."""

import json
import pickle
import pickletools
import shutil
import zipfile

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.checkpoint import load_checkpoint, read_spec
from camelid.formats.importing import import_model
from camelid.formats.meta_llama import MetaFolder
from camelid.model.rotary import rotation
from camelid.model.spec import Llama3Scaling

NAMES = {"embed_tokens": "tok_embeddings", "norm": "norm", "lm_head": "output"}
BLOCK_NAMES = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
}


def interleaved(weights: torch.Tensor, heads: int) -> torch.Tensor:
    """Halves of a head become neighbouring pairs, row by row."""
    dim = len(weights) // heads
    rows = [head * dim + place // 2 + (place % 2) * dim // 2 for head in range(heads) for place in range(dim)]
    return weights[rows]


def meta_tensors(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    config = model.config
    tensors = {"rope.freqs": torch.ones(3)}
    for name, tensor in model.state_dict().items():
        module = name.removeprefix("model.").removesuffix(".weight")
        if module in NAMES:
            tensors[f"{NAMES[module]}.weight"] = tensor
            continue
        _, layer, module = module.split(".", 2)
        heads = {
            "self_attn.q_proj": config.num_attention_heads,
            "self_attn.k_proj": config.num_key_value_heads,
        }
        value = interleaved(tensor, heads[module]) if module in heads else tensor
        tensors[f"layers.{layer}.{BLOCK_NAMES[module]}.weight"] = value
    return tensors


def split(name: str, tensor: torch.Tensor, parts: int, *, vocabulary_rows: bool) -> list[torch.Tensor]:
    if tensor.ndim == 1:
        return [tensor] * parts
    columns = name.endswith(("wo.weight", "w2.weight")) or (
        name.startswith("tok_emb") and not vocabulary_rows
    )
    return [piece.clone() for piece in tensor.chunk(parts, 1 if columns else 0)]


@pytest.fixture
def meta(shared, tmp_path):
    """A function that writes a random model in Meta's layout and gives its folder and the model."""

    def make(parts: int = 1, *, vocabulary_rows: bool = False, params=None, **sizes):
        torch.manual_seed(parts)
        config = LlamaConfig(
            **{
                "vocab_size": 32000,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "initializer_range": 0.2,
            }
            | sizes
        )
        model, folder = LlamaForCausalLM(config).eval(), tmp_path / "meta"
        folder.mkdir()
        pieces = {
            name: split(name, tensor, parts, vocabulary_rows=vocabulary_rows)
            for name, tensor in meta_tensors(model).items()
        }
        for part in range(parts):
            table = {name: piece[part] for name, piece in pieces.items()}
            torch.save(table, folder / f"consolidated.{part:02d}.pth")
        said = {"dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-6, "vocab_size": -1}
        (folder / "params.json").write_text(json.dumps(said | (params or {})))
        shutil.copy(shared / "weights/tokenizers/llama/tokenizer.model", folder)
        return folder, model

    return make


@pytest.mark.parametrize(("parts", "vocabulary_rows"), [(1, False), (2, False), (2, True)])
def test_imported_model_equals_the_one_it_was_made_from(parts, vocabulary_rows, meta, tmp_path):
    folder, model = meta(parts, vocabulary_rows=vocabulary_rows)
    import_model(folder, tmp_path / "out")
    ids = torch.randint(32000, (2, 20), generator=torch.Generator().manual_seed(0))
    ours = load_checkpoint(tmp_path / "out")
    with torch.inference_mode():
        assert (ours(ids) - model(ids).logits).abs().max() <= 1e-4
    assert (tmp_path / "out/tokenizer.json").is_file()


def test_rows_turn_as_meta_turns_pairs(meta, tmp_path):
    """Meta's `apply_rotary_emb`: neighbours of a head are a complex number that is turned by its angle."""
    folder, _ = meta()
    import_model(folder, tmp_path / "out")
    key = torch.randn(32, generator=torch.Generator().manual_seed(1))
    theirs = (MetaFolder(folder).tensor("layers.0.attention.wq.weight") @ key).view(4, 4, 2)
    ours = (load_checkpoint(tmp_path / "out").layers[0].self_attn.q_proj.weight @ key).view(4, 8).detach()
    frequencies = 10000.0 ** -(torch.arange(0, 8, 2) / 8)
    turned = torch.view_as_complex(theirs.contiguous()) * torch.polar(torch.ones(4), 7 * frequencies)
    cosine, sine = (part.flatten()[-8:] for part in rotation(torch.tensor([[7]]), frequencies))
    halves = torch.cat([-ours[:, 4:], ours[:, :4]], 1)
    mine = ours * cosine + halves * sine
    torch.testing.assert_close(mine, torch.cat([turned.real, turned.imag], 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("params", "context", "theta", "scaling"),
    [
        ({}, 2048, 10000.0, None),
        ({"norm_eps": 1e-5}, 4096, 10000.0, None),
        ({"rope_theta": 500000.0, "norm_eps": 1e-5}, 8192, 500000.0, None),
        (
            {"rope_theta": 500000.0, "use_scaled_rope": True},
            131072,
            500000.0,
            Llama3Scaling(32.0, 1.0, 4.0, 8192),
        ),
    ],
)
def test_settings_of_each_generation(params, context, theta, scaling, meta, tmp_path):
    folder, _ = meta(params=params)
    import_model(folder, tmp_path / "out")
    spec = read_spec(tmp_path / "out")
    assert (spec.context_length, spec.positions.theta, spec.positions.scaling) == (context, theta, scaling)
    assert spec.norm.eps == (params | {"norm_eps": params.get("norm_eps", 1e-6)})["norm_eps"]
    assert spec.feed_forward.width == 48


class Harmful:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


def plain_pickle(path):
    path.write_bytes(pickle.dumps({"a": Harmful()}))


def shorten(path):
    path.write_bytes(path.read_bytes()[:-5000])


def misled(path):
    """One byte of the pickle changed: it asks for what was never put down."""
    with zipfile.ZipFile(path) as archive:
        contents = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    writer, table = torch._C.PyTorchFileWriter(str(path)), bytearray(contents["data.pkl"])
    table[next(place for code, _, place in pickletools.genops(table) if code.name == "BINGET") + 1] = 250
    records = {name: content for name, content in contents.items() if name.startswith("data/")}
    for name, content in {"data.pkl": bytes(table), **records}.items():
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: torch.save({"a": Harmful()}, path), "only tensors are read"),
        (plain_pickle, "consolidated.00.pth"),
        (shorten, "download it again"),
        (misled, r"00\.pth cannot be read \(250\)"),
        (lambda path: torch.save({"a": torch.ones(1).expand(10**9, 16)}, path), "'a' is not contiguous"),
        (lambda path: torch.save({"a": torch.empty(16, device="meta")}, path), "'a' is not contiguous"),
        (
            lambda path: torch.save({k: torch.ones(10**5) for k in "ab"}, path),
            "'tok_embeddings.weight' is missing",
        ),
        (
            lambda path: torch.save(dict.fromkeys("abc", torch.ones(10**5)), path),
            "more numbers than it holds",
        ),
        (lambda path: torch.save([1, 2], path), "not a dictionary of tensors"),
        (
            lambda path: torch.save({1: torch.ones(2), "a": torch.ones(2)}, path),
            "not a dictionary of tensors",
        ),
        (
            lambda path: torch.save({"tok_embeddings.weight": torch.ones(())}, path),
            "not a floating-point vector or matrix",
        ),
        (lambda path: torch.save({"a": torch.ones(2)}, path), "'tok_embeddings.weight' is missing"),
        (lambda path: path.rename(path.with_name("consolidated.01.pth")), "consolidated.00.pth"),
        (lambda path: path.unlink(), "consolidated"),
        (lambda path: path.with_name("params.json").unlink(), "params.json"),
        (lambda path: path.with_name("params.json").write_text('{"dim": 32}'), "n_heads is None"),
        (lambda path: path.with_name("tokenizer.model").unlink(), "--tokenizer"),
    ],
)
def test_a_damaged_folder_is_refused(damage, message, meta, tmp_path, capsys):
    folder, _ = meta()
    damage(folder / "consolidated.00.pth")
    with pytest.raises(CamelidError, match=message):
        import_model(folder, tmp_path / "out")
    assert "code from a pickle ran" not in capsys.readouterr().out
    assert [child.name for child in tmp_path.iterdir()] == ["meta"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_layers": 1}, "do not belong to a LLaMA"),
        ({"n_kv_heads": 4}, "attention.wk.weight"),
        ({"n_heads": 5}, "not a multiple"),
    ],
)
def test_sizes_that_are_not_the_tensors_are_refused(params, message, meta, tmp_path):
    folder, _ = meta(params=params)
    with pytest.raises(CamelidError, match=message):
        import_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
