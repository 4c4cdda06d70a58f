"""The stages by themselves: text to a talking model's folder, and what stops each of them."""

import json

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

import camelid
from camelid.cli import main as cli
from camelid.data.rows.examples import conversation_example
from camelid.engine.engine import Engine
from camelid.lm.sampling import Sampling
from camelid.runs.run import read_metrics
from camelid.text.conversation import Conversation, Message
from camelid.train.stages import token_lengths


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tune_words):
    out = tmp_path_factory.mktemp("tuned") / "run"
    settings = {"training__learning_rate": 0.02, "training__steps": 40, "training__weight_decay": 0.0}
    assert cli.main(tune_words(out, **settings)) == 0
    return out


def test_a_run_folder_holds_all_that_it_promises(pretrained, tuned):
    for out in (pretrained, tuned):
        for name in ("recipe.yaml", "run.json", "metrics.jsonl", "report.html", "model/config.json"):
            assert (out / name).is_file(), name
        losses = [record["loss"] for record in read_metrics(out / "metrics.jsonl") if "loss" in record]
        assert losses[-1] < losses[0] - 0.5
    parents = json.loads((tuned / "run.json").read_text())["parents"]
    assert [parent["name"] for parent in parents] == [str(pretrained / "model")]


@pytest.mark.parametrize("stage", ["pretrained", "tuned"])
def test_the_model_loads_in_transformers_with_equal_logits(stage, request):
    folder = request.getfixturevalue(stage) / "model"
    theirs, their_tokenizer = LlamaForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ours, our_tokenizer = camelid.load_model(folder), camelid.load_tokenizer(folder)
    text = "Tom took a kite to the park."
    ids = our_tokenizer.encode(text)
    assert their_tokenizer(text, add_special_tokens=False)["input_ids"] == ids
    tokens = torch.tensor([ids])
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-4)
    asked = [{"role": "user", "content": "Who?"}]
    assert their_tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True).endswith(
        "<|im_start|>assistant\n"
    )


def test_both_chat_and_document_ends_stop_generation(tuned):
    tokenizer = camelid.load_tokenizer(tuned / "model")
    stops = {tokenizer.special_ids[name] for name in ("<|endoftext|>", "<|im_end|>")}
    assert tokenizer.stop_ids == stops
    written = json.loads((tuned / "model" / "generation_config.json").read_text())
    assert set(written["eos_token_id"]) == stops


def test_a_tuned_model_answers_and_ends_its_turn(tuned):
    engine = Engine.load(tuned / "model")
    asked = Conversation((Message("user", "3: who has the ball?"),))
    [[answer]] = engine.generate([asked], Sampling(max_new_tokens=40, temperature=0.0))
    assert answer.finish_reason == "stop"
    assert "<|im_end|>" not in answer.text
    assert answer.text.strip()


def test_the_loss_counts_the_assistants_tokens_alone(tuned, chats):
    tokenizer = camelid.load_tokenizer(tuned / "model")
    first = json.loads(chats.read_text().splitlines()[0])["messages"]
    example = conversation_example(tokenizer, Conversation(tuple(Message(**turn) for turn in first)))
    trained = example.targets[example.weights > 0].tolist()
    assert tokenizer.decode(trained, skip_special_tokens=False).strip() == "Tom has.<|im_end|>"


def test_lengths_in_bytes_add_up_to_the_text(vocabulary):
    tokenizer = camelid.load_tokenizer(vocabulary)
    text = "Anna said: naïve café – 12 km!\n"
    assert token_lengths(tokenizer)[tokenizer.encode(text)].sum() == len(text.encode())
    assert token_lengths(tokenizer)[list(tokenizer.special_ids.values())].sum() == 0


def test_a_unigram_vocabulary_with_sentinels(tmp_path):
    (tmp_path / "text.txt").write_text("Anna took a kite to the park. Tom has the ball.\n" * 50)
    words = ["tokenizer", "--data.train", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--kind", "unigram", "--sentinels", "4", "--vocab-size", "300"]) == 0
    tokenizer = camelid.load_tokenizer(tmp_path / "out")
    assert tokenizer.special_ids["<extra_id_0>"] == tokenizer.vocab_size - 1
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a kite")["input_ids"][1:] == tokenizer.encode(
        "a kite"
    )


def test_validation_does_not_change_the_training(tmp_path, pretrain_words):
    for name, every in (("often", 1), ("seldom", 100)):
        assert cli.main(pretrain_words(tmp_path / name, training__validate_every=every)) == 0
    often, seldom = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("often", "seldom"))
    assert [record.get("loss") for record in often] == [record.get("loss") for record in seldom]
    assert sum("validation_loss" in record for record in seldom) == 2


@pytest.fixture
def refused(tmp_path, capsys):
    """The message of a command that must fail with this code and leave no trace in `out`."""

    def run(words, code):
        out = tmp_path / "out"
        before = sorted(path.name for path in out.rglob("*")) if out.exists() else None
        assert cli.main(words) == code
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        after = sorted(path.name for path in out.rglob("*")) if out.exists() else None
        assert after == before, shown
        return shown

    return run


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


BAD_TEXT = {
    "empty": (b"", "is empty"),
    "binary": (bytes(range(256)) * 4, "binary"),
    "latin": ("Zoë and Tom. ".encode("latin-1") * 50, "UTF-8"),
}


@pytest.mark.parametrize("kind", BAD_TEXT)
def test_bad_text(tmp_path, refused, pretrain_words, kind):
    content, message = BAD_TEXT[kind]
    path = written(tmp_path, f"{kind}.txt", content)
    shown = refused(pretrain_words(tmp_path / "out", data__train=path), 1)
    assert str(path) in shown
    assert message in shown


def test_a_missing_file(tmp_path, refused, pretrain_words, tune_words):
    for words in (pretrain_words, tune_words):
        shown = refused(words(tmp_path / "out", data__train=tmp_path / "gone.txt"), 2)
        assert f"{tmp_path / 'gone.txt'}: no such file or folder" in shown


def chat_rows(tmp_path, *rows):
    return written(tmp_path, "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def test_a_row_without_an_assistant_turn(tmp_path, refused, tune_words):
    good = {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes."}]}
    path = chat_rows(tmp_path, good, {"messages": [{"role": "user", "content": "Hello?"}]})
    shown = refused(tune_words(tmp_path / "out", data__train=path), 1)
    assert f"{path}:2: no assistant turn" in shown


def test_a_conversation_longer_than_the_context(tmp_path, refused, tune_words):
    long = [{"role": "user", "content": "Why? " * 200}, {"role": "assistant", "content": "No."}]
    path = chat_rows(tmp_path, {"messages": long})
    shown = refused(tune_words(tmp_path / "out", data__train=path), 1)
    assert f"{path}:1: " in shown
    assert "the context holds 64" in shown
    assert "too_long" in shown


WRONG_CALLS = {
    "--training.learning-rat": ("0.1", "training.learning-rat"),
    "--training.learning-rate": ("-0.1", "training.learning_rate"),
    "--model.num-heads": ("3", "hidden_size 16 is not a multiple of num_heads 3"),
    "--model.context-length": ("32", "--model.context-length 64"),
    "--training.global-batch-tokens": ("100", "give --training.global-batch-tokens 128"),
}


@pytest.mark.parametrize("flag", WRONG_CALLS)
def test_wrong_settings(tmp_path, refused, pretrain_words, flag):
    value, message = WRONG_CALLS[flag]
    assert message in refused([*pretrain_words(tmp_path / "out"), flag, value], 2)


def test_a_context_that_the_model_does_not_have(tmp_path, refused, tune_words):
    long = tune_words(tmp_path / "out", training__context_length=9999, training__global_batch_tokens=2 * 9999)
    shown = refused(long, 2)
    assert "training.context_length is 9999, but the context of" in shown
    assert "--training.context-length 64" in shown


def test_a_misspelt_key_in_a_recipe_file(tmp_path, refused):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "out: out\ntokenizer: t\ndata: {train: [t.txt]}\ntraining:\n  steps: 3\n  learning_rat: 0.1\n"
    )
    shown = refused(["pretrain", str(recipe)], 2)
    assert f"{recipe}:6" in shown
    assert "learning_rate" in shown


def test_an_output_folder_of_something_else(tmp_path, refused, pretrain_words, text):
    (tmp_path / "out").mkdir()
    written(tmp_path / "out", "thesis.tex", b"mine")
    assert "contains thesis.tex" in refused(pretrain_words(tmp_path / "out"), 2)
    tokenizer = ["tokenizer", "--data.train", str(text), "--out", str(tmp_path / "out")]
    assert "not empty" in refused(tokenizer, 1)


def test_after_a_refusal_the_mended_data_goes_into_the_same_folder(tmp_path, pretrain_words, text):
    path = written(tmp_path, "text.txt", b"")
    words = pretrain_words(tmp_path / "out", data__train=path, training__steps=2)
    assert cli.main(words) == 1
    path.write_bytes(text.read_bytes())
    assert cli.main(words) == 0
