"""Checkpoint folders: equal to transformers in both directions, and every damage is named."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

import camelid
from camelid.base.errors import CamelidError
from camelid.formats.hugging_face.checkpoint import load_checkpoint, read_spec, save_checkpoint
from camelid.formats.hugging_face.stored_files import weight_files
from camelid.formats.load import check_tokenizer_fits, load_model
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

SEEDS = range(24)
TOLERANCE = 1e-4


def largest_difference(ours, theirs, ids) -> float:
    with torch.inference_mode():
        return (ours(ids) - theirs(ids).logits).abs().max().item()


@pytest.mark.parametrize("seed", SEEDS)
def test_reads_what_transformers_writes(seed, tmp_path, random_llama, tokens):
    theirs = random_llama(seed)
    theirs.save_pretrained(tmp_path, max_shard_size="4KB" if seed % 3 == 0 else "5GB")
    assert (len(weight_files(tmp_path)) > 1) == (seed % 3 == 0)
    ours = load_checkpoint(tmp_path)
    assert largest_difference(ours, theirs, tokens(theirs.config.vocab_size)) <= TOLERANCE


@pytest.mark.parametrize(
    ("dtype", "value", "kept"),
    [
        (torch.float16, 65504.0, True),
        (torch.float16, -1e5, False),
        (torch.float16, float("inf"), True),
        (torch.bfloat16, 1e38, True),
        (torch.bfloat16, 3.4e38, False),
    ],
)
def test_a_number_too_large_for_the_type_written_is_named(dtype, value, kept, tmp_path):
    spec = ModelSpec.llama(vocab_size=8, hidden_size=4, num_layers=1, num_heads=2, context_length=8)
    model = Transformer(spec).initialize(0)
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[1, 1] = value
    if kept:
        save_checkpoint(tmp_path, model, dtype=dtype)
        assert load_checkpoint(tmp_path).layers[0].mlp.down_proj.weight[1, 1].to(dtype) == value
    else:
        with pytest.raises(CamelidError, match=r"tensor model\.layers\.0\.mlp\.down_proj\.weight holds"):
            save_checkpoint(tmp_path, model, dtype=dtype)


@pytest.mark.parametrize("seed", SEEDS)
def test_writes_what_transformers_reads(seed, tmp_path, random_llama, tokens):
    made = tmp_path / "theirs"
    random_llama(seed).save_pretrained(made)
    ours = load_checkpoint(made)
    first, second = tmp_path / "first", tmp_path / "second"
    limit = 10_000 if seed % 2 else 10**9
    first.mkdir()
    save_checkpoint(
        first, ours, max_shard_bytes=limit, special_ids={"bos_token_id": 1, "eos_token_id": [2, 3]}
    )
    theirs, report = LlamaForCausalLM.from_pretrained(first, output_loading_info=True)
    assert not any(report.values())
    assert largest_difference(ours, theirs.eval(), tokens(ours.spec.vocab_size)) <= TOLERANCE

    second.mkdir()
    again = load_checkpoint(first)
    assert again.spec == ours.spec
    save_checkpoint(
        second, again, max_shard_bytes=limit, special_ids={"bos_token_id": 1, "eos_token_id": [2, 3]}
    )
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_old_and_new_config_keys_mean_the_same(folder):
    new = read_spec(folder)
    config = json.loads((folder / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope, "torch_dtype": config.pop("dtype")}
    (folder / "config.json").write_text(json.dumps(config))
    assert read_spec(folder) == new


def test_both_copies_of_a_tied_embedding_may_be_stored(folder):
    spec = read_spec(folder)
    assert not spec.tie_embeddings
    set_config(folder, tie_word_embeddings=True)
    expect(folder, "lm_head.weight", "differ")
    change_tensors(
        folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"] + 0})
    )
    assert load_checkpoint(folder).spec.tie_embeddings
    change_tensors(folder, lambda tensors: tensors.pop("model.embed_tokens.weight"))
    load_checkpoint(folder)


def test_stored_in_another_dtype(folder, tokens):
    exact = load_checkpoint(folder)
    narrow = folder.with_name("narrow")
    narrow.mkdir()
    save_checkpoint(narrow, exact, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(narrow / "model.safetensors").values()} == {torch.bfloat16}
    model = load_model(narrow, dtype=torch.float32)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, exact.state_dict()[name].bfloat16().float())
    assert load_model(narrow, dtype=torch.bfloat16).embed_tokens.weight.dtype == torch.bfloat16


def test_weights_are_as_public_as_their_folder(folder):
    target = folder.with_name("written")
    target.mkdir()
    save_checkpoint(target, load_checkpoint(folder))
    assert len({path.stat().st_mode for path in target.iterdir()}) == 1


@pytest.mark.slow
def test_loading_maps_the_file(tmp_path):
    """Weights that need no other dtype come from the mapped file, and no second copy of the model is made."""
    spec = ModelSpec.llama(vocab_size=1000, hidden_size=1024, num_layers=8, num_heads=8)
    save_checkpoint(tmp_path, Transformer(spec))
    code = (
        "import sys, torch, psutil; from pathlib import Path; "
        "from camelid.formats.hugging_face.checkpoint import load_checkpoint\n"
        "before = psutil.Process().memory_info().rss\n"
        "model = load_checkpoint(Path(sys.argv[1]), getattr(torch, sys.argv[2]))\n"
        "print(psutil.Process().memory_info().rss - before)"
    )
    whole = 4 * spec.parameter_count()

    def grown(dtype: str) -> int:
        command = [sys.executable, "-c", code, str(tmp_path), dtype]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert grown("float32") < 0.1 * whole
    assert grown("bfloat16") < 0.65 * whole


def test_tinystories_656k_greedy(shared, follow):
    folder = shared / "weights/tinystories-656k"
    model = camelid.load_model(folder)
    tokenizer = camelid.load_tokenizer(folder)
    for case in json.loads((folder / "reference.json").read_text())["results"]:
        assert tokenizer.encode(case["prompt"], special_tokens=True) == case["prompt_tokens"]
        logits, choices = follow(model, case["prompt_tokens"], case["greedy_tokens"])
        assert choices == case["greedy_tokens"]
        assert (logits - torch.tensor(case["last_prompt_position_logits"])).abs().max() <= TOLERANCE


# --- Damage: one message that names the file or tensor, and the way out. ---


@pytest.fixture
def folder(tmp_path, random_llama):
    """A sound folder, untied and of one file."""
    target = tmp_path / "model"
    random_llama(5).save_pretrained(target)
    return target


def expect(folder, *parts: str) -> None:
    with pytest.raises(CamelidError) as raised:
        load_model(folder)
    for part in parts:
        assert part in str(raised.value)


def set_config(folder, **changes) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def change_tensors(folder, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_missing_tensor(folder):
    change_tensors(folder, lambda tensors: tensors.pop("model.norm.weight"))
    expect(folder, str(folder), "missing tensors: model.norm.weight")


def test_foreign_tensor(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.extra": torch.ones(2)}))
    expect(folder, str(folder), "foreign tensors: model.extra")


def test_rotary_buffers_of_old_versions_are_no_foreign_tensors(folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(folder, lambda tensors: tensors.update({name: torch.ones(2)}))
    load_checkpoint(folder)


def test_wrong_shape(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(3)}))
    expect(folder, "model.norm.weight is [3], config.json requires")


def test_whole_numbers_for_weights(folder):
    name = "model.norm.weight"
    change_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))
    expect(folder, "model.norm.weight", "int8")


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_cut_short(folder, size):
    path = folder / "model.safetensors"
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    expect(folder, str(path), "cannot be read as safetensors", "again")


def test_only_pickles(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    expect(folder, "pytorch_model.bin is a pickle", "convert it to safetensors")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    expect(folder, "holds neither model.safetensors nor model.safetensors.index.json")


def test_no_config(folder):
    (folder / "config.json").unlink()
    expect(folder, str(folder), "no config.json")


def test_adapter_alone(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")
    expect(folder, "adapter", "merge")


@pytest.mark.parametrize("text", ["{", "[]", "\x00", '"text"'])
def test_damaged_config(folder, text):
    (folder / "config.json").write_text(text)
    expect(folder, str(folder / "config.json"))


@pytest.fixture
def sharded(tmp_path, random_llama):
    target = tmp_path / "sharded"
    random_llama(5).save_pretrained(target, max_shard_size="4KB")
    return target


def test_missing_shard(sharded):
    weight_files(sharded)[1].unlink()
    expect(sharded, "index.json names model-00002-of-", "download them")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not JSON"),
        ("{}", "weight_map"),
        ('{"weight_map": []}', "weight_map"),
        ('{"weight_map": {"a": "../other.safetensors"}}', "not a file of this folder"),
    ],
)
def test_damaged_index(sharded, text, part):
    index = sharded / "model.safetensors.index.json"
    index.write_text(text)
    expect(sharded, str(index), part)


def test_sizes_without_end(folder):
    set_config(folder, num_hidden_layers=10**12)
    expect(folder, "describe a model of", "are stored")


def test_quantised_folder_is_no_model_to_train(folder):
    set_config(folder, quantization_config={"quant_method": "gptq"})
    with pytest.raises(CamelidError, match="quantised"):
        load_checkpoint(folder)


def test_full_disk(folder):
    target = folder.with_name("full")
    target.mkdir()
    code = (
        "import resource, sys; from pathlib import Path; "
        "from camelid.formats.hugging_face.checkpoint import *\n"
        "model = load_checkpoint(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "save_checkpoint(Path(sys.argv[2]), model)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(target)], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "CamelidError" in ended.stderr
    assert "the weights cannot be written: " in ended.stderr


def test_vocabulary_larger_than_the_embedding(folder):
    class Larger:
        vocab_size = 1000

    with pytest.raises(CamelidError, match="1000 ids"):
        check_tokenizer_fits(read_spec(folder), Larger())
    Larger.vocab_size = read_spec(folder).vocab_size
    check_tokenizer_fits(read_spec(folder), Larger())
