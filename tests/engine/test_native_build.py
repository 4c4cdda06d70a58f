"""Compiling the decoder: compilers, processors that can do less, a library that is kept."""

import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from native_models import NEEDS_COMPILER, PLAIN, close, extend, fresh, ids, random_model

from camelid.base.home import private_folder
from camelid.engine.choose_decoder import warn_once
from camelid.engine.decoder import Decoder, TorchDecoder
from camelid.engine.engine import Engine
from camelid.engine.native import build
from camelid.engine.native.decoder import NativeDecoder
from camelid.model.spec import FeedForward
from camelid.model.transformer import Transformer
from camelid.quant.quantize import quantize_model
from camelid.text.tokenizer import Tokenizer

pytestmark = [NEEDS_COMPILER, pytest.mark.slow]
LESS = ("amx-int8", "amx-bf16", "avx512vnni", "avx512bf16", "avx512f")


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("CAMELID_HOME", str(tmp_path))
    build._loaded.cache_clear()
    warn_once.cache_clear()
    yield tmp_path
    build._loaded.cache_clear()


@pytest.fixture(scope="module")
def compiled() -> Path:
    """This machine's decoder, compiled once."""
    build.library()
    return private_folder("native") / f"decoder-{build._digest(build._compiler())}.so"


@pytest.fixture
def quick_compiler(
    compiled: Path,
    no_library: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A compiler that takes no time: it copies the compiled decoder."""
    script = tmp_path_factory.mktemp("compiler") / "cc"
    script.write_text(f"""#!/bin/sh
        while [ "$1" != -o ]; do shift; done
        cp {shlex.quote(str(compiled))} "$2"
    """)
    script.chmod(0o755)
    monkeypatch.setenv("CC", shlex.quote(str(script)))


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler", "'cc", None])
def test_without_a_compiler_torch_computes_and_it_is_said_once(
    compiler: str | None,
    no_library: Path,
    tokenizer: Tokenizer,
    tiny: Callable[..., Transformer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if compiler is None:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(no_library))
    else:
        monkeypatch.setenv("CC", compiler)
    engine = Engine(tiny(), tokenizer)
    answers = [engine.generate(["the cat"], max_new_tokens=5) for _ in range(2)]
    assert answers[0] == answers[1]
    assert caplog.text.count("generating with torch, which is slower") == 1
    assert not list(no_library.rglob("*.so"))


@pytest.fixture
def lacking(request: pytest.FixtureRequest) -> str:
    """What the compiler is told that this processor lacks; of all that it lacks anyway, one is tried."""
    name: str = request.param
    if name != LESS[0] and defined() == defined(f"-mno-{name}"):
        pytest.skip(f"this processor lacks {name}: {LESS[0]} compiles the same code")
    return name


def defined(*flags: str) -> str:
    """What the compiler knows of the processor that it compiles for."""
    command = [*build._compiler(), *build._flags(), *flags, "-dM", "-E", "-x", "c", os.devnull]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 processors")
@pytest.mark.parametrize("lacking", LESS, indirect=True)
def test_processors_that_can_do_less(
    lacking: str, no_library: Path, quick_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(PLAIN, feed_forward=FeedForward(160))
    _, *packed = models = [random_model(spec) for _ in range(3)]
    for model, bits in zip(packed, (4, 8), strict=True):
        quantize_model(model, bits, 32, scale_dtype=torch.bfloat16)  # type: ignore[arg-type]

    def logits(model: Transformer, kind: Callable[..., Decoder], dtype: torch.dtype) -> torch.Tensor:
        decoder = kind(model, dtype, 144)
        return extend(decoder, fresh(decoder, 3), [ids(70), ids(9, 1), ids(1, 2)], True)

    here = [logits(model, NativeDecoder, torch.bfloat16) for model in models]
    monkeypatch.delenv("CC")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, f"-mno-{lacking}"))
    build._loaded.cache_clear()
    for model, same in zip(models, here, strict=True):
        exact = logits(model, TorchDecoder, torch.float32)
        assert close(logits(model, NativeDecoder, torch.float32), exact, torch.float32)
        ours = logits(model, NativeDecoder, torch.bfloat16)
        assert (ours - exact).abs().max() <= 7e-2 * exact.abs().max()
        if lacking == "amx-int8":  # the same integers, however they are summed
            assert torch.equal(ours, same)
    assert len(list(no_library.rglob("*.so"))) == 2


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
def test_clang_compiles_it_too(no_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(PLAIN)
    exact = extend(decoder := TorchDecoder(model, torch.float32, 64), fresh(decoder, 1), [ids(40)], True)
    monkeypatch.setenv("CC", "clang")
    ours = extend(decoder := NativeDecoder(model, torch.float32, 64), fresh(decoder, 1), [ids(40)], True)
    assert close(ours, exact, torch.float32)


def test_arguments_of_builtins_are_constants() -> None:
    """As clang wants them, which a machine without it cannot tell."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in build.SOURCES)
    calls = re.findall(r"__builtin_prefetch\((.*?)\)[,;]", code)
    assert len(calls) > 10
    assert not [call for call in calls if re.search(r", [^,]*\?[^,]*$", call)]


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize("damage", [b"", b"no library"])
def test_a_damaged_library_is_compiled_again(no_library: Path, damage: bytes) -> None:
    build.library()
    [compiled] = no_library.rglob("*.so")
    compiled.unlink()
    compiled.write_bytes(damage)
    build._loaded.cache_clear()
    assert build.library().camelid_integers() in (0, 1)


@pytest.mark.usefixtures("quick_compiler")
def test_the_library_is_compiled_once(no_library: Path) -> None:
    build.library()
    [compiled] = no_library.rglob("*.so")
    written = compiled.stat().st_mtime_ns
    build._loaded.cache_clear()
    build.library()
    assert [path.stat().st_mtime_ns for path in no_library.rglob("*")][-1:] == [written]


@pytest.mark.usefixtures("quick_compiler")
def test_folders_of_compiled_code_are_private(no_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELID_HOME", str(no_library / "new" / "home"))
    build.library()
    for folder in (no_library / "new" / "home", no_library / "new" / "home" / "native"):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize("which", ["home", "library"])
def test_code_that_others_could_write_is_not_loaded(no_library: Path, which: str) -> None:
    build.library()
    [compiled] = no_library.rglob("*.so")
    path = no_library if which == "home" else compiled
    path.chmod(0o777)
    build._loaded.cache_clear()
    with pytest.raises(build.NoCompilerError, match=r"can be written by others .mode 0777.*chmod go-w"):
        build.library()
    path.chmod(0o700)
    build._loaded.cache_clear()
    build.library()


@pytest.mark.usefixtures("quick_compiler")
def test_code_of_another_user_is_not_loaded(no_library: Path) -> None:
    build.library()
    [compiled] = no_library.rglob("*.so")
    try:
        os.chown(compiled, 12345, -1)
    except PermissionError:
        pytest.skip("only root can give files away")
    build._loaded.cache_clear()
    with pytest.raises(build.NoCompilerError, match=r"belongs to another user .12345."):
        build.library()


@pytest.mark.usefixtures("quick_compiler")
def test_a_folder_of_ours_that_others_could_write_is_closed(no_library: Path) -> None:
    folder = no_library / "native"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    build.library()
    assert folder.stat().st_mode & 0o022 == 0


@pytest.mark.usefixtures("quick_compiler")
@pytest.mark.parametrize("name", ["draft-abc", "tmpabc"])
def test_drafts_of_killed_processes_are_removed(no_library: Path, name: str) -> None:
    old, fresh_one = no_library / "native" / name, no_library / "native" / f"{name}d"
    for folder in (old, fresh_one):
        folder.mkdir(parents=True)
        (folder / "decoder.so").write_bytes(b"half")
    os.utime(old, (0, 0))
    build.library()
    assert not old.exists()
    assert fresh_one.exists()
