"""`camelid check`: what is sound passes, each fault is named, and the exit code tells which."""

import json

import pytest
import torch

from camelid.cli import main as cli
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.recipes.align import AlignRecipe
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe, save_recipe
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import Run
from camelid.text.tokenizer import train_tokenizer
from camelid.workflows.quickstart.journal import JOURNAL

CHAT = {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}]}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["Hello. Hi. Who are you? Me."] * 3, 300)


@pytest.fixture
def model(tmp_path, tokenizer):
    folder = tmp_path / "model"
    folder.mkdir()
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_layers=1, num_heads=2, context_length=64
    )
    torch.manual_seed(0)
    save_checkpoint(folder, Transformer(spec).initialize(0))
    tokenizer.save(folder)
    return folder


def rows(path, *contents):
    path.write_text("".join(json.dumps(row) + "\n" for row in contents))
    return path


def outcome(capsys, *words) -> tuple[int, str]:
    code = cli.main(["check", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_data_of_every_kind(tmp_path, capsys, model):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time.\n")
    chats = rows(tmp_path / "chats.jsonl", CHAT, CHAT)
    task = rows(tmp_path / "task.jsonl", {"question": "Two and two?", "answer": "4"})
    code, shown = outcome(capsys, text, chats, task, "--model", model)
    assert code == 0, shown
    assert shown.count("  ok") == 3
    for words in ("1 documents", "2 conversations of shape OpenAI", "of them trained", "1 evaluation items"):
        assert words in shown


def test_a_quickstart_is_checked_part_by_part(tmp_path, capsys, model):
    out = tmp_path / "out"
    out.mkdir()
    (out / JOURNAL).write_text("{}")
    assert "quickstart: nothing made yet" in outcome(capsys, out)[1]
    (out / "data" / "tasks").mkdir(parents=True)
    chats = rows(out / "data" / "chats.jsonl", CHAT)
    rows(out / "data" / "tasks" / "sums.jsonl", {"question": "Two and two?", "answer": "4"})
    model.rename(out / "model-4bit")
    code, shown = outcome(capsys, out)
    assert code == 0, shown
    assert "quickstart: data, model-4bit" in shown
    for part in ("data/chats.jsonl: data", "data/tasks/sums.jsonl: data", "model-4bit: weights"):
        assert f"ok      {part}" in shown, part
    chats.write_text("{\n")
    assert outcome(capsys, out)[0] == 1


def test_bad_rows_fail_with_their_line(tmp_path, capsys):
    chats = rows(tmp_path / "chats.jsonl", CHAT, {"messages": [{"role": "user", "content": "Alone."}]})
    code, shown = outcome(capsys, chats)
    assert code == 1
    assert f"{chats}:2: no assistant turn" in shown
    assert "1 check failed" in shown
    assert outcome(capsys, chats, "--skip-bad-rows")[0] == 0
    code, shown = outcome(capsys, tmp_path / "gone.txt")
    assert (code, "does not exist" in shown) == (1, True)
    assert outcome(capsys)[0] == 2


QUESTION = (
    "Which of the two old ships reached the harbour of the northern island before the storm began to rage?"
)


@pytest.fixture
def items(tmp_path):
    about = {"question": "Who hid the red ball, Tom?", "answer": "Ann", "id": "ball"}
    return rows(tmp_path / "items.jsonl", about, {"question": QUESTION, "answer": "the first", "id": "ships"})


def contaminated(capsys, path, items) -> list[str]:
    """The findings that fail the check of a path, which passes without the items."""
    assert outcome(capsys, path)[0] == 0
    code, shown = outcome(capsys, path, "--items", items)
    assert code == 1
    assert "failed  contamination" in shown
    assert "1 check failed" in shown
    return [line.strip() for line in shown.splitlines() if ": item " in line]


BALL = "item ball, the whole question, names aside: who hid the red ball tom"
RUN = "item ships, a run of words: the two old ships reached the harbour of"


def test_items_in_a_text_fail_by_line(tmp_path, capsys, items):
    text = tmp_path / "text.txt"
    text.write_text(
        f"Once.\n\n{QUESTION.lower().replace('which of', 'in')}\n\nWho hid\nthe red ball, Lily? It was me.\n"
    )
    assert contaminated(capsys, text, items) == [f"{text}:3: {RUN}", f"{text}:5: {BALL}"]


def test_items_in_conversations_fail_by_line(tmp_path, capsys, items):
    said = {"messages": [{"role": "user", "content": "Who hid the red ball, Ben?"}, CHAT["messages"][1]]}
    chats = rows(tmp_path / "chats.jsonl", CHAT, CHAT, said)
    assert contaminated(capsys, chats, items) == [f"{chats}:3: {BALL}"]
    apart = [{"role": "user", "content": "Who hid"}, {"role": "assistant", "content": "the red ball, Ben?"}]
    assert outcome(capsys, rows(chats, {"messages": apart}), "--items", items)[0] == 0


def test_items_in_what_a_recipe_trains_on_fail(tmp_path, capsys, items, model):
    pairs = rows(
        tmp_path / "pairs.jsonl",
        {"input": "Hello.", "target": "Hi."},
        {"input": "Say it.", "target": "Who hid the red ball, Ben?"},
    )
    settings = {"out": str(tmp_path / "out"), "model": str(model), "task": "pairs", "data.train": str(pairs)}
    training = {"training.steps": 5, "training.context_length": 64, "training.global_batch_tokens": 512}
    save_recipe(load_recipe(TuneRecipe, None, settings | training), tmp_path / "tune.yaml")
    assert contaminated(capsys, tmp_path / "tune.yaml", items) == [f"{pairs}:2: {BALL}"]
    text = rows(tmp_path / "text.jsonl", {"text": "Once."}, {"text": "Ha!\nWho hid the red ball, Ben?"})
    model.rename(tmp_path / "tokenizer")
    settings = {
        "out": str(tmp_path / "out"),
        "tokenizer": str(tmp_path / "tokenizer"),
        "data.train": str(text),
    }
    save_recipe(load_recipe(PretrainRecipe, None, settings | training), tmp_path / "pretrain.yaml")
    assert contaminated(capsys, tmp_path / "pretrain.yaml", items) == [f"{text}:2: {BALL}"]


def test_the_items_themselves_are_data_that_holds_them(tmp_path, capsys, items):
    copy = tmp_path / "copy.jsonl"
    copy.write_text(items.read_text())
    assert len(contaminated(capsys, copy, items)) == 3  # the long question as a whole and by its run


def test_clean_data_passes_and_says_what_was_looked_for(tmp_path, capsys, items):
    text = tmp_path / "text.txt"
    text.write_text("Who hid the ball?\n")
    code, shown = outcome(capsys, text, "--items", items)
    assert code == 0, shown
    assert f"none of the 2 items of {items} was found: no whole question of 4 words or more" in shown
    code, shown = outcome(capsys, text, "--items", tmp_path / "gone.jsonl")
    assert (code, "gone.jsonl" in shown) == (1, True)


def test_items_without_training_data_are_a_wrong_call(capsys, items, model):
    code, shown = outcome(capsys, model, "--items", items)
    assert (code, "--items are looked for in training data" in shown) == (2, True)


def test_many_findings_are_counted_not_listed(tmp_path, capsys):
    questions = [f"Who hid the ball number {number}?" for number in range(30)]
    many = rows(tmp_path / "many.jsonl", *({"question": each, "answer": "I"} for each in questions))
    text = tmp_path / "text.txt"
    text.write_text("\n".join(questions))
    assert len(contaminated(capsys, text, many)) == 20
    assert "30 of the 30 items" in (shown := outcome(capsys, text, "--items", many)[1])
    assert "and 10 more" in shown


def test_a_conversation_longer_than_the_context(tmp_path, capsys, model):
    chats = rows(tmp_path / "chats.jsonl", CHAT)
    code, shown = outcome(capsys, chats, "--model", model, "--context-length", 3)
    assert (code, "the context holds 3" in shown) == (1, True)


def test_a_sound_model_passes_and_damage_is_named(capsys, model):
    code, shown = outcome(capsys, model)
    assert code == 0, shown
    assert "finite logits" in shown
    assert "ends the assistant's turns" in shown
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, shown = outcome(capsys, model)
    assert code == 1
    assert "failed  weights" in shown
    assert "model.safetensors" in shown


def test_a_model_of_no_numbers_fails(capsys, model, tokenizer):
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_layers=1, num_heads=2, context_length=64
    )
    broken = Transformer(spec).initialize(0)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    folder = model.parent / "broken"
    folder.mkdir()
    save_checkpoint(folder, broken)
    tokenizer.save(folder)
    code, shown = outcome(capsys, folder)
    assert (code, "logits are not finite" in shown) == (1, True)


def test_a_template_that_never_ends_a_turn_fails(capsys, model):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    (model / "chat_template.jinja").write_text(template)
    code, shown = outcome(capsys, model)
    assert (code, "the turn terminator is not trained" in shown) == (1, True)


def test_a_recipe_is_checked_with_all_it_names(tmp_path, capsys, model):
    chats = rows(tmp_path / "chats.jsonl", CHAT)
    settings = {"out": str(tmp_path / "out"), "model": str(model), "data.train": str(chats)}
    training = {"training.steps": 5, "training.context_length": 64, "training.global_batch_tokens": 512}
    path = tmp_path / "tune.yaml"
    save_recipe(load_recipe(TuneRecipe, None, settings | training), path)
    code, shown = outcome(capsys, path)
    assert code == 0, shown
    assert shown.count("  ok") == 6
    assert "tune, 5 steps of 512 tokens" in shown
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    chats.unlink()
    code, shown = outcome(capsys, path)
    assert code == 1
    assert "2 checks failed" in shown
    assert "neither empty nor a run" in shown


def test_recipes_that_cannot_be_read(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text("out: a\n")
    code, shown = outcome(capsys, path)
    assert (code, "begin the recipe with `stage:`" in shown) == (1, True)
    path.write_text("stage: pretrain\nout: a\nlearning_rate: 3\n")
    code, shown = outcome(capsys, path)
    assert (code, f"{path}:3: learning_rate: unknown key" in shown) == (1, True)


def test_a_pretraining_recipe_without_its_tokenizer(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Once.")
    settings = {
        "out": str(tmp_path / "out"),
        "tokenizer": "nowhere",
        "data.train": str(tmp_path / "text.txt"),
    }
    save_recipe(load_recipe(PretrainRecipe, None, settings | {"training.steps": 5}), tmp_path / "recipe.yaml")
    code, shown = outcome(capsys, tmp_path / "recipe.yaml")
    assert (code, "failed  tokenizer" in shown) == (1, True)


def test_a_run_and_its_damaged_checkpoint(tmp_path, capsys):
    out = tmp_path / "run"
    settings = {"out": str(out), "model": "m", "data.train": "x", "training.steps": 5}
    with Run.create(out, load_recipe(TuneRecipe, None, settings)) as run:
        run.log({"step": 1, "loss": 1.0})

        def write(folder):
            (folder / "weights.bin").write_bytes(b"x")

        run.save_checkpoint(1, write)
    assert outcome(capsys, out)[0] == 0
    (out / "checkpoints" / "step-00000001" / "weights.bin").write_bytes(b"y")
    code, shown = outcome(capsys, out)
    assert (code, "weights.bin differs from its digest" in shown) == (1, True)


def test_recipes_of_what_models_are_asked_and_made_of(tmp_path, model, capsys):
    """The folder of an evaluation may be there, that of a quantised model may not; models and texts are
    looked at."""
    out, text = tmp_path / "out", tmp_path / "text.txt"
    text.write_text("The cat sat on the mat.")
    out.mkdir()
    (out / "results.json").write_text("[]")
    recipes = {
        "eval": f"stage: eval\nmodel: {model}\nout: {out}\ntask: [world/coin_flip]\n",
        "quantize": f"stage: quantize\nmodel: {model}\nout: {out}\nmethod: gptq\ncalibration: {text}\n",
        "compare": f"stage: compare\nmodels: [{model}, {tmp_path / 'gone'}]\nout: {out}\ntext: {text}\n",
    }
    found = {}
    for name, content in recipes.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(content)
        found[name] = outcome(capsys, path)
    assert found["eval"][0] == 0, found["eval"]
    assert (found["quantize"][0], "out exists and is not empty" in found["quantize"][1]) == (1, True)
    assert "calibration: " in found["quantize"][1]
    assert (found["compare"][0], "gone" in found["compare"][1]) == (1, True)


ALIGNING = {"training.steps": 5, "training.context_length": 64, "training.global_batch_tokens": 512}


def test_the_pairs_and_the_model_of_an_align_recipe_are_read(tmp_path, capsys, model):
    pairs = rows(
        tmp_path / "pairs.jsonl",
        *({"prompt": f"Who {n}?", "chosen": "Me.", "rejected": "You."} for n in range(9)),
    )
    settings = {"method": "dpo", "model": str(model), "comparisons": [str(pairs)], "held_out": 0.0}
    settings["rewarded_by"] = "gone"  # of another method, so that nothing reads it
    path, out = tmp_path / "dpo.yaml", tmp_path / "out"
    recipe = load_recipe(AlignRecipe, None, settings | ALIGNING | {"out": str(out)})
    save_recipe(recipe, path)
    code, shown = outcome(capsys, path)
    assert code == 0, shown
    for words in ("9 pairs to train on, 0 held out", "finite logits", "out is free"):
        assert words in shown
    with Run.create(out, recipe) as run:
        run.log({"step": 1, "loss": 1.0})
    code, shown = outcome(capsys, path)
    assert (code, "out holds a run that can be resumed" in shown) == (0, True)
    pairs.unlink()
    model.rename(tmp_path / "elsewhere")
    code, shown = outcome(capsys, path)
    assert code == 1
    for gate in ("weights", "comparisons"):
        assert f"failed  {gate}" in shown


def test_the_prompts_and_the_reward_of_an_align_recipe_are_read(tmp_path, capsys, model):
    prompts = rows(tmp_path / "prompts.jsonl", *({"prompt": f"Who are you, {n}?"} for n in range(4)))
    function = tmp_path / "rewards.py"
    function.write_text("def good(completion):\n    return 1.0\n")
    settings = {"method": "grpo", "model": str(model), "prompts": [str(prompts)], "max_new_tokens": 4}
    rewarded = {"rewarded_by": f"{function}:good", "out": str(tmp_path / "out"), "training.steps": 5}
    path = tmp_path / "grpo.yaml"
    save_recipe(load_recipe(AlignRecipe, None, settings | rewarded), path)
    code, shown = outcome(capsys, path)
    assert code == 0, shown
    assert "4 questions that leave room for an answer, of 4" in shown
    assert "good is a function" in shown
    rows(prompts, {"prompt": "Who?"}, {"prompt": "Who are you? " * 20})
    function.unlink()
    code, shown = outcome(capsys, path)
    assert (code, "failed  rewarded_by" in shown, "failed  questions" in shown) == (1, True, True)
    function.write_text("def good(completion):\n    return 1.0\n")
    assert f"{prompts}:2: " in outcome(capsys, path)[1]


def test_a_folder_of_make_with_replies_can_go_on(tmp_path, capsys):
    out, path = tmp_path / "made", tmp_path / "make.yaml"
    out.mkdir()
    (out / "replies.jsonl").write_text("")
    path.write_text(f"stage: make answers\nteacher: m\nprompts: q.jsonl\nout: {out}\n")
    code, shown = outcome(capsys, path)
    assert (code, "holds replies, which are not asked for again" in shown) == (0, True)
    (out / "replies.jsonl").rename(out / "mine.jsonl")
    code, shown = outcome(capsys, path)
    assert (code, "exists and is not empty" in shown) == (1, True)
