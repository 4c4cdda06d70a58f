"""Adapters through the command line: trained, killed and resumed, merged, and generated with."""

import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

import camelid
from camelid.cli import main as cli
from camelid.engine.engine import Engine
from camelid.model.adapters import add_lora
from camelid.model.lora import LoRA
from camelid.model.reward import put_reward_head
from camelid.runs.run import Run, read_metrics
from camelid.train.adapting import round_frozen, training_flops_per_token
from camelid.train.objectives import cross_entropy

LORA = {"lora__rank": 4, "lora__dropout": 0.1, "training__learning_rate": 0.02}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tune_words):
    out = tmp_path_factory.mktemp("lora") / "run"
    assert cli.main(tune_words(out, training__steps=12, **LORA)) == 0
    return out / "adapter"


def losses(out):
    return [record["loss"] for record in read_metrics(out / "metrics.jsonl") if "loss" in record]


def test_a_run_saves_an_adapter_that_names_its_base(adapter, pretrained):
    made = json.loads((adapter / "camelid.json").read_text())
    assert made["base"]["name"] == str(pretrained / "model")
    assert made["recipe"]["lora"]["rank"] == 4
    assert not (adapter.parent / "model").exists()
    curve = losses(adapter.parent)
    assert curve[-1] < curve[0] - 0.1


def test_only_the_adapter_has_optimiser_state(adapter):
    [*_, newest] = sorted((adapter.parent / "checkpoints").glob("step-*"))
    for name in ("weights", "optimizer"):
        keys = load_file(newest / f"{name}.safetensors").keys()
        assert keys
        assert all(".lora_a" in key or ".lora_b" in key for key in keys)


def test_micro_batches_and_recomputation_do_not_change_the_curve(adapter, tmp_path, tune_words):
    words = tune_words(tmp_path / "run", training__steps=12, training__micro_batch_size=4, **LORA)
    assert cli.main([*words, "--training.recompute-activations", "true"]) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(adapter.parent), rel=1e-4)


def kill_at_the_seventh_step(words):
    log = Run.log

    def logging(run, record):
        if record["step"] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        log(run, record)

    Run.log = logging
    cli.main(words)


def test_killed_and_resumed_gives_the_unbroken_curve_and_adapter(adapter, tmp_path, tune_words, command_line):
    words = tune_words(tmp_path / "run", training__steps=12, training__checkpoint_every=3, **LORA)
    process = command_line.fork(kill_at_the_seventh_step, words)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert cli.main(words) == 0
    assert losses(tmp_path / "run") == losses(adapter.parent)
    one, other = (
        load_file(path / "adapter_model.safetensors") for path in (adapter, tmp_path / "run/adapter")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_merged_and_unmerged_generate_the_same_text(adapter, pretrained, tmp_path, capsys):
    base = pretrained / "model"
    assert cli.main(["merge", str(base), str(adapter), str(tmp_path / "merged")]) == 0
    assert "logits as unmerged" in capsys.readouterr().out
    settings = {"max_new_tokens": 20, "temperature": 0.0}
    with Engine.load(base, adapter=adapter) as one, Engine.load(tmp_path / "merged") as other:
        texts = [engine.generate(["Tom took"], **settings)[0][0].text for engine in (one, other)]
    assert texts[0] == texts[1]
    words = ["generate", str(base), "--adapter", str(adapter), "--prompt", "Tom took", "--temperature", "0"]
    assert cli.main([*words, "--max-new-tokens", "20"]) == 0
    assert capsys.readouterr().out.strip() == texts[0].strip()
    ids = torch.tensor([[3, 4, 5]])
    plain, adapted = camelid.load_model(base), camelid.load_model(base, adapter=adapter)
    assert not torch.allclose(plain(ids), adapted(ids))


WRONG = {
    "--lora.targets": (["*.query"], 1, "matches nothing; available: layers.0.self_attn.q_proj"),
    "--lora.rank": (["0"], 2, "lora.rank"),
    "--lora.dropout": (["1"], 2, "lora.dropout"),
}


@pytest.mark.parametrize("flag", WRONG)
def test_wrong_settings_are_refused(flag, tmp_path, tune_words, capsys):
    values, code, message = WRONG[flag]
    words = tune_words(tmp_path / "run", lora__rank=4)
    assert cli.main([*words, flag, *values]) == code
    assert message in capsys.readouterr().err


def test_settings_of_an_adapter_without_a_rank_are_refused(tmp_path, tune_words, capsys):
    assert cli.main(tune_words(tmp_path / "run", lora__alpha=32)) == 2
    assert "give --lora.rank 8" in capsys.readouterr().err


def test_an_adapter_as_a_model_is_refused_with_the_way_out(adapter, capsys):
    assert cli.main(["generate", str(adapter), "--prompt", "Tom"]) == 1
    assert "--adapter" in capsys.readouterr().err


@pytest.mark.parametrize("base", ["nf4", "packed"])
def test_adapters_are_trained_on_quantised_weights(base, tmp_path, pretrained, tune_words, capsys):
    model, words = pretrained / "model", tune_words(tmp_path / "run", training__steps=12, **LORA)
    if base == "packed":
        model = tmp_path / "small"
        assert cli.main(["quantize", str(pretrained / "model"), str(model), "--group-size", "8"]) == 0
        words[1] = str(model)
        assert cli.main([*words, "--lora.base", "nf4"]) == 1
        assert "quantised already" in capsys.readouterr().err
        assert cli.main(["tune", str(model), *tune_words(tmp_path / "run")[2:]]) == 1
        assert "only an adapter on it can be trained" in capsys.readouterr().err
    else:
        words += ["--lora.base", "nf4"]
    assert cli.main([*words, "--training.recompute-activations", "true"]) == 0
    curve = losses(tmp_path / "run")
    assert curve[-1] < curve[0] - 0.1
    folder, ids = tmp_path / "run" / "adapter", torch.tensor([[3, 4, 5]])
    assert cli.main(["merge", str(model), str(folder), str(tmp_path / "merged")]) == 0
    merged, unmerged = camelid.load_model(tmp_path / "merged"), camelid.load_model(model, adapter=folder)
    torch.testing.assert_close(merged(ids), unmerged(ids), rtol=0, atol=1e-4)


def test_rows_without_an_answer_stop_an_adapter_too(tmp_path, tune_words, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "Hello?"}]}) + "\n")
    assert cli.main(tune_words(tmp_path / "run", data__train=rows, lora__rank=4)) == 1
    assert f"{rows}:1: no assistant turn" in capsys.readouterr().err


def test_check_looks_at_an_adapter_and_its_base(adapter, pretrained, tmp_path, capsys):
    assert cli.main(["check", str(adapter)]) == 0
    assert f"adapter: updates of 7 linears of {pretrained / 'model'}" in capsys.readouterr().out
    shutil.copytree(adapter, tmp_path / "adapter")
    file = tmp_path / "adapter" / "camelid.json"
    made = json.loads(file.read_text())
    made["base"]["digest"] = "0" * 64
    file.write_text(json.dumps(made))
    assert cli.main(["check", str(tmp_path / "adapter")]) == 1
    assert "another base" in capsys.readouterr().out


def test_check_finds_a_target_that_matches_nothing(adapter, tmp_path, capsys):
    recipe = (adapter.parent / "recipe.yaml").read_text()
    (tmp_path / "good.yaml").write_text(recipe)
    assert cli.main(["check", str(tmp_path / "good.yaml")]) == 0
    assert "lora: an adapter on 7 linears" in capsys.readouterr().out
    (tmp_path / "bad.yaml").write_text(recipe.replace("*layers.*_proj", "*.query"))
    assert cli.main(["check", str(tmp_path / "bad.yaml")]) == 1
    assert "'*.query' matches nothing" in capsys.readouterr().out


def test_rounding_frozen_matrices_once_changes_nothing(tiny, random_batch):
    model = add_lora(tiny(), LoRA(2, 8.0), ("*layers.*_proj",))
    objective, gradients = cross_entropy(model, torch.bfloat16), []
    for _ in range(2):
        loss = objective(random_batch())
        parts = [each for each in model.parameters() if each.requires_grad]
        gradients.append((loss, *torch.autograd.grad(loss, parts)))
        round_frozen(model, torch.bfloat16)
    assert model.layers[0].mlp.up_proj.base.weight.dtype == torch.bfloat16
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_frozen_weights_cost_no_gradient(tiny):
    model = tiny(tie_embeddings=False)
    whole, weights = model.spec.training_flops_per_token(8), model.spec.matmul_parameters()
    assert training_flops_per_token(model, 8) == whole
    add_lora(model, LoRA(2, 8.0), ("layers.0.self_attn.q_proj",))
    assert training_flops_per_token(model, 8) == whole - 2 * weights + 6 * 2 * (16 + 16)


def test_a_reward_model_costs_one_row_of_output(tiny):
    model = tiny(tie_embeddings=False)
    whole, saved = (
        model.spec.training_flops_per_token(8),
        (model.spec.vocab_size - 1) * model.spec.hidden_size,
    )
    assert training_flops_per_token(put_reward_head(model), 8) == whole - 6 * saved
