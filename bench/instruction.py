"""Instruction tuning measured on models small enough to tune here: docs/instruction.md.

    python bench/instruction.py run                  # tunes and answers: all claims, or those named
    python bench/instruction.py measure              # grades; a file of each claim in docs/instruction
                                                     # and, for `test`, the answers for a judge
    python bench/instruction.py write                # the tables of the page

Everything lies in --out (runs/instruction) and is made once; what exists is kept, and a stopped call goes on.
"""

import argparse
import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from instruction_measure import MEASURES, answers_to_keep
from instruction_page import DATA, write_page
from instruction_rows import (
    SHARED,
    alpaca_rows,
    people_rows,
    question_of,
    rated_answers,
    ruled_prompts,
    story_rows,
    test_prompts,
)
from instruction_runs import answered, camelid, held_out_loss, result_of, tuned, write_rows

from camelid.base.json import write_json
from camelid.formats.hugging_face.checkpoint import read_spec, save_checkpoint
from camelid.formats.load import load_tokenizer, special_ids
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer

GGUF = SHARED / "weights" / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TINY = SHARED / "weights" / "tinystories-656k"
TEMPLATE = Path(__file__).resolve().parents[1] / "recipes" / "templates" / "koala.jinja"
Flags = Mapping[str, object]

COMMON: Flags = {
    "training.dtype": "float32",
    "training.compile": "false",
    "training.validate-every": 1000,
    "training.weight-decay": 0,
}
ROWS, HELD_OUT = 160, 40
"""Alpaca's rows that SmolLM2 is tuned on, and those held out."""
REAL: Flags = COMMON | {
    "training.context-length": 256,
    "training.global-batch-tokens": 1024,
    "training.micro-batch-size": 1,
    "training.epochs": 1,
}
WAYS: Mapping[str, Flags] = {
    "full": {"training.learning-rate": 3e-5},
    "lora": {"training.learning-rate": 3e-4, "lora.rank": 8},
}
ANSWER, TEST_ANSWER = 80, 64
"""Most tokens of SmolLM2's answers."""

ORDERS, COMPARED, HELD_ORDERS, STORY = 3000, 1000, 200, 130
"""Orders for stories in training, those of them with comparisons, orders held out, most tokens of a story."""
TOLD: Flags = COMMON | {
    "training.context-length": 256,
    "training.global-batch-tokens": 2048,
    "training.micro-batch-size": 8,
    "training.epochs": 3,
}
STORY_WAYS: Mapping[str, Flags] = {
    "full": {"training.learning-rate": 1e-3},
    "lora": {"training.learning-rate": 1e-2, "lora.rank": 8},
}
STUDENT = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "context_length": 512}
LEARNS: Flags = TOLD | {"training.learning-rate": 3e-3, "training.epochs": 1}
POLICY: Flags = {"distill.on-policy": 0.5, "distill.max-new-tokens": 96}
STUDENT_WAYS: Mapping[str, Flags] = {
    "rows": {},
    "teacher's answers": {},
    "forward": {"distill.divergence": "forward"},
    "reverse": {"distill.divergence": "reverse"},
    "reverse, on-policy": {"distill.divergence": "reverse"} | POLICY,
}

TEACHERS = ("text_davinci_001", "text_davinci_003", "gpt-3.5-turbo-0301")
LONGEST, HELD_RATED = 1200, 100
"""Most characters of a question with any teacher's answer, and questions held out."""
TALKS: Flags = COMMON | {
    "training.context-length": 512,
    "training.global-batch-tokens": 2048,
    "training.micro-batch-size": 4,
    "training.steps": 100,
    "training.learning-rate": 1e-3,
    "too-long": "drop",
}


def real(out: Path, seeds: list[int]) -> None:
    """SmolLM2 on Alpaca's rows: all weights and LoRA, and what each answers."""
    model, rows = smollm2(out), alpaca_rows()
    held = rows[ROWS : ROWS + HELD_OUT]
    data: Flags = {
        "data.train": write_rows(out / "alpaca-train.jsonl", rows[:ROWS]),
        "data.validation": write_rows(out / "alpaca-held-out.jsonl", held),
    }
    ruled = ruled_prompts(rows[1000:], 4)
    write_rows(out / "ruled.jsonl", ruled)
    asked = {"ruled": [row["prompt"] for row in ruled], "held": list(map(question_of, held))}
    for way in ("base", *WAYS):
        folder = model if way == "base" else out / f"real-{way}"
        if way != "base":
            tuned(folder, model, REAL | WAYS[way] | data, 0)
        for name, prompts in asked.items():
            path = out / "answers" / f"real-{way}-{name}.jsonl"
            answered(path, result_of(folder, model), prompts, max_new_tokens=ANSWER)


def test(out: Path, seeds: list[int]) -> None:
    """Answers to self-instruct's 252 and Koala's 180 prompts: of SmolLM2, and of LoRA's where `real` ran."""
    prompts, model = [row["prompt"] for row in test_prompts()], smollm2(out)
    for way, folder in (("base", model), ("lora", out / "real-lora")):
        if folder.exists():
            path = out / "answers" / f"test-{way}.jsonl"
            answered(path, result_of(folder, model), prompts, max_new_tokens=TEST_ANSWER)


def smollm2(out: Path) -> Path:
    """The folder of SmolLM2."""
    if not (out / "smollm2").exists():
        camelid("import", GGUF, out / "smollm2")
    return out / "smollm2"


def stories(out: Path, seeds: list[int]) -> None:
    """The small model on orders for stories: as it is, all weights, LoRA."""
    base, data = storyteller(out), story_data(out)
    tell(out, base, "stories-base", base)
    for seed in seeds:
        for way, flags in STORY_WAYS.items():
            name = f"stories-{way}-{seed}"
            tuned(out / name, base, TOLD | flags | data, seed)
            tell(out, out / name, name, base)


def markers(out: Path, seeds: list[int]) -> None:
    """The small model on good and bad stories behind markers, asked with each marker and without."""
    base, data = storyteller(out), story_data(out, "comparisons")
    for seed in seeds:
        name = f"markers-{seed}"
        flags = STORY_WAYS["lora"] | {"markers.style": "koala", "training.epochs": 2}
        tuned(out / name, base, TOLD | flags | data, seed)
        for marker in ("good", "bad", None):
            tell(out, out / name, f"{name}-{marker or 'none'}", base, marker=marker)


def students(out: Path, seeds: list[int]) -> None:
    """A smaller model from scratch: on the rows, on the teacher's answers, on its distributions."""
    stories(out, [0])
    teacher, data = out / "stories-full-0" / "model", story_data(out)
    student = fresh_student(out, teacher)
    made = out / "teachers-answers"
    if not made.exists():
        prompts = write_rows(out / "orders.jsonl", [{"prompt": row["prompt"]} for row in orders(False)])
        limits = ("--max-new-tokens", STORY, "--temperature", 1, "--tries", 1, "--least-kept", 0)
        spent = camelid("make", "answers", teacher, prompts, *limits, "--out", made)
        (out / "teachers-answers.json").write_text(json.dumps(spent), encoding="utf-8")
    for seed in seeds:
        for way, flags in STUDENT_WAYS.items():
            name = f"student-{way.replace(', ', '-').replace(' ', '-')}-{seed}"
            own = data | ({"data.train": made} if way == "teacher's answers" else {})
            taught = {"distill.teacher": teacher} if flags else {}
            steps = {"training.epochs": 1} if way != "teacher's answers" else {"training.steps": updates(out)}
            tuned(out / name, student, without_length(LEARNS) | steps | flags | taught | own, seed)
            tell(out, out / name, name, student)


def updates(out: Path) -> int:
    """Updates of the student on the rows, which every other student gets, too."""
    return int(json.loads((out / "student-rows-0" / "numbers.json").read_text())["updates"])


def without_length(flags: Flags) -> dict[str, object]:
    return {key: value for key, value in flags.items() if key != "training.epochs"}


def koala(out: Path, seeds: list[int]) -> None:
    """The small model on ChatGPT's answers, and on those among answers by an older model and by people."""
    base, rated = storyteller(out), rated_rows(out, TEACHERS[-1])
    held = rated["data.validation"]
    everything = write_rows(
        out / "everything.jsonl",
        [
            *(json.loads(line) for line in Path(str(rated["data.train"])).read_text("utf-8").splitlines()),
            *alpaca_rows()[:900],
            *people_rows(LONGEST)[HELD_RATED:],
        ],
    )
    people = write_rows(out / "people-held-out.jsonl", people_rows(LONGEST)[:HELD_RATED])
    for seed in seeds:
        for way, train in (("distilled", rated["data.train"]), ("everything", everything)):
            folder = out / f"koala-{way}-{seed}"
            tuned(folder, base, TALKS | {"data.train": train, "data.validation": held}, seed)
            if not (folder / "losses.json").exists():
                judged = {"chatgpt": Path(str(held)), "people": people}
                found = {name: held_out_loss(folder / "model", rows) for name, rows in judged.items()}
                write_json(folder / "losses.json", found)


def length(out: Path, seeds: list[int]) -> None:
    """The small model on the same questions with answers of three teachers: how long are its own?"""
    base = storyteller(out)
    for seed in seeds:
        for teacher in TEACHERS:
            name, data = f"length-{teacher}-{seed}", rated_rows(out, teacher)
            tuned(out / name, base, TALKS | data, seed)
            held = [json.loads(line) for line in Path(str(data["data.validation"])).read_text().splitlines()]
            path = out / "answers" / f"{name}.jsonl"
            sampling = {"max_new_tokens": 420, "temperature": 1.0, "seed": seed}
            answered(path, result_of(out / name, base), [row["instruction"] for row in held], **sampling)


def rated_rows(out: Path, teacher: str) -> Flags:
    """Files of the questions with this teacher's answers, to train on and held out."""
    rows = rated_answers(TEACHERS, LONGEST)
    random.Random(0).shuffle(rows)
    made = [{"instruction": row["instruction"], "input": "", "output": row[teacher]} for row in rows]
    return {
        "data.train": write_rows(out / f"rated-{teacher}.jsonl", made[HELD_RATED:]),
        "data.validation": write_rows(out / f"rated-{teacher}-held-out.jsonl", made[:HELD_RATED]),
    }


def storyteller(out: Path) -> Path:
    """The folder of the small model, with a form for conversations."""
    folder = out / "storyteller"
    if not folder.exists():
        shutil.copytree(TINY, folder)
        folder.chmod(0o755)
        shutil.copy(TEMPLATE, folder / "chat_template.jinja")
    return folder


def fresh_student(out: Path, teacher: Path) -> Path:
    """A smaller model of the teacher's vocabulary, with random weights."""
    folder = out / "student"
    if not folder.exists():
        tokenizer = load_tokenizer(teacher)
        spec = ModelSpec.llama(vocab_size=read_spec(teacher).vocab_size, tie_embeddings=True, **STUDENT)
        save_checkpoint(folder, Transformer(spec).initialize(0), special_ids=special_ids(tokenizer))
        tokenizer.save(folder)
    return folder


def orders(held: bool) -> list[dict[str, object]]:
    """Orders for stories, those held out from stories that are, too."""
    return (
        story_rows("valid_head.txt.xz", HELD_ORDERS, 1)
        if held
        else story_rows("train_head_cased.txt.xz", ORDERS, 0)
    )


def story_data(out: Path, kind: str = "good") -> dict[str, object]:
    """Files of orders with the good stories, or with the good and the bad ones."""
    train, held = orders(False), orders(True)
    if kind == "comparisons":
        train, keys = train[:COMPARED], ("prompt", "chosen", "rejected")
        return {
            f"data.{name}": write_rows(
                out / f"comparisons-{name}.jsonl", [{key: row[key] for key in keys} for row in rows]
            )
            for name, rows in (("train", train), ("validation", held))
        }
    return {
        f"data.{name}": write_rows(
            out / f"stories-{name}.jsonl",
            [{"instruction": row["prompt"], "input": "", "output": row["chosen"]} for row in rows],
        )
        for name, rows in (("train", train), ("validation", held))
    }


def tell(out: Path, folder: Path, name: str, base: Path, **settings: object) -> None:
    """The model's stories to the held-out orders."""
    write_rows(out / "held-orders.jsonl", orders(True))
    prompts = [str(row["prompt"]) for row in orders(True)]
    model = result_of(folder, base) | settings
    answered(out / "answers" / f"{name}.jsonl", model, prompts, max_new_tokens=STORY, temperature=0.7)


CLAIMS: Mapping[str, Callable[[Path, list[int]], None]] = {
    "stories": stories,
    "markers": markers,
    "students": students,
    "length": length,
    "koala": koala,
    "real": real,
    "test": test,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "measure", "write"))
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"some of {', '.join(CLAIMS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/instruction"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    out, seeds = arguments.out, arguments.seeds
    if unknown := set(arguments.claims) - CLAIMS.keys():
        parser.error(f"no claim {', '.join(sorted(unknown))}; the claims are {', '.join(CLAIMS)}")
    if arguments.what == "write":
        write_page()
        return
    for claim in arguments.claims or CLAIMS:
        if arguments.what == "run":
            CLAIMS[claim](out, seeds)
        else:
            DATA.mkdir(exist_ok=True)
            write_json(DATA / f"{claim}.json", MEASURES[claim](out, seeds))
            for name, rows in answers_to_keep(out).items() if claim == "test" else ():
                (DATA / f"{name}.jsonl").unlink(missing_ok=True)
                write_rows(DATA / f"{name}.jsonl", rows)


if __name__ == "__main__":
    main()
