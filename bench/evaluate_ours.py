"""Our side of `bench/evaluate.py`, in a process of its own.

It prints an object when it is ready, then answers each line of standard input, a measurement as a JSON
object, with its figures as another.
"""

import dataclasses
import itertools
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

Job = dict[str, Any]


class Ours:
    """The engine, and what is measured of it."""

    def __init__(self, model: str, dtype: str, threads: int) -> None:
        import torch

        from camelid.engine.engine import Engine

        torch.set_num_threads(threads)
        self.engine = Engine.load(model, dtype=getattr(torch, dtype), device="cpu")
        self.engine.generate(["Nothing is shared with this text."], max_new_tokens=4)

    def generate(self, job: Job) -> Job:
        """A chain of thought for each question."""
        return self._timed(job, self._program(job))

    def choice(self, job: Job) -> Job:
        """The log-probability of each choice."""
        return self._timed(job, self._program(job))

    def samples(self, job: Job) -> Job:
        """One sample of the first question, then many; the exemplars are in the cache for neither."""
        from camelid.prompting.ensembles import self_consistency

        seconds = []
        for samples in (1, job["samples"]):
            self.engine.set_weights()
            program = self._program(job, temperature=0.7)
            seconds.append(
                self._timed(job, self_consistency(program, samples) if samples > 1 else program)["seconds"]
            )
        return {"one": seconds[0], "many": seconds[1]}

    def memory(self, job: Job) -> Job:
        """The most memory of this process after the first questions, and after all."""
        peaks = []
        for limit in (job["limit"] // 4, job["limit"]):
            self._timed({**job, "limit": limit, "out": None}, self._program(job))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return {"first": peaks[0], "all": peaks[1]}

    def python(self, job: Job) -> Job:
        """The share of a decoding step with all places taken that passes outside of the decoder in C.

        A step lasts from its beginning to that of the next one.
        """
        from camelid.lm.sampling import Sampling

        steps: list[tuple[float, float, int]] = []
        scheduler, decoder = self.engine.scheduler, self.engine.decoder
        compute, step = decoder.compute, scheduler.step

        def timed(extensions: Any) -> Any:
            began = time.perf_counter()
            found = compute(extensions)
            steps.append((began, time.perf_counter() - began, sum(len(each.tokens) for each in extensions)))
            return found

        decoder.compute = timed
        prompts = [f"Question {number}: what is {number} times 7? Answer:" for number in range(64)]
        self.engine.tokenizer.stop_ids = frozenset()
        self.engine.complete(prompts, Sampling(max_new_tokens=job["new"]))
        decoder.compute, scheduler.step = compute, step
        whole = [(here, after) for here, after in itertools.pairwise(steps) if here[2] == after[2] == 64]
        return {
            "steps": len(whole),
            "seconds": sum(after[0] - here[0] for here, after in whole),
            "computing": sum(here[1] for here, _ in whole),
        }

    def _program(self, job: Job, temperature: float = 0.0) -> Any:
        """The program of a measurement, with its exemplars."""
        from camelid.prompting.programs import STEPS, chain_of_thought, likelihood
        from camelid.tasks.task import load_task

        self.task = load_task(job["task"], data=Path(job["data"]))
        if job["new"]:
            how = dataclasses.replace(STEPS, max_new_tokens=job["new"], temperature=temperature)
            return chain_of_thought(self.task.exemplars[: job["shots"]], sampling=how)
        form = self.task.format
        assert form is not None
        return likelihood(form.items(Path(job["exemplars"])), wording=form.wording)

    def _timed(self, job: Job, program: Any) -> Job:
        from camelid.evals.evaluate import evaluate

        out = Path(job["out"]) if job["out"] else None
        began, used = time.perf_counter(), time.process_time()
        evaluate(self.task, program, self.engine, out, job["limit"], model="measured", allow_cut=True)
        return {"seconds": time.perf_counter() - began, "processor": time.process_time() - used}


def main() -> None:
    ours = Ours(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(json.dumps({"ready": True}), flush=True)
    for job in map(json.loads, sys.stdin):
        print(json.dumps(getattr(ours, job["what"])(job)), flush=True)


if __name__ == "__main__":
    main()
