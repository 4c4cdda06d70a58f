"""Mixtures of sources, and conditional training on markers, from the recipe to the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.cli import main as cli
from camelid.recipes.recipe import load_recipe
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import SOURCES
from camelid.text.tokenizer import load_tokenizer
from camelid.train.mixture import drawn
from camelid.train.training_rows import decoder_rows

Sources = list[dict[str, Any]]
COMPARISONS = [{"prompt": f"Sum {n} 1", "chosen": f"{n + 1}", "rejected": "No."} for n in range(30)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    plain = [{"instruction": f"Say {letter * 3}", "output": letter} for letter in "abcdefghijklmnopqrst"]
    (folder / "alpaca.json").write_text(json.dumps(plain))
    (folder / "compared.jsonl").write_text("".join(json.dumps(row) + "\n" for row in COMPARISONS))
    (folder / "tied.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "b"}) + "\n")
    return folder


@pytest.fixture(scope="module")
def recipe(pretrained: Path, files: Path) -> Callable[..., TuneRecipe]:
    def build(*sources: dict[str, Any], **changes: Any) -> TuneRecipe:
        placed = [source | {"path": str(files / source["path"])} for source in sources]
        values = {
            "model": str(pretrained / "model"),
            "out": "unused",
            "data": {"sources": placed, "validation_fraction": 0.2},
            "training": {"steps": 4, "context_length": 64, "global_batch_tokens": 128},
        }
        return load_recipe(TuneRecipe, None, values | changes)

    return build


def rows_of(recipe: TuneRecipe) -> tuple[list[str], list[dict[str, Any]]]:
    """The text of every row of an epoch, and the counts of the sources."""
    tokenizer, counts = load_tokenizer(recipe.model), list[dict[str, Any]]()
    rows, _ = decoder_rows(recipe, tokenizer, record=counts.extend)
    return [tokenizer.decode(rows[at].tokens.tolist()) for at in range(rows.per_epoch)], counts


def test_sources_without_weights_are_as_frequent_as_their_rows(recipe: Callable[..., TuneRecipe]):
    texts, counts = rows_of(
        recipe({"path": "alpaca.json", "cap": 10, "repeat": 3}, {"path": "compared.jsonl"})
    )
    assert [one["rows"] + one["held_out"] for one in counts] == [10, 30]
    assert "".join(texts).count("Say ") == 3 * counts[0]["rows"]
    assert "".join(texts).count("Sum ") == counts[1]["rows"]


def test_of_few_rows_one_of_all_sources_is_held_out(recipe: Callable[..., TuneRecipe]):
    made = recipe({"path": "alpaca.json", "cap": 10}, {"path": "compared.jsonl"})
    data = made.data.model_copy(update={"validation_fraction": 1e-9})
    _, counts = rows_of(made.model_copy(update={"data": data}))
    assert sum(one["held_out"] for one in counts) == 1


def test_a_cap_is_drawn_with_the_seed(recipe: Callable[..., TuneRecipe]):
    def taken(seed: int) -> set[str]:
        texts, _ = rows_of(recipe({"path": "alpaca.json", "cap": 12}, seed=seed))
        return {letter for letter in "abcdefghijklmnopqrst" if f"Say {letter * 3}" in "".join(texts)}

    assert taken(0) == taken(0)
    assert taken(0) != taken(1)


def test_what_a_cap_draws_depends_on_the_rows_and_not_on_the_name_of_the_file():
    def kept_of(name: str) -> list[int]:
        rows = ((row, f"{name}:{row // 2}") for row in range(100))  # two rows of one location each
        return [row for row, _ in drawn(rows, 20, 3)]

    kept = kept_of("here.json")
    assert kept == kept_of("there.json")
    assert len(kept) == 20
    assert {row ^ 1 for row in kept} == set(kept)  # both rows of a location, or neither


def test_weights_are_shares_of_the_rows(recipe: Callable[..., TuneRecipe]):
    sources = ({"path": "alpaca.json", "weight": 1, "repeat": 3}, {"path": "compared.jsonl", "weight": 1})
    made, counts = recipe(*sources), list[dict[str, Any]]()
    rows, _ = decoder_rows(made, tokenizer := load_tokenizer(made.model), record=counts.extend)
    assert [one["share"] for one in counts] == [0.75, 0.25]
    drawn = ["Say " in tokenizer.decode(rows[at].tokens.tolist()) for at in range(100)]
    assert sum(drawn) == 75
    again, _ = decoder_rows(made, tokenizer)
    assert again.digest == rows.digest
    assert all(np.array_equal(again[at].tokens, rows[at].tokens) for at in (57, 3))  # in any order


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        ([{"path": "alpaca.json", "weight": 0}], "the weight of .*alpaca.json is 0"),
        ([{"path": "alpaca.json", "weight": 1}, {"path": "compared.jsonl"}], "has no weight and others have"),
        ([], "data.train or data.sources: neither is given"),
    ],
)
def test_wrong_mixtures_are_refused(recipe: Callable[..., TuneRecipe], sources: Sources, problem: str):
    with pytest.raises(WrongCall, match=problem):
        recipe(*sources)


def test_empty_sources_are_refused(recipe: Callable[..., TuneRecipe], files: Path):
    (files / "nothing.jsonl").write_text("")
    with pytest.raises(CamelidError, match=r"nothing.jsonl is empty"):
        rows_of(recipe({"path": "alpaca.json"}, {"path": "nothing.jsonl"}))
    with pytest.raises(CamelidError, match="no conversations to train on"):
        rows_of(recipe({"path": "alpaca.json"}, {"path": "tied.jsonl"}))


def test_good_and_bad_answers_are_held_out_together(recipe: Callable[..., TuneRecipe]):
    made = recipe({"path": "compared.jsonl"}, markers={"style": "koala"})
    tokenizer = load_tokenizer(made.model)
    rows, held_out = decoder_rows(made, tokenizer)
    assert held_out is not None
    for part in (rows, held_out):
        text = "".join(tokenizer.decode(part[at].tokens.tolist()) for at in range(part.per_epoch))
        for number in range(30):
            assert text.count(f"Sum {number} 1") in (0, 2)


def test_tuning_with_markers_from_the_command_line(
    recipe: Callable[..., TuneRecipe], tmp_path: Path, files: Path, capsys: pytest.CaptureFixture[str]
):
    base, out = recipe({"path": "alpaca.json"}).model, tmp_path / "out"
    (path := tmp_path / "mix.yaml").write_text(
        f"stage: tune\nmodel: {base}\nout: {out}\n"
        f"data:\n  sources: [{{path: {files}/alpaca.json, marker: none}}, {{path: {files}/compared.jsonl}}]\n"
        "markers: {style: koala, bad: 'Badly:'}\n"
        "training: {steps: 2, context_length: 64, global_batch_tokens: 128, compile: false, dtype: float32}\n"
    )
    assert cli.main(["tune", str(path), "--data.validation-fraction", "0", "--show", "9"]) == 0
    shown = capsys.readouterr().err
    assert "assistant\nGPT:[[1<|im_end|>]]" in shown
    assert "assistant\n[[a<|im_end|>]]" in shown
    assert [one["rows"] for one in json.loads((out / SOURCES).read_text())] == [20, 60]
    assert "What was taken of each source" in (out / "report.html").read_text()
    model = out / "model"
    assert json.loads((model / "camelid.json").read_text())["markers"] == {"good": "GPT:", "bad": "Badly:"}
    generate = ["generate", str(model), "--prompt", "Hi", "--max-new-tokens", "2"]
    assert cli.main([*generate, "--chat", "--marker", "bad"]) == 0
    assert cli.main([*generate, "--marker", "bad"]) == 2
    assert "this prompt is plain text; use --chat" in capsys.readouterr().err
    assert cli.main(["generate", base, "--prompt", "Hi", "--chat", "--marker", "good"]) == 2
    assert "was tuned without markers" in capsys.readouterr().err
