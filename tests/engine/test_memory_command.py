"""`camelid fits` in the terminal, and what limits free memory."""

import pytest

from camelid.base import memory as system
from camelid.base.errors import WrongCall
from camelid.base.memory import parse_size
from camelid.cli import main as cli


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (
            ["llama2-7b", "--memory", "8GB", "--context", "2048", "--sequences", "4"],
            1,
            ["1,648 tokens at 4 bits fit", "--bits 4, and --context 1648"],
        ),
        (
            ["llama2-7b", "--memory", "8GB"],
            1,
            ["13.5 GB", "4 bits fit", "camelid quantize MODEL OUT --bits 4"],
        ),
        (
            ["llama2-7b", "--memory", "64GiB", "--sequences", "2"],
            0,
            ["4.3 GB", "2 sequences of 4,096 tokens"],
        ),
        (["llama2-7b", "--memory", "15GB", "--context", "4096"], 1, ["--context", "tokens fit"]),
        (["no-such-model"], 1, ["camelid models"]),
        (["llama2-7b", "--memory", "much"], 2, ["8GB or 6.5GiB"]),
    ],
)
def test_the_command(capsys, words, code, parts):
    assert cli.main(["fits", *words]) == code
    shown = capsys.readouterr()
    assert all(part in shown.out + shown.err for part in parts)


def test_sizes_in_words():
    assert [parse_size(text) for text in ("8GB", "8 GiB", "1.5g", "512MiB", "7")] == [
        8 * 10**9, 8 * 2**30, 15 * 10**8, 2**29, 7,
    ]  # fmt: skip
    for text in ("", "GB", "-1GB", "8XB", "nan"):
        with pytest.raises(WrongCall):
            parse_size(text)


def test_control_groups_limit_what_is_free(tmp_path, monkeypatch):
    """Version 1 and 2, a group's limit and its parent's; pages of files count as free, `max` is no limit."""
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job/step\n0::/slice/unit\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "600",
        "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 50\n",
        "sys/fs/cgroup/slice/memory.max": "900\n",
        "sys/fs/cgroup/slice/memory.current": "1200\n",
        "sys/fs/cgroup/slice/memory.stat": "anon 7\ninactive_file 100\n",
        "sys/fs/cgroup/slice/unit/memory.max": "max\n",
        "sys/fs/cgroup/slice/unit/memory.current": "5\n",
        "sys/fs/cgroup/slice/unit/memory.stat": "inactive_file 1\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert sorted(system.group_limits(tmp_path)) == [0, 450]
    assert list(system.group_limits(tmp_path / "none")) == []
    monkeypatch.setattr(system, "group_limits", lambda: iter([12345]))
    assert system.free_memory() == 12345
    monkeypatch.setattr(system, "group_limits", lambda: iter(()))
    assert system.free_memory() > 12345
