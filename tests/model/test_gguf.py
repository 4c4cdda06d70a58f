"""GGUF files: values equal the `gguf` package's, models equal transformers', tokens equal llama.cpp's vectors."""

import json
import random
import struct
from itertools import pairwise

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import camelid
from camelid.cli import main
from camelid.errors import CamelidError
from camelid.importing import import_model
from camelid.model.cache import KeyValueCache
from camelid.model.checkpoint import load_checkpoint, read_config
from camelid.model.gguf import GGUFFile
from camelid.model.gguf_families import read_spec
from camelid.model.gguf_types import FORMATS, SLAB
from camelid.model.spec import Llama3Scaling
from camelid.text.gguf_tokenizer import tokenizer_from_gguf

# --- Block formats, against the gguf package ---


@pytest.mark.parametrize("number", FORMATS)
def test_every_format_widens_as_ggml_does(number):
    form = FORMATS[number]
    assert (form.name, form.values, form.size) == (Kind(number).name, *gguf.GGML_QUANT_SIZES[Kind(number)])
    data = np.random.default_rng(number).integers(0, 256, (300, form.size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        ours, theirs = form.dequantize(data.ravel()), gguf.quants.dequantize(data, Kind(number))
    np.testing.assert_array_equal(ours, theirs.astype(np.float32).ravel())


def test_slabs_join_without_a_seam():
    form = FORMATS[Kind.Q4_0]
    data = np.random.default_rng(0).integers(0, 60, (SLAB + 3, form.size), dtype=np.uint8)
    np.testing.assert_array_equal(
        form.dequantize(data.ravel()), gguf.quants.dequantize(data, Kind.Q4_0).ravel()
    )


# --- A whole model, written here as llama.cpp's converter writes it ---

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def name_in_gguf(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    if not module.startswith("model.layers."):
        return f"{GGUF_NAMES[module]}.{kind}"
    _, _, layer, module = module.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[module]}.{kind}"


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py: halves of a head become neighbouring pairs."""
    pairs = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def write_gguf(path, model, *, skip=(), changes=None, extra=None, kind: Kind = Kind.F32) -> None:
    """A transformers model with a byte-level vocabulary as large as its embedding; `changes` replace keys."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    values = {
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.rope.dimension_count": config.head_dim,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*(chr(0x100 + index) for index in range(config.vocab_size - 1)), "Āā"],
        "tokenizer.ggml.merges": ["Ā ā"],
        "tokenizer.ggml.eos_token_id": 2,
    } | (changes or {})
    for key, value in values.items():
        if key not in skip:
            add = {
                str: writer.add_string,
                int: writer.add_uint32,
                float: writer.add_float32,
                list: writer.add_array,
            }
            add[type(value)](key, value)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if (stored := name_in_gguf(name)) in skip or (
            name == "lm_head.weight" and config.tie_word_embeddings
        ):
            continue
        weights = tensor.numpy()
        if (owner := name.split(".")[-2]) in heads:
            weights = permuted(weights, heads[owner])
        quantised = kind if weights.ndim == 2 else Kind.F32
        writer.add_tensor(stored, gguf.quants.quantize(weights, quantised), raw_dtype=quantised)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def write(random_llama, tmp_path):
    """A function that writes a random model as tmp_path/model.gguf and gives its path and the model."""

    def make(seed: int = 0, **options):
        model, path = random_llama(seed), tmp_path / "model.gguf"
        write_gguf(path, model, **options)
        return path, model

    return make


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_imported_model_equals_the_one_it_was_made_from(seed, write, tmp_path, tokens):
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    path, model = write(seed, changes=linear if seed % 4 == 2 else None)
    import_model(path, tmp_path / "out")
    assert same_logits(load_checkpoint(tmp_path / "out"), model, tokens(model.config.vocab_size))


def same_logits(ours, theirs, ids) -> bool:
    with torch.inference_mode():
        return bool((ours(ids) - theirs(ids).logits).abs().max() <= 1e-4)


@pytest.mark.parametrize(("factor", "known"), [(8.0, True), (32.0, True), (16.0, False)])
def test_llama3_frequency_factors(factor, known, write, tmp_path):
    scaling = Llama3Scaling(factor, 1.0, 4.0, 8192)
    path, model = write(1)
    factors = published_factors(scaling, 500000.0, model.config.head_dim)
    path, model = write(1, extra={"rope_freqs.weight": factors})
    if known:
        assert read_spec(GGUFFile(path)).positions.scaling == scaling
    else:
        refused(path, tmp_path, "rope_freqs.weight")


def published_factors(scaling: Llama3Scaling, theta: float, head_dim: int) -> np.ndarray:
    """As llama.cpp's converter computes them, one frequency after the other."""
    factors = []
    for index in range(0, head_dim, 2):
        wavelength = 2 * np.pi * theta ** (index / head_dim)
        longest = scaling.original_context_length / scaling.low_frequency_factor
        shortest = scaling.original_context_length / scaling.high_frequency_factor
        if wavelength < shortest:
            factors.append(1.0)
        elif wavelength > longest:
            factors.append(scaling.factor)
        else:
            low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
            smooth = (scaling.original_context_length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return np.array(factors, np.float32)


def test_output_equal_to_the_embedding_is_tied(write, tmp_path, random_llama):
    seed = next(seed for seed in range(24) if random_llama(seed).config.tie_word_embeddings)
    embedding = random_llama(seed).state_dict()["model.embed_tokens.weight"].numpy()
    path, _ = write(seed, extra={"output.weight": embedding})
    assert read_spec(GGUFFile(path)).tie_embeddings
    path, _ = write(seed, extra={"output.weight": embedding + 1})
    assert not read_spec(GGUFFile(path)).tie_embeddings


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_stored_dtype(dtype, write, tmp_path):
    path, model = write()
    import_model(path, tmp_path / "out", dtype)
    assert read_config(tmp_path / "out")["torch_dtype"] == dtype
    weight = load_checkpoint(tmp_path / "out", getattr(torch, dtype)).embed_tokens.weight
    assert torch.equal(weight, model.state_dict()["model.embed_tokens.weight"].to(getattr(torch, dtype)))


def test_from_the_command_line(write, tmp_path, capsys):
    path, _ = write()
    assert main(["import", str(path), str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    assert read_config(tmp_path / "out")["torch_dtype"] == "bfloat16"
    capsys.readouterr()
    assert main(["import", str(path), str(tmp_path / "out")]) == 1
    assert "not empty" in capsys.readouterr().err


# --- Real models ---


@pytest.fixture(scope="session")
def imported(shared, tmp_path_factory):
    """A function from a file under ../shared/weights to its imported folder, each made once."""
    folders = {}

    def get(file: str):
        if file not in folders:
            folders[file] = tmp_path_factory.mktemp("imported") / "model"
            import_model(shared / "weights" / file, folders[file])
        return folders[file]

    return get


STORIES, SMOLLM2 = (
    "stories260K/stories260K.gguf",
    "smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf",
)


def test_stories260k(imported, shared, follow):
    folder = imported(STORIES)
    model, tokenizer = camelid.load_model(folder), camelid.load_tokenizer(folder)
    for case in json.loads((shared / "weights/stories260K/reference_numpy.json").read_text())["results"]:
        assert tokenizer.encode(case["prompt"], special_tokens=True) == case["prompt_tokens"]
        logits, choices = follow(model, case["prompt_tokens"], case["greedy_tokens"])
        assert choices == case["greedy_tokens"]
        assert (logits - torch.tensor(case["first_step_logits"])).abs().max() <= 1e-4


def test_stories260k_published_text(imported, shared):
    folder = imported(STORIES)
    model, tokenizer = camelid.load_model(folder), camelid.load_tokenizer(folder)
    published = (shared / "weights/stories260K/published_greedy.txt").read_text().strip()
    cache = KeyValueCache(model.spec, 1, 256)
    ids = [tokenizer.bos_id]
    with torch.inference_mode():
        while len(ids) <= 256:
            ids.append(int(model(torch.tensor([ids[-1:]]), cache=cache)[0, -1].argmax()))
    assert tokenizer.decode(ids).startswith(published)


@pytest.mark.slow
def test_smollm2(imported, shared, follow):
    folder = imported(SMOLLM2)
    model, tokenizer = camelid.load_model(folder), camelid.load_tokenizer(folder)
    file = shared / "weights/smollm2-135m-instruct-q4_1/reference_numpy_f32_greedy.json"
    for case in json.loads(file.read_text())["results"]:
        assert tokenizer.encode(case["prompt"], markup=True) == case["prompt_tokens"]
        logits, choices = follow(model, case["prompt_tokens"], case["generated_tokens"])
        assert choices == case["generated_tokens"]
        expected = dict(case["last_prompt_position_top20"])
        assert logits.topk(20).indices.tolist() == list(expected)
        assert all(abs(float(logits[token]) - value) <= 1e-3 for token, value in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("file", [STORIES, SMOLLM2])
def test_transformers_reads_the_imported_folder(file, imported):
    folder = imported(file)
    theirs, their_tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    ours, tokenizer = camelid.load_model(folder), camelid.load_tokenizer(folder)
    text = "Once upon a time, there were 1234 cats.\n\n  They said: «Ünïcödé 🦙»\t!"
    ids = tokenizer.encode(text, special_tokens=True)
    assert their_tokenizer(text).input_ids == ids
    assert their_tokenizer.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids) == text
    assert same_logits(ours, theirs.eval(), torch.tensor([ids]))
    for name in ("bos", "eos", "pad"):
        assert getattr(their_tokenizer, f"{name}_token_id") == getattr(tokenizer, f"{name}_id")
    assert theirs.generation_config.eos_token_id == tokenizer.eos_id
    if tokenizer.chat_template is not None:
        assert their_tokenizer.chat_template == tokenizer.chat_template.source


# --- Tokenizers ---


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm", "qwen2", "starcoder"])
def test_llama_cpp_vocabulary_vectors(name, shared):
    stem = shared / "weights/tokenizers/llama_cpp_vocab_vectors" / f"ggml-vocab-{name}.gguf"
    tokenizer = tokenizer_from_gguf(GGUFFile(stem).metadata)
    texts = stem.with_name(f"{stem.name}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = stem.with_name(f"{stem.name}.out").read_text().splitlines()
    assert len(texts) == len(lines) + 1  # the last case ends with the separator too
    for text, line in zip(texts, lines, strict=False):
        assert tokenizer.encode(text) == [int(word) for word in line.split()], text


def spm_reference(text: str, pieces: dict[str, int], scores: list[float]) -> list[int]:
    """SentencePiece's BPE as its paper and llama.cpp's `llm_tokenizer_spm` have it: always the best-scored pair."""
    symbols = list("▁" + text.replace(" ", "▁"))
    while pairs := [
        (-scores[pieces[a + b]], index) for index, (a, b) in enumerate(pairwise(symbols)) if a + b in pieces
    ]:
        _, index = min(pairs)
        symbols[index : index + 2] = ["".join(symbols[index : index + 2])]
    ids = []
    for symbol in symbols:
        ids += (
            [pieces[symbol]] if symbol in pieces else [pieces[f"<0x{byte:02X}>"] for byte in symbol.encode()]
        )
    return ids


@pytest.fixture(scope="session")
def spm_vocabularies(shared):
    found = []
    for file in (
        "stories260K/stories260K.gguf",
        "tokenizers/llama_cpp_vocab_vectors/ggml-vocab-llama-spm.gguf",
    ):
        metadata = GGUFFile(shared / "weights" / file).metadata
        kinds, tokens = metadata["tokenizer.ggml.token_type"], metadata["tokenizer.ggml.tokens"]
        pieces = {token: index for index, token in enumerate(tokens) if kinds[index] in (1, 6)}
        found.append((tokenizer_from_gguf(metadata), pieces, metadata["tokenizer.ggml.scores"]))
    return found


@given(st.text("abchelotwn .,'\n1é字🦙▁", min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_sentencepiece_takes_the_best_scored_pair(spm_vocabularies, text):
    for tokenizer, pieces, scores in spm_vocabularies:
        assert tokenizer.encode(text) == spm_reference(text, pieces, scores)


def vocabulary(**changes):
    """Metadata of a byte-level vocabulary with one control token."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["the cat sat on the mat"] * 9, vocab_size=270, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    tokens = [*model["vocab"], "<|end|>"]
    metadata = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [1] * (len(tokens) - 1) + [3],
        "merges": [" ".join(merge) for merge in model["merges"]],
        "bos_token_id": len(tokens) - 1,
        "eos_token_id": len(tokens) - 1,
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in metadata.items() if value is not None}


def test_ends_that_the_file_asks_for():
    last = len(vocabulary()["tokenizer.ggml.tokens"]) - 1
    plain = tokenizer_from_gguf(vocabulary()).encode("the cat")
    for bos, eos in ((False, False), (True, False), (False, True), (True, True)):
        tokenizer = tokenizer_from_gguf(vocabulary(add_bos_token=bos, add_eos_token=eos))
        assert tokenizer.encode("the cat", special_tokens=True) == [last] * bos + plain + [last] * eos
    assert tokenizer_from_gguf(vocabulary(pre="llama-bpe")).encode("the", special_tokens=True)[0] == last
    assert tokenizer.stop_ids == {last}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert'; supported: gpt2, llama"),
        ({"model": None}, "no tokenizer.ggml.model"),
        ({"pre": "viking"}, "tokenizer.ggml.pre is 'viking'"),
        ({"tokens": ["a", "a"], "token_type": None}, "holds 'a' twice"),
        ({"tokens": []}, "tokens is empty"),
        ({"tokens": [1, 2]}, "tokens is no list of strings"),
        ({"token_type": [1]}, "token_type is no list of"),
        ({"merges": ["a b c"]}, "merges[0] is no pair"),
        ({"merges": ["q 🦙"]}, "does not fit"),
        ({"bos_token_id": 10**6}, "bos_token_id is 1000000"),
        ({"model": "llama"}, "no tokenizer.ggml.scores"),
        ({"model": "llama", "scores": ["x"]}, "scores is no list of"),
    ],
)
def test_damaged_vocabulary(changes, part):
    with pytest.raises(CamelidError) as raised:
        tokenizer_from_gguf(vocabulary(**changes))
    assert part in str(raised.value)


# --- Hostile and damaged files: one message, and nothing half-written ---


def refused(path, tmp_path, *parts: str) -> None:
    out = tmp_path / "refused"
    with pytest.raises(CamelidError) as raised:
        import_model(path, out)
    for part in (str(path), *parts):
        assert part in str(raised.value)
    assert [child for child in tmp_path.iterdir() if "refused" in child.name] == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"skip": ["blk.0.attn_q.weight"]}, "tensor 'blk.0.attn_q.weight' is missing"),
        ({"skip": ["token_embd.weight"]}, "tensor 'token_embd.weight' is missing"),
        (
            {"extra": {"blk.0.ffn_gate_inp.weight": np.ones((2, 2), np.float32)}},
            "'blk.0.ffn_gate_inp.weight'",
        ),
        ({"skip": ["llama.block_count"]}, "llama.block_count is None"),
        ({"changes": {"llama.block_count": 2**31}}, "do not belong together"),
        ({"changes": {"llama.block_count": "two"}}, "llama.block_count is 'two'"),
        ({"changes": {"llama.feed_forward_length": 17}}, "tensor 'blk.0.ffn_gate.weight' is"),
        ({"changes": {"llama.rope.dimension_count": 2}}, "llama.rope.dimension_count is 2"),
        ({"changes": {"llama.rope.scaling.type": "yarn"}}, "llama.rope.scaling.type is 'yarn'"),
        ({"changes": {"llama.expert_count": 8}}, "mixtures of experts"),
        ({"changes": {"llama.attention.head_count_kv": [2, 2]}}, "llama.attention.head_count_kv is [2, 2]"),
        ({"changes": {"llama.attention.head_count_kv": 999}}, "num_kv_heads 999"),
        ({"changes": {"split.count": 3}}, "one of 3 parts"),
        ({"changes": {"general.architecture": "mamba"}}, "general.architecture is 'mamba'; supported: llama"),
        ({"changes": {"tokenizer.ggml.tokens": ["Ā", "ā", "Āā", *map(str, range(97))]}}, "100 ids"),
    ],
)
def test_unsupported_or_damaged_model(options, part, write, tmp_path):
    path, _ = write(0, **options)
    refused(path, tmp_path, part)


def test_vocabulary_without_a_model(shared, tmp_path):
    path = shared / "weights/tokenizers/llama_cpp_vocab_vectors/ggml-vocab-llama-spm.gguf"
    refused(path, tmp_path, "a vocabulary without tensors")


def test_an_output_folder_in_use_is_left_alone(write, tmp_path):
    path, _ = write()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(CamelidError, match="not empty"):
        import_model(path, tmp_path / "out")
    assert [child.name for child in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "cut short in the magic number"),
        (b"PK\x03\x04" + bytes(100), "no GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "GGUF version 1; supported"),
        (b"GGUF" + struct.pack(">I", 3), "big-endian"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**63),
            "cut short in metadata key 1 of 1",
        ),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 99), "key 'k' has the unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 4, 2**62), "cut short in key 'k'"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1), "array of arrays"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"\xff", 4), "no UTF-8"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"t", 9), "tensor 't' has 9 dimensions"),
        (b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 0, 0, 0), "tensor 't' is empty"),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 8, 19, 0),
            "tensor 't' has the unsupported type 19",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 8, 2, 0),
            "which Q4_0's blocks of 32 do not divide",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ1sIQIQ", 3, 1, 0, 1, b"t", 1, 8, 0, 2**63),
            "cut short: tensor 't' ends",
        ),
    ],
)
def test_damaged_container(content, part, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refused(path, tmp_path, part)


def test_missing_file(tmp_path):
    refused(tmp_path / "model.gguf", tmp_path, "No such file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", tmp_path, "directory")


def test_every_cut_is_noticed(write, tmp_path):
    path, _ = write()
    whole = path.read_bytes()
    sizes = {*range(0, 4000, 37), *range(4000, len(whole), 997), len(whole) - 33}
    for size in sorted(size for size in sizes if size < len(whole) - 32):
        path.write_bytes(whole[:size])
        refused(path, tmp_path)


def test_any_damaged_byte_gives_a_model_or_a_message(write, tmp_path):
    """Whatever a byte is changed to, nothing but `CamelidError` comes out, and soon."""
    path, _ = write()
    whole = path.read_bytes()
    header = GGUFFile(path).tensors["token_embd.weight"].start
    draw = random.Random(0)
    for number in range(400):
        damaged = bytearray(whole)
        damaged[draw.randrange(header)] = draw.choice((0, 1, 255, draw.randrange(256)))
        path.write_bytes(damaged)
        try:
            import_model(path, tmp_path / f"out-{number}")
        except CamelidError:
            assert not (tmp_path / f"out-{number}").exists()
