"""Two processes of one thread beside one process of two threads, and what saving costs, on two CPU cores.

    python bench/scale.py --json

Whole updates of the 33.7 M-parameter LLaMA of `bench/train.py` over 8 rows of 512 tokens in float32, eager.
Each contender is started once, makes one update to warm up, and its speed is that of the median of the next.
The losses of both must agree. Saving costs what an update takes longer while a state is copied and written,
relative to 100 updates.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

ROWS, CONTEXT, VOCABULARY, WIDTH, LAYERS, HEADS, FEED_FORWARD = 8, 512, 8192, 512, 8, 8, 1376
WARM_UP, UPDATES, SAVED_EVERY = 1, 3, 100


def work(layers: int) -> None:
    """One of the processes: trains on its share, and the main one prints what it has measured as JSON."""
    import torch

    from camelid.base.memory import keep_freed_memory
    from camelid.model.spec import ModelSpec
    from camelid.model.transformer import Transformer
    from camelid.runs.null_run import NullRun
    from camelid.runs.run import Run
    from camelid.train.loop import training_steps
    from camelid.train.objectives import cross_entropy
    from camelid.train.optim import adamw
    from camelid.train.parallel import join_process_group
    from camelid.train.saving import Saver
    from camelid.train.sharding import shard
    from camelid.train.speed import random_batch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    group = join_process_group()
    keep_freed_memory(group.device)
    spec = ModelSpec.llama(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_layers=layers,
        num_heads=HEADS,
        feed_forward_width=FEED_FORWARD,
        context_length=CONTEXT,
    )
    model = shard(Transformer(spec).initialize(0), group.mesh)
    optimizer = adamw(model.named_parameters(), weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
    batch = random_batch(spec, CONTEXT, ROWS).split(ROWS // group.data_size)[group.data_rank]
    steps = training_steps(
        model,
        repeat(batch),
        cross_entropy(model),
        optimizer,
        lambda step: 1e-4,
        micro_batch_size=2,
        gradient_clip=1.0,
        group=group,
    )
    found = [next(steps) for _ in range(WARM_UP + UPDATES)]
    seconds = statistics.median(step.seconds for step in found[WARM_UP:])
    with ExitStack() as stack:
        folder = Path(group.from_main(lambda: stack.enter_context(tempfile.TemporaryDirectory())))
        run = Run(folder, (folder / "run.lock").open("w"), fresh=False) if group.is_main else NullRun(folder)
        saver = stack.enter_context(Saver(run, model, optimizer, group, keep=1))
        began = time.perf_counter()
        saver.save(1)
        copying = time.perf_counter() - began
        found.append(next(steps))
        saver.finish()
        saving = time.perf_counter() - began - seconds
    if group.is_main:
        losses = [step.loss for step in found]
        print(json.dumps({"seconds": seconds, "saving": saving, "copying": copying, "losses": losses}))


def measure(processes: int, threads: int, layers: int) -> dict[str, Any]:
    """What the main one of so many processes prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    command = (sys.executable, __file__, "--work", "--layers", str(layers))
    common = os.environ | address | {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
    started = []
    for rank in range(processes):  # as torchrun does, but in this session, so that its priority counts
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        started.append(subprocess.Popen(command, env=common | own, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0] for process in started]
    assert all(process.returncode == 0 for process in started)
    return json.loads(said[0].splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    """Measures both and prints a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer for a quick look")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.work:
        work(wanted.layers)
        return
    two, one = measure(2, 1, wanted.layers), measure(1, 2, wanted.layers)
    assert all(abs(a - b) < 1e-3 for a, b in zip(two["losses"], one["losses"], strict=True))
    speeds = [ROWS * CONTEXT / each["seconds"] for each in (two, one)]
    rows = [("two processes", *speeds, "one process, two threads", "tokens/s", speeds[0] / speeds[1])]
    for name, each in (("two processes", two), ("one process", one)):
        share = each["saving"] / (SAVED_EVERY * each["seconds"])
        rows.append((f"saving, {name}", 100 * share, 2.0, "the bar", "% of time", 2.0 / (100 * share)))
    for name, ours, peer, peer_name, unit, ratio in rows:
        found = {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit}
        text = f"{name}: {ours:,.2f} {unit}; {peer_name}: {peer:,.2f} ({ratio:.2f} times)"
        print(json.dumps({**found, "ratio": ratio}) if wanted.json else text, flush=True)


if __name__ == "__main__":
    main()
