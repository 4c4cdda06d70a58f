"""Verbs are thin: flags of their own, shared ones from where they are declared, and one function of a
room."""

import ast
import dataclasses
import importlib
import inspect
import json
from pathlib import Path

import pytest

from camelid.cli import main as cli
from camelid.cli.table import VERBS
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.recipes.compare import CompareRecipe
from camelid.recipes.engine import EngineSettings
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.recipes.quantize import QuantizeRecipe
from camelid.recipes.tune import TuneRecipe

ROOMS_OF_VALUES = {"camelid.recipes", "camelid.cli", "camelid.lm"}
"""What a verb takes its types from; every other import of ours is the function that it calls."""


def room_functions(tree: ast.AST) -> list[str]:
    """The names under which a module imports what is not a type of its flags."""
    return [
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("camelid.")
        if ".".join((node.module or "").split(".")[:2]) not in ROOMS_OF_VALUES
        for alias in node.names
    ]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_parses_flags_and_calls_one_function_of_a_room(name: str) -> None:
    module_name, function = VERBS[name].target.split(":")
    module = importlib.import_module(module_name)
    assert module_name.startswith("camelid.cli.")
    tree = ast.parse(inspect.getsource(module))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert [each.name for each in functions] == [function]
    [called] = room_functions(tree)
    _, *body = functions[0].body  # without its docstring
    assert isinstance(body[0], ast.ImportFrom), "the room is imported when the verb is called"
    assert len(body) == 2
    call = body[1].value if isinstance(body[1], ast.Expr | ast.Return) else None
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    assert call.func.id == called
    assert not any(isinstance(node, ast.Call) for node in ast.walk(call) if node is not call)


def test_no_module_of_the_command_line_is_a_verb_without_a_line_in_the_table() -> None:
    folder = Path(inspect.getfile(cli)).parent
    targets = {verb.target.split(":")[0].split(".")[-1] for verb in VERBS.values()}
    assert {path.stem for path in folder.glob("*.py")} - targets == {"__init__", "main", "flags", "table"}


def flags_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main([name, "--help"]) == 0
    return capsys.readouterr().out


def test_shared_settings_are_flags_of_every_verb_that_generates(capsys: pytest.CaptureFixture[str]) -> None:
    sampling = [each.name for each in dataclasses.fields(Sampling) if each.name != "samples"]
    engine = [name for name in EngineSettings.model_fields if name != "max_batch"]
    for verb in ("generate", "chat"):
        shown = flags_of(verb, capsys)
        assert [name for name in (*sampling, *engine) if f"--{name.replace('_', '-')} " not in shown] == []
        assert "--samples" not in shown
    shown = flags_of("eval", capsys)
    assert all(f"--{name.replace('_', '-')} " in shown for name in EngineSettings.model_fields)
    written = [path.read_text() for path in Path(inspect.getfile(cli)).parent.glob("*.py")]
    assert not any("top_p" in text or "cache_tokens" in text for text in written), "declared a second time"


def test_shared_settings_reach_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Sampling, EngineSettings]] = []

    class Listening(ScriptedLM):
        def stream(self, prompt, sampling=None, **changes):
            asked.append((sampling, self.settings))
            return super().stream(prompt, sampling, **changes)

    def opened(model: str, settings: EngineSettings, *_: object) -> ScriptedLM:
        lm = Listening(['"said"'])
        lm.settings = settings
        return lm

    monkeypatch.setattr("camelid.engine.terminal.open_lm", opened)
    (tmp_path / "schema.json").write_text('{"enum": ["said"]}')
    words = [
        "--temperature",
        "0.5",
        "--top-k",
        "7",
        "--stop",
        "a",
        "b",
        "--logit-bias",
        "3",
        "-inf",
        "5",
        "2.5",
    ]
    words += ["--json-schema", str(tmp_path / "schema.json"), "--cache", "8-bit", "--cache-tokens", "99"]
    assert cli.main(["generate", "m", "--prompt", "x", *words]) == 0, capsys.readouterr().err
    [(sampling, engine)] = asked
    assert (sampling.temperature, sampling.top_k, sampling.stop) == (0.5, 7, ("a", "b"))
    assert dict(sampling.logit_bias) == {3: float("-inf"), 5: 2.5}
    assert sampling.json_schema == '{"enum": ["said"]}'
    assert engine == EngineSettings(cache="8-bit", cache_tokens=99)
    assert sampling.max_new_tokens == Sampling().max_new_tokens == 256


def test_what_a_server_has_itself_is_refused_by_its_flag(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["http://127.0.0.1:9", "--dtype", "bfloat16", "--max-batch", "3"]
    task = ["--task", "world/coin_flip", "--out", str(tmp_path / "out")]
    assert cli.main(["eval", *words, *task]) == 2
    assert "--dtype, --max-batch: for models that run here" in capsys.readouterr().err
    assert cli.main(["generate", "m", "--prompt", "x", "--cache-tokens", "0"]) == 2
    assert "--cache-tokens" in capsys.readouterr().err


def test_words_before_the_flags_fill_the_leading_fields(
    capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    seen: list[QuantizeRecipe | EvaluateRecipe] = []
    monkeypatch.setattr("camelid.workflows.quantize.quantize", seen.append)
    monkeypatch.setattr("camelid.workflows.ladder.evaluate_or_climb", seen.append)
    assert cli.main(["quantize", "m", "small", "--bits", "3", "--no-act-order"]) == 0
    assert seen[-1] == QuantizeRecipe(model="m", out="small", bits=3, act_order=False)
    assert cli.main(["quantize", "--bits", "3", "m", "--no-act-order", "small"]) == 0
    assert seen[-1] == seen[-2]
    assert cli.main(["quantize", "m", "small", "more"]) == 2
    assert "'more': one argument too many; those without a flag are MODEL OUT" in capsys.readouterr().err
    assert cli.main(["quantize", "recipe.yaml", "more"]) == 2
    assert "after a recipe file only flags can follow" in capsys.readouterr().err
    words = ["--task", "a", "--out", "o", "--task=b", "--text", "t", "--engine.max-batch", "3"]
    assert cli.main(["eval", "m", *words]) == 2  # shared settings have no prefix
    words[-2] = "--max-batch"
    assert cli.main(["eval", "m", *words]) == 0, capsys.readouterr().err
    assert seen[-1] == EvaluateRecipe(
        model="m", out="o", task=("a", "b"), text="t", engine=EngineSettings(max_batch=3)
    )
    # One word belongs to each --task, so that the model may stand behind it.
    assert (
        cli.main(["eval", "--task", "a", "m", "--max-batch", "3", "--task", "b", "--text", "t", "--out", "o"])
        == 0
    )
    assert seen[-1] == seen[-2]


def test_a_switch_takes_true_and_false_as_words(monkeypatch) -> None:
    seen: list[QuantizeRecipe | TuneRecipe] = []
    monkeypatch.setattr("camelid.workflows.quantize.quantize", seen.append)
    monkeypatch.setattr("camelid.workflows.gated.tune", seen.append)
    assert cli.main(["quantize", "--act-order", "false", "m", "--static-groups=true", "small"]) == 0
    assert seen[-1] == QuantizeRecipe(model="m", out="small", act_order=False, static_groups=True)
    words = ["--data.train", "a.json", "--data.shuffle", "false", "--training.steps", "1", "--out", "o"]
    assert cli.main(["tune", "m", "--lora.rank", "4", "--lora.rank_stabilised", "true", *words]) == 0
    recipe = seen[-1]
    assert isinstance(recipe, TuneRecipe)
    assert (recipe.lora.rank_stabilised, recipe.data.shuffle) == (True, False)


def test_a_list_that_is_given_again_goes_on(monkeypatch) -> None:
    seen: list[CompareRecipe] = []
    monkeypatch.setattr("camelid.workflows.compare.compare", seen.append)
    words = ["a", "b", "--text", "x", "y", "--out", "o", "--text", "z", "--perplexity=papers"]
    assert cli.main(["compare", *words]) == 0
    assert seen == [CompareRecipe(models=("a", "b"), out="o", text=("x", "y", "z"), perplexity="papers")]


def test_settings_that_change_answers_make_another_evaluation(tmp_path: Path, monkeypatch) -> None:
    models: list[str] = []
    monkeypatch.setattr("camelid.evals.stage.open_on", lambda *_: ScriptedLM(lambda _: "heads"))
    for more in ([], ["--dtype", "float32", "--cache", "8-bit"], ["--max-batch", "3"]):
        out = tmp_path / str(len(models))
        words = ["--task", "world/coin_flip", "--limit", "2", "--allow-cut", "--out", str(out)]
        assert cli.main(["eval", "m", *words, *more]) == 0
        [first, *_] = json.loads((out / "results.json").read_text())["results"]
        models.append((first["model"], first["evaluation"]))
    assert [model for model, _ in models] == ["m", "m dtype=float32 cache=8-bit", "m"]
    assert models[0] == models[2] != models[1]
