"""`bench/harness.py` compares evaluations exactly, and its task files ask what `camelid eval` asks."""

import ast
import importlib.util
import json
import sys
from pathlib import Path

import jinja2
import pytest
import yaml

from camelid.evals.methods import Method
from camelid.lm.scripted import ScriptedLM
from camelid.tasks.task import load_task

BENCH = Path(__file__).resolve().parents[2] / "bench"
LABELLED = {"text": ["the moon", "the sun"], "label": ["A", "B"]}
SCIENCE = {"distractor1": "two", "distractor2": "three", "distractor3": "four", "correct_answer": "one"}
ROWS = {
    "arc_easy": [{"question": "What is hot?", "choices": LABELLED, "answerKey": "B"}],
    "commonsense_qa": [{"question": "What shines at night? ", "choices": LABELLED, "answerKey": "A"}],
    "piqa": [{"goal": "To boil an egg,", "sol1": "heat water.", "sol2": "paint it.", "label": 0}],
    "sciq": [
        {"question": "How many suns have we?", "support": "", **SCIENCE},
        {"question": "How many moons have we?", "support": " Earth has one moon.\n", **SCIENCE},
    ],
    "gsm8k": [{"question": "What is 3 + 4?", "answer": "3 + 4 is <<3+4=7>>7.\n#### 7"}],
}


@pytest.fixture
def bench(bench_module):
    return bench_module("harness")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rendered(template, row):
    """A field of a task file as lm-evaluation-harness renders it."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template).render(**row)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "gsm8k"])
def test_a_task_file_scores_what_we_score(name, tmp_path):
    config = yaml.safe_load((BENCH / "lm_eval_tasks" / f"{name}.yaml").read_text())
    task = load_task(name, data=write(tmp_path / "rows.jsonl", ROWS[name]))
    attempts = Method().program_for(task)(ScriptedLM([]), task.items)
    for row, item, attempt in zip(ROWS[name], task.items, attempts, strict=True):
        choices = ast.literal_eval(rendered(config["doc_to_choice"], row))
        assert attempt.prompts == (rendered(config["doc_to_text"], row),)
        assert [score.text for score in attempt.scores] == [f" {choice}" for choice in choices]
        right = config["doc_to_target"]
        place = int(row[right] if right in row else rendered(str(right), row))
        assert choices[place] == item.answer


def test_a_task_file_shows_the_exemplars_that_we_show(bench, tmp_path):
    config = yaml.safe_load((BENCH / "lm_eval_tasks" / "gsm8k.yaml").read_text())
    (tmp_path / "gsm8k").mkdir()
    data = write(tmp_path / "gsm8k" / "test.jsonl", ROWS["gsm8k"])
    source = bench.Source("gsm8k", "gsm8k/test.jsonl", 1, bench.chain(8, 8), shots=8, new=8)
    rows, exemplars = bench.write_rows(source, tmp_path, tmp_path)
    assert rows.read_text() == data.read_text()
    shown = [
        rendered(config["doc_to_text"], row) + " " + rendered(config["fewshot_config"]["doc_to_target"], row)
        for row in bench.lines_of(exemplars)
    ]
    lm = ScriptedLM([" 7. The answer is 7."])
    task = load_task("gsm8k", data=data)
    Method("chain_of_thought", shots=8).program_for(task)(lm, task.items)
    asked = rendered(config["doc_to_text"], ROWS["gsm8k"][0])
    assert lm.prompts == ["\n\n".join([*shown, asked])]
    assert tuple(config["generation_kwargs"]["until"]) == ("\nQ:",)


def ours(prompt, choices):
    scores = [
        {"text": text, "characters": len(text) - 1, "tokens": 2, "logprob": logprob}
        for text, logprob in choices
    ]
    return {"prompts": [prompt], "completions": [], "scores": scores}


def theirs(prompt, choices):
    texts, logprobs = zip(*choices, strict=True)
    return {"prompts": [prompt] * len(texts), "continuations": list(texts), "logprobs": list(logprobs)}


def test_choices_are_compared_by_both_normalisations(bench):
    # Summed, " a" wins here and " bcd" there; for each character, " bcd" wins in both.
    here = [("Q", [(" a", -2.0), (" bcd", -3.0)]), ("R", [(" x", -1.0), (" y", -4.0)])]
    there = [("Q", [(" a", -2.5), (" bcd", -2.25)]), ("S", [(" x", -1.0), (" y", -4.0)])]
    outcome = bench.compare_choices("t", [ours(*each) for each in here], [theirs(*each) for each in there])
    assert outcome[:7] == ("t", 2, 1, 1, 2, 0.75, 0.375)
    assert outcome.different == ["t 0, choice: ' a', there ' bcd'", "t 1: other prompts: 'R'"]


def test_texts_are_compared_to_the_last_character(bench):
    mine = [{"prompts": ["Q"], "completions": [text]} for text in ("so 7.", "so 7.", "so 7")]
    other = [{"prompts": ["Q"], "text": text} for text in ("so 7.", "so 8.", "so 7.")]
    outcome = bench.compare_texts("t", mine, other)
    assert (outcome.questions, outcome.same_prompts, outcome.same_texts) == (3, 3, 1)
    assert outcome.different == ["t 1: 'so 7.', there 'so 8.'", "t 2: 'so 7', there 'so 7.'"]


def test_answers_that_are_there_are_compared_without_a_model(bench, tmp_path, monkeypatch, capsys):
    source = bench.Source("piqa", "piqa.jsonl", 2)
    monkeypatch.setattr(bench, "SOURCES", (source,))
    monkeypatch.setattr(bench, "SLICE", 1)
    write(tmp_path / "piqa.jsonl", ROWS["piqa"] * 2)
    arguments = ["harness.py", "--out", str(tmp_path), "--model", "nowhere", "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    line = "Q", [(" a", -2.0), (" b", -3.0)]
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "ours" / "piqa.likelihood.0-shot.jsonl", [ours(*line)] * 2)
    write(tmp_path / "theirs" / "piqa.0.jsonl", [theirs(*line)])
    with pytest.raises(SystemExit, match=r"piqa.1.jsonl is missing: name by --peer"):
        bench.main()
    write(tmp_path / "theirs" / "piqa.1.jsonl", [theirs(*line)])
    bench.main()
    assert "| piqa | 2 | 2 | 2 | 2 | 0.0e+00 | 0.0e+00 | - |" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="lm_eval is not installed")
def test_lm_evaluation_harness_predicts_the_same(bench, tmp_path, monkeypatch, capsys, shared):
    source = bench.Source("piqa", "lmeval/piqa.validation.jsonl.gz", 4)
    monkeypatch.setattr(bench, "SOURCES", (source,))
    model = shared / "weights" / "tinystories-656k"
    arguments = ["harness.py", "--out", str(tmp_path), "--model", str(model), "--peer", sys.executable]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json"])
    bench.main()
    found = json.loads(capsys.readouterr().out)
    assert [found[key] for key in ("questions", "same_prompts", "same_choice")] == [4, 4, 4]
    assert found["largest_difference"] < 1e-3
