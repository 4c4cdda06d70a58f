"""The three stages of ColossalChat and StackLLaMA: reward model and PPO, a few steps of a tiny model each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from camelid.align.questions import prompts_of
from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.lm.sampling import Sampling
from camelid.model.presets import published
from camelid.model.transformer import Transformer
from camelid.recipes.align import AlignRecipe
from camelid.recipes.recipe import load_recipe
from camelid.runs.run import METRICS, read_metrics
from camelid.text.tokenizer import train_tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
NAMES = ("rlhf", "stackllama")
SCALES = ("published", "small")
PAIRS = [{"prompt": f"Who is {n}?", "chosen": f"It is {n}.", "rejected": "Go away!"} for n in range(40)]
PUBLISHED_ROWS = {"stackllama": ("question", "response_j", "response_k")}
"""The names of the fields of the data that a published recipe is for."""
BRIEF = {"dtype": "float32", "compile": False, "warmup_steps": None, "warmup_fraction": 0.0, "epochs": None}


def run(recipe: AlignRecipe, tmp_path: Path, changes: Mapping[str, Any]) -> Path:
    """The recipe as it is, but for paths, sizes and the number of steps; returns the folder of its run."""
    values = recipe.model_dump(mode="json", exclude_unset=True)
    out = tmp_path / recipe.out.name
    for name, value in changes.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    values["out"] = str(out)
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    assert main(["align", str(tmp_path / "recipe.yaml")]) == 0
    return out


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_the_stages_follow_each_other(name: str, scale: str, tmp_path: Path) -> None:
    reward, ppo = (load_recipe(AlignRecipe, FOLDER / scale / f"{name}-{m}.yaml") for m in ("reward", "ppo"))
    assert ppo.rewarded_by == str(reward.out / "model")
    sft = (FOLDER / scale / f"{name}-sft.yaml").read_text()
    assert [f"recipes/{scale}/{name}-{stage}.yaml" in sft for stage in ("sft", "reward", "ppo")] == [True] * 3
    data, text, base = tmp_path / "pairs.jsonl", tmp_path / "text.txt", tmp_path / "base"
    names = PUBLISHED_ROWS.get(name, (*PAIRS[0],)) if scale == "published" else (*PAIRS[0],)
    rows_of_data = [dict(zip(names, row.values(), strict=True)) for row in PAIRS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows_of_data))
    text.write_text("It is a story about a man. " * 80)
    tokenizer = train_tokenizer(["Who is 12? It is 345. Go away! It is a story about a man 6789."] * 9, 300)
    spec = published("llama", 16, 1, 2, vocab_size=300, context_length=2048, head_dim=8)
    base.mkdir()
    save_checkpoint(base, Transformer(spec).initialize(0))
    tokenizer.save(base)
    rows = {"context_length": 256, "global_batch_tokens": 512, "micro_batch_size": 1, "steps": 2}
    changed = {"model": str(base), "comparisons": [str(data)], "training": BRIEF | rows}
    trained = run(reward, tmp_path, changed)
    lora = {} if ppo.lora.rank is None else {"lora": {"base": "stored"}}
    sizes = {"questions": 10 * ppo.ppo.minibatches // 10 * 2, "pretraining_rows": 2, "allow_cut": True}
    sizes |= {"pretraining": [str(text)]} if ppo.ppo.pretraining else {}
    changed = {
        "model": str(base),
        "prompts": [str(data)],
        "rewarded_by": str(trained / "model"),
        "ppo": sizes,
    }
    changed |= {"max_new_tokens": 3, "training": BRIEF | {"steps": 3}, **lora}
    out = run(ppo, tmp_path, changed)
    records = read_metrics(out / METRICS)
    assert len(records) == 4
    assert records[1]["kl_coefficient"] == ppo.ppo.kl
    assert (out / ("model" if ppo.lora.rank is None else "adapter")).is_dir()


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_published_stage_has_its_source(name: str) -> None:
    """A comment stands above each setting of training, adapters and PPO, or above the group it belongs to."""
    for stage in ("reward", "ppo"):
        path = FOLDER / "published" / f"{name}-{stage}.yaml"
        recipe, text = load_recipe(AlignRecipe, path), path.read_text(encoding="utf-8")
        for section in {"lora", "training", "ppo"} & recipe.model_fields_set:
            block = text.partition(f"\n{section}:\n")[2].split("\n\n")[0].splitlines()
            assert block[0].startswith("  # "), (path.name, section)


@pytest.mark.parametrize("name", NAMES)
def test_the_small_stages_read_data_that_there_is(name: str, shared: Path) -> None:
    for stage in ("reward", "ppo"):
        recipe = load_recipe(AlignRecipe, FOLDER / "small" / f"{name}-{stage}.yaml")
        assert all((shared / path).is_file() for path in (*recipe.comparisons, *recipe.prompts))
        if recipe.prompts:
            paths = [shared / path for path in recipe.prompts]
            asked = prompts_of(paths, Sampling(), recipe.skip_bad_rows, recipe.limit)
            assert len(asked) == recipe.limit
            if name == "rlhf":  # HH has rows without a question; rasbt's ties have one
                with pytest.raises(CamelidError, match=r"gz:\d+"):
                    prompts_of(paths, Sampling())
            else:
                assert len(prompts_of(paths, Sampling())) == 1100
