"""Normalisations worked by hand, exemplars drawn by seed, and `camelid eval` against logits by brute
force."""

import json
import math
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.cli.main import main
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.asking import Asking, Draw
from camelid.prompting.programs import few_shot, likelihood
from camelid.tasks.item import Item
from camelid.tasks.task import load_task

SIDES = [{"question": f"Side {n}?", "choices": {"text": ["go", "we go up", "extraordinarily", "hi"], "label": list("ABCD")},
          "answerKey": "A"} for n in range(40)]  # fmt: skip


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("right", range(4))
def test_each_normalisation_picks_another_choice(tmp_path: Path, right: int) -> None:
    """Four choices, each the best of one score.

    choice           log P(.|question)   tokens  a token   bytes  a byte    log P(.|"Answer:")   difference
    go                     -4.0            1      -4.0       2    -2.0         -3.0                -1.0
    we go up               -6.0            3      -2.0       8    -0.75        -4.5                -1.5
    extraordinarily        -9.0            1      -9.0      15    -0.6         -7.0                -2.0
    hi                     -5.0            1      -5.0       2    -2.5         -9.0                +4.0
    """
    alone = {" go": -3.0, " we go up": -4.5, " extraordinarily": -7.0, " hi": -9.0}
    asked = {" go": -4.0, " we go up": -6.0, " extraordinarily": -9.0, " hi": -5.0}
    lm = ScriptedLM([], lambda prompt, text: (alone if prompt == "Answer:" else asked)[text])
    row = {**SIDES[0], "answerKey": "ABCD"[right]}
    task = load_task("arc_easy", data=write(tmp_path / "rows.jsonl", row))
    [record] = evaluate(task, Method().program_for(task), lm).records
    picked = {metric: grade.extracted for metric, grade in record.grades.items()}
    assert picked == {
        "accuracy": "go",
        "accuracy_per_token": "we go up",
        "accuracy_per_byte": "extraordinarily",
        "accuracy_per_character": "extraordinarily",
        "accuracy_answer_context": "hi",
    }
    right_ones = [metric for metric, grade in record.grades.items() if grade.correct]
    assert right_ones == [metric for metric, choice in picked.items() if choice == task.items[0].answer]


def test_the_answer_context_is_scored_once_for_each_different_choice(tmp_path: Path) -> None:
    asked: list[Prompt] = []
    lm = ScriptedLM([], lambda prompt, text: asked.append(prompt) or -1.0)
    rows = [{"passage": f"{n}.", "question": "is it", "answer": True} for n in range(10)]
    task = load_task("boolq", data=write(tmp_path / "rows.jsonl", *rows))
    Method().program_for(task)(lm, task.items)
    assert len(asked) == 2 + 2 * 10
    assert asked.count("answer:") == 2


def test_partial_evaluation_by_hand(tmp_path: Path) -> None:
    """The same ending after each option: the one that makes it more probable wins."""
    row = {
        "sentence": "The cup did not fit in the bag because the _ was big.",
        "option1": "cup",
        "option2": "bag",
    }
    task = load_task("winogrande", data=write(tmp_path / "rows.jsonl", {**row, "answer": "1"}))
    lm = ScriptedLM([], lambda prompt, text: -2.0 if str(prompt).endswith("cup") else -3.0)
    [record] = evaluate(task, Method().program_for(task), lm).records
    assert [score.logprob for score in record.attempt.scores] == [-2.0, -3.0]
    assert record.attempt.prompts == (
        "The cup did not fit in the bag because the cup",
        "The cup did not fit in the bag because the bag",
    )
    assert set(record.grades) == {
        "accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_per_character"
    }  # fmt: skip
    assert record.grades["accuracy"].correct
    shown = Asking((task.items[0],)).prompt(Item("2", "Next?", "x"))
    assert shown == ("Q: The cup did not fit in the bag because the cup\nA: was big.\n\nQ: Next?\nA:")


class Target(LM):
    """Gives every target its log-probability, and whether it is the greedy one; says them as replies too."""

    def __init__(self, known: dict[str, tuple[float, bool]], said: str = "") -> None:
        self.known, self.said, self.prompts = known, said, []

    def complete(self, prompts, sampling: Sampling) -> list[list[Completion]]:
        self.prompts += prompts
        return [[Completion(self.said, (), (), "length")] for _ in prompts]

    def score(self, prompts, continuations) -> list[Score]:
        self.prompts += prompts
        return [Score(self.known[text][0], 2, self.known[text][1]) for text in continuations]


def test_lambada_by_hand(tmp_path: Path) -> None:
    """Log-probabilities ln 1/2, ln 1/4 and ln 1/16: perplexity (2 * 4 * 16)^(1/3); two words of three are
    greedy."""
    data = write(
        tmp_path / "test.jsonl", *({"context": f"It was {n}", "continuation": w} for n, w in enumerate("abc"))
    )
    task = load_task("lambada", data=data)
    lm = Target({" a": (-math.log(2), True), " b": (-math.log(4), True), " c": (-math.log(16), False)})
    accuracy, perplexity = evaluate(task, Method().program_for(task), lm, tmp_path / "out").results
    assert (accuracy.metric, accuracy.value) == ("accuracy", pytest.approx(2 / 3))
    assert (perplexity.metric, perplexity.value) == ("perplexity", pytest.approx(128 ** (1 / 3)))
    assert perplexity.interval is not None
    assert 2 <= perplexity.interval.low < perplexity.value < perplexity.interval.high <= 16
    assert lm.prompts == ["It was 0", "It was 1", "It was 2"]
    again = evaluate(task, Method().program_for(task), Target({}), tmp_path / "out")
    assert again.results == [accuracy, perplexity]
    shown = write(tmp_path / "dev.jsonl", {"context": "We met Bob", "continuation": "today"})
    generated = Method("few_shot", shots=1, exemplars=shown).program_for(task)
    lm = Target({}, " a, and")
    evaluation = evaluate(task, generated, lm, allow_cut=True)
    assert lm.prompts[0] == "We met Bob ____. -> today\nIt was 0 ____. ->"
    assert [result.metric for result in evaluation.results] == ["accuracy"]
    assert evaluation.grades("accuracy") == [True, False, False]


def test_exemplars_are_drawn_by_seed_for_each_question(tmp_path: Path) -> None:
    data, pool = write(tmp_path / "test.jsonl", *SIDES[:6]), write(tmp_path / "train.jsonl", *SIDES[4:])
    task = load_task("arc_easy", data=data, limit=3)

    def prompts(seed: int | None, indices: list[int]) -> list[str]:
        lm = ScriptedLM([])
        program = Method(shots=3, exemplars=pool, seed=seed).program_for(task)
        attempts = program(lm, [task.items[index] for index in indices])
        return [str(attempt.prompts[0]) for attempt in attempts]

    first = prompts(None, [0, 1, 2])
    assert first == prompts(0, [0, 1, 2])
    assert first[2:] == prompts(0, [2])
    assert first != prompts(1, [0, 1, 2])
    sides = [[part.split("?")[0] for part in prompt.split("Side ")[1:]] for prompt in first]
    assert [shown[-1] for shown in sides] == ["0", "1", "2"]
    assert all(len(set(shown)) == 4 for shown in sides)
    assert len({tuple(shown[:-1]) for shown in sides}) == 3
    many = "".join(prompts(seed, [0])[0] for seed in range(40))
    assert not any(f"Side {leaked}?" in many for leaked in (4, 5))  # asked, though past the limit
    assert first[0].count("\n\n") == 3
    assert first[0].startswith(f"Question: Side {sides[0][0]}?\nAnswer: go\n\n")


def test_how_exemplars_were_drawn_stands_in_the_results(tmp_path: Path) -> None:
    task = load_task("arc_easy", data=write(tmp_path / "test.jsonl", *SIDES[:2]))
    pool = write(tmp_path / "train.jsonl", *SIDES[2:])
    result = evaluate(
        task, Method(shots=5, exemplars=pool, seed=7).program_for(task), ScriptedLM([])
    ).results[0]
    row = result.as_dict()
    assert (row["program"], row["shots"]) == ("likelihood@1", 5)
    assert row["version"] == task.version
    assert row["version"].startswith("1+sha256:")
    assert row["settings"]["wording"]["separator"] == "\n\n"
    assert row["settings"]["draw"]["of"] == 38
    assert (row["settings"]["draw"]["count"], row["settings"]["draw"]["seed"]) == (5, 7)
    assert row["settings"]["exemplars"] == []
    other = evaluate(task, Method(shots=5, exemplars=pool, seed=8).program_for(task), ScriptedLM([])).results[
        0
    ]
    assert other.evaluation != result.evaluation


def test_draws_are_the_same_for_every_program() -> None:
    items = [Item(str(n), f"{n}?", "a", choices=("a", "b")) for n in range(9)]
    question = Item("x", "x?", "a", choices=("a", "b"))
    [said] = few_shot(items, draw=Draw(2))(ScriptedLM([" a"]), [question])
    [scored] = likelihood(items, draw=Draw(2))(ScriptedLM([]), [question])
    assert said.prompts == scored.prompts
    with pytest.raises(WrongCall, match="10 exemplars cannot be drawn from 9"):
        few_shot(items, draw=Draw(10))


def test_the_questions_themselves_are_no_exemplars(tmp_path: Path) -> None:
    data = write(tmp_path / "test.jsonl", *SIDES)
    task = load_task("arc_easy", data=data, limit=2)
    with pytest.raises(CamelidError, match="itself one of the questions"):
        Method(shots=2, exemplars=data).program_for(task)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "arc_easy"], "--data is given 0 times for 1 published"),
        (["--task", "arc_easy", "--data", "DATA", "--data", "DATA"], "given 2 times"),
        (["--task", "world/sums", "--data", "DATA"], "given 1 times for 0"),
        (["--task", "arc_easy", "--data", "nowhere"], "nowhere: no such file"),
        (["--task", "arc_easy", "--data", "DATA", "--chat"], "leave out --chat"),
        (["--task", "arc_easy", "--data", "DATA", "--program", "chain_of_thought"], "leave out --program"),
        (["--task", "arc_easy", "--data", "DATA", "--shots", "2"], "there are 0 exemplars"),
        (["--task", "winogrande", "--data", "CUPS", "--program", "direct"], "use --program likelihood"),
        (["--task", "winogrande", "--data", "CUPS", "--answer-context"], "has no score by --answer-context"),
        (["--task", "arc_easy", "--data", "DATA", "--program", "direct", "--shots", "1"], "there are 0"),
    ],
)
def test_wrong_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("camelid.evals.stage.open_on", lambda *_: ScriptedLM([]))
    files = {"DATA": write(tmp_path / "a.jsonl", *SIDES[:2])}
    cups = {"sentence": "Cups _ break.", "option1": "do", "option2": "can", "answer": "1"}
    files["CUPS"] = write(tmp_path / "b.jsonl", cups)
    words = [str(files.get(word, word)) for word in words]
    assert main(["eval", "m", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err


def brute_force(model, tokenizer, prompt: str, continuation: str) -> tuple[float, bool, int]:
    """Log-probability of a continuation from float32 logits of one whole forward pass; greedy or not; its
    tokens."""
    import torch

    context, whole = ([tokenizer.bos_id, *tokenizer.encode(text)] for text in (prompt, prompt + continuation))
    if len(whole) <= len(context):  # a token spans the border
        whole = [*context, *tokenizer.encode(continuation, continues=True)]
    with torch.no_grad():
        logprobs = model(torch.tensor([whole])).float()[0].log_softmax(-1)
    places = range(len(context) - 1, len(whole) - 1)
    total = sum(float(logprobs[place, whole[place + 1]]) for place in places)
    greedy = all(int(logprobs[place].argmax()) == whole[place + 1] for place in places)
    return total, greedy, len(places)


@pytest.mark.slow
def test_a_real_model_on_real_rows(shared: Path, tmp_path: Path) -> None:
    """Multiple choice and LAMBADA: every score and metric is what logits by brute force give."""
    import torch

    import camelid

    folder, data = shared / "weights/tinystories-656k", shared / "data/lmeval"
    arc, lambada = data / "ai2_arc_ARC-Easy.validation.jsonl.gz", data / "llm_foundry/lambada_openai.jsonl.gz"
    out = tmp_path / "out"
    words = [
        "--task",
        "arc_easy",
        "--data",
        str(arc),
        "--task",
        "lambada",
        "--data",
        str(lambada),
        "--limit",
        "10",
    ]
    assert main(["eval", str(folder), *words, "--out", str(out)]) == 0
    model, tokenizer = camelid.load_model(folder, dtype=torch.float32), camelid.load_tokenizer(folder)
    values = {
        (row["task"], row["metric"]): row["value"]
        for row in json.loads((out / "results.json").read_text())["results"]
    }

    right = dict.fromkeys(
        ["accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_answer_context"], 0
    )
    lines = [json.loads(line) for line in (out / "arc_easy.likelihood.0-shot.jsonl").read_text().splitlines()]
    for item, line in zip(load_task("arc_easy", data=arc, limit=10).items, lines, strict=True):
        prompt = f"Question: {item.question}\nAnswer:"
        assert line["prompts"] == [prompt]
        found = [brute_force(model, tokenizer, prompt, f" {choice}") for choice in item.choices or ()]
        alone = [brute_force(model, tokenizer, "Answer:", f" {choice}") for choice in item.choices or ()]
        assert [s["logprob"] for s in line["scores"]] == pytest.approx([f[0] for f in found], abs=1e-3)
        assert [s["unconditional"] for s in line["scores"]] == pytest.approx([f[0] for f in alone], abs=1e-3)
        assert [s["tokens"] for s in line["scores"]] == [f[2] for f in found]
        ranks = {
            "accuracy": [f[0] for f in found],
            "accuracy_per_token": [f[0] / f[2] for f in found],
            "accuracy_per_byte": [
                f[0] / len(c.encode()) for f, c in zip(found, item.choices or (), strict=True)
            ],
            "accuracy_answer_context": [f[0] - a[0] for f, a in zip(found, alone, strict=True)],
        }
        for metric, rank in ranks.items():
            right[metric] += (item.choices or ())[rank.index(max(rank))] == item.answer
    assert {metric: values["arc_easy", metric] for metric in right} == {m: n / 10 for m, n in right.items()}

    found = [
        brute_force(model, tokenizer, item.question, f" {item.answer}")
        for item in load_task("lambada", data=lambada, limit=10).items
    ]
    assert values["lambada", "accuracy"] == sum(greedy for _, greedy, _ in found) / 10
    mean = sum(nats for nats, _, _ in found) / 10
    assert values["lambada", "perplexity"] == pytest.approx(math.exp(-mean), rel=1e-3)


def test_a_real_model_says_the_word_or_does_not(shared: Path, tmp_path: Path) -> None:
    import torch

    import camelid

    folder = shared / "weights/tinystories-656k"
    texts = ["They played all day", "They played all banana"]
    task = load_task("lambada", data=write(tmp_path / "rows.jsonl", *({"text": text} for text in texts)))
    evaluation = evaluate(task, Method().program_for(task), camelid.LM(str(folder), dtype=torch.float32))
    model, tokenizer = camelid.load_model(folder, dtype=torch.float32), camelid.load_tokenizer(folder)
    truth = [brute_force(model, tokenizer, item.question, f" {item.answer}") for item in task.items]
    assert evaluation.grades("accuracy") == [greedy for _, greedy, _ in truth]
    assert evaluation.grades("accuracy") == [True, False]
