"""Published evaluations: their prompts on real rows, word for word, and rows that do not fit."""

import csv
import json
import lzma
from itertools import islice
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.asking import Asking
from camelid.tasks.published import FORMATS, WITH_SETTING, format_named
from camelid.tasks.published.cloze import detokenised
from camelid.tasks.published.generation import first_sentences
from camelid.tasks.task import Task, load_task, task_names

CAKE = {
    "activity_label": "Making a cake",
    "ctx_a": "Several cake pops are shown on a display. A woman and girl are shown making the cake pops.",
    "ctx_b": "they",
    "endings": ["bake them, then frost [step] and decorate.", "taste them."],
    "label": "0",
}
TALE = [f"Sentence {n} , it 's said ." for n in range(1, 21)]
RABBIT = {
    "sentences": TALE,
    "question": "`` Oh , '' said the XXXXX , `` do n't ! ''",
    "answer": "Rabbit",
    "options": ["Cat", "Rabbit"],
}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def scored(task: Task, index: int = 0) -> list[tuple[Prompt, str]]:
    """What is scored for one question: prompts, and continuations with the space of the wording."""
    assert task.format is not None
    wording = task.format.worded(0)
    pairs = Asking(wording=wording, show_choices=False).scored(task.items[index])
    return [(prompt, wording.answer.format(answer=ending)) for prompt, ending in pairs]


@pytest.mark.parametrize(
    ("name", "row", "prompt", "continuations", "right"),
    [
        ("arc_easy", {"question": "Hot?", "choices": {"text": ["ice", "fire"], "label": ["1", "2"]}, "answerKey": "2"},
         "Question: Hot?\nAnswer:", [" ice", " fire"], "fire"),
        ("arc_easy", {"query": "Question: Hot?\nAnswer:", "choices": ["ice", "fire"], "gold": 1},
         "Question: Hot?\nAnswer:", [" ice", " fire"], "fire"),
        ("openbookqa", {"question_stem": "Fire is", "choices": {"text": ["cold", "hot"], "label": ["A", "B"]}, "answerKey": "B"},
         "Fire is", [" cold", " hot"], "hot"),
        ("hellaswag", CAKE,
         "Making a cake: Several cake pops are shown on a display. "
             "A woman and girl are shown making the cake pops. They",
         [" bake them, then frost and decorate.", " taste them."], "bake them, then frost and decorate."),
        ("piqa", {"goal": "How to apply sealant to wood.", "sol1": "Brush it.", "sol2": "Drip it.", "label": 0},
         "How to apply sealant to wood.", [" Brush it.", " Drip it."], "Brush it."),
        ("copa", {"premise": "My body cast a shadow over the grass.", "choice1": "The sun was rising.",
                  "choice2": "The grass was cut.", "question": "cause", "label": 0},
         "My body cast a shadow over the grass because", [" the sun was rising.", " the grass was cut."], "the sun was rising."),
        ("boolq", {"passage": "Snow is cold.", "question": "is snow warm", "answer": False},
         "Snow is cold.\nquestion: is snow warm?\nanswer:", [" no", " yes"], "no"),
        ("rte", {"sentence1": "Tom sat.", "sentence2": "Tom stood.", "label": 1},
         "Tom sat.\nquestion: Tom stood. True or False?\nanswer:", [" True", " False"], "False"),
        ("cb", {"premise": "Manhattan is dear.", "hypothesis": "Manhattan comes cheap", "label": 1},
         "Manhattan is dear.\nquestion: Manhattan comes cheap. true, false, or neither?\nanswer:",
         [" true", " false", " neither"], "false"),
        ("storycloze", {**{f"InputSentence{n}": f"{n}." for n in range(1, 5)}, "RandomFifthSentenceQuiz1": "Good.",
                        "RandomFifthSentenceQuiz2": "Bad.", "AnswerRightEnding": "2"},
         "1. 2. 3. 4.", [" Good.", " Bad."], "Bad."),
        ("sciq", {"support": "", "question": "Who?", "distractor1": "a", "distractor2": "b", "distractor3": "c", "correct_answer": "d"},
         "Question: Who?\nAnswer:", [" a", " b", " c", " d"], "d"),
        ("social_iqa", {"context": "Tom fell.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "3"},
         "Q: Tom fell. Why?\nA:", [" a", " b", " c"], "c"),
        ("lambada", {"text": "She said yes and he said no"}, "She said yes and he said", [" no"], "no"),
        ("cbt", RABBIT,
         "".join(f"Sentence {n}, it's said. " for n in range(1, 21)) + '"Oh," said the',
         [' Cat, "don\'t!"', ' Rabbit, "don\'t!"'], "Rabbit"),
    ],
)  # fmt: skip
def test_rows_become_prompts(
    tmp_path: Path, name: str, row: dict, prompt: str, continuations: list[str], right: str
) -> None:
    task = load_task(name, data=write(tmp_path / "rows.jsonl", row))
    assert scored(task) == [(prompt, continuation) for continuation in continuations]
    assert task.items[0].answer == right


@pytest.mark.parametrize(
    "row",
    [
        {"sentence": "Johnny likes fruits more than vegetables because the _ are saccharine.",
         "option1": "fruits", "option2": "vegetables", "answer": "1"},
        {"context_options": ["Johnny likes fruits more than vegetables because the fruits",
                             "Johnny likes fruits more than vegetables because the vegetables"],
         "continuation": "are saccharine.", "gold": 0},
    ],
)  # fmt: skip
def test_winograd_schemas_are_told_apart_by_what_stands_before(tmp_path: Path, row: dict) -> None:
    task = load_task("winogrande", data=write(tmp_path / "rows.jsonl", row))
    opening = "Johnny likes fruits more than vegetables because the"
    ending = " are saccharine."
    assert scored(task) == [(f"{opening} fruits", ending), (f"{opening} vegetables", ending)]
    assert task.items[0].answer == "fruits"
    assert task.items[0].question == f"{opening} _{ending}"


def test_the_published_text_of_the_childrens_book_test(tmp_path: Path) -> None:
    lines = [f"{n} {said}" for n, said in enumerate(TALE, 1)]
    question = f"21 {RABBIT['question']}\tRabbit\t\tCat|Rabbit"
    path = tmp_path / "cbt.txt"
    path.write_text("\n".join([*lines, question, "", *lines, question, ""]))
    task = load_task("cbt", data=path)
    assert len(task.items) == 2
    assert scored(task, 1) == scored(load_task("cbt", data=write(tmp_path / "rows.jsonl", RABBIT)))
    path.write_text("\n".join(lines[:3] + lines[4:]))
    with pytest.raises(CamelidError, match=r"cbt.txt:4: expected sentence 4 of 21"):
        load_task("cbt", data=path)


def test_treebank_text_is_read_as_people_write_it() -> None:
    assert detokenised("`` We did n't , '' she said ( twice ) ; `I 'm off ! '") == (
        "\"We didn't,\" she said (twice); 'I'm off!'"
    )


@pytest.mark.parametrize(
    ("name", "file", "count", "ends", "right"),
    [
        ("arc_easy", "ai2_arc_ARC-Easy.validation", 570, "developed most recently?\nAnswer:", "cellular "
            "telephone"),
        ("arc_challenge", "arc_challenge.test_docs", 1172, "increase in rotation?\nAnswer:", "Planetary days "
            "will become shorter."),
        ("openbookqa", "openbookqa.validation", 500, "they are known as", "Deep sea animals"),
        ("hellaswag", "hellaswag.validation", 10042, "Roof shingle removal: A man is sitting on a roof. He", "starts pulling up roofing on a roof."),
        ("piqa", "piqa.validation", 1838, "for it's new occupants?", None),
        ("copa", "super_glue_copa.validation", 100, "The man turned on the faucet therefore", "water flowed "
            "from the spout."),
        ("boolq", "boolq.validation", 3270, "\nquestion: does ethanol take more energy make that "
            "produces?\nanswer:", "no"),
        ("rte", "glue_rte.validation", 277, "\nquestion: Christopher Reeve had an accident. "
            "True or False?\nanswer:", "False"),
        ("cb", "super_glue_cb.validation", 56, "\nquestion: Valence was helping. true, false, "
            "or neither?\nanswer:", "false"),
        ("sciq", "sciq.validation", 1000, "by natural selection?\nAnswer:", "darwin"),
        ("social_iqa", "social_i_qa.validation", 1954, "need to do before this?\nA:", "Find somewhere to go"),
        ("sst2", "glue_sst2.validation", 872, "\nQuestion: Is this sentence positive or negative?\nAnswer:", "positive"),
        ("mrpc", "glue_mrpc.validation", 408, "\nQuestion: Do both sentences mean the same thing?\nAnswer:", "yes"),
        ("commonsense_qa", "commonsense_qa.validation", 1221, "security measure at a what?\nAnswer:", "bank"),
        ("basic_arithmetic", "basic_arithmetic.validation", 3000, "Question: Calculate 5 + 91 =\nAnswer:", "96"),
        ("winogrande", "winogrande_winogrande_xl.validation", 1267, "so Sarah", "Maria"),
        ("winograd", "llm_foundry/winograd_wsc", 273, "because the city councilmen", "city councilmen"),
        ("lambada", "lambada.test_docs", 5153, "I don't care about", "signs"),
        ("lambada", "llm_foundry/lambada_openai", 5153, "I don't care about", "signs"),
    ],
)  # fmt: skip
def test_real_rows_are_scored(
    shared: Path, name: str, file: str, count: int, ends: str, right: str | None
) -> None:
    task = load_task(name, data=shared / f"data/lmeval/{file}.jsonl.gz")
    assert len(task.items) == count
    assert str(scored(task)[0][0]).endswith(ends)
    assert right in (None, task.items[0].answer)


@pytest.mark.parametrize(
    ("name", "file", "prompt", "answers"),
    [
        ("nq_open", "nq_open.validation", "Q: when was the last time anyone was on the moon?\nA:",
         ["14 december 1972 UTC.", "the December, 1972"]),
        ("trivia_qa", "trivia_qa_rc.wikipedia.nocontext.validation",
         "Q: Which Lloyd Webber musical premiered in the US on 10th December 1993?\nA:",
         ["sunset boulevard", "West Sunset Boulevard!"]),
        ("trivia_qa", "llm_foundry/triviaqa_sm_sub",
         "Q: Brunswick, Lancastrian and Pearl Pickler are types of which vegetable?\nA:", ["an onion", "Pyaz"]),
    ],
)  # fmt: skip
def test_real_questions_take_any_of_their_answers(
    shared: Path, name: str, file: str, prompt: str, answers: list[str]
) -> None:
    task = load_task(name, data=shared / f"data/lmeval/{file}.jsonl.gz", limit=1)
    lm = ScriptedLM(lambda _: " so what\nQ: next")
    [attempt] = Method().program_for(task)(lm, task.items)
    assert (attempt.prompts, attempt.text) == ((prompt,), " so what")
    assert not task.grader(task.items[0], attempt.text)["exact_match"].correct
    assert all(task.grader(task.items[0], answer)["exact_match"].correct for answer in answers)


def samples(shared: Path, name: str, count: int) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 30)
    path = shared / f"data/instruct/instructgpt_samples/{name}_samples.csv.xz"
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(islice(csv.DictReader(file), count))


class Recorded(LM):
    """Says what another model said, and keeps the sampling it was asked for."""

    def __init__(self, said: list[str], reason: str = "length") -> None:
        self.said, self.asked, self.reason = iter(said), [], reason

    def complete(self, prompts, sampling: Sampling) -> list[list[Completion]]:
        self.asked.append((list(prompts), sampling))
        return [[Completion(next(self.said), (), (), self.reason)] for _ in prompts]

    def score(self, prompts, continuations) -> list[Score]:
        raise NotImplementedError


def test_summaries_after_tldr(shared: Path, tmp_path: Path) -> None:
    """Real posts, summaries and samples of GPT models; every reply is cut, and that is as it should be."""
    rows = samples(shared, "tldr", 6)
    path = write(
        tmp_path / "posts.jsonl",
        *({"document": r["context"].removesuffix("TL;DR:"), "summary": r["ref_text"]} for r in rows),
    )
    lm = Recorded([row["sample"] for row in rows])
    task = load_task("tldr", data=path)
    evaluation = evaluate(task, Method().program_for(task), lm)
    [(prompts, sampling)] = lm.asked
    assert str(prompts[0]).endswith("an anatomical one.\nTL;DR:")
    assert (sampling.top_k, sampling.temperature, sampling.max_new_tokens, sampling.stop) == (2, 1.0, 100, ())
    values = {result.metric: result.value for result in evaluation.results}
    assert list(values) == ["rouge_1", "rouge_2", "rouge_l", "rouge_mean"]
    assert values["rouge_mean"] == pytest.approx(sum(list(values.values())[:3]) / 3)
    assert evaluation.warnings == ()
    short = load_task("tldr/4", data=path)
    assert (short.name, short.items[0].question) == ("tldr/4", "OK, probably time to")


def test_first_sentences() -> None:
    text = ' Tom ran. "He fell!" Was it bad?\n\nNo. Not 3.5 bad.'
    assert first_sentences(text, 3) == 'Tom ran. "He fell! Was it bad?'
    assert first_sentences(text, 9).endswith("No. Not 3.5 bad.")


def test_translation_by_example(shared: Path, tmp_path: Path) -> None:
    """BLEU of real samples is sacrebleu's; with examples the format is GPT-2's, without GPT-3's question."""
    sacrebleu = pytest.importorskip("sacrebleu")
    rows = [r for r in samples(shared, "fr_to_en", 300) if r["model_type"] == "gpt-175b"]
    rows = [r for r in rows if r["prompt_type"] == "fewshot" and "\n" not in r["ref_text"]][:20]
    pairs = [(r["context"].split("French:")[-1].split("\nEnglish:")[0].strip(), r["ref_text"]) for r in rows]
    shown, asked = pairs[:5], pairs[5:]
    data = write(tmp_path / "test.jsonl", *({"translation": {"fr": fr, "en": en}} for fr, en in asked))
    train = write(tmp_path / "train.jsonl", *({"fr": fr, "en": en} for fr, en in shown))
    task = load_task("translation/fr-en", data=data)
    said = [" ".join(row["sample"].split()) for row in rows[5:]]
    lm = Recorded(said, "stop")
    evaluation = evaluate(task, Method(shots=2, exemplars=train).program_for(task), lm)
    exact, bleu = evaluation.results
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(said, [[en for _, en in asked]]).score)
    assert bleu.value > 10
    assert (exact.metric, bleu.metric, bleu.interval, bleu.shots) == ("exact", "bleu", None, 2)
    prompt = str(lm.asked[0][0][0])
    lines = prompt.split("\n")
    assert lines[-1] == f"{asked[0][0]} ="
    assert set(lines[:2]) < {f"{fr} = {en}" for fr, en in shown}
    [attempt] = Method().program_for(task)(ScriptedLM(lambda _: " ."), task.items[:1])
    assert attempt.prompts == (f"Q: What is the English translation of {asked[0][0]} A:",)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("arc_easy", {"question": "a"}, r"rows.jsonl:1: not a row of arc_easy: there is no 'choices'"),
        ("copa", {"premise": "a", "question": "why"}, r"allowed: cause, effect"),
        ("rte", {"sentence1": "a", "sentence2": "b", "label": -1}, r"'label' is -1; allowed: 0, 1"),
        ("lambada", {"word": "a"}, r"there is no 'context' or 'query': its keys are word"),
        ("winogrande", {"sentence": "a", "option1": "b", "option2": "c", "answer": "1"}, r"there is no _ in"),
        ("cbt", {**RABBIT, "question": "Who?"}, r"there is no XXXXX"),
        ("translation/fr-en", {"fr": "a\nb", "en": "c"}, r"on one line"),
        ("storycloze", {"InputSentence1": "a"}, r"'InputSentence2' or 'input_sentence_2'"),
    ],
)  # fmt: skip
def test_rows_of_something_else_are_named(tmp_path: Path, name: str, row: dict, message: str) -> None:
    with pytest.raises(CamelidError, match=message):
        load_task(name, data=write(tmp_path / "rows.jsonl", row))


def test_names() -> None:
    assert {*FORMATS, *WITH_SETTING} <= set(task_names())
    assert all(format.version >= 1 and format.source for format in FORMATS.values())
    assert format_named("world/sums") is None
    for name, message in (
        ("translation/fr", "two languages"),
        ("tldr/few", "how many words"),
        ("lambada/x", "takes no setting"),
    ):
        with pytest.raises(WrongCall, match=message):
            format_named(name)
    with pytest.raises(WrongCall, match="needs its dataset: pass --data"):
        load_task("lambada")
