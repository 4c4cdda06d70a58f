"""Licences: read where people state them, recorded beside the model, and named where they limit its use."""

import json

import pytest

from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.runs.licences import (
    NOT_STATED,
    Licence,
    concerns,
    licence_of,
    licences_of_data,
    licences_of_model,
    model_card,
)
from camelid.text.tokenizer import train_tokenizer

LLAMA, NC = Licence("base", "llama-7b", "llama1 (non-commercial)"), "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, None),
        ({"README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n"}, "apache-2.0"),
        ({"README.md": "---\nlicense: 'cc-by-sa-3.0'\n---\n"}, "cc-by-sa-3.0"),
        ({"README.md": "---\nlicense: other\nlicense_name: llama2\n---\n"}, "llama2"),
        ({"README.md": "license: mit\n"}, None),
        ({"README.md": "# None here\n", "LICENSE": "\n  MIT License\n\nPermission is"}, "MIT License"),
    ],
)
def test_where_people_state_them(files, licence, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert licence_of(tmp_path) == licence
    rows = tmp_path / "rows.jsonl"
    assert licences_of_data(rows) == [Licence("data", "rows.jsonl", licence or NOT_STATED)]
    assert licences_of_data(rows, "mit") == [Licence("data", "rows.jsonl", "mit")]


def test_made_data_is_its_teachers_and_that_of_the_questions(tmp_path):
    teacher = {"name": "smollm2", "identity": "abc", "licence": "apache-2.0", "terms": NOT_STATED}
    asked = Licence("data", "questions.jsonl", "cc-by-nc-4.0")
    card = {"maker": "answers", "teacher": teacher, "licences": [vars(asked)]}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert licences_of_data(tmp_path) == [Licence("teacher", "smollm2", "apache-2.0"), asked]


@pytest.mark.parametrize(
    ("licences", "words"),
    [
        ([Licence("base", "smollm2", "apache-2.0"), Licence("data", "dolly", "cc-by-sa-3.0")], []),
        ([Licence("data", "rows.jsonl")], ["no licence is stated for data rows.jsonl"]),
        ([LLAMA], ["non-commercial: base llama-7b"]),
        ([Licence("data", "alpaca", NC), LLAMA], ["non-commercial: data alpaca (cc-by-nc-4.0), base llama"]),
        (
            [Licence("data", "dolly", "cc-by-sa-3.0"), Licence("data", "alpaca", NC)],
            ["non-commercial: data alpaca", "conflicting: data dolly (cc-by-sa-3.0), data alpaca"],
        ),
        ([Licence("data", "one", "cc-by-nc-sa-4.0")], ["non-commercial: data one"]),
        (
            [Licence("data", "dolly", "cc-by-sa-3.0"), Licence("base", "code", "GPL-3.0")],
            ["conflicting: data dolly"],
        ),
        ([Licence("teacher", "text-davinci-003", "proprietary")], ["written by a service"]),
        ([Licence("data", "fixed", "cc-by-nd-4.0")], ["no derivatives"]),
    ],
)
def test_what_they_imply(licences, words):
    found = concerns(licences)
    assert len(found) == len(words)
    for concern, beginning in zip(found, words, strict=True):
        assert concern.startswith(beginning)


def test_a_card_names_every_source():
    rows = [vars(each) for each in (LLAMA, Licence("data", "alpaca", NC))]
    card = model_card({"licences": rows})
    assert card.startswith("---\nlicense: other\n")
    assert "base_model:\n- llama-7b\ndatasets:\n- alpaca\n" in card
    assert "| data | alpaca | cc-by-nc-4.0 | not stated |" in card
    assert "- Non-commercial: base llama-7b" in card
    assert model_card({"licences": [vars(Licence("base", "a", "mit"))]}).startswith("---\nlicense: mit\n")


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "camelid.json").write_text(json.dumps({"licences": [{"what": 1}]}))
    with pytest.raises(CamelidError, match="a licence is"):
        licences_of_model(tmp_path)


def test_from_the_base_to_the_tuned_and_the_quantised_model(tmp_path, caplog, capsys):
    base, data = tmp_path / "base", tmp_path / "data"
    base.mkdir()
    data.mkdir()
    tokenizer = train_tokenizer(["Hello. Hi. Who are you? Me."] * 3, 300)
    spec = ModelSpec.llama(vocab_size=300, hidden_size=32, num_layers=1, num_heads=2, context_length=64)
    save_checkpoint(base, Transformer(spec).initialize(0))
    tokenizer.save(base)
    (base / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    rows = [{"instruction": "Hello.", "input": "", "output": "Hi."}] * 4
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "tune.yaml"
    recipe.write_text(
        f"stage: tune\nmodel: {base}\n"
        f"data: {{train: [{data}/rows.jsonl], licence: cc-by-sa-3.0, validation_fraction: 0}}\n"
        "training: {steps: 1, context_length: 64, global_batch_tokens: 64, compile: false}\n"
        f"out: {tmp_path}/run\n"
    )
    assert main(["tune", str(recipe)]) == 0, capsys.readouterr()
    assert "conflicting: data rows.jsonl (cc-by-sa-3.0), base base (cc-by-nc-4.0)" in capsys.readouterr().err
    tuned = tmp_path / "run" / "model"
    wanted = [Licence("base", "base", NC), Licence("data", "rows.jsonl", "cc-by-sa-3.0")]
    assert licences_of_model(tuned) == wanted
    assert "Conflicting: data rows.jsonl" in (tmp_path / "run" / "report.html").read_text()
    packed = tmp_path / "packed"
    assert main(["quantize", str(tuned), "--out", str(packed), "--method", "rtn"]) == 0
    assert licences_of_model(packed) == wanted
    assert "| base | base | cc-by-nc-4.0 |" in (packed / "README.md").read_text()
