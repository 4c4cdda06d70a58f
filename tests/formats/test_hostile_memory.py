"""The worst files, in a process of their own: it neither dies nor takes memory beyond what a file's size
explains."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hostile import dumped, header_of, read_json, with_header
from test_hostile_folders import INDEX, WEIGHTS, folders  # noqa: F401 -- a fixture

from camelid.base.errors import CamelidError
from camelid.formats.load import load_model

MEGABYTE = 2**20
READ = """
import resource, sys
from pathlib import Path
import psutil
from camelid.base.errors import CamelidError
from camelid.formats.importing import import_model
from camelid.engine.memory import plan
from camelid.formats.load import load_model
import camelid.quant, torch
process = psutil.Process()
resource.setrlimit(resource.RLIMIT_AS, (process.memory_info().vms + 2**30,) * 2)
for place in map(Path, sys.argv[1:]):
    folder = (load_model, lambda path: plan(path, torch.float32))
    for read in folder if place.is_dir() else (lambda path: import_model(path, path.with_suffix("")),):
        try:
            read(place)
            print("a model", 0)
        except CamelidError as error:
            assert str(place) in str(error), error
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        size = sum(path.stat().st_size for path in (place.iterdir() if place.is_dir() else [place]))
        print(place.name, size, peak)
"""


def gguf(keys: bytes, counts: tuple[int, int] = (0, 1)) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + keys


def key(name: bytes, kind: int, rest: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + rest


HOSTILE_GGUF = {
    "counts": gguf(bytes(MEGABYTE), (2**64 - 1, 2**64 - 1)),
    "string": gguf(key(b"k", 8, struct.pack("<Q", 2**62) + bytes(MEGABYTE))),
    "bytes": gguf(key(b"k", 9, struct.pack("<IQ", 0, MEGABYTE) + bytes(MEGABYTE))),
    "bools": gguf(key(b"k", 9, struct.pack("<IQ", 7, MEGABYTE) + bytes(MEGABYTE))),
    "strings": gguf(key(b"k", 9, struct.pack("<IQ", 8, MEGABYTE // 8) + bytes(MEGABYTE))),
    "long array": gguf(key(b"k", 9, struct.pack("<IQ", 8, 2**63) + bytes(MEGABYTE))),
    "name": gguf(key(b"k" * MEGABYTE, 99, b"")),
    "alignment": gguf(key(b"general.alignment", 10, struct.pack("<Q", 2**64 - 1)), (0, 1)),
    "overlapping": gguf(
        b"".join(
            struct.pack("<Q2sIQQIQ", 2, bytes((number // 250 + 1, number % 250 + 1)), 2, 512, 512, 0, 0)
            for number in range(100, 2000)
            if number // 250 + 1 < 128 and number % 250 + 1 < 128
        )
        + bytes(MEGABYTE + 64),
        (sum(1 for number in range(100, 2000) if number % 250 + 1 < 128), 0),
    ),
}


def hostile_headers(whole: bytes) -> dict[str, bytes]:
    header, data = header_of(whole)
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2}
    many = {**header, **{f"{number}": entry for number in range(10_000)}}
    return {
        "length": with_header(dumped(header), data, 2**63),
        "whole length": with_header(dumped(header), data, 2**64 - 1),
        "hundred megabytes": with_header(dumped(header), data, 10**8),
        "deep": with_header(b"[" * MEGABYTE, data),
        "deep objects": with_header(b'{"a":' * (MEGABYTE // 5), data),
        "list": with_header(b"[" + b"0," * (MEGABYTE // 2) + b"0]", data),
        "same name": with_header(b"{" + b'"a":{},' * (MEGABYTE // 7) + b'"a":{}}', data),
        "many": with_header(dumped(many), data),
    }


def hostile_configs(config: dict[str, object]) -> dict[str, bytes]:
    window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "layer_types": None}
    return {
        "deep": b"[" * MEGABYTE,
        "deep objects": b'{"a":' * (MEGABYTE // 5),
        "digits": b'{"a":' + b"9" * MEGABYTE + b"}",
        "layers": dumped({**config, "num_hidden_layers": 2**40}),
        "windows": dumped({**config, **window, "num_hidden_layers": 10**9}),
        "wide": dumped({**config, "vocab_size": 2**40, "hidden_size": 2**40}),
        "context": dumped({**config, "max_position_embeddings": 2**40}),
    }


def replaced(folder: Path, target: Path, name: str, content: bytes) -> Path:
    """The folder again, with one file of other content."""
    target.mkdir(parents=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(content if path.name == name else path.read_bytes())
    return target


def test_memory_stays_in_proportion(folders, tmp_path):  # noqa: F811
    places = []
    for kind in ("qwen2", "packed"):
        config, whole = read_json(folders[kind] / "config.json"), (folders[kind] / WEIGHTS).read_bytes()
        for file, contents in ((WEIGHTS, hostile_headers(whole)), ("config.json", hostile_configs(config))):
            for name, content in contents.items():
                places.append(replaced(folders[kind], tmp_path / kind / file / name, file, content))
    for name, content in HOSTILE_GGUF.items():
        (tmp_path / f"{name}.gguf").write_bytes(content)
        places.append(tmp_path / f"{name}.gguf")
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, places)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    peaks = [
        (*line.rsplit(" ", 2)[:1], *map(int, line.rsplit(" ", 2)[1:]))
        for line in done.stdout.splitlines()
        if not line.startswith("a model")
    ]
    before = peaks[0][2]
    for name, size, peak in peaks:
        assert peak - before < 64 * MEGABYTE + 40 * size, name
        before = max(before, peak)


def test_tiny_layers_without_end(folders, tmp_path):  # noqa: F811
    """A value in the file for every parameter of 10,000 layers, all in one tensor: refused before layers
    are built."""
    config = read_json(folders["llama"] / "config.json")
    ones = dict.fromkeys(
        ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"), 1
    )
    config |= {**ones, "head_dim": 2, "num_hidden_layers": 10_000}
    header = dumped({"x": {"dtype": "F8_E4M3", "shape": [200_000], "data_offsets": [0, 200_000]}})
    folder = replaced(folders["llama"], tmp_path / "layers", WEIGHTS, with_header(header, bytes(200_000)))
    (folder / "config.json").write_bytes(dumped(config))
    with pytest.raises(CamelidError, match="in 10,000 layers, but 200,000 in 1 tensors are stored"):
        load_model(folder)


@pytest.mark.parametrize(
    "named", ["../outside.safetensors", "absolute", "..", ".", "", "a/../b", "x" * 5000, 7, None, ["x"]]
)
def test_an_index_names_files_of_its_folder_alone(folders, tmp_path, named):  # noqa: F811
    outside = tmp_path / "outside.safetensors"
    first = sorted(folders["sharded"].glob("*.safetensors"))[0]
    outside.write_bytes(first.read_bytes())
    index = read_json(folders["sharded"] / INDEX)
    name = str(outside) if named == "absolute" else named
    table = {
        "weight_map": {
            tensor: name if file == first.name else file for tensor, file in index["weight_map"].items()
        }
    }
    folder = replaced(folders["sharded"], tmp_path / "folder", INDEX, json.dumps(table).encode())
    with pytest.raises(
        CamelidError, match=r"not a file of this folder|does not hold|cannot be read"
    ) as raised:
        load_model(folder, torch.float32)
    assert str(folder) in str(raised.value)
    assert len(str(raised.value)) < 6000
