"""Split GGUF models, cut files and unknown pre-tokenizers: read whole, or one message that says what to
do."""

import re
import shutil

import pytest
import torch
from hostile import message

from camelid.base.errors import CamelidError
from camelid.formats.gguf.file import GGUFFile
from camelid.formats.importing import import_model
from camelid.formats.load import load_model
from camelid.workflows.check import check


@pytest.fixture(params=[True, False], ids=["metadata only", "tensors too"])
def parts(request, write, tmp_path):
    """The parts of a model, the first with or without tensors, and the model imported whole."""
    path, _ = write(1)
    import_model(path, tmp_path / "whole")
    write(1, split_max_tensors=9, small_first_shard=request.param)
    found = sorted(tmp_path.glob("model-*.gguf"))
    assert len(found) > 2
    assert (not GGUFFile(found[0], single=True).tensors) == request.param
    return found, load_model(tmp_path / "whole")


def test_any_part_gives_the_whole_model(parts, tmp_path, capsys):
    paths, whole = parts
    ids = torch.arange(20)[None]
    for number, path in enumerate(paths):
        import_model(path, tmp_path / f"out{number}")
        with torch.no_grad():
            assert torch.equal(load_model(tmp_path / f"out{number}")(ids), whole(ids))
        check([str(path)])
    capsys.readouterr()


def test_missing_parts_are_named(parts, tmp_path):
    """llama.cpp#15164."""
    paths, _ = parts
    count = len(paths)
    paths[1].unlink()
    for number in (0, 2):
        found = message(lambda number=number: GGUFFile(paths[number]))
        assert f"is part {number + 1} of {count} of a split model: give them all" in found
        assert paths[1].name in found


def test_a_part_under_another_name_is_named(parts, tmp_path):
    """llama.cpp#9613: parts joined with cat."""
    paths, _ = parts
    other = tmp_path / "llama.gguf"
    other.write_bytes(b"".join(path.read_bytes() for path in paths))
    with pytest.raises(
        CamelidError, match=f"is part 1 of {len(paths)} of a split model: give them all, .* joined with cat"
    ):
        GGUFFile(other)
    shutil.copy(paths[2], paths[1])
    with pytest.raises(CamelidError, match=r"split.no and split.count are \(2, \d+\), not \(1, "):
        GGUFFile(paths[0])


@pytest.mark.parametrize("end", [".part1of2", ".part2of2", "-split-a"])
def test_a_file_cut_by_bytes_says_how_to_join_it(write, tmp_path, end):
    """text-generation-webui#6187."""
    path, _ = write(1)
    content = path.read_bytes()
    piece = tmp_path / f"model.gguf{end}"
    piece.write_bytes(content[len(content) // 2 :] if "2of2" in end else content[: len(content) // 2])
    found = message(lambda: GGUFFile(piece))
    which = f"piece {end[5]} of 2" if "part" in end else "one piece"
    assert f"it is {which} of model.gguf, cut by bytes: join them in order with cat" in found


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"skip": ("tokenizer.ggml.pre",)}, "tokenizer.ggml.pre is 'missing', so how text is split"),
        (
            {"changes": {"tokenizer.ggml.pre": "tekken"}},
            "tokenizer.ggml.pre is 'tekken', so how text is split",
        ),
        ({"changes": {"tokenizer.ggml.model": "bert"}}, "tokenizer.ggml.model is 'bert'"),
        ({"skip": ("tokenizer.ggml.tokens",)}, "no tokenizer.ggml.tokens"),
        ({"skip": ("tokenizer.ggml.model",)}, "no tokenizer.ggml.model"),
    ],
)
def test_a_tokenizer_that_is_not_known_can_be_given(write, tmp_path, options, part):
    path, _ = write(1)
    import_model(path, tmp_path / "whole")
    path, _ = write(1, **options)
    found = message(lambda: import_model(path, tmp_path / "out"))
    assert re.search(re.escape(part), found)
    assert "with --tokenizer" in found
    import_model(path, tmp_path / "out", tokenizer=tmp_path / "whole")
    assert (tmp_path / "out" / "tokenizer.json").is_file()


@pytest.mark.parametrize(("key", "value"), [("split.count", 0), ("split.count", "3"), ("split.count", 2**31)])
def test_counts_of_parts_are_checked(write, key, value):
    path, _ = write(1, changes={key: value})
    if value == 0:  # llama.cpp takes it for a whole file
        GGUFFile(path)
        return
    with pytest.raises(CamelidError, match=r"split.count is"):
        GGUFFile(path)
