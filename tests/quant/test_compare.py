"""`camelid compare`: what every method keeps of a model, or several models side by side, in one table and on
one page."""

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from camelid.base.errors import CamelidError
from camelid.engine.engine import Engine
from camelid.engine.perplexity import perplexity
from camelid.quant.choices import METHODS
from camelid.recipes.compare import CompareRecipe
from camelid.report.comparison import AS_IT_IS, Measured, best_of, comparison_report, comparison_table
from camelid.report.page import render
from camelid.report.values import Estimate
from camelid.tasks.intervals import compare_grades
from camelid.workflows import compare as comparing
from camelid.workflows import measure as measuring
from camelid.workflows.compare import Contender, found_row
from camelid.workflows.measure import Yardstick, measure


def row(method: str, bits: int | None, perplexity: float, accuracy: float | None = None) -> Measured:
    right = None if accuracy is None else Estimate(accuracy, accuracy - 5, accuracy + 5)
    megabytes = 269.0 if bits is None else 20.0 + 10 * bits
    name = method if bits is None else f"{method} {bits}-bit"
    group = None if bits is None else 32
    return Measured(method, bits, group, name, megabytes, perplexity, 1.0, 50.0, 300.0, right)


ROWS = [row(AS_IT_IS, None, 10), *(row(m, b, 10 + 40 / b + i) for b in (4, 2) for i, m in enumerate(METHODS))]


def test_the_page_names_the_best_at_each_number_of_bits_and_draws_every_point() -> None:
    report = comparison_report("m at 4, 2 bits", ROWS, "How.")
    assert [each.name for each in best_of(ROWS)] == ["rtn 4-bit", "rtn 2-bit"]
    assert (
        "The best quantised models: at 4 bits by rtn (perplexity 20, 60.0 MB), at 2 bits by rtn"
        in report.summary
    )
    [plot] = report.sections[0].figures
    assert {curve.name: list(curve.x) for curve in plot.curves} == {
        method: [40.0, 60.0] for method in METHODS
    }  # type: ignore[union-attr]
    # Each size is named once, above its highest point.
    assert [tuple(curve.labels) for curve in plot.curves] == [("", ""), ("", ""), ("2 bits", "4 bits")]  # type: ignore[union-attr]
    page = render(report)
    for words in ("as it is, 269.0 MB", "2 bits", "4 bits", "perplexity a token", "How."):
        assert words in page


@pytest.mark.parametrize(("worst", "logarithmic"), [(49.0, False), (51.0, True), (float("nan"), False)])
def test_a_broken_model_does_not_hide_the_others(worst: float, logarithmic: bool) -> None:
    rows = [row(AS_IT_IS, None, 10), row("rtn", 2, worst), row("gptq", 2, 12)]
    report = comparison_report("m", rows, "")
    assert report.sections[0].figures[0].logarithmic is logarithmic  # type: ignore[union-attr]
    assert best_of(rows) == [rows[2]]
    assert "<svg" in render(report)


def test_accuracy_is_shown_where_a_task_was_asked() -> None:
    rows = [row(AS_IT_IS, None, 10, 60), row("rtn", 4, 11, 55)]
    assert "accuracy, %" not in comparison_table(ROWS).columns
    assert comparison_table(rows).columns[6:8] == ("accuracy, %", "difference")
    assert [plot.title for plot in comparison_report("m", rows, "").sections[0].figures][1] == "Accuracy"


@pytest.fixture(scope="module")
def compared(
    stories: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]], str]:
    source, text, _ = stories
    folder = tmp_path_factory.mktemp("compared")
    held_out = folder / "held_out.txt"
    held_out.write_text(text.read_text()[:3000])
    words = [sys.executable, "-m", "camelid", "compare", str(source), "--out", str(folder / "out")]
    words += ["--bits", "2", "3", "--text", str(held_out), "--calibration", str(text)]
    words += ["--calibration-rows", "16", "--calibration-length", "64", "--perplexity", "llama.cpp"]
    words += ["--task", str(folder / "choices.jsonl"), "--limit", "12"]
    choices = [
        {"context": f"Once upon a {word}", "answer": " time", "id": str(i)}
        for i, word in enumerate("ab" * 10)
    ]
    (folder / "choices.jsonl").write_text("".join(json.dumps(each) + "\n" for each in choices))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "out" / "comparison.json").read_text())["models"], done.stdout


@pytest.mark.slow
def test_every_method_at_every_number_of_bits_is_measured(compared: Any) -> None:
    folder, rows, said = compared
    found = {(each["method"], each["bits"]): each for each in rows}
    assert list(found) == [(AS_IT_IS, None), *((method, bits) for bits in (3, 2) for method in METHODS)]
    for bits in (2, 3):
        least = min(found[method, bits]["perplexity"] for method in ("gptq", "awq"))
        assert found[AS_IT_IS, None]["perplexity"] < least < found["rtn", bits]["perplexity"]
        assert found["gptq", bits]["megabytes"] < found[AS_IT_IS, None]["megabytes"]
    assert f"{found['gptq', 3]['perplexity']:.4g}" in said
    assert "llama.cpp's convention: windows of 512 tokens" in said
    assert "Computed: as it is in float32, quantised in bfloat16." in said
    assert "12 questions" in said
    names = {f"{method}-{bits}-bit" for method in METHODS for bits in (2, 3)}
    assert {path.name for path in (folder / "out").iterdir()} == {*names, "comparison.json", "report.html"}


@pytest.mark.slow
def test_what_is_measured_is_what_the_library_measures(compared: Any, stories: Any) -> None:
    folder, rows, _ = compared
    made = Engine.load(folder / "out" / "gptq-3-bit")
    [found] = [each for each in rows if (each["method"], each["bits"]) == ("gptq", 3)]
    text = (folder / "held_out.txt").read_text().strip("\r\n")
    assert found["perplexity"] == pytest.approx(perplexity(made, [text], "llama.cpp").perplexity, rel=1e-3)
    assert found["group_size"] == 64
    assert found["accuracy"].keys() == {"value", "low", "high"}


@pytest.mark.slow
def test_models_that_exist_are_compared_with_the_first(compared: Any, stories: Any) -> None:
    folder, _, _ = compared
    models = (stories[0], folder / "out" / "gptq-3-bit", folder / "out" / "rtn-2-bit")
    comparing.compare(CompareRecipe(models=models, out=folder / "side", text=folder / "held_out.txt"))
    told = json.loads((folder / "side" / "comparison.json").read_text())
    assert [each["name"] for each in told["models"]] == [model.name for model in models]
    assert [each["bits"] for each in told["models"]] == [None, 3, 2]
    for each, model in zip(told["models"], models, strict=True):
        # As `camelid eval` measures it.
        wanted = perplexity(Engine.load(model), [(folder / "held_out.txt").read_text().strip("\r\n")])
        assert each["bits_per_byte"] == pytest.approx(wanted.bits_per_byte, rel=1e-3)
    page = html.unescape((folder / "side" / "report.html").read_text())
    assert f"{models[0].name} predicts the text best" in page
    assert {path.name for path in (folder / "side").iterdir()} == {"comparison.json", "report.html"}


def test_models_are_named_by_what_tells_them_apart() -> None:
    assert comparing.shortest_names(["runs/a/model", "runs/b/model"]) == ["a/model", "b/model"]
    assert comparing.shortest_names(["/x/q4", "org/name"]) == ["q4", "name"]
    assert comparing.shortest_names(["x", "x"]) == ["x", "x"]


def test_what_cannot_be_made_is_told_and_the_others_stay(
    stories: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, text, _ = stories
    found = dict.fromkeys(("megabytes", "perplexity", "bits_per_byte", "tokens_per_second"), 1.0)
    monkeypatch.setattr(
        comparing,
        "measured",
        lambda folder, yardstick: {
            **found,
            "peak_megabytes": 1.0,
            "tokens": 9,
            "new_tokens": 9,
            "dtype": "float32",
        },
    )
    failing = {"gptq", "awq"}

    def quantize_one(source: Path, recipe: object, method: str, bits: int, folder: Path) -> None:
        if method in failing:
            raise CamelidError("the Hessian is singular")
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(comparing, "quantize_folder", quantize_one)
    out, other = tmp_path / "an out", tmp_path / "other.txt"
    other.write_text("The cat.")
    recipe = CompareRecipe(models=(source,), out=out, text=other, bits=(4,), calibration=text)
    with pytest.raises(CamelidError, match="2 of 3 could not be made: gptq 4-bit: the Hessian is singular"):
        comparing.compare(recipe)
    assert "Not made: awq 4-bit: the Hessian is singular." in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"rtn-4-bit", "comparison.json", "report.html"}
    told = json.loads((out / "comparison.json").read_text())
    command = html.unescape((out / "report.html").read_text())
    assert f"camelid generate '{out}/rtn-4-bit' --prompt \"Once upon a time\"" in command
    assert [each["method"] for each in told["models"]] == [AS_IT_IS, "rtn"]
    assert len(told["failures"]) == 2
    failing.add("rtn")
    with pytest.raises(CamelidError, match="no quantised model could be made; rtn 4-bit: the Hessian"):
        comparing.compare(recipe.model_copy(update={"out": tmp_path / "none"}))
    assert not (tmp_path / "none").exists()


def test_a_task_is_asked_and_differences_are_those_of_its_questions(stories: Any, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time, there was a little girl named Lily. " * 9)
    found = measure(stories[0], Yardstick((str(text),), task="world/coin_flip", limit=4))
    assert len(found["task"]["values"]) == 4
    before = {**found, "task": {**found["task"], "values": [1.0, 1.0, 0.0, 0.0]}}
    after = {**found, "task": {**found["task"], "values": [1.0, 0.0, 0.0, 0.0]}}
    made = found_row(Contender("rtn", 4, stories[0]), after, before).difference
    exact = compare_grades([1, 1, 0, 0], [1, 0, 0, 0])
    assert made is not None
    wanted = (exact.difference, exact.interval.low, exact.interval.high)
    assert (made.value, made.low, made.high) == pytest.approx([100 * each for each in wanted])


@pytest.fixture
def documents(stories: Any, tmp_path: Path) -> tuple[Path, list[str]]:
    """A file of short documents, one a row, and their texts."""
    text = stories[1].read_text()
    texts = [text[begin : begin + 150] for begin in range(0, 3000, 150)]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    return path, texts


def test_each_document_is_measured_by_itself_as_eval_does(stories: Any, documents: Any) -> None:
    path, texts = documents
    engine = Engine.load(stories[0], device="cpu")
    for convention, given in (("overlapping", texts), ("llama.cpp", ["\n\n".join(texts)])):
        found, wanted = (
            measure(stories[0], Yardstick((str(path),), convention)),
            perplexity(engine, given, convention),
        )
        assert (found["tokens"], found["perplexity"]) == (wanted.tokens, pytest.approx(wanted.perplexity))


def test_a_long_text_is_cut_in_its_last_document(
    stories: Any, documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, texts = documents
    engine = Engine.load(stories[0], device="cpu")
    first, second = (len(engine.tokenizer.encode(text)) for text in texts[:2])
    monkeypatch.setattr(measuring, "MOST_TOKENS", first + second // 2)
    found = measure(stories[0], Yardstick((str(path),)))
    # BOS is given and not predicted.
    assert found["tokens"] == first + second // 2
    kept = engine.tokenizer.decode(engine.tokenizer.encode(texts[1])[: second // 2])
    assert texts[1].startswith(kept)
    assert found["perplexity"] == pytest.approx(perplexity(engine, [texts[0], kept]).perplexity)


def test_what_would_end_a_text_does_not_end_the_sequence_that_is_timed(stories: Any, documents: Any) -> None:
    engine = Engine.load(stories[0], device="cpu")
    # Whatever is said, it would end it.
    engine.tokenizer.stop_ids = frozenset(range(engine.tokenizer.vocab_size))
    for context, count in ((512, 128), (20, 18)):
        engine.context_length = context
        assert measuring._timed(engine, documents[1][0])[0] == count
    assert len(engine.tokenizer.stop_ids) == engine.tokenizer.vocab_size
