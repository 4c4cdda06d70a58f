"""`bench/evaluate.py` measures whole evaluations, of both sides the same questions."""

import sys

from test_harness import ROWS, write

PEER = """
import json, sys
print(json.dumps({"versions": []}), flush=True)
for job in map(json.loads, sys.stdin):
    lines = [{"prompts": ["Q"], "continuations": [" a", " b"], "logprobs": [-1.0, -2.0]}]
    open(job["out"], "w").write("".join(json.dumps(line) + "\\n" for line in lines * job["docs"][1]))
    seconds = 6.0 if "4" in sys.argv else 3.0
    print(json.dumps({"out": job["out"], "seconds": seconds, "processor": seconds + 1}), flush=True)
"""
OURS = """
import json, sys
from pathlib import Path
print(json.dumps({"ready": True}), flush=True)
for job in map(json.loads, sys.stdin):
    out = Path(job["out"])
    out.mkdir()
    one = {"characters": 1, "tokens": 1}
    scores = [{"text": " a", "logprob": -1.0, **one}, {"text": " b", "logprob": -1.5, **one}]
    line = json.dumps({"prompts": ["Q"], "completions": [], "scores": scores}) + "\\n"
    (out / f"{job['task']}.likelihood.7-shot.jsonl").write_text(line * job["limit"])
    print(json.dumps({"seconds": 0.5, "processor": 0.75}), flush=True)
"""


def test_the_fastest_batch_counts_and_answers_are_compared(bench_module, tmp_path, monkeypatch, capsys):
    evaluate = bench_module("evaluate")
    scripts = {"evaluate_ours.py": OURS, "harness_peer.py": PEER}
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(evaluate, "HERE", tmp_path)
    (tmp_path / "lmeval").mkdir()
    write(tmp_path / "lmeval" / "rows.jsonl", ROWS["commonsense_qa"] * 9)
    source = evaluate.CHOICE._replace(rows="lmeval/rows.jsonl", items=2)
    monkeypatch.setattr(evaluate, "CHOICE", source)
    arguments = ["--json", "--rows", "choice", "--model", str(tmp_path), "--data", str(tmp_path)]
    arguments += ["--peer", sys.executable, "--batches", "4", "8", "--questions", "2", "2"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "--peer-questions", "1", "1"])
    evaluate.main()
    row = evaluate.json.loads(capsys.readouterr().out)
    # 2 questions in half a second beside one in 3, or in 6 at the other batch size.
    assert (row["ours"], row["peer"], row["ratio"]) == (240.0, 20.0, 12.0)
    assert row["all"] == {"bfloat16, batch 4": 10.0, "bfloat16, batch 8": 20.0}
    assert (row["processor, s"], row["peer processor, s"]) == (0.375, 4.0)
    assert (row["same prompts"], row["same answers, bfloat16"]) == (1, 1)


def test_our_side_answers_every_question(bench_module, tmp_path, shared):
    ours = bench_module("evaluate_ours").Ours(str(shared / "weights" / "tinystories-656k"), "float32", 1)
    rows = write(
        tmp_path / "rows.jsonl", [{**ROWS["commonsense_qa"][0], "question": f"{n}?"} for n in range(9)]
    )
    shown = write(tmp_path / "shown.jsonl", ROWS["arc_easy"])
    job = {"task": "commonsense_qa", "data": str(rows), "exemplars": str(shown), "shots": 1, "new": 0}
    assert ours.choice({**job, "limit": 8, "out": str(tmp_path / "out")})["seconds"] > 0
    [lines] = (tmp_path / "out").glob("commonsense_qa.likelihood.1-shot.jsonl")
    asked = [bench_module("harness").lines_of(lines)[at]["prompts"][0] for at in range(8)]
    example = "Question: What is hot?\nAnswer: the sun\n\nQuestion: {}?\nAnswer:"
    assert asked == [example.format(number) for number in range(8)]
    found = ours.python({"new": 16})
    assert found["steps"] > 0
    assert 0 < found["computing"] < found["seconds"]
