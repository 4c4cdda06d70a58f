"""GGUF files of GPT-2: written as llama.cpp's converter writes them, they give transformers' logits and
ids."""

import json

import gguf
import pytest
import torch
from lineage import randomise
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.checkpoint import load_checkpoint, read_spec
from camelid.formats.importing import import_model
from camelid.text.tokenizer import load_tokenizer

NAMES = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
VOCABULARY = 300


@pytest.fixture(scope="module")
def trained():
    """A small byte-level vocabulary, as `tokenizers` learns it."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["the cat sat on the mat"] * 9, vocab_size=270, show_progress=False)
    return trained


@pytest.fixture
def write(trained, tmp_path):
    """A function from a seed to the path of a GGUF file and the random model that it holds."""

    def make(seed: int = 0, *, tied: bool = True, repeat: bool = False, changes=None, skip=(), extra=None):
        config = GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=48,
            n_embd=24,
            n_layer=2,
            n_head=3,
            n_inner=(None, 40)[seed % 2],
            layer_norm_epsilon=(1e-5, 1e-6)[seed % 2],
            tie_word_embeddings=tied,
        )
        model = GPT2LMHeadModel(config).eval()
        randomise(model, seed)
        path = tmp_path / "gpt2.gguf"
        writer = gguf.GGUFWriter(path, "gpt2")
        values = {
            "gpt2.block_count": 2,
            "gpt2.context_length": 48,
            "gpt2.embedding_length": 24,
            "gpt2.feed_forward_length": 4 * 24,
            "gpt2.attention.head_count": 3,
        } | (changes or {})
        for key, value in values.items():
            writer.add_uint32(key, value)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        described = json.loads(trained.to_str())["model"]
        tokens = [
            *described["vocab"],
            *(f"[PAD{index}]" for index in range(len(described["vocab"]), VOCABULARY)),
        ]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(tokens)
        writer.add_token_types([1 if index < len(described["vocab"]) else 5 for index in range(VOCABULARY)])
        writer.add_token_merges([" ".join(merge) for merge in described["merges"]])
        for name, tensor in model.state_dict().items():
            module, kind = name.rsplit(".", 1)
            if module == "lm_head" and tied and not repeat:
                continue
            if module.startswith("transformer.h."):
                _, _, layer, module = module.split(".", 3)
                stored = f"blk.{layer}.{NAMES[module]}.{kind}"
                if tensor.ndim == 2:
                    tensor = tensor.T
            else:
                stored = f"{NAMES[module]}.{kind}"
            if stored not in skip:
                writer.add_tensor(stored, tensor.contiguous().numpy())
        for name, array in (extra or {}).items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path, model

    return make


@pytest.mark.parametrize(
    ("seed", "options"), [(0, {}), (1, {"repeat": True}), (2, {"tied": False}), (3, {"tied": False})]
)
def test_imported_model_equals_the_one_it_was_made_from(seed, options, write, tmp_path, tokens, trained):
    path, model = write(seed, **options)
    import_model(path, tmp_path / "out")
    ids = tokens(VOCABULARY)
    with torch.inference_mode():
        assert (load_checkpoint(tmp_path / "out")(ids) - model(ids).logits).abs().max() <= 1e-4
    assert read_spec(tmp_path / "out").tie_embeddings == options.get("tied", True)
    text = "the cat's mat, 12 «ü»\n  sat"
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.encode(text) == trained.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    assert theirs.config.n_inner == (model.config.n_inner or 4 * 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip": ["position_embd.weight"]}, "'position_embd.weight' is missing"),
        ({"skip": ["blk.1.attn_qkv.bias"]}, "'blk.1.attn_qkv.bias' is missing"),
        ({"changes": {"gpt2.context_length": 49}}, "'position_embd.weight' is"),
        ({"changes": {"gpt2.attention.head_count": 5}}, "gpt2.embedding_length 24 is not a multiple"),
        ({"changes": {"gpt2.block_count": 1}}, "do not belong to any supported gpt2 model"),
    ],
)
def test_damaged_files_are_refused(options, message, write, tmp_path):
    path, _ = write(**options)
    with pytest.raises(CamelidError, match=message):
        import_model(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
