"""Sharded over a mesh of processes, a model has the losses, gradients and updates of a whole one."""

import shutil
import traceback
from itertools import islice

import pytest
import torch
import torch.distributed as dist
from processes import start
from test_entry_point import Rows
from torch import nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.batches import batches
from camelid.formats.hugging_face.families import family_for
from camelid.formats.updates import stored_updates
from camelid.model.adapters import LINEARS_OF_LAYERS, add_lora, without_adapters
from camelid.model.lora import LoRA
from camelid.model.transformer import Transformer
from camelid.quant.nf4 import to_nf4
from camelid.quant.quantize import quantize_model
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.parallel import Parallel
from camelid.recipes.training import Training
from camelid.runs.null_run import NullRun
from camelid.runs.run import Run, list_checkpoints
from camelid.train.fit import prepare
from camelid.train.loop import training_steps
from camelid.train.objectives import cross_entropy
from camelid.train.optim import OPTIMIZERS
from camelid.train.parallel import ProcessGroup, join_process_group
from camelid.train.saving import Saver
from camelid.train.sharding import gather, new_model, shard, whole
from camelid.train.state import load_state
from camelid.train.tensor_parallel import tensor_plan
from camelid.train.validation import validation_loss

VOCAB, ROWS, SAVING = 300, 8, "saving"
MESHES = {2: (2, 1), 4: (2, 2)}
"""By the number of processes: data x tensor."""
CASES = {
    2: (
        ("llama", "adamw", {}),
        ("t5", "muon", {}),
        ("palm", "adafactor", {}),
        ("mistral", "adamw", {"gathered": torch.bfloat16}),
        ("llama", "muon", {"compile": shutil.which("g++") is not None}),
    ),
    4: (
        ("llama", "muon", {"num_layers": 2}),
        ("t5", "adafactor", {"dropout": 0.2}),
        ("palm", "adamw", {"recompute": True, "dropout": 0.2}),
        ("gpt2", "adamw", {"dropout": 0.2}),
        ("qwen3", "adamw", {"num_kv_heads": 2}),
        ("mistral", "adamw", {"hidden_size": 128, "feed_forward_width": 128, "num_heads": 2, "base": "nf4"}),
        ("gpt2", "adafactor", {"hidden_size": 128, "num_heads": 2, "base": "nf4", "dropout": 0.2}),
        ("palm", "adafactor", {"hidden_size": 64, "base": "packed", "recompute": True}),
    ),
}
NAMES = [
    f"{size} processes, {architecture}, {optimizer}"
    for size, cases in CASES.items()
    for architecture, optimizer, _ in cases
]


def model_of(architecture, **changes):
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 4, "context_length": 32, "dropout": 0.0}
    return Transformer(ModelShape(architecture=architecture, **(sizes | changes)).spec(VOCAB)).initialize(0)


def adapted(model, base):
    """The model with adapters on some linears; all have few bits, packed ones in groups that are cut."""
    if base == "nf4":
        model = to_nf4(model.bfloat16(), LINEARS_OF_LAYERS).float()
    else:
        model = quantize_model(model, 4, 64)
    add_lora(model, LoRA(rank=2, alpha=4.0, dropout=0.2), ["*.[qko]_proj", "*.down_proj"])
    for name, parameter in model.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


def trained(group, architecture, optimizer_name, changes):
    """What two updates and a validation give: numbers, first gradients, and the whole weights at the end."""
    changes = dict(changes)
    recompute = changes.pop("recompute", False)
    compiled = changes.pop("compile", False) and group.size > 1  # the whole model is eager
    gathered = changes.pop("gathered", None)
    dtype = gathered or torch.float32
    base = changes.pop("base", None)
    spec = model_of(architecture, **changes).spec
    if base is None:
        model = new_model(spec, 0, group.mesh, group.device, gathered)
    else:
        model = shard(adapted(model_of(architecture, **changes), base), group.mesh)
    prepare(model, Training(steps=1, recompute_activations=recompute, compile=compiled))
    rows = Rows("encoder-decoder" if architecture == "t5" else "untied")
    # A large eps: where the gradient is 0 in theory, the first update would be the sign of rounding errors.
    settings = {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-3}
    optimizer = OPTIMIZERS[optimizer_name](model.named_parameters(), **settings)
    gradients = {}

    def keep_gradients(*_):
        if not gradients:
            trained = ((name, each) for name, each in model.named_parameters() if each.requires_grad)
            gradients.update({name: whole(each.grad) for name, each in trained})

    optimizer.register_step_pre_hook(keep_gradients)
    steps = training_steps(
        model,
        islice(batches(rows, ROWS, 0, group.data_rank, group.data_size), 2),
        cross_entropy(model, dtype),
        optimizer,
        lambda step: 0.01,
        micro_batch_size=1,
        gradient_clip=1.0,
        group=group,
    )
    token_bytes = torch.ones(VOCAB, dtype=torch.long).numpy()
    held_out = [validation_loss(model, rows, token_bytes, torch.float32, 2, group).nats_per_token]
    numbers = [[step.loss, step.grad_norm, step.trained_tokens] for step in steps]
    held_out.append(validation_loss(model, rows, token_bytes, torch.float32, 4, group).nats_per_token)
    with without_adapters(model):
        held_out.append(validation_loss(model, rows, token_bytes, torch.float32, 4, group).nats_per_token)
    gather(model, keep=group.is_main)
    state = {name: each.detach() for name, each in model.named_parameters()}
    if base is not None and group.is_main:
        stored = stored_updates(model, family_for(model.spec).place)
        state |= {f"{name}.{part}": getattr(each, part) for name, each in stored.items() for part in "ab"}
    return torch.tensor(numbers), torch.tensor(held_out), gradients, state


def compare(group, case):
    one, several = trained(ProcessGroup(), *case), trained(group, *case)
    if group.is_main:
        rounded = 1e-2 if "gathered" in case[2] else 0.0
        for name, gradient in one[2].items():
            atol = max(1e-6, rounded * float(gradient.abs().max()))
            torch.testing.assert_close(
                several[2][name], gradient, rtol=max(1e-4, rounded), atol=atol, msg=name
            )
        if rounded:  # where a gradient is nearly 0, its rounding decides AdamW's update
            torch.testing.assert_close(several[:2], one[:2], rtol=rounded, atol=0.0)
        else:
            torch.testing.assert_close(several, one, rtol=1e-4, atol=2e-5)


def save_while_training(group, out, optimizer_name):
    """What two processes save while they go on is the state of its step; a full disk of one ends both."""
    model = new_model(model_of("llama").spec, 0, group.mesh, group.device)
    settings = {"weight_decay": 0.1, "betas": (0.9, 0.95), "eps": 1e-3}
    optimizer = OPTIMIZERS[optimizer_name](model.named_parameters(), **settings)
    steps = training_steps(
        model,
        batches(Rows("untied"), ROWS, 0, group.data_rank, group.data_size),
        cross_entropy(model),
        optimizer,
        lambda step: 0.01,
        micro_batch_size=4,
        gradient_clip=1.0,
        group=group,
    )
    run = Run(out, (out / "run.lock").open("w"), fresh=False) if group.is_main else NullRun(out)
    with Saver(run, model, optimizer, group, keep=2) as saver:
        next(steps)
        expected = {name: each.full_tensor() for name, each in model.named_parameters()}
        saver.save(1)
        next(steps)
        saver.finish()
        with pytest.MonkeyPatch.context() as patch:
            if group.rank == 1:
                patch.setattr(HuggingFaceStorageWriter, "write_data", no_room)
            saver.save(2)
            with pytest.raises(CamelidError, match=r"after step 2 could not be saved \(.*No space left"):
                saver.finish()
        next(steps)  # all processes go on
    [checkpoint] = list_checkpoints(out)
    load_state(checkpoint.folder, model, optimizer, group)
    for name, each in model.named_parameters():
        assert torch.equal(each.full_tensor(), expected[name]), name
    next(steps)  # with the moments as they were loaded


def no_room(*_):
    raise OSError(28, "No space left on device")


def check_all(rank, size, folder):
    """In each process: every case; the main one writes what went wrong."""
    data, tensor = MESHES[size]
    group = join_process_group(Parallel(data=data, tensor=tensor, timeout=240))
    for case in CASES[size]:
        try:
            compare(group, case)
            error = ""
        except AssertionError:
            error = traceback.format_exc()
        if group.is_main:
            (folder / f"{size} processes, {case[0]}, {case[1]}").write_text(error)
    if size == 2:
        for name in OPTIMIZERS:
            (folder / SAVING / name).mkdir(parents=True, exist_ok=True)
            save_while_training(group, folder / SAVING / name, name)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The errors of all cases by name, empty where there was none."""
    folder = tmp_path_factory.mktemp("found")
    for size in MESHES:
        assert start(check_all, size, size, folder) == [0] * size
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_mesh_gives_what_one_process_gives(found, name):
    assert found[name] == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "llama", "num_heads": 3, "hidden_size": 30}, "3 heads"),
        ({"architecture": "llama", "num_kv_heads": 1, "num_heads": 4, "feed_forward_width": 33}, "33 feed-"),
    ],
)
def test_matrices_that_the_processes_cannot_share_are_refused(changes, words):
    with pytest.raises(WrongCall, match=words):
        tensor_plan(model_of(**{"num_layers": 1} | changes).spec, 2)


def test_a_mesh_of_another_size_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(WrongCall, match=r"parallel.data 1 x parallel.tensor 3 needs 3 processes, but .* 4;"):
        join_process_group(Parallel(tensor=3))
    with pytest.raises(WrongCall, match="--nproc-per-node 6"):
        join_process_group(Parallel(data=3, tensor=2))
