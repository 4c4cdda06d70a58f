"""What the planner says, against numbers by hand and against what is then allocated."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from camelid.base.errors import CamelidError, WrongCall
from camelid.cli import main as cli
from camelid.engine import memory
from camelid.engine.blocks import BLOCK_TOKENS, CachedSequence
from camelid.engine.decoder import Extension, TorchDecoder
from camelid.engine.device import CPU
from camelid.engine.encoder_decoder import EncoderDecoder
from camelid.engine.engine import Engine
from camelid.engine.memory import cache_bytes, plan
from camelid.engine.native.build import NoCompilerError
from camelid.engine.native.decoder import NativeDecoder
from camelid.engine.weight_memory import folder_weights, plain_weights, quantized_weights
from camelid.formats.hugging_face.checkpoint import read_spec, save_checkpoint
from camelid.formats.load import load_model
from camelid.formats.packed.storage import save_quantized
from camelid.model.presets import preset
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear
from camelid.quant.quantize import quantize_model
from camelid.text.tokenizer import train_tokenizer

SHAPE = {"vocab_size": 300, "hidden_size": 64, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1}


def llama(**changes) -> ModelSpec:
    return ModelSpec.llama(**{**SHAPE, "context_length": 128, **changes})


def stored(spec: ModelSpec, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    folder.mkdir()
    save_checkpoint(folder, Transformer(spec).initialize(0), dtype=dtype)
    return folder


def held(model: torch.nn.Module) -> int:
    """Bytes of all parameters and buffers, each once."""
    return sum(each.nbytes for each in (*model.parameters(), *model.buffers()))


def test_llama2_7b_by_hand():
    """6,738,415,616 parameters; 4-bit: 32 layers of 4 x 4096^2 + 3 x 4096 x 11008 weights, a scale and zero
    for 64."""
    linears = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    rest = 6_738_415_616 - linears
    found = plan(preset("llama2-7b"), torch.bfloat16, free=8 * 10**9)
    assert found.asked.weights.size == 2 * 6_738_415_616
    assert found.asked.cache == 2 * 32 * 32 * 128 * 2 * 4096
    by_bits = {need.weights.bits: need for need in found.smaller}
    assert sorted(by_bits) == [2, 3, 4, 8]
    for bits in (2, 3, 4):
        assert by_bits[bits].weights.size == linears * bits // 8 + linears // 64 * 3 + 2 * rest
    rows = 32 * (5 * 4096 + 2 * 11008)
    assert by_bits[8].weights.size == linears + 3 * rows + 2 * rest
    assert (found.fits, found.asked.longest) == (False, 0)
    assert (by_bits[4].fits, by_bits[4].longest) == (True, 4096)
    # Of the words in the file the decoder reads its own copy alone, beside which it keeps scales and zero
    # points.
    assert by_bits[4].weights.beside == linears // 64 * 3
    # Fewer bits than 4 are computed as so many, so that they do not run in less memory.
    assert by_bits[2].total > by_bits[4].total


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_those_that_loading_gives(tmp_path, tied, dtype):
    folder = stored(llama(tie_embeddings=tied), tmp_path / "model", torch.bfloat16)
    found = folder_weights(folder, read_spec(folder), dtype)
    assert found.size == held(load_model(folder, dtype))
    assert found.mapped == (found.size if dtype == torch.bfloat16 else 0)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_packed_weights_are_those_that_loading_gives(tmp_path, bits):
    spec = replace(llama(), attention_bias="qkv")
    folder = tmp_path / "packed"
    folder.mkdir()
    save_quantized(folder, quantize_model(Transformer(spec).initialize(0), bits))
    expected = held(load_model(folder, torch.bfloat16))
    assert quantized_weights(spec, bits).size == expected
    found = folder_weights(folder, spec, torch.bfloat16)
    assert (found.bits, found.size) == (bits, expected)
    assert found.beside == quantized_weights(spec, bits).beside
    assert folder_weights(folder, spec, torch.float32).size == held(load_model(folder, torch.float32))
    [*fewer] = [need.weights.bits for need in plan(folder, torch.bfloat16).smaller]
    assert fewer == [each for each in (8, 4, 3, 2) if each < bits]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_cache_is_that_of_the_decoders(dtype):
    """Three sequences of 40 tokens fill three blocks each; the decoder in C does not know float16."""
    spec = llama(hidden_size=48)
    assert spec.head_dim == 24
    model = Transformer(spec).initialize(0)
    try:
        kind = TorchDecoder if dtype == torch.float16 else NativeDecoder
        decoder = kind(model, dtype, 9 * BLOCK_TOKENS)
    except NoCompilerError:
        pytest.skip("no C compiler")
    for _ in range(3):
        assert decoder.pool.available >= 3
        CachedSequence(decoder.pool).reserve(40)
    assert decoder.pool.available == 0
    assert cache_bytes(spec, dtype, 40, 3) == sum(each.nbytes for each in cache_of(decoder))


def cache_of(decoder) -> list[torch.Tensor]:
    return [decoder.cache] if isinstance(decoder, NativeDecoder) else [decoder.keys, decoder.values]


def test_the_cache_of_an_encoder_has_the_sources_too():
    spec = replace(preset("t5-small"), num_layers=1, encoder_layers=1, vocab_size=20)
    decoder = EncoderDecoder(Transformer(spec).initialize(0), torch.float32, 2 * BLOCK_TOKENS, 0)
    sides = [decoder.keys, decoder.values]
    for token in (3, 4):
        sequence, rest = decoder.begin([token] * 10)
        decoder.extend([Extension(sequence, rest)])
        sequence.reserve(10 - len(rest))
        sides += [sequence.source.keys, sequence.source.values]
    assert decoder.pool.available == 0
    assert cache_bytes(spec, torch.float32, 10, 2) == sum(side.nbytes for side in sides)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("scales", [torch.bfloat16, torch.float32])
def test_what_the_decoder_in_c_keeps_beside(tmp_path, bits, scales):
    """What it made is no longer a view of what was loaded; the words in the file are read no more."""
    spec = llama()
    save_quantized(
        tmp_path, quantize_model(Transformer(spec).initialize(0), bits, scale_dtype=scales), dtype=scales
    )
    model = load_model(tmp_path, torch.bfloat16)
    try:
        decoder = NativeDecoder(model, torch.bfloat16, 1)
    except NoCompilerError:
        pytest.skip("no C compiler")
    loaded = {each.data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept = [each for each in decoder._weights._kept if each.data_ptr() not in loaded]
    # Norms in float32 and the angles of all positions are not counted.
    small = 4 * (5 * 64 + 128 * 32)
    words = sum(each.nbytes for name, each in model.named_buffers() if name.endswith("packed_codes"))
    found = folder_weights(tmp_path, spec, torch.bfloat16)
    assert sum(each.nbytes for each in kept) - small - words == found.beside


def test_a_gpu_holds_all_weights_and_what_its_kernels_read(tmp_path):
    """Codes once more in tiles, and a scale and an offset in bfloat16 for each group; nothing is mapped."""
    model = quantize_model(Transformer(llama()).initialize(0), 4, 32)
    save_quantized(tmp_path, model)
    place = torch.device("cuda")
    found = plan(tmp_path, torch.bfloat16, context=40, sequences=3, free=10**9, device=place).asked
    packed = [each for each in model.modules() if isinstance(each, PackedLinear)]
    kernels = sum(each.packed_codes.nbytes + 2 * 2 * each.scales.numel() for each in packed)
    assert (found.weights.mapped, found.weights.beside) == (0, kernels)
    assert found.weights.size == held(load_model(tmp_path, torch.bfloat16))
    decoder = TorchDecoder(model, torch.bfloat16, 9 * BLOCK_TOKENS)
    assert found.cache == decoder.keys.nbytes + decoder.values.nbytes


def test_a_gpu_masks_the_tokens_of_a_step_and_copies_shared_keys():
    """A mask of 8,192 rows, in two bytes and two of its making; a layer's keys for steps, for prompts, and
    for every head."""
    spec = llama(context_length=2**17, num_layers=2, num_heads=4, num_kv_heads=2)
    found = plan(spec, torch.bfloat16, free=10**9, device=torch.device("cuda")).asked
    rows = 4 * 2**17 * (4 * spec.hidden_size + 3 * spec.feed_forward.width + 2 * 8 * spec.head_dim)
    layer = found.cache // 2
    assert found.working == rows + 8 * spec.vocab_size + 4 * 8192 * 2**17 + (1 + 1 + 2) * layer


def test_words_of_awq_are_not_those_of_the_file(tmp_path):
    spec, found = llama(), {}
    model = quantize_model(Transformer(spec).initialize(0), 4, scale_dtype=torch.float16)
    for layout in ("gptq", "awq"):
        (tmp_path / layout).mkdir()
        save_quantized(tmp_path / layout, model, dtype=torch.float16, layout=layout)
        found[layout] = folder_weights(tmp_path / layout, spec, torch.float32)
    words = sum(each.nbytes for name, each in model.named_buffers() if name.endswith("packed_codes"))
    assert found["awq"].size == found["gptq"].size == held(load_model(tmp_path / "awq", torch.float32))
    assert found["awq"].beside == found["gptq"].beside + words
    # torch's products of many rows read the words themselves.
    mapped = {layout: folder_weights(tmp_path / layout, spec, torch.float16).mapped for layout in found}
    assert mapped["gptq"] == mapped["awq"] + words


def test_the_longest_context_is_the_last_that_fits():
    spec = llama(context_length=5000)
    for free in (10**6, 2 * 10**6, 10**8):
        found = plan(spec, torch.float32, context=1, sequences=2, free=free)
        for need in (found.asked, *found.smaller):
            dtype, longest = need.dtype, need.longest
            again = [
                memory._need(spec, need.weights, dtype, context, 2, free, CPU).total
                for context in (longest, longest + 1)
                if 1 <= context <= 5000
            ]
            assert [total <= free for total in again] == [longest > 0, False][: len(again)] or longest == 0
            assert longest or again[0] > free


def test_what_cannot_be_asked():
    with pytest.raises(WrongCall, match="1 to 128"):
        plan(llama(), torch.float32, context=129)
    with pytest.raises(WrongCall, match="at least 1"):
        plan(llama(), torch.float32, sequences=0)


def test_asking_draws_no_random_numbers():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    plan(llama(), torch.float32)
    assert torch.equal(before, torch.get_rng_state())


def test_a_gguf_file_is_what_it_becomes(shared):
    path = shared / "weights/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert plan(path, torch.float32).asked.weights.size == 4 * preset("smollm2-135m").parameter_count()


def test_the_engine_refuses_before_it_loads(tmp_path, monkeypatch, caplog):
    tokenizer = train_tokenizer(["Hello."] * 3, 300)
    folder = stored(llama(vocab_size=tokenizer.vocab_size), tmp_path / "model", torch.bfloat16)
    tokenizer.save(folder)
    Engine.load(folder)
    needed = plan(folder, torch.bfloat16, context=1)
    monkeypatch.setattr(memory, "free_memory", lambda *_: needed.asked.total - 1)
    Engine.load(folder)  # its weights are mapped, and can be dropped
    assert "Every token reads weights from the disk again" in caplog.text
    in_float32 = plan(folder, torch.float32, context=1)
    monkeypatch.setattr(memory, "free_memory", lambda *_: in_float32.asked.total - 1)
    monkeypatch.setattr("camelid.engine.engine.load_model", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(CamelidError) as raised:
        Engine.load(folder, dtype=torch.float32)
    for part in (str(folder), "does not fit into memory", "--dtype bfloat16", "camelid quantize", "--bits 8"):
        assert part in str(raised.value)
    monkeypatch.setattr(memory, "free_memory", lambda *_: 1)
    with pytest.raises(CamelidError, match="nothing smaller does"):
        Engine.load(folder, dtype=torch.float32)


def test_sizes_that_do_not_belong_together_are_named_and_not_their_memory(tmp_path):
    folder = stored(llama(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 10**12}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CamelidError, match="do not belong together"):
        Engine.load(folder)


def test_the_command_on_a_folder(tmp_path, capsys):
    folder = stored(llama(), tmp_path / "model")
    assert cli.main(["fits", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "float32" in shown
    assert "stay in the mapped file" in shown


def test_plain_weights_of_every_published_model():
    for name in ("gpt2", "t5-v1.1-small", "palm-8b", "qwen3-0.6b"):
        spec = preset(name)
        assert plain_weights(spec, torch.float32).size == 4 * spec.parameter_count()
        assert plan(spec, torch.float32, free=10**15).fits
