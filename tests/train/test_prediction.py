"""A prediction that is given to `camelid pretrain` is kept before the run, and the report judges it."""

import json

from camelid.cli import main as cli
from camelid.runs.prediction import Prediction
from camelid.runs.run import read_metrics


def test_the_report_says_hit_or_miss(tmp_path, pretrain_words, capsys):
    """The same run judged twice: its seed gives the same loss, once inside the interval and once not."""
    losses, pages = [], []
    for name, low, high in (("hit", 0.1, 9.0), ("miss", 0.1, 0.2)):
        path = tmp_path / f"{name}.json"
        Prediction(0.15, low, high, 0.9, 1e4, 2048.0, 1e8, "chinchilla", "0123456789abcdef").write(path)
        out = tmp_path / name
        assert cli.main(pretrain_words(out, prediction=path, training__steps=3)) == 0
        assert (out / "prediction.json").read_bytes() == path.read_bytes()
        assert str(path) in json.loads((out / "run.json").read_text())["data"]
        losses.append([row for row in read_metrics(out / "metrics.jsonl") if "validation_loss" in row][-1])
        pages.append((out / "report.html").read_text())
    assert losses[0]["validation_loss"] == losses[1]["validation_loss"]
    said = f"the validation loss is {losses[0]['validation_loss']:.4f}, predicted 0.1500"
    assert f"hit: {said}" in pages[0]
    assert f"miss: {said}" in pages[1]
    assert "hit.json is for 10,000 parameters and not " in capsys.readouterr().err
    (tmp_path / "other.json").write_text("{}")
    assert cli.main(pretrain_words(tmp_path / "none", prediction=tmp_path / "other.json")) == 2
    assert "'loss' is missing" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
