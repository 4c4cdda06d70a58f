"""A prediction that is given to `camelid pretrain` is kept before the run, and the report judges it."""

import json

from camelid import load_model
from camelid.cli import main as cli
from camelid.report.training import prediction_section
from camelid.runs.prediction import Prediction
from camelid.runs.run import read_metrics


def test_the_report_says_hit_or_miss_of_the_run_that_was_predicted(tmp_path, pretrain_words, capsys):
    """The same run judged thrice: by a prediction for another size, and inside and outside the interval."""
    losses, pages, parameters, tokens = [], [], 1e4, 2048.0
    for name, low, high in (("another", 0.1, 9.0), ("hit", 0.1, 9.0), ("miss", 0.1, 0.2)):
        path = tmp_path / f"{name}.json"
        Prediction(0.15, low, high, 0.9, parameters, tokens, 1e8, "chinchilla", "0123456789abcdef").write(
            path
        )
        out = tmp_path / name
        assert cli.main(pretrain_words(out, prediction=path, training__steps=3)) == 0
        assert (out / "prediction.json").read_bytes() == path.read_bytes()
        assert str(path) in json.loads((out / "run.json").read_text())["data"]
        records = read_metrics(out / "metrics.jsonl")
        losses.append([row for row in records if "validation_loss" in row][-1])
        pages.append((out / "report.html").read_text())
        warned = "is for 10,000 parameters and not " in capsys.readouterr().err
        assert warned == (name == "another")
        tokens = float(sum(row.get("tokens", 0) for row in records))
        parameters = float(sum(each.numel() for each in load_model(out / "model").parameters()))
    assert losses[0]["validation_loss"] == losses[1]["validation_loss"] == losses[2]["validation_loss"]
    measured = f"the validation loss is {losses[0]['validation_loss']:.4f}"
    assert f"Not comparable: it is for 10,000 parameters and not {parameters:,.0f}" in pages[0]
    assert "hit: the" not in pages[0]
    assert f"hit: {measured}, predicted 0.1500" in pages[1]
    assert f"miss: {measured}, predicted 0.1500" in pages[2]
    (tmp_path / "hit" / "model").rename(tmp_path / "hit" / "later")
    [section] = prediction_section(tmp_path / "hit", read_metrics(tmp_path / "hit" / "metrics.jsonl"))
    assert "The run is not finished" in section.text
    assert "hit: the" not in section.text
    (tmp_path / "other.json").write_text("{}")
    assert cli.main(pretrain_words(tmp_path / "none", prediction=tmp_path / "other.json")) == 2
    assert "'loss' is missing" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
