"""Every family equals transformers in both directions, and gives back the bytes that it was given."""

import pytest
import torch
from lineage import LINEAGE, empty_cache, randomise
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from camelid.formats.hugging_face.checkpoint import load_checkpoint, save_checkpoint

SEEDS = range(20)
TOLERANCE = 1e-4


def random_model(name: str, seed: int):
    model = LINEAGE[name](seed).eval()
    randomise(model, seed)
    return model


def both_logits(ours, theirs, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, ours.spec.vocab_size, (2, 45), generator=generator)
    with torch.inference_mode():
        if ours.encoder is None:
            return ours(ids), theirs(ids).logits
        target = torch.randint(0, ours.spec.vocab_size, (2, 13), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 30:] = 0
        logits = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=target).logits
        return ours(ids, target, mask=mask.bool()), logits


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", LINEAGE)
def test_reads_what_transformers_writes_and_writes_what_it_reads(name, seed, tmp_path):
    theirs = random_model(name, seed)
    first, second, third = (tmp_path / step for step in ("theirs", "ours", "again"))
    theirs.save_pretrained(first, max_shard_size="4KB" if seed % 3 == 0 else "5GB")
    ours = load_checkpoint(first)
    assert ours.spec.parameter_count() == sum(parameter.numel() for parameter in ours.parameters())
    mine, reference = both_logits(ours, theirs, seed)
    assert (mine - reference).abs().max() <= TOLERANCE

    for folder, model in ((second, ours), (third, None)):
        folder.mkdir()
        save_checkpoint(folder, model or load_checkpoint(second), special_ids={"eos_token_id": 2})
    assert load_checkpoint(second).spec == ours.spec
    for path in second.iterdir():
        assert path.read_bytes() == (third / path.name).read_bytes()
    auto = AutoModelForSeq2SeqLM if name == "t5" else AutoModelForCausalLM
    again, report = auto.from_pretrained(second, output_loading_info=True)
    assert not any(report.values())
    mine, reference = both_logits(ours, again.eval(), seed)
    assert (mine - reference).abs().max() <= TOLERANCE


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", LINEAGE)
def test_cached_equals_uncached(name, seed, tmp_path):
    random_model(name, seed).save_pretrained(tmp_path)
    model = load_checkpoint(tmp_path)
    ids = torch.randint(0, model.spec.vocab_size, (2, 20), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        source = model.encode(ids[:, :11]) if model.encoder is not None else None
        whole = model.hidden_states(ids, source=source)
        cache = empty_cache(model.spec, 2, 20)
        steps = [model.hidden_states(ids[:, :9], cache=cache, source=source)]
        steps += [model.hidden_states(ids[:, i : i + 1], cache=cache, source=source) for i in range(9, 20)]
    assert (torch.cat(steps, 1) - whole).abs().max() <= TOLERANCE
