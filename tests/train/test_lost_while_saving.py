"""A process that is lost while a state is saved is named, and the checkpoint before it stays."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from processes import start

from camelid.base.digest import digest_file
from camelid.base.errors import CamelidError
from camelid.base.json import read_table
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.recipes.parallel import Parallel
from camelid.runs.null_run import NullRun
from camelid.runs.run import DIGESTS, Run, latest_checkpoint, list_checkpoints
from camelid.train import parallel, saving
from camelid.train.optim import adamw
from camelid.train.parallel import NotAnswered, ProcessGroup, join_process_group
from camelid.train.saving import Saver
from camelid.train.sharding import shard
from camelid.train.state import load_state

SPEC = ModelSpec.llama(vocab_size=32, hidden_size=16, num_layers=2, num_heads=2, context_length=16)
TIMEOUT = 15.0
"""Seconds after which a process that does not answer is lost."""


def optimizer_of(model: Transformer) -> torch.optim.Optimizer:
    return adamw(model.named_parameters(), weight_decay=0.0, betas=(0.9, 0.95), eps=1e-8)


def save_twice(rank, folder, disturb, *arguments):
    """Two updates with their states saved; `disturb(rank, ...)` comes before the second one."""
    parallel.ANSWER, parallel.SAVING = 3.0, 1
    group = join_process_group(Parallel(timeout=TIMEOUT if signal.SIGSTOP in arguments else 240))
    model = Transformer(SPEC).initialize(0)
    shard(model, group.mesh)
    optimizer = optimizer_of(model)
    said = ""
    with (folder / "run.lock").open("w") as lock:
        run = Run(folder, lock, fresh=False) if group.is_main else NullRun(folder)
        try:
            with group.answering(folder), Saver(run, model, optimizer, group, keep=2) as saver:
                for step in (1, 2):
                    if step == 2:
                        disturb(rank, *arguments)
                    for parameter in model.parameters():
                        parameter.grad = torch.ones_like(parameter)
                    optimizer.step()
                    saver.save(step)
                    saver.finish()
        except CamelidError as error:
            said = str(error)
    (folder / f"said-{rank}.txt").write_text(said)
    os._exit(0)  # without torch's own end, which waits for the others


def lose_the_second(rank, number):
    """The second process gets a signal within its save."""

    def lost(*arguments):
        os.kill(os.getpid(), number)
        time.sleep(60)

    if rank == 1:
        saving.save_state = lost


def hide_the_draft(rank):
    """The second process does not see the folder that the main one made, as on another node's own disk."""
    seen = Path.is_dir
    if rank == 1:
        Path.is_dir = lambda path: path.suffix != ".partial" and seen(path)


def assert_the_first_state_resumes(folder):
    """In one process, bit for bit; the digests are those of the files, whichever process computed them."""
    [checkpoint] = list_checkpoints(folder)
    assert checkpoint.step == 1
    assert latest_checkpoint(folder) == checkpoint
    digests = read_table(checkpoint.folder / DIGESTS)
    assert {"shard-00001", "shard-00002"} <= {name[:11] for name in digests}
    assert all(digest_file(checkpoint.folder / name) == digest for name, digest in digests.items())
    models = [Transformer(SPEC).initialize(seed) for seed in (0, 1)]
    optimizers = [optimizer_of(model) for model in models]
    for parameter in models[0].parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers[0].step()
    assert load_state(checkpoint.folder, models[1], optimizers[1]) == 1
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_process_that_is_lost_while_saving_is_named(tmp_path, number):
    began = time.monotonic()
    assert start(save_twice, 2, tmp_path, lose_the_second, number) == [0, -signal.SIGKILL]
    assert time.monotonic() - began < 200  # torch's own limit for a save is half an hour
    said = (tmp_path / "said-0.txt").read_text()
    assert "lost process 1 (" in said
    assert "of 2 processes; the state after step 1 is saved" in said
    assert "the state after step 2 could not be saved" in said
    assert_the_first_state_resumes(tmp_path)


def test_a_save_that_took_too_long_is_said_where_all_processes_still_run(tmp_path):
    group = ProcessGroup(0, 2, store=torch.distributed.HashStore())
    group.store.set("runs/1", "")  # what the other process says of itself
    message = r"too slow; all processes still run: raise parallel\.timeout"
    with pytest.raises(CamelidError, match=message), group.answering(tmp_path):
        raise NotAnswered("too slow")


def test_a_folder_that_a_node_does_not_see_is_no_checkpoint(tmp_path):
    assert start(save_twice, 2, tmp_path, hide_the_draft) == [0, 0]
    for rank in (0, 1):
        said = (tmp_path / f"said-{rank}.txt").read_text()
        assert "all nodes must see the same --out" in said, said
    assert_the_first_state_resumes(tmp_path)
