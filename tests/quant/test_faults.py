"""What goes wrong when a model is made small is named, with the way out, and nothing half-written stays."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from camelid.base.digest import digest_file
from camelid.cli.main import main
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import train_tokenizer

TEXT = "The cat sat on the mat, and the dog ran over to it. One, two, three birds sang in the old tree. " * 40


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny model, changed in place, into a folder."""

    def write(
        change: Callable[[Transformer], object] = lambda model: None,
        name: str = "model",
        untied: bool = False,
    ) -> Path:
        tokenizer = train_tokenizer([TEXT], 300)
        # Untied, it has rows that no layout of few bits takes.
        spec = ModelSpec.llama(
            vocab_size=tokenizer.vocab_size + (1 - tokenizer.vocab_size % 2 if untied else 0),
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            feed_forward_width=88,
            context_length=64,
            tie_embeddings=not untied,
        )
        model = Transformer(spec).initialize(0, std=0.2)
        with torch.no_grad():
            change(model)
        folder = tmp_path / name
        folder.mkdir()
        save_checkpoint(folder, model, dtype=torch.float32)
        tokenizer.save(folder)
        return folder

    return write


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def looking(text: Path, *more: str, method: str = "gptq") -> list[str]:
    words = ["--method", method, "--calibration", str(text), "--calibration-rows", "4"]
    return [*words, "--calibration-length", "16", *more]


def refused(
    folder: Path, words: Iterable[str], capsys: pytest.CaptureFixture[str], verb: str = "quantize"
) -> tuple[int, str]:
    """The exit code and the message of `camelid quantize` or `compare`, which leaves nothing."""
    before = {path.name for path in folder.parent.iterdir()}
    code = main([verb, str(folder), "--out", str(folder.parent / "out"), *words])
    assert {path.name for path in folder.parent.iterdir()} == before
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--calibration-rows", "1000"], 1, "tokens, but 1000 rows of 16 need 16,000; give more text, "
            "or use --calibration-rows"),
        (["--calibration-rows", "0"], 2, "--calibration-rows is 0; it must be at least 1"),
        (["--calibration-length", "0"], 2, "--calibration-length is 0; it must be at least 1"),
        (["--calibration-length", "65"], 2, "--calibration-length is 65; the model's context holds 64"),
        (["--group-size", "24"], 1, "layers.0.self_attn.q_proj has 32 inputs, "
            "not a multiple of group size 24; sizes that fit"),
        (["--no-static-groups", "--group-size", "8"], 2, "use --static-groups with act-order, or "
            "--no-act-order"),
        (["--damping", "1.5"], 2, "damping is 1.5; it must be a share of the mean diagonal, from 0 to 1"),
        (["--method", "rtn"], 2, "--calibration is for --method gptq and awq"),
        (["--method", "awq", "--damping", "7"], 2, "--damping is for --method gptq; awq has no such setting"),
        (["--method", "awq", "--no-act-order"], 2, "--no-act-order is for --method gptq; awq has no such "
            "setting"),
    ],
)  # fmt: skip
def test_calls_that_cannot_go_well(build, text, more, code, message, capsys) -> None:
    found, said = refused(build(), looking(text, *more), capsys)
    assert (found, message in said) == (code, True), said


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--damping", "7"], 2, "--damping is for --method gptq; rtn has no such setting"),
        (["--calibration-rows", "9"], 2, "--calibration-rows is for --method gptq and awq; "
            "rtn uses no calibration text"),
        (["--select", "*"], 2, "--select also matches lm_head, but it is for the linears in layers"),
        (["--select", "layers.*_proj", "lm_head", "--head-bits", "8"], 2, "quantise the output projection "
            "with --head-bits 8"),
        (["--head-bits", "8"], 1, "remove --head-bits"),
        (["--bits", "3"], 1, "with --select 'layers.*_proj' '!*.mlp.gate_proj' '!*.mlp.up_proj' "
            "'!*.mlp.down_proj', or use --bits 4 or 8"),
    ],
)  # fmt: skip
def test_what_fits_no_method_or_model_is_refused_before_the_weights_are_read(
    build, words, code, message, capsys, monkeypatch
) -> None:
    folder = build(untied=True)
    monkeypatch.setattr("camelid.workflows.quantize.load_model", lambda *given: pytest.fail("it was loaded"))
    found, said = refused(folder, words, capsys)
    assert (found, message in said) == (code, True), said


def test_a_way_out_that_is_named_leads_out(build, capsys) -> None:
    folder = build()
    _, said = refused(folder, ["--bits", "3"], capsys)
    words = shlex.split(said[said.index("--select") : said.index(", or use")])
    assert main(["quantize", str(folder), str(folder.parent / "some"), "--bits", "3", *words]) == 0
    assert main(["quantize", str(folder), str(folder.parent / "all"), "--bits", "4"]) == 0


def test_a_text_of_less_than_one_row_has_no_other_way_out(build, text, capsys) -> None:
    text.write_text("The cat.")
    code, said = refused(build(), looking(text), capsys)
    assert code == 1
    assert said.endswith("give more text\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\0def", "text.txt is binary (byte 3 is zero)"),
        (b"caf\xe9 " * 200, "text.txt:1: byte 3 (0xE9) is not UTF-8; save the file as UTF-8"),
        (b"", "text.txt is empty"),
        (None, "text.txt does not exist"),
    ],
)
def test_calibration_files_that_cannot_be_read(build, text, content, message, capsys) -> None:
    folder = build()
    if content is None:
        text.unlink()
    else:
        text.write_bytes(content)
    code, said = refused(folder, looking(text), capsys)
    assert (code, message in said) == (1, True), said


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_name_their_linear(build, text, method, value, capsys) -> None:
    folder = build(lambda model: model.layers[1].mlp.up_proj.weight[3, 4:6].fill_(value))
    words = [] if method == "rtn" else looking(text, method=method)
    code, said = refused(folder, words, capsys)
    assert code == 1
    assert "layers.1.mlp.up_proj: 2 of its" in said
    assert "are NaN or infinite" in said


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_inputs_that_are_no_numbers_name_the_linear_that_is_given_them(build, text, method, capsys) -> None:
    folder = build(lambda model: model.layers[1].input_layernorm.weight[3].fill_(float("nan")))
    code, said = refused(folder, looking(text, method=method), capsys)
    assert (code, "layers.1.self_attn.q_proj: its input is NaN or infinite" in said) == (1, True), said


def same_and_dead(model: Transformer) -> None:
    """Two inputs of the first linears that are always equal and one that is always zero."""
    for layer in model.layers:
        layer.input_layernorm.weight[7] = 0
    model.embed_tokens.weight[:, 1] = model.embed_tokens.weight[:, 0]


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_dead_and_doubled_inputs_are_no_fault_and_what_they_took_is_told(build, text, method, capsys) -> None:
    folder = build(same_and_dead)
    words = looking(text, *(["--damping", "0"] if method == "gptq" else []), method=method)
    out = folder.parent / "out"
    assert main(["quantize", str(folder), str(out), *words, "--select", "layers.*_proj", "!*.v_proj"]) == 0
    told = json.loads((out / "camelid.json").read_text())
    assert told["data"] == {str(text): digest_file(text)}
    made = told["quantized"]
    assert (made["calibration_rows"], made["select"]) == (4, ["layers.*_proj", "!*.v_proj"])
    assert {"group_size", "head_bits"} <= made.keys()
    if method == "gptq":
        # Of what is always equal, no Hessian can be factored as it is.
        assert made["damping_grown"]["layers.0.self_attn.q_proj"] > 0
        assert "damping was increased for" in capsys.readouterr().err


def test_an_out_that_exists_is_refused_before_any_work(build, text, capsys, monkeypatch) -> None:
    folder = build()
    (folder.parent / "out").mkdir()
    (folder.parent / "out" / "mine").write_text("mine")
    monkeypatch.setattr("camelid.workflows.quantize.load_model", lambda *given: pytest.fail("it was loaded"))
    code, said = refused(folder, looking(text), capsys)
    assert (code, "out exists and is not empty; choose another folder or remove it" in said) == (1, True)
    assert (folder.parent / "out" / "mine").read_text() == "mine"


def test_what_is_small_already_is_not_made_smaller(build, capsys) -> None:
    folder = build()
    small = folder.parent / "small"
    assert main(["quantize", str(folder), str(small)]) == 0
    code, said = refused(small, [], capsys)
    assert (code, "small is already quantised; start from the model that it was made from" in said) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--limit", "4"], "--data, --limit and --chat need a task; name one with --task"),
        (["--task", "lambada"], "lambada needs its dataset"),
        (["--task", "world/nothing"], "no such task"),
        (["--text", "NOWHERE"], "nowhere.txt does not exist"),
        (["--calibration", "OTHER"], "is also calibration text; use text for --text that no method has seen"),
        (["--no-static-groups"], "use --static-groups with act-order"),
        (["--no-static-groups", "--bits", "8", "4"], "use --static-groups with act-order"),
        (["--damping", "5"], "damping is 5.0; it must be a share"),
        (["--calibration-length", "65"], "the model's context holds 64 tokens"),
        (["--calibration-rows", "0"], "--calibration-rows is 0; it must be at least 1"),
        (["MODEL"], "is already quantised"),
    ],
)
def test_comparisons_that_cannot_go_well(build, text, more, message, capsys, monkeypatch) -> None:
    folder, other = build(), text.with_name("other.txt")
    shutil.copy(text, other)
    monkeypatch.setattr("camelid.workflows.compare.measured", lambda *given: pytest.fail("it was measured"))
    if more == ["MODEL"]:
        small = folder.parent / "small"
        assert main(["quantize", str(folder), str(small)]) == 0
        folder, more = small, []
    words = ["--bits", "4", "--text", str(other), "--calibration", str(text), "--calibration-length", "16"]
    named = {"OTHER": str(other), "NOWHERE": str(other.with_name("nowhere.txt"))}
    code, said = refused(folder, [*words, *(named.get(word, word) for word in more)], capsys, "compare")
    assert (code, message in said) == (1 if "NOWHERE" in more else 2, True), said


def test_models_that_are_not_there_and_texts_that_nobody_reads_are_told_at_once(
    build, text, capsys, monkeypatch
) -> None:
    folder, other = build(), text.with_name("other.txt")
    shutil.copy(text, other)
    monkeypatch.setattr("camelid.workflows.compare.measured", lambda *given: pytest.fail("it was measured"))
    code = main(["compare", str(folder), "nowhere", "--text", str(text), "--out", str(folder.parent / "out")])
    assert (code, "nowhere" in capsys.readouterr().err) == (1, True)
    words = ["--bits", "4", "--methods", "rtn", "--calibration", str(text), "--text", str(other)]
    code, said = refused(folder, words, capsys, "compare")
    assert (code, "--calibration is for gptq and awq; rtn uses no calibration text" in said) == (2, True)
    words = ["--bits", "4", "--methods", "rtn", "awq", "--damping", "0.5", "--text", str(other)]
    code, said = refused(folder, words, capsys, "compare")
    assert (code, "--damping is for gptq; rtn and awq have no such setting" in said) == (2, True)


def test_settings_of_quantising_need_bits_to_quantise_at(build, text, capsys) -> None:
    folder = build()
    code, said = refused(folder, ["--text", str(text), "--calibration", str(text)], capsys, "compare")
    assert (code, "--calibration: only used when quantising; add --bits" in said) == (2, True)
    words = [str(folder), str(folder), "--text", str(text), "--bits", "4"]
    assert main(["compare", *words, "--out", str(folder.parent / "out")]) == 2
    assert "--bits quantises a single model, but 2 are given" in capsys.readouterr().err


def test_what_cannot_be_measured_says_why(build, text, capsys) -> None:
    folder, other = build(), text.with_name("other.txt")
    other.write_text("The cat.")
    words = looking(text, "--bits", "4", "--text", str(other), "--perplexity", "papers")[2:]
    code, said = refused(folder, words, capsys, "compare")
    assert code == 1
    assert "model cannot be measured: the text has" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("comparing", [False, True])
def test_ctrl_c_in_the_middle_leaves_nothing(build, text, comparing) -> None:
    folder, other = build(), text.with_name("other.txt")
    shutil.copy(text, other)
    verb = "compare" if comparing else "quantize"
    words = [sys.executable, "-m", "camelid", verb, str(folder), "--out", str(folder.parent / "out")]
    words += ["--calibration", str(text), "--calibration-length", "16"]
    # Weights enough for the signal to come in time: the draft stands there before the first is read.
    words += (
        ["--text", str(other), "--bits", "4"]
        if comparing
        else ["--method", "gptq", "--calibration-rows", "60"]
    )
    before = {path.name for path in folder.parent.iterdir()}
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(folder.parent.glob(".out.*.partial")) and running.poll() is None:
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=240)
    assert running.returncode == 130, said
    assert said.endswith("camelid: interrupted\n")
    assert {path.name for path in folder.parent.iterdir()} == before
