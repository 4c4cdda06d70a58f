"""The compiled block beside the eager one, and machines on which it cannot be compiled."""

import shutil
import warnings

import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.training import Training
from camelid.train.compilation import compile_blocks
from camelid.train.fit import prepare

TOKENS = torch.randint(61, (2, 24), generator=torch.Generator().manual_seed(0))
DOCUMENTS = (torch.arange(24) // 7).expand(2, -1)


def small_model():
    spec = ModelSpec.llama(vocab_size=61, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2)
    return Transformer(spec).initialize(3, std=0.3)


def logits_and_gradients(model, dtype=None):
    model.zero_grad(set_to_none=True)
    logits = model(TOKENS, documents=DOCUMENTS, dtype=dtype)
    logits.float().logsumexp(-1).sum().backward()
    return [logits.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without a C++ compiler and without kernels from earlier runs."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
@pytest.mark.parametrize("recompute", [False, True])
def test_the_compiled_block_equals_the_eager_one(recompute):
    model = small_model()
    model.recompute_activations = recompute
    eager = logits_and_gradients(model)
    compile_blocks(model, True)
    for compiled, truth in zip(logits_and_gradients(model), eager, strict=True):
        torch.testing.assert_close(compiled, truth, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
def test_the_compiled_block_is_as_exact_in_bfloat16_as_the_eager_one():
    model = small_model()
    exact = logits_and_gradients(model)
    eager = logits_and_gradients(model, torch.bfloat16)
    compile_blocks(model, True)
    compiled = logits_and_gradients(model, torch.bfloat16)
    for ours, theirs, truth in zip(compiled, eager, exact, strict=True):
        assert (ours - truth).norm() <= 2 * (theirs - truth).norm() <= 0.2 * truth.norm()


def test_without_a_compiler_training_goes_on_and_says_so_once(no_compiler):
    model = small_model()
    eager = logits_and_gradients(model)
    compile_blocks(model, "auto")
    with pytest.warns(UserWarning, match=r"without torch\.compile"):
        first = logits_and_gradients(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = logits_and_gradients(model)
    for results in (first, second):
        assert all(torch.equal(ours, truth) for ours, truth in zip(results, eager, strict=True))


def test_a_compiler_that_was_asked_for_and_is_missing_stops_the_job(no_compiler):
    model = small_model()
    compile_blocks(model, True)
    with pytest.raises(CamelidError, match=r"Install a C\+\+ compiler"):
        logits_and_gradients(model)


def small_encoder_decoder():
    shape = ModelShape(
        architecture="t5", hidden_size=32, num_layers=2, num_heads=4, context_length=24, dropout=0
    )
    return Transformer(shape.spec(61)).initialize(3)


def test_the_encoder_is_compiled_as_the_decoder_is(no_compiler):
    model = small_encoder_decoder()
    compile_blocks(model, True)
    with pytest.raises(CamelidError, match="the model cannot be compiled"):
        model.encode(TOKENS)


def test_recomputing_spares_the_activations_of_both_stacks():
    kept = {}
    for recompute in (False, True):
        model = small_encoder_decoder()
        prepare(model, Training(steps=1, recompute_activations=recompute, compile=False))
        calls = count_blocks(model)
        model(TOKENS, TOKENS).float().logsumexp(-1).sum().backward()
        kept[recompute] = [parameter.grad for parameter in model.parameters()]
        assert calls == ([4, 4] if recompute else [2, 2])
    assert all(torch.equal(*pair) for pair in zip(*kept.values(), strict=True))


def count_blocks(model):
    """How often a block of each stack is computed, counted from now on."""
    calls = [0] * len(model.stacks)

    def counting(number, inner):
        def run(block, x, context):
            calls[number] += 1
            return inner(block, x, context)

        return run

    for number, stack in enumerate(model.stacks):
        stack.run_block = counting(number, stack.run_block)
    return calls
