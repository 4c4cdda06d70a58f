"""`camelid scale fit` through the command line: tables in, JSON and a page out, bad tables refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from camelid.cli.main import main
from camelid.scaling.reading import named_columns

CONSTANTS = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def loss(n: float, d: float) -> float:
    return 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28


def table(path: Path, rows, header="parameters,tokens,loss") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def runs(sizes=(1e7, 1e8, 1e9, 1e10), tokens=(1e9, 1e10, 1e11)):
    return [(n, d, loss(n, d)) for n in sizes for d in tokens]


def line(tokens):
    return [(n, tokens(n), loss(n, tokens(n))) for n in np.geomspace(1e7, 1e10, 8)]


def fit(capsys, *words) -> tuple[int, str, str]:
    code = main(["scale", "fit", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_table_gives_constants_intervals_and_a_page(tmp_path, capsys):
    path = table(tmp_path / "runs.csv", runs())
    out = tmp_path / "fit"
    code, text, _ = fit(capsys, path, "--json", "--resamples", 20, "--hold-out", 1, "--out", out)
    assert code == 0
    [line] = text.splitlines()
    printed = json.loads(line)
    assert printed["form"] == "chinchilla"
    assert printed["constants"] == pytest.approx(CONSTANTS, rel=1e-2)
    assert printed["intervals"].keys() == printed["constants"].keys()
    assert (printed["points"], printed["dropped"]) == (11, 0)
    assert [each["parameters"] for each in printed["held_out"]] == [1e10]
    kept = json.loads((out / "fit.json").read_text())
    assert kept["constants"] == printed["constants"]
    assert list(kept["sources"]) == [str(path)]
    page = (out / "report.html").read_text()
    assert "Held-out runs" in page
    assert "<svg" in page
    code, text, _ = fit(capsys, path, "--resamples", 0)
    assert code == 0
    assert "alpha" in text


def test_flops_give_tokens_and_columns_have_any_name(tmp_path, capsys):
    rows = [(6 * n * d, value, n, "x") for n, d, value in runs()]
    path = table(tmp_path / "named.csv", rows, "Cost,Final,Size,note")
    code, text, _ = fit(capsys, path, "--columns", "Size,,Cost,Final", "--json", "--resamples", 0)
    assert code == 0
    assert json.loads(text)["constants"] == pytest.approx(CONSTANTS, rel=1e-2)
    lines = tmp_path / "runs.jsonl"
    lines.write_text("".join(json.dumps({"N": n, "D": d, "Loss": value}) + "\n" for n, d, value in runs()))
    code, text, _ = fit(capsys, lines, "--json", "--resamples", 0)
    assert json.loads(text)["constants"] == pytest.approx(CONSTANTS, rel=1e-2)


def test_columns_are_named_in_order_or_by_key():
    header = ["Model Size", "Training FLOP", "loss", "final"]
    assert named_columns(header, None, "t") == dict(
        zip(("parameters", "flops", "loss"), header[:3], strict=True)
    )
    assert named_columns(header, "loss=final", "t")["loss"] == "final"
    order = "Model Size,tokens,Training FLOP,loss"  # there is no column tokens
    assert named_columns(header, order, "t") == named_columns(header, None, "t")


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ([*runs(), (1e8, 1e9, "nan")], [], "bad.csv:14: loss is 'nan'; it must be a positive finite number"),
        ([*runs(), (1e8, 1e9, "")], [], "bad.csv:14: loss is ''"),
        ([*runs(), (-1, 1e9, 2)], [], "bad.csv:14: parameters is '-1'"),
        (runs()[:3] * 2, ["--form", "saturating-d"], "6 runs of 3 different numbers of tokens cannot"),
        (runs()[:5], [], "5 runs cannot determine 5 constants; give at least 6"),
        (
            runs(sizes=(1e7, 1e8, 1e9), tokens=(1e9, 1e10, 1e11))[::2] * 2,
            [],
            "10 runs of 5 different sizes and numbers of tokens cannot determine 5 constants",
        ),
        (runs(sizes=(1e7, 1e8)), [], "have 2 different sizes (1e+07 and 1e+08); the law needs at least 3"),
        (runs(tokens=(1e9, 1.001e9)), [], "have 1 different numbers of tokens"),
        (
            line(lambda n: 20 * n),
            [],
            "the same tokens per parameter",
        ),
        (line(lambda n: 1e19 / n), [], "D = const x N^-1.00"),
        ([(n, d, 10 / value) for n, d, value in runs()], [], "the loss does not fall"),
        (runs(), ["--drop-highest", 12], "leave none to fit"),
        (runs(), ["--resamples", -1], "--resamples is -1"),
        (runs(), ["--resamples", 5], "--resamples is 5; an interval needs 20, and 0 gives none"),
        (runs(), ["--columns", "size=parameters"], "'size' is none of parameters, tokens, flops, loss"),
        (runs(), ["--columns", "parameters,,,loss"], "no column for tokens or flops"),
        (runs(), ["--columns", "x,tokens,,loss"], "no column 'x'; it has parameters, tokens, loss"),
    ],
    ids=lambda value: value[:24].replace(":", "") if isinstance(value, str) else "",
)
def test_what_cannot_be_fitted_is_refused_with_the_reason(tmp_path, capsys, rows, words, message):
    path = table(tmp_path / "bad.csv", rows)
    code, text, errors = fit(capsys, path, "--resamples", 0, *words)
    assert code in (1, 2)
    assert text == ""
    assert message in errors


def test_missing_files_and_folders_without_runs_are_refused(tmp_path, capsys):
    assert fit(capsys, tmp_path / "none.csv")[0] == 2
    (tmp_path / "empty").mkdir()
    code, _, errors = fit(capsys, tmp_path / "empty")
    assert code == 2
    assert "has no run" in errors


def test_the_resamples_that_determine_nothing_are_counted(tmp_path, capsys):
    """Of 7 runs with three of one number of tokens, many resamples have fewer than three."""
    rows = [*runs(sizes=(1e7, 1e8, 1e9), tokens=(1e9,)), *runs(sizes=(1e7, 1e8, 1e9, 1e10), tokens=(1e11,))]
    rows += runs(sizes=(1e8,), tokens=(1e10,))
    code, text, errors = fit(capsys, table(tmp_path / "few.csv", rows), "--resamples", 40, "--json")
    assert code == 0
    [warning] = [each for each in json.loads(text)["warnings"] if "of 40 resamples" in each]
    assert warning in " ".join(errors.split())


def test_a_run_far_from_the_law_is_pointed_out(tmp_path, capsys):
    rows = runs(sizes=np.geomspace(1e7, 1e10, 6))
    noise = np.random.default_rng(0).normal(0, 1e-3, len(rows))
    rows = [(n, d, value * np.exp(each)) for (n, d, value), each in zip(rows, noise, strict=True)]
    rows[4] = (*rows[4][:2], 9.0)
    _, _, errors = fit(capsys, table(tmp_path / "far.csv", rows), "--resamples", 0)
    assert "1 run lies more than 10 robust standard deviations" in errors
    assert "far.csv:6" in errors


def test_a_text_file_is_refused(tmp_path, capsys):
    path = tmp_path / "run.log"
    path.write_text("step 1  loss 2.0\n")
    code, _, errors = fit(capsys, path)
    assert code == 1
    assert "run.log: it is read as text, by its name" in errors
