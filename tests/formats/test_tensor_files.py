"""Tensors that lie where their file is mapped."""

import sys
import time
from pathlib import Path

import pytest
import torch

from camelid.base.mapped_pages import let_go
from camelid.formats.hugging_face.checkpoint import load_checkpoint, save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer


def mapped_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such advice")
def test_what_was_let_go_takes_no_memory_and_is_read_again(tmp_path):
    spec = ModelSpec.llama(vocab_size=50, hidden_size=512, num_layers=2, num_heads=4, num_kv_heads=4)
    save_checkpoint(tmp_path, Transformer(spec).initialize(0))
    model = load_checkpoint(tmp_path)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    held, size = mapped_bytes(), sum(parameter.nbytes for parameter in model.parameters())
    # The kernel takes pages back when it can: not while they are still being written to the disk, say.
    for _ in range(50):
        for parameter in model.parameters():
            let_go(parameter)
        if mapped_bytes() < held - size * 0.9:
            break
        time.sleep(0.1)
    assert mapped_bytes() < held - size * 0.9
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_what_lies_elsewhere_stays():
    whole = torch.randn(1000, 1000)
    kept = whole.clone()
    for tensor in (whole, whole[3:5, 7:], torch.empty(0)):
        let_go(tensor)
    assert torch.equal(whole, kept)
