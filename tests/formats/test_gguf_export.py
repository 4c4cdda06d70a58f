"""`camelid export --to gguf`: our own import and the `gguf` package read back what was written."""

import importlib.util
import json
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch

from camelid import load_tokenizer
from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.formats.exporting import export
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.hugging_face.checkpoint import load_checkpoint, save_checkpoint
from camelid.formats.importing import import_model
from camelid.model.presets import published
from camelid.model.spec import FeedForward, LinearScaling, Llama3Scaling, ModelSpec, Norm, Rotary, Window
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer, load_vocabulary_file, train_tokenizer

TEXTS = ["Once upon a time there was a cat, who sat on a mat.", "She said: «12 birds»!"] * 20
LLAMA = ModelSpec.llama(
    vocab_size=330, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, context_length=64
)
SPECS = {
    "llama": LLAMA,
    "tied": replace(LLAMA, tie_embeddings=True, head_dim=6),
    "linear": replace(LLAMA, positions=Rotary(10000.0, LinearScaling(4.0)), norm=Norm(eps=1e-6)),
    "llama3": replace(LLAMA, positions=Rotary(500000.0, Llama3Scaling(8.0, 1.0, 4.0, 8192)), head_dim=16),
    "biased": replace(LLAMA, attention_bias="all", feed_forward=FeedForward(48, bias=True)),
    "gpt2": published("gpt2", 24, 2, 3, vocab_size=330, context_length=40),
    "gptneox": published("gpt-neox", 32, 2, 2, vocab_size=330, context_length=40),
    "gptneox in sequence": published(
        "gpt-neox", 24, 2, 3, vocab_size=330, context_length=40, parallel=False, separate_norms=False
    ),
}


@pytest.fixture(scope="module")
def byte_level():
    return train_tokenizer(TEXTS, 330)


@pytest.fixture
def saved(tmp_path, byte_level):
    """A function that writes a random model of a spec, with a tokenizer beside it, and gives the folder."""

    def make(spec: ModelSpec, tokenizer: Tokenizer = byte_level):
        model = Transformer(spec).initialize(0, std=0.3)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 1:
                    parameter.normal_(float("norm" in name and "weight" in name), 0.3, generator=generator)
        folder = tmp_path / "model"
        folder.mkdir()
        save_checkpoint(folder, model, special_ids={"eos_token_id": sorted(tokenizer.stop_ids)})
        tokenizer.save(folder)
        return folder

    return make


@pytest.mark.parametrize("name", SPECS)
def test_exported_and_imported_again_it_is_the_same(name, saved, tmp_path):
    folder = saved(SPECS[name])
    export(str(folder), tmp_path / "model.gguf", dtype="float32")
    import_model(tmp_path / "model.gguf", tmp_path / "again")
    ours, again = load_checkpoint(folder), load_checkpoint(tmp_path / "again")
    assert again.spec == SPECS[name]
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    before, after = load_tokenizer(folder), load_tokenizer(tmp_path / "again")
    for text in TEXTS:
        assert before.encode(text, special_tokens=True) == after.encode(text, special_tokens=True)
    assert after.chat_template.source == before.chat_template.source
    assert (after.bos_id, after.eos_id, after.stop_ids) == (before.bos_id, before.eos_id, before.stop_ids)


@pytest.mark.parametrize(("dtype", "kind", "number"), [("float16", "F16", 1), ("bfloat16", "BF16", 32)])
def test_the_gguf_package_reads_it(dtype, kind, number, saved, tmp_path):
    folder = saved(SPECS["gpt2"])
    export(str(folder), tmp_path / "model.gguf", dtype=dtype)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert reader.fields["general.file_type"].contents() == number
    assert reader.fields["general.architecture"].contents() == "gpt2"
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    state = load_checkpoint(folder).state_dict()
    wanted = state["layers.1.mlp.up_proj.weight"].to(getattr(torch, dtype)).float().numpy()
    found = tensors["blk.1.ffn_up.weight"]
    assert found.tensor_type.name == kind
    np.testing.assert_array_equal(gguf.quants.dequantize(found.data, found.tensor_type), wanted)
    for name in ("position_embd.weight", "output_norm.bias", "blk.0.attn_qkv.bias"):
        assert tensors[name].tensor_type.name == "F32"
    joined = torch.cat([state[f"layers.0.self_attn.{each}_proj.bias"] for each in "qkv"]).numpy()
    np.testing.assert_array_equal(tensors["blk.0.attn_qkv.bias"].data, joined)


def test_llama3_factors_are_the_published_formula(saved, tmp_path):
    export(str(saved(SPECS["llama3"])), tmp_path / "model.gguf", dtype="float32")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    wavelengths = 2 * np.pi * 500000.0 ** (np.arange(0, 16, 2) / 16)
    smooth = np.clip((8192 / wavelengths - 1.0) / (4.0 - 1.0), 0, 1)
    np.testing.assert_allclose(tensors["rope_freqs.weight"].data, 1 / ((1 - smooth) / 8 + smooth), rtol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_t5_has_the_names_that_llama_cpp_wants(gated, saved, tmp_path, shared):
    architecture = "t5-v1.1" if gated else "t5"
    spec = published(architecture, 16, 2, 2, 24, head_dim=8, vocab_size=32128, context_length=64)
    tokenizer = load_tokenizer(shared / "weights/tokenizers/t5")
    folder = saved(spec, tokenizer)
    export(str(folder), tmp_path / "model.gguf", dtype="float32")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5, 2)
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    for name, value in stored.items():
        # The decoder's last norm also holds T5 1.0's scale of the outputs, which llama.cpp does not know.
        scale = spec.output_scale if name == "decoder.final_layer_norm.weight" else 1.0
        theirs = tensors.pop(names.get_name(name, try_suffixes=(".weight",)))
        np.testing.assert_allclose(theirs.data, value.numpy() * scale, rtol=1e-6)
    assert not tensors
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["t5.decoder_start_token_id"] == 0
    assert fields["t5.attention.relative_buckets_count"] == 32
    assert (fields["t5.block_count"], fields["t5.decoder_block_count"]) == (2, 2)
    assert fields["tokenizer.ggml.model"] == "t5"
    assert fields["tokenizer.ggml.tokens"][:3] == ["<pad>", "</s>", "<unk>"]
    assert fields["tokenizer.ggml.token_type"][:4] == [3, 3, 2, 1]
    assert fields["tokenizer.ggml.tokens"][32099] == "<extra_id_0>"
    assert len(fields["tokenizer.ggml.tokens"]) == len(fields["tokenizer.ggml.scores"]) == 32128
    assert fields["tokenizer.ggml.remove_extra_whitespaces"] is True
    assert (fields["tokenizer.ggml.add_bos_token"], fields["tokenizer.ggml.add_eos_token"]) == (False, True)
    assert len(fields["tokenizer.ggml.precompiled_charsmap"]) > 1000


def test_sentencepiece_vocabularies_keep_their_ids(saved, tmp_path, shared):
    tokenizer = load_vocabulary_file(shared / "weights/stories260K/tok512.bin")
    folder = saved(replace(LLAMA, vocab_size=512), tokenizer)
    export(str(folder), tmp_path / "model.gguf", dtype="float16")
    import_model(tmp_path / "model.gguf", tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    for text in (*TEXTS, "  two  spaces\n\tand «ünïcödé» 字"):
        assert again.encode(text, special_tokens=True) == tokenizer.encode(text, special_tokens=True)


def test_t5_answers_begin_with_the_token_that_the_folder_says(saved, tmp_path, shared):
    spec = published("t5", 16, 2, 2, 24, head_dim=8, vocab_size=32128, context_length=64)
    folder = saved(spec, load_tokenizer(shared / "weights/tokenizers/t5"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 3, "decoder_start_token_id": 3}))
    export(str(folder), tmp_path / "model.gguf", dtype="float32")
    assert GGUFFile(tmp_path / "model.gguf").metadata["t5.decoder_start_token_id"] == 3


def test_a_conversation_begins_in_llama_server_as_in_tuning(saved, tmp_path, capsys):
    folder = saved(LLAMA)
    (folder / "camelid.json").write_text(json.dumps({"recipe": {"stage": "tune", "task": "chat"}}))
    export(str(folder), tmp_path / "model.gguf", dtype="float32")
    assert GGUFFile(tmp_path / "model.gguf").metadata["tokenizer.ggml.add_bos_token"] is False
    assert "here that for conversations" in capsys.readouterr().out


def test_a_full_disk_is_told_and_leaves_nothing(saved, tmp_path, monkeypatch, capsys):
    def no_room(writer, tensor):
        raise OSError(f"{tensor.size} requested and 0 written")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", no_room)
    assert main(["export", str(saved(LLAMA)), str(tmp_path / "model.gguf")]) == 1
    assert "cannot be written: 128 requested" in capsys.readouterr().err
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(LLAMA, context_length=2**33), "llama.context_length is 8589934592"),
        (replace(LLAMA, positions=Rotary(1e39)), "llama.rope.freq_base is 1e\\+39"),
        (replace(LLAMA, window=Window(8)), "nearest architecture, llama, would change window"),
        (replace(LLAMA, query_key_norm=True), "query_key_norm"),
        (replace(LLAMA, attention_bias="qkv"), "attention_bias"),
        (
            published("gpt-j", 32, 2, 4, vocab_size=330, context_length=64),
            "would change feed_forward, norm, parallel, output_bias",
        ),
        (replace(SPECS["gpt2"], feed_forward=FeedForward(96, "relu", bias=True)), "gpt2, would change feed"),
        (
            published("palm", 32, 2, 4, head_dim=8, vocab_size=330, context_length=64),
            "GGUF cannot hold this model",
        ),
    ],
)
def test_what_gguf_cannot_hold_is_refused(spec, message, saved, tmp_path):
    folder = saved(spec)
    with pytest.raises(CamelidError, match=message):
        export(str(folder), tmp_path / "model.gguf")
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


def test_a_vocabulary_that_gguf_cannot_hold_is_refused(saved, tmp_path):
    folder = saved(LLAMA, train_tokenizer(TEXTS, 330, kind="unigram"))
    with pytest.raises(CamelidError, match="GGUF has no vocabulary type"):
        export(str(folder), tmp_path / "model.gguf")


def test_from_the_command_line(saved, tmp_path, capsys):
    folder, out = saved(LLAMA), tmp_path / "model.gguf"
    words = ["export", str(folder), str(out), "--to", "gguf", "--dtype", "bfloat16"]
    assert main(words) == 0
    assert main(words) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["export", str(folder), str(tmp_path / "b.gguf"), "--to", "onnx"]) == 2


def test_values_beyond_float16_are_refused(saved, tmp_path):
    folder = saved(LLAMA)
    model = load_checkpoint(folder)
    with torch.no_grad():
        model.layers[0].mlp.up_proj.weight[0, 0] = 1e6
    save_checkpoint(folder, model)
    with pytest.raises(CamelidError, match=r"blk\.0\.ffn_up\.weight"):
        export(str(folder), tmp_path / "model.gguf", dtype="float16")
    assert [child.name for child in tmp_path.iterdir()] == ["model"]


NEEDS_LLAMA_CPP = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)


@NEEDS_LLAMA_CPP
@pytest.mark.parametrize("name", ["llama", "llama3", "gpt2"])
def test_llama_cpp_says_the_same(name, saved, tmp_path):
    from llama_cpp import GGML_TYPE_F32, Llama

    folder = saved(SPECS[name])
    export(str(folder), tmp_path / "model.gguf", dtype="float32")
    ours, ids = load_checkpoint(folder), list(range(260, 268))
    cache = {"type_k": GGML_TYPE_F32, "type_v": GGML_TYPE_F32}
    theirs = Llama(str(tmp_path / "model.gguf"), n_ctx=40, verbose=False, **cache)
    said = [token for token, _ in zip(theirs.generate(ids, temp=0.0), range(12), strict=False)]
    with torch.inference_mode():
        for token in said:
            assert int(ours(torch.tensor([ids]))[0, -1].argmax()) == token
            ids.append(token)


@NEEDS_LLAMA_CPP
@pytest.mark.parametrize("architecture", ["t5", "t5-v1.1"])
def test_llama_cpp_says_the_same_after_encoding(architecture, saved, tmp_path, shared):
    spec = published(architecture, 16, 2, 2, 24, head_dim=8, vocab_size=32128, context_length=64)
    folder = saved(spec, load_tokenizer(shared / "weights/tokenizers/t5"))
    export(str(folder), tmp_path / "model.gguf", dtype="float32")
    source = [37, 1782, 19, 3, 9, 1712, 1]
    said = greedy_after_encoding(tmp_path / "model.gguf", source, start=0, steps=8)
    ours, written = load_checkpoint(folder), [0]
    with torch.inference_mode():
        for token in said:
            logits = ours(torch.tensor([source]), torch.tensor([written]))
            assert int(logits[0, -1].argmax()) == token
            written.append(token)


def greedy_after_encoding(path, source: list[int], start: int, steps: int) -> list[int]:
    """What llama.cpp's encoder-decoder answers; its Python class has no encoder, so this is its C
    interface."""
    import llama_cpp as c

    model = c.llama_model_load_from_file(str(path).encode(), c.llama_model_default_params())
    context = c.llama_init_from_model(model, c.llama_context_default_params())
    assert c.llama_model_has_encoder(model)
    assert c.llama_model_decoder_start_token(model) == start
    ids = (c.llama_token * len(source))(*source)
    assert c.llama_encode(context, c.llama_batch_get_one(ids, len(source))) == 0
    vocab_size = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
    said, token = [], start
    for _ in range(steps):
        assert c.llama_decode(context, c.llama_batch_get_one((c.llama_token * 1)(token), 1)) == 0
        logits = np.ctypeslib.as_array(c.llama_get_logits_ith(context, -1), (vocab_size,))
        said.append(token := int(logits.argmax()))
    c.llama_free(context)
    c.llama_model_free(model)
    return said
