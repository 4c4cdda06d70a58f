"""KL divergences and their estimators against exact enumeration; the trainer's view of sampled answers."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from camelid.align.columns import ENTROPY, KL, OLD, REFERENCE, SAMPLED
from camelid.align.kl import entropy, exact_kl, k1, k2, k3
from camelid.align.policy import Policy
from camelid.align.questions import asked_by
from camelid.align.rollouts import as_batch, check_sampler
from camelid.base.errors import CamelidError
from camelid.data.rows.batches import collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import lay_out
from camelid.engine.engine import Engine
from camelid.formats.load import load_model, load_tokenizer
from camelid.lm.sampling import Sampling
from camelid.model.adapters import add_lora, without_adapters
from camelid.model.lora import LoRA
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.prompting.programs import direct
from camelid.recipes.align import AlignRecipe
from camelid.tasks.task import load_task
from camelid.train.parallel import ProcessGroup

VOCABULARY, LENGTH = 4, 3


def tiny(seed: int) -> Transformer:
    spec = ModelSpec.llama(vocab_size=VOCABULARY, hidden_size=8, num_layers=1, num_heads=1, context_length=8)
    return Transformer(spec).initialize(seed, std=0.7).eval()


def test_estimators_against_all_texts_of_a_tiny_vocabulary() -> None:
    """KL(p || q) of texts of three tokens: by enumeration, as expected sum over tokens, and by k1 and k3."""
    policy, reference = tiny(0), tiny(1)
    texts = torch.tensor(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))
    tokens = torch.cat((torch.zeros(len(texts), 1, dtype=torch.long), texts), 1)
    with torch.no_grad():
        own, other = policy(tokens)[:, :-1], reference(tokens)[:, :-1]
    chosen = texts[..., None]
    log_p, log_q = (each.log_softmax(-1).gather(-1, chosen)[..., 0] for each in (own, other))
    probability = log_p.sum(1).exp()
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    divergence = float((probability * (log_p - log_q).sum(1)).sum())
    along = float((probability * exact_kl(own, other).sum(1)).sum())
    assert along == pytest.approx(divergence, rel=1e-4)
    assert divergence > 0.05
    for estimate in (k1, k3):
        expected = float((probability * estimate(log_p - log_q).sum(1)).sum())
        assert expected == pytest.approx(divergence, rel=1e-4), estimate.__name__
    squared = float((probability * ((log_p - log_q) ** 2 / 2).sum(1)).sum())
    assert float((probability * k2(log_p - log_q).sum(1)).sum()) == pytest.approx(squared)
    assert k3(log_p - log_q).min() >= 0
    assert k1(log_p - log_q).min() < 0


def test_entropy_and_divergence_by_hand() -> None:
    logits = torch.tensor([0.5, 0.25, 0.25]).log()
    others = torch.tensor([0.25, 0.25, 0.5]).log() + 3  # a constant changes nothing
    assert float(entropy(logits)) == pytest.approx(1.5 * math.log(2))
    assert float(exact_kl(logits, others)) == pytest.approx(0.25 * math.log(2))
    assert float(exact_kl(logits, logits)) == pytest.approx(0, abs=1e-7)
    ratio = torch.tensor(math.log(2))
    assert float(k2(ratio)) == pytest.approx(math.log(2) ** 2 / 2)
    assert float(k3(ratio)) == pytest.approx(0.5 - 1 + math.log(2))


def test_a_policy_knows_its_samples_and_an_adapter_its_base(chatty: Path, tmp_path: Path) -> None:
    """The adapter's base as reference = a separate copy; sampler = trainer."""
    task = tmp_path / "one.jsonl"
    rows = [{"question": f"{n}: which number?", "answer": "5", "grader": "exact"} for n in range(3)]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model, base = load_model(chatty), load_model(chatty)
    add_lora(model, LoRA(4, 16.0), ("*layers.*_proj",))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_b" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    asked = asked_by(direct(sampling=Sampling(max_new_tokens=6)), load_task(task))
    with Engine(model, load_tokenizer(chatty)) as engine:
        answers = [
            one
            for ones in engine.generate([each.prompt for each in asked], temperature=1.0, samples=4, seed=1)
            for one in ones
        ]
    batch = as_batch(answers)
    answered = batch.weights > 0
    assert int(answered.sum()) == sum(len(one.tokens) for one in answers)
    scored = [
        Policy(model, other, torch.float32, 5, ProcessGroup()).scored(batch).extra for other in (None, base)
    ]
    for name in (OLD, REFERENCE, KL, ENTROPY):
        torch.testing.assert_close(scored[0][name], scored[1][name], rtol=1e-5, atol=1e-5)
        assert not scored[0][name][~answered].any()
    for policy, column in ((model, OLD), (base, REFERENCE)):
        with torch.no_grad():
            plain = policy(batch.tokens).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
        torch.testing.assert_close(scored[0][column][answered], plain[answered], rtol=1e-5, atol=1e-5)
    assert scored[0][KL][answered].min() >= 0
    assert scored[0][KL][answered].mean() > 1e-3
    difference = float((scored[0][OLD] - batch.extra[SAMPLED])[answered].abs().max())
    assert 0 < difference < 1e-4
    check_sampler(difference, None, torch.float32)
    with pytest.raises(CamelidError, match=r"differ by up to 0\.01 nats"):
        check_sampler(0.01, None, torch.float32)
    check_sampler(0.01, None, torch.bfloat16)
    with torch.no_grad():
        other = model(batch.tokens)
        with without_adapters(model):
            assert torch.equal(model(batch.tokens), base(batch.tokens))
        assert torch.equal(model(batch.tokens), other)


def test_a_recipe_of_ppo_needs_questions(tmp_path: Path) -> None:
    values = {"method": "ppo", "model": "m", "out": tmp_path, "training": {"steps": 1}}
    with pytest.raises(ValueError, match="there is nothing to ask"):
        AlignRecipe.model_validate(values)


def test_rows_of_different_lengths_are_scored_as_each_by_itself() -> None:
    lengths = (7, 2, 5, 1, 6)
    examples = [Example(np.arange(n), np.arange(1, n + 1), np.ones(n, np.float32)) for n in lengths]
    spec = ModelSpec.llama(vocab_size=9, hidden_size=8, num_layers=1, num_heads=1, context_length=16)
    model, other = (Transformer(spec).initialize(seed, std=0.7).eval() for seed in (0, 1))
    policy = Policy(model, other, torch.float32, 2, ProcessGroup())
    whole = policy.scored(collate([lay_out([each], 10, 0) for each in examples]))
    for row, (each, n) in enumerate(zip(examples, lengths, strict=True)):
        alone = policy.scored(collate([lay_out([each], n, 0)]))
        for name, column in alone.extra.items():
            assert torch.allclose(whole.extra[name][row, :n], column[0], atol=1e-6), name
            assert not whole.extra[name][row, n:].any()
