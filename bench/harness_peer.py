"""lm-evaluation-harness on local rows; runs in the interpreter where it is installed, without Camelid.

    python harness_peer.py MODEL [--dtype float32] [--batch 8] < JOBS

Each line on standard input is a job as a JSON object: `task` (a file of `lm_eval_tasks`), `data` and
`exemplars` (files of rows), `shots`, `docs` (the first row and the one after the last), `new` (most new
tokens) and `out`. A job whose `out` exists is not run again. `out` has a JSON object a question: its number,
the texts that were given to the model and what came of them: a log-probability for each choice, or a text.
One line on standard output answers each job: `{"out", "seconds", "processor"}`, the seconds and those of
processor time without loading rows or model.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

VERSIONS = ("lm_eval", "transformers", "torch", "datasets")


def task_of(job: dict[str, Any]) -> Any:
    """The task of a file of `lm_eval_tasks`, with the rows of this job."""
    import yaml
    from lm_eval.tasks import TaskManager

    config = yaml.safe_load(Path(job["task"]).read_text())
    files = {"test": job["data"], "exemplars": job["exemplars"] or job["data"]}
    config |= {"dataset_kwargs": {"data_files": files}, "num_fewshot": job["shots"]}
    if job["new"]:
        config["generation_kwargs"]["max_gen_toks"] = job["new"]
    return TaskManager(include_defaults=False).load([config])


def answered(lm: Any, tasks: Any, docs: range) -> list[dict[str, Any]]:
    """What the model answers to these questions."""
    from lm_eval.evaluator import evaluate

    [name] = tasks["tasks"]
    found = evaluate(lm, tasks, samples={name: [*docs]}, bootstrap_iters=0, log_samples=True)
    lines = []
    for sample in found["samples"][name]:
        asked = [list(arguments[:2]) for arguments in sample["arguments"]]
        replies = [reply[0] for reply in sample["resps"]]
        scored = isinstance(replies[0], list | tuple)
        lines.append(
            {
                "doc": sample["doc_id"],
                "prompts": [context for context, _ in asked],
                "continuations": [text for _, text in asked] if scored else [],
                "logprobs": [float(reply[0]) for reply in replies] if scored else [],
                "text": "" if scored else replies[0],
            }
        )
    return sorted(lines, key=lambda line: line["doc"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--softmax-dtype", help="by default that of the logits")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, help="by default as many as torch takes")
    how = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    import torch
    from lm_eval.models.huggingface import HFLM

    if how.threads:
        torch.set_num_threads(how.threads)
    settings = {"device": "cpu", "dtype": how.dtype, "batch_size": how.batch}
    lm = HFLM(how.model, backend="causal", softmax_dtype=how.softmax_dtype, **settings)
    print(json.dumps({name: importlib.metadata.version(name) for name in VERSIONS}), flush=True)
    for job in map(json.loads, sys.stdin):
        out, seconds, processor = Path(job["out"]), 0.0, 0.0
        if not out.exists():
            tasks = task_of(job)
            began, used = time.perf_counter(), time.process_time()
            lines = answered(lm, tasks, range(*job["docs"]))
            seconds, processor = time.perf_counter() - began, time.process_time() - used
            part = out.with_suffix(".part")
            part.write_text("".join(json.dumps(line) + "\n" for line in lines))
            part.replace(out)
        print(json.dumps({"out": str(out), "seconds": seconds, "processor": processor}), flush=True)


if __name__ == "__main__":
    main()
