"""llama2.c's checkpoints: stories260K equals its GGUF, and headers that lie are refused."""

import json
import random
import struct

import pytest
import torch

import camelid
from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.formats.hugging_face.checkpoint import load_checkpoint, read_spec
from camelid.formats.importing import import_model
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer


@pytest.fixture(scope="module")
def stories(shared):
    return shared / "weights/stories260K"


def test_stories260k_equals_its_gguf(stories, tmp_path):
    import_model(stories / "stories260K.bin", tmp_path / "bin")
    import_model(stories / "stories260K.gguf", tmp_path / "gguf")
    ours, theirs = (load_checkpoint(tmp_path / name) for name in ("bin", "gguf"))
    state = theirs.state_dict()
    assert ours.state_dict().keys() - {"lm_head.weight"} == state.keys() - {"lm_head.weight"}
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    # The GGUF's context is what its maker wrote, and so are its tokenizer's flags.
    ours, theirs = (read_spec(tmp_path / name) for name in ("bin", "gguf"))
    assert (ours.head_dim, ours.positions, ours.norm) == (theirs.head_dim, theirs.positions, theirs.norm)


def test_stories260k_tells_its_reference(stories, tmp_path, follow):
    import_model(stories / "stories260K.bin", tmp_path / "model")
    model, tokenizer = camelid.load_model(tmp_path / "model"), camelid.load_tokenizer(tmp_path / "model")
    for case in json.loads((stories / "reference_numpy.json").read_text())["results"]:
        assert tokenizer.encode(case["prompt"], special_tokens=True) == case["prompt_tokens"]
        logits, choices = follow(model, case["prompt_tokens"], case["greedy_tokens"])
        assert choices == case["greedy_tokens"]
        assert (logits - torch.tensor(case["first_step_logits"])).abs().max() <= 1e-4


def test_an_output_matrix_of_its_own(stories, tmp_path):
    """Written by hand in llama2.c's order, with halves turned into pairs row by row."""
    spec = ModelSpec.llama(
        vocab_size=512, hidden_size=16, num_layers=2, num_heads=2, num_kv_heads=1, context_length=8
    )
    model = Transformer(spec).initialize(0, std=0.5)
    state = model.state_dict()
    pairs = [place // 2 + (place % 2) * 4 for place in range(8)]
    order = ["input_layernorm", *(f"self_attn.{each}_proj" for each in "qkvo"), "post_attention_layernorm"]
    data = [struct.pack("<7i", 16, spec.feed_forward.width, 2, 2, 1, -512, 8)]
    data.append(state["embed_tokens.weight"].numpy().tobytes())
    for module in [*order, "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"]:
        for layer in range(2):
            values = state[f"layers.{layer}.{module}.weight"]
            if module.endswith(("q_proj", "k_proj")):
                values = torch.cat([head[pairs] for head in values.split(8)])
            data.append(values.numpy().tobytes())
    data += [
        state["norm.weight"].numpy().tobytes(),
        bytes(2 * 4 * 8 * 4),
        state["lm_head.weight"].numpy().tobytes(),
    ]
    (tmp_path / "own.bin").write_bytes(b"".join(data))
    import_model(tmp_path / "own.bin", tmp_path / "out", tokenizer=stories / "tok512.bin")
    again = load_checkpoint(tmp_path / "out").state_dict()
    assert again.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in again.items())


def test_damaged_files_are_refused(stories, tmp_path, capsys):
    whole = (stories / "stories260K.bin").read_bytes()
    draw = random.Random(0)
    damaged = [whole[:cut] for cut in (0, 27, 28, 5000, len(whole) - 4)] + [whole + bytes(4)]
    for place in range(28):
        damaged.append(whole[:place] + bytes([whole[place] ^ draw.randrange(1, 256)]) + whole[place + 1 :])
    path = tmp_path / "bad.bin"
    (tmp_path / "tok512.bin").write_bytes((stories / "tok512.bin").read_bytes())
    for data in damaged:
        path.write_bytes(data)
        assert main(["import", str(path), str(tmp_path / "out")]) == 1
        assert str(path) in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_a_tokenizer_must_be_found(stories, tmp_path):
    path = tmp_path / "stories260K.bin"
    path.write_bytes((stories / "stories260K.bin").read_bytes())
    with pytest.raises(CamelidError, match=r"neither tok512\.bin nor tokenizer\.bin"):
        import_model(path, tmp_path / "out")
    with pytest.raises(CamelidError, match="is not a tokenizer"):
        import_model(path, tmp_path / "out", tokenizer=path)
    assert main(["import", str(path), str(tmp_path / "out"), "--tokenizer", str(stories / "tok512.bin")]) == 0


def test_later_versions_are_refused_by_name(tmp_path):
    (tmp_path / "v2.bin").write_bytes(struct.pack("<Ii", 0x616B3432, 2) + bytes(300))
    with pytest.raises(CamelidError, match="later version"):
        import_model(tmp_path / "v2.bin", tmp_path / "out")
