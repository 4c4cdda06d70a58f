"""Trainers that are timed in a process each, so that the peak memory of one is not that of another.

A script starts itself with `--contender NAME`, which prints its figures as one JSON object that begins with
"speed".
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence

Figures = dict[str, float]


def with_trl(names: list[str], python: str, modules: Sequence[str]) -> list[str]:
    """The contenders that can run: ours alone, with a message, where `python` lacks TRL's modules."""
    if not subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True).returncode:
        return names
    print(f"TRL is left out: pip install {' '.join(modules)}", file=sys.stderr)
    return [name for name in names if name.startswith("ours")]


def measured(script: str, names: list[str], python: str, words: list[str]) -> dict[str, Figures]:
    """What each contender printed; one that fails is named and left out."""
    found = {}
    for name in names:
        command = [sys.executable if name.startswith("ours") else python, script, "--contender", name, *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"speed"')]
        if done.returncode or not lines:
            print(f"{name} is left out: it ended with the message above", file=sys.stderr, flush=True)
            continue
        found[name] = json.loads(lines[-1])
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def show(comparisons: Iterable[dict[str, object]], as_json: bool) -> None:
    """A line for each comparison."""
    for comparison in comparisons:
        text = "{name}: {ours} {unit}, {peer_name} {peer} {unit}: {ratio} times as good"
        print(json.dumps(comparison) if as_json else text.format(**comparison), flush=True)
