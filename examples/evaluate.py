"""Evaluate a tuned model on held-out questions of the embedded world, with and without chain of thought.

    python examples/pretrain.py && python examples/tune.py && python examples/evaluate.py --questions 50

An evaluation is a task (questions, answers, a grader), a program (the way of asking) and a model. Every reply
is kept in OUT/evaluate, so the same call asks only what is missing.
"""

import argparse
from pathlib import Path

import camelid
from camelid import Sampling, chain_of_thought, compare_evaluations, direct, evaluate, load_task, perplexity
from camelid.data import world

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--questions", type=int, default=50, help="of each task")
parser.add_argument("--out", type=Path, default=Path("runs/example"), help="the folder of examples/tune.py")
arguments = parser.parse_args()
camelid.show_log()

lm = camelid.LM(arguments.out / "tune" / "model")
sampling = Sampling(max_new_tokens=120)
for name in ("world/coin_flip", "world/facts"):
    task = load_task(name, limit=arguments.questions)
    folder = arguments.out / "evaluate"
    # allow_cut: after a short training a reply may never end
    plain = evaluate(task, direct(chat=True, sampling=sampling), lm, folder, allow_cut=True)
    steps = evaluate(task, chain_of_thought(chat=True, sampling=sampling), lm, folder, allow_cut=True)
    for way, evaluation in (("direct", plain), ("chain of thought", steps)):
        accuracy = evaluation.results[0]
        interval = accuracy.interval
        print(f"{name}, {way}: {accuracy.value:.2f} (95 %: {interval.low:.2f} to {interval.high:.2f})")
    difference = compare_evaluations(plain, steps, plain.results[0].metric)
    print(f"{name}: difference {difference.difference:+.2f}, p = {difference.p_value:.3f}")

# Perplexity depends on the vocabulary; bits per byte compares across models.
held_out = world.documents("test", seed=0)
likelihood = perplexity(lm, [next(held_out) for _ in range(10)])
print(f"held-out text: {likelihood.bits_per_byte:.3f} bits per byte")
