"""Work on a Ray of two nodes on this machine gives what one process gives, and survives lost workers."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from camelid.align.samplers import ClusterSampler
from camelid.align.samplers import _start as start_sampler
from camelid.base import cluster as fan_out
from camelid.base.cluster import Cluster
from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.data.rows.shards import TokenShards, write_shards
from camelid.engine.fan_out import _start as start_engine
from camelid.engine.fan_out import open_on
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.transformer import Transformer
from camelid.recipes.engine import EngineSettings
from camelid.recipes.lora import LoRASettings
from camelid.text.tokenizer import Tokenizer

COLOURS = ("red", "blue", "green", "black")


def test_without_ray_the_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["eval", "model", "--task", "world/coin_flip", "--on", "local", "--out", str(tmp_path)]) == 2
    assert 'pip install "camelid[ray]"' in capsys.readouterr().err


def test_a_server_is_not_fanned_out(tmp_path, capsys):
    words = ["eval", "http://127.0.0.1:1", "--task", "world/coin_flip", "--on", "local"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "http://127.0.0.1:1 is a server" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["ray://127.0.0.1:9", "127.0.0.1:9", "head"])
def test_a_cluster_that_does_not_answer(address, tmp_path, capsys, monkeypatch):
    errors = SimpleNamespace(RayError=LookupError)
    fake = SimpleNamespace(is_initialized=lambda: False, exceptions=errors)
    monkeypatch.setitem(sys.modules, "ray", fake)
    words = ["eval", "model", "--task", "world/coin_flip", "--on", address, "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert f"--on {address}: no Ray cluster answers" in capsys.readouterr().err


def test_a_cluster_that_asks_for_a_token(monkeypatch):
    def refuse(address, **_):
        raise LookupError("no authentication token")

    errors = SimpleNamespace(RayError=LookupError)
    fake = SimpleNamespace(is_initialized=lambda: False, init=refuse, exceptions=errors)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(CamelidError, match=r"no authentication token.*RAY_AUTH_MODE=token"):
        fan_out._connected("local")


def test_local_never_joins_a_running_cluster(monkeypatch):
    """Ray would join one that RAY_ADDRESS names, or that was started here, for any address but this."""
    asked: list[Any] = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=lambda address, **_: asked.append(address))
    monkeypatch.setitem(sys.modules, "ray", fake)
    fan_out._connected("local")
    assert asked == ["local"]


def test_work_that_no_node_is_left_for_ends_the_job(monkeypatch):
    gpus = [{"CPU": 8.0, "GPU": 2.0}]

    def node(alive: bool, resources: dict[str, float]) -> dict[str, Any]:
        return {"Alive": alive, "Resources": resources}

    def wait(futures, timeout):  # the node with GPUs is lost with the first look
        gpus.clear()
        return [], futures

    fake = SimpleNamespace(
        nodes=lambda: [node(True, {"CPU": 4.0}), *(node(True, each) for each in gpus), node(False, {})],
        remote=lambda **_: lambda run: SimpleNamespace(remote=lambda *_: "future"),
        put=lambda value: value,
        wait=wait,
        cancel=lambda future: None,
        exceptions=SimpleNamespace(RayTaskError=RuntimeError, RayError=OSError),
    )
    monkeypatch.setattr(fan_out, "_connected", lambda address: fake)
    monkeypatch.setattr(fan_out, "NOWHERE_FOR", 0.0)
    with pytest.raises(CamelidError, match=r"with 1 core and 1 GPU, .* had that \(nodes: 4 cores\)"):
        [*Cluster("head:1", str, (), whole_nodes=True).in_order(range(3))]


def test_folders_are_sent_by_their_absolute_paths(tmp_path, monkeypatch):
    """Processes of a cluster run in the folder where `ray start` ran."""
    sent: list[Any] = []
    monkeypatch.setattr("camelid.engine.fan_out.Cluster", lambda on, start, given, **_: sent.append(given))
    monkeypatch.setattr("camelid.align.samplers.Cluster", lambda on, start, given, **_: sent.append(given))
    for name in ("base", "adapter"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    open_on("base", EngineSettings(adapter="adapter", draft="org/draft"), on="local")
    open_on("org/name", EngineSettings(draft="prompt"), on="local")
    policy: Any = SimpleNamespace(dtype=torch.float32)
    ClusterSampler("local", policy, Path("base"), LoRASettings(), 0, 1)
    here = EngineSettings(adapter=str(tmp_path / "adapter"), draft="org/draft")
    assert sent[:2] == [(str(tmp_path / "base"), here), ("org/name", EngineSettings(draft="prompt"))]
    assert sent[2][0][0] == tmp_path / "base"


def test_a_node_without_the_files_is_named(tmp_path):
    fan_out.refuse_unseen(tmp_path, "org/name", None)
    with pytest.raises(CamelidError, match="all nodes must see the same files under the same paths"):
        start_engine(str(tmp_path / "none"), EngineSettings())
    with pytest.raises(CamelidError, match=str(tmp_path / "none")):
        start_sampler((tmp_path / "none", LoRASettings(), torch.float32, 0), 1)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A Ray of two nodes with a core each; more nodes may be added."""
    ray = pytest.importorskip("ray", reason="ray is not installed (the extra `ray`)")
    from ray.cluster_utils import Cluster as RayNodes

    nodes = RayNodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer: Tokenizer, tiny) -> Path:
    path: Path = tmp_path_factory.mktemp("model")
    model: Transformer = tiny(context_length=64)
    save_checkpoint(path, model)
    tokenizer.save(path)
    return path


def test_the_same_tokens(two_nodes, tokenizer: Tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("camelid.data.rows.tokenise.BATCH_CHARACTERS", 2000)
    documents = [(f"The {i} llamas ran to hill {i * 7}.\n" * (i % 9 + 1), f"a:{i}") for i in range(300)]
    here = write_shards(documents, tokenizer, tmp_path / "here", validation_fraction=0.1)
    there = write_shards(
        documents, tokenizer, tmp_path / "there", validation_fraction=0.1, on=two_nodes.address
    )
    assert here == there
    assert TokenShards(tmp_path / "there").token_count > 0
    with pytest.raises(CamelidError, match="a:1: "):  # the work's own error, with its place
        write_shards([("good", "a:0"), ("\ud800", "a:1")], tokenizer, tmp_path / "bad", on=two_nodes.address)


def test_the_same_answers_of_eval_and_make(two_nodes, folder: Path, tmp_path):
    rows = tmp_path / "questions.jsonl"
    rows.write_text(
        "".join(json.dumps({"question": f"Which is {c}?", "answer": "1"}) + "\n" for c in COLOURS)
    )
    lines = []
    for name, words in (("here", []), ("there", ["--on", two_nodes.address])):
        sampled = ["--max-new-tokens", "8", "--temperature", "1", "--allow-cut"]
        out = tmp_path / name
        assert main(["eval", str(folder), "--task", str(rows), "--out", str(out), *sampled, *words]) == 0
        [file] = out.glob("questions*.jsonl")
        lines.append([json.loads(line) for line in file.read_text().splitlines()])
    for line in (*lines[0], *lines[1]):
        line.pop("seconds", None)
    assert lines[0] == lines[1]

    made = []
    for name, words in (("made-here", []), ("made-there", ["--on", two_nodes.address])):
        out = tmp_path / name
        settings = ["--max-new-tokens", "12", "--tries", "1", "--least-kept", "0"]
        main(["make", "answers", str(folder), str(rows), "--out", str(out), *settings, *words])
        replies = [json.loads(line) for line in (out / "replies.jsonl").read_text().splitlines()]
        made.append({row["id"]: row["text"] for row in replies})
    assert len(made[0]) == len(COLOURS)
    assert made[0] == made[1]


def test_a_killed_worker_and_a_lost_node(two_nodes, tmp_path, monkeypatch):
    third = two_nodes.add_node(num_cpus=1)
    begun, killed, die = tmp_path / "begun", tmp_path / "killed", signal.SIGKILL

    def start(factor: int):
        def work(item: int) -> int:
            if item == 3 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), die)
            begun.touch()
            time.sleep(0.05)
            return factor * item

        return work

    done = Cluster(two_nodes.address, start, (3,)).in_order(range(40))
    results = [next(done)]
    assert begun.exists()
    two_nodes.remove_node(third, allow_graceful=False)
    results += done
    assert results == [(item, 3 * item) for item in range(40)]
    assert killed.exists()


def test_a_piece_that_always_kills_ends_the_job(two_nodes, monkeypatch):
    monkeypatch.setattr(fan_out, "LOST_AT_MOST", 0)
    die = signal.SIGKILL

    def start():
        return lambda item: os.kill(os.getpid(), die) if item == 1 else item

    with pytest.raises(CamelidError, match="was lost with its worker more than 0 times"):
        [*Cluster(two_nodes.address, start, ()).in_order(range(3))]


@pytest.mark.parametrize("adapter", [[], ["--lora.rank", "2"]], ids=["all weights", "an adapter"])
def test_the_same_policy_from_answers_drawn_there(two_nodes, folder: Path, tmp_path, adapter):
    rows = tmp_path / "questions.jsonl"
    rows.write_text("".join(json.dumps({"question": f"Say {c}.", "answer": "1"}) + "\n" for c in COLOURS))
    reward = tmp_path / "reward.py"
    reward.write_text("def reward(prompt, completion, answer):\n    return len(completion) / 7\n")
    trained = []
    for name, words in (("here", []), ("there", ["--on", two_nodes.address])):
        asked = ["--task", str(rows), "--rewarded-by", f"{reward}:reward", "--held-out", "0"]
        group = ["--grpo.questions", "2", "--grpo.group", "3", "--grpo.allow-cut", "--max-new-tokens", "6"]
        steps = ["--training.steps", "3", "--training.learning-rate", "0.01", *adapter]
        out = tmp_path / name
        aligned = ["align", str(folder), "--method", "grpo", "--out", str(out)]
        assert main([*aligned, *asked, *group, *steps, *words]) == 0
        [file] = out.glob("*/*model.safetensors")
        trained.append(load_file(file))
    assert trained[0].keys() == trained[1].keys()
    assert all(torch.equal(weight, trained[1][key]) for key, weight in trained[0].items())
