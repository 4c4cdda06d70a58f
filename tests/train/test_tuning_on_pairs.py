"""`camelid tune` on pairs: an encoder-decoder and a decoder learn a mapping, and answer by it through the
engine."""

import json

import numpy as np
import pytest

from camelid import load_tokenizer
from camelid.cli import main as cli
from camelid.data.read.text_to_text import TextPairs
from camelid.data.rows.text_examples import text_examples
from camelid.engine.engine import Engine
from camelid.recipes.recipe import load_recipe
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import read_metrics
from camelid.train.training_rows import decoder_rows, pair_rows

ROWS = [
    {"prefix": "colour of:", "input": thing, "target": colour}
    for thing, colour in (("ball", "red"), ("kite", "blue"), ("boat", "green"), ("park", "grey"))
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 8))
    return path


@pytest.fixture(scope="module")
def bases(tmp_path_factory, text, pretrain_words, pretrained):
    """Untuned models, with an encoder and without."""
    out = tmp_path_factory.mktemp("encoder-decoder")
    learn = ["tokenizer", "--out", str(out / "vocabulary"), "--data.train", str(text)]
    assert cli.main([*learn, "--vocab-size", "400", "--sentinels", "100"]) == 0
    shape = {"model__architecture": "t5", "tokenizer": out / "vocabulary", "model__hidden_size": 64}
    assert cli.main(pretrain_words(out / "run", **shape)) == 0
    return {"encoder-decoder": out / "run" / "model", "decoder": pretrained / "model"}


def words(base, out, pairs, **settings):
    flags = {
        "data.train": pairs,
        "data.validation-fraction": 0,
        "task": "pairs",
        "training.steps": 100,
        "training.context-length": 32,
        "training.global-batch-tokens": 256,
        "training.learning-rate": 0.01,
        "training.weight-decay": 0,
        "training.dtype": "float32",
        "training.compile": "false",
        **{name.replace("__", ".").replace("_", "-"): value for name, value in settings.items()},
    }
    return [
        "tune",
        str(base),
        "--out",
        str(out),
        *(str(word) for flag in flags.items() for word in (f"--{flag[0]}", flag[1])),
    ]


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder"])
def test_what_was_trained_is_what_the_engine_answers(kind, bases, pairs, tmp_path):
    assert (
        cli.main(
            words(bases[kind], tmp_path / "run", pairs, training__steps=200, training__learning_rate=0.003)
        )
        == 0
    )
    engine = Engine.load(tmp_path / "run" / "model")
    ends = "" if kind == "encoder-decoder" else "\n"
    prompts = [f"{row['prefix']} {row['input']}{ends}" for row in ROWS]
    answers = engine.generate(prompts, temperature=0, max_new_tokens=8)
    assert [each[0].text.strip() for each in answers] == [row["target"] for row in ROWS]
    assert all(each[0].finish_reason == "stop" for each in answers)


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder"])
def test_resumed_is_unbroken(kind, bases, pairs, tmp_path, monkeypatch):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    every = {"training__steps": 6, "training__checkpoint_every": 3}
    assert cli.main(words(bases[kind], whole, pairs, **every)) == 0
    from camelid.train.saving import Saver

    save = Saver.save

    def stops(saver, step):
        save(saver, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "save", stops)
    assert cli.main(words(bases[kind], halved, pairs, **every)) != 0
    monkeypatch.undo()
    assert cli.main(words(bases[kind], halved, pairs, **every)) == 0
    curves = [
        [record["loss"] for record in read_metrics(run / "metrics.jsonl") if "loss" in record]
        for run in (whole, halved)
    ]
    assert len(curves[0]) == 6
    assert curves[0] == curves[1]


def test_the_engine_reads_what_was_trained_on(bases, pairs):
    for kind, make in (("encoder-decoder", pair_rows), ("decoder", decoder_rows)):
        flags = dict(zip(*(iter(words(bases[kind], "run", pairs)[2:]),) * 2, strict=True))
        recipe = load_recipe(
            TuneRecipe, None, {"model": str(bases[kind])} | {k[2:]: v for k, v in flags.items()}
        )
        rows, held_out = make(recipe, load_tokenizer(bases[kind]))
        assert held_out is None
        engine = Engine.load(bases[kind])
        if kind == "encoder-decoder":
            read = {tuple(rows[index].source.tolist()) for index in range(rows.per_epoch)}
            assert read == {engine.encode(f"{row['prefix']} {row['input']}") for row in ROWS}
        else:
            row, prompt = rows[0], engine.encode(f"{ROWS[0]['prefix']} {ROWS[0]['input']}\n")
            starts = [at for at in range(32) if tuple(row.tokens[at : at + len(prompt)]) == prompt]
            for start in starts:
                assert not row.weights[start : start + len(prompt) - 1].any()
                assert row.weights[start + len(prompt) - 1] == 1


def test_a_decoder_learns_targets_alone_or_inputs_too(bases, pairs):
    tokenizer = load_tokenizer(bases["decoder"])
    source = TextPairs(pairs)
    plain, both = (
        text_examples(tokenizer, source, 32, input_weight=weight).examples[0] for weight in (0.0, 0.5)
    )
    answer = tokenizer.encode(ROWS[0]["target"], continues=True)
    assert list(plain.targets[plain.weights > 0]) == [*answer, tokenizer.eos_id]
    np.testing.assert_array_equal(both.weights, np.where(plain.weights > 0, 1, 0.5))
    assert len(both) > len(answer) + 1


def test_cutting_keeps_the_separator_and_the_target(bases):
    tokenizer = load_tokenizer(bases["decoder"])
    texts = [(("a very long input that goes on and on", "yes"), "here")]
    whole = text_examples(tokenizer, texts, 64).examples[0]
    cut = text_examples(tokenizer, texts, len(whole) - 3, too_long="cut")
    assert cut.cut
    assert len(cut.examples[0]) == len(whole) - 3
    kept = len(tokenizer.encode("\nyes")) + 1
    np.testing.assert_array_equal(cut.examples[0].targets[-kept:], whole.targets[-kept:])
    np.testing.assert_array_equal(cut.examples[0].tokens[:5], whole.tokens[:5])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("encoder-decoder", {"task": "chat"}, "cannot be tuned on conversations"),
        ("encoder-decoder", {"input_weight": 0.5}, "does not predict its input"),
        ("decoder", {"task": "colla"}, "no task 'colla'; allowed: chat, pairs, cola"),
        ("decoder", {"task": "chat", "input_weight": 0.5}, "input_weight is for pairs"),
        ("decoder", {"task": "sst2"}, "pairs.jsonl:1: no `sentence`"),
        (
            "encoder-decoder",
            {"training__context_length": 4, "training__global_batch_tokens": 64},
            "raise the limits",
        ),
    ],
)
def test_what_cannot_work_is_told(kind, settings, message, bases, pairs, tmp_path, capsys):
    assert cli.main(words(bases[kind], tmp_path / "run", pairs, **settings)) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "model").exists()


def test_check_reads_the_pairs(bases, pairs, tmp_path, capsys):
    for kind in bases:
        recipe = tmp_path / f"{kind}.yaml"
        recipe.write_text(
            f"stage: tune\nout: {tmp_path / 'run'}\nmodel: {bases[kind]}\ntask: pairs\n"
            f"data: {{train: {pairs}, validation_fraction: 0}}\n"
            "training: {steps: 1, context_length: 32, global_batch_tokens: 32}\n"
        )
        assert cli.main(["check", str(recipe)]) == 0
        assert "32 pairs of input and target" in capsys.readouterr().out


def test_an_adapter_of_an_encoder_decoder_is_trained_and_merged(bases, pairs, tmp_path, capsys):
    base, out = bases["encoder-decoder"], tmp_path / "run"
    settings = {"training.steps": 3, "lora.rank": 4, "lora.dropout": 0.1, "training.dtype": "float32"}
    assert cli.main([*words(base, out, pairs), *(f"--{key}={value}" for key, value in settings.items())]) == 0
    names = json.loads((out / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert {"q", "wo"} <= set(names)
    assert cli.main(["merge", str(base), str(out / "adapter"), str(tmp_path / "merged")]) == 0
    assert "logits as unmerged" in capsys.readouterr().out
