"""The decoder's products for each kind of processor, against plain loops in `native_check.c`."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from native_models import NEEDS_COMPILER, PLAIN, close, extend, fresh, ids, random_model

from camelid.base.errors import WrongCall
from camelid.engine import choose_decoder
from camelid.engine.decoder import TorchDecoder
from camelid.engine.native import build
from camelid.engine.native.decoder import NativeDecoder
from camelid.quant.quantize import quantize_model

pytestmark = NEEDS_COMPILER

CHECK = Path(__file__).with_name("native_check.c")
INTEGER_DIGEST = "306c356427cff3a8"
"""Of all integer products: the same bits on every processor that fuses multiplication and addition."""
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
AVX2 = ("-mavx2", "-mfma", "-mf16c")


def outcome(compiler: str, flags: tuple[str, ...], folder: Path, run: tuple[str, ...] = ()) -> list[str]:
    """What the check prints: whether all was right, and its digest."""
    program = folder / "check"
    include = build.SOURCES[0].parent
    command = [compiler, "-O2", "-std=gnu11", "-fno-math-errno", "-pthread", f"-I{include}", *flags]
    subprocess.run([*command, "-o", program, CHECK, "-lm"], check=True)
    done = subprocess.run([*run, program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout.split()


def compiler() -> str:
    return next(name for name in ("cc", "gcc", "clang") if shutil.which(name))


def test_this_processor(tmp_path: Path) -> None:
    assert outcome(compiler(), ("-march=native",), tmp_path)[0] == "right"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 processors")
@pytest.mark.parametrize("flags", [AVX2, (*AVX2, "-DEMULATED_VNNI")], ids=["avx2", "avx-vnni"])
def test_narrow_x86_registers(flags: tuple[str, ...], tmp_path: Path) -> None:
    if "avx2" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor lacks AVX2")
    assert outcome(compiler(), flags, tmp_path) == ["right", INTEGER_DIGEST]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86 processors")
def test_oldest_x86_registers(tmp_path: Path) -> None:
    assert outcome(compiler(), (), tmp_path)[0] == "right"


@pytest.mark.skipif(
    not all(map(shutil.which, (CROSS, EMULATOR))), reason=f"{CROSS} and {EMULATOR} are not installed"
)
@pytest.mark.parametrize("architecture", ["armv8-a", "armv8.2-a+dotprod"])
def test_neon_under_emulation(architecture: str, tmp_path: Path) -> None:
    flags = (f"-march={architecture}", "-static")
    assert outcome(CROSS, flags, tmp_path, (EMULATOR, "-cpu", "max")) == ["right", INTEGER_DIGEST]


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "avx2" and (platform.machine() != "x86_64" or not _has("avx2")):
        pytest.skip("this processor lacks AVX2")
    monkeypatch.setenv("CAMELID_NATIVE_TARGET", name)
    monkeypatch.setattr(build, "_loaded", build._loaded.__wrapped__)
    return name


def _has(flag: str) -> bool:
    return flag in Path("/proc/cpuinfo").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["avx2", "baseline"], indirect=True)
@pytest.mark.parametrize("bits", [None, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restricted_decoder_computes_the_model(target: str, bits: int | None, dtype: torch.dtype) -> None:
    model = random_model(PLAIN)
    if bits is not None:
        quantize_model(model, bits, 32, scale_dtype=torch.bfloat16)  # type: ignore[arg-type]
    tokens = [ids(37), ids(3, 1), ids(1, 2)]
    decoder, exact = NativeDecoder(model, dtype, 144), TorchDecoder(model, torch.float32, 144)
    ours, expected = (extend(each, fresh(each, 3), tokens, True) for each in (decoder, exact))
    if dtype == torch.float32:
        assert close(ours, expected, dtype)
    assert (ours - expected).abs().max() <= 7e-2 * expected.abs().max()
    # A row's bits do not depend on what it is computed with.
    [alone] = fresh(decoder, 1)
    steps = [extend(decoder, [alone], [[token]]) for token in tokens[0]]
    assert torch.equal(torch.cat(steps), ours[:37])


def test_an_unknown_target_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELID_NATIVE_TARGET", "sse9")
    monkeypatch.setattr(build, "_loaded", build._loaded.__wrapped__)
    with pytest.raises(WrongCall, match="'sse9'; it can be native, avx2, baseline"):
        build.library()


@pytest.mark.parametrize("native_seconds", [1.0, 3.0])
def test_without_tuned_products_the_faster_decoder_is_used(
    native_seconds: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choose_decoder, "tuned", lambda: False)
    monkeypatch.setattr(
        choose_decoder,
        "_seconds",
        lambda decoder: native_seconds if isinstance(decoder, NativeDecoder) else 2.0,
    )
    caplog.set_level("INFO")
    settings = {"start_id": 0, "native": True, "compiled": False}
    made = choose_decoder.choose_decoder(random_model(PLAIN), torch.float32, 64, "whole", **settings)  # type: ignore[arg-type]
    assert isinstance(made, NativeDecoder if native_seconds == 1.0 else TorchDecoder)
    faster = "the decoder in C, 2.0" if native_seconds == 1.0 else "torch, 1.5"
    assert f"generating with {faster} times as fast" in caplog.text


def test_decoders_are_timed_on_the_model_itself() -> None:
    decoder = TorchDecoder(random_model(PLAIN), torch.float32, 64)
    assert choose_decoder._seconds(decoder) > 0
    assert decoder.pool.used == 0
