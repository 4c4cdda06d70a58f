"""GGUF files: values equal the `gguf` package's, imported models equal those that the files were made
from."""

import json

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from lineage import empty_cache
from transformers import AutoModelForCausalLM, AutoTokenizer

import camelid
from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.formats.gguf.families import read_spec
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.gguf.types import FORMATS, SLAB
from camelid.formats.hugging_face.checkpoint import load_checkpoint, read_config
from camelid.formats.importing import import_model
from camelid.model.spec import LinearScaling, Llama3Scaling

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


# --- A whole model, written as llama.cpp's converter writes it ---


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_imported_model_equals_the_one_it_was_made_from(seed, write, tmp_path, tokens):
    linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    path, model = write(seed, changes=linear if seed % 4 == 2 else None)
    import_model(path, tmp_path / "out")
    assert same_logits(load_checkpoint(tmp_path / "out"), model, tokens(model.config.vocab_size))


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, None),
        ({"llama.rope.scaling.factor": 4.0}, 4.0),
        ({"llama.rope.scale_linear": 4.0}, 4.0),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 0.0}, None),
        ({"llama.rope.scaling.attn_factor": 1.0, "llama.attention.causal": True}, None),
    ],
)
def test_rope_factor_is_read_as_llama_cpp_reads_it(changes, factor, write):
    """`load_hparams` in its src/llama-model.cpp: linear where no type stands, nothing where it is `none`."""
    path, _ = write(0, changes=changes)
    assert read_spec(GGUFFile(path)).positions.scaling == (None if factor is None else LinearScaling(factor))


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
        with pytest.raises(CamelidError, match=r"rope_freqs\.weight"):
            import_model(path, tmp_path / "out")


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
    cache = empty_cache(model.spec, 1, 256)
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
    stops = theirs.generation_config.eos_token_id
    assert {*(stops if isinstance(stops, list) else [stops])} == tokenizer.stop_ids >= {tokenizer.eos_id}
    if tokenizer.chat_template is not None:
        assert their_tokenizer.chat_template == tokenizer.chat_template.source
