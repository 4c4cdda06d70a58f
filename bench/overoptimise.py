"""PPO, DPO, GRPO and best-of-n by a reward model, watched by a gold grader: docs/preferences_measured.md.

    python bench/instruction.py run stories students   # the policy, and a smaller model
    python bench/overoptimise.py                       # both claims, or one: rewards policies
    python bench/overoptimise.py write                 # the tables of docs/preferences_measured.md

The policy is the model of 656,000 parameters that bench/instruction.py tuned on orders for stories. Gold is
the share of an order's rules that a story follows. Its own stories to further orders, ranked by gold, train a
reward model, the proxy, by which all methods learn, without a KL penalty. All are measured on the same orders
of the validation split. Everything lies in --out and is made once; each claim's numbers become a file in
docs/preferences.
"""

import argparse
from collections.abc import Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from instruction_rows import Row, story_rows
from instruction_runs import camelid, read_lines, write_rows
from overoptimise_fit import policies_summary, rewards_summary
from overoptimise_measure import (
    LONGEST,
    as_asked,
    at_step,
    best_of_n_kl,
    chance_of_best,
    marked,
    sampled,
    scores_of,
)
from overoptimise_page import DATA, write_tables

from camelid import LM
from camelid.align.questions import Asked
from camelid.base.json import read_json, write_json
from camelid.lm.sampling import Sampling

COUNTS = {"ranked": 1200, "preferred": 1200, "practice": 3200}
"""Orders from the training split, apart from each other: of the reward models' comparisons, of DPO's, and of
PPO and GRPO."""
MEASURED = 200
SAMPLES = {"ranked": 4, "preferred": 2, "measured": 32}
"""Stories of the policy to each."""
ASKED = 4
"""Stories of a trained policy to each measured order."""
UPDATES, POINTS = 48, (3, 6, 12, 24, 48)
"""Rollouts of PPO and GRPO, of 64 stories, and updates of DPO; after how many policies are measured."""
MARKED = (48, 240)
"""Updates of conditional training."""
POLICY, SMALLER = "stories-full-0", "student-rows-0"
REWARDS = ((POLICY, 1200), (POLICY, 300), (POLICY, 75), (SMALLER, 1200))
"""What a reward model begins as, and the orders whose stories it compared."""
CONTEXT, ROWS, RATE = 384, 16, 3e-4


def stage(out: Path, *words: object) -> Path:
    """Runs a stage unless its model is there; returns its folder."""
    if not (out / "model").exists():
        camelid(*words, "--out", out)
    return out


def training(rate: float, **more: object) -> list[object]:
    settings = {"learning-rate": rate, "dtype": "float32", "compile": "false", "weight-decay": 0} | more
    return [word for name, value in settings.items() for word in (f"--training.{name}", value)]


PACKED = {"context-length": CONTEXT, "global-batch-tokens": ROWS * CONTEXT}
DPO_PACKED = PACKED | {"global-batch-tokens": ROWS // 2 * CONTEXT}


class Bench:
    """The stages of one seed, in one folder."""

    def __init__(self, out: Path, models: Path, seed: int) -> None:
        self.out, self.models, self.seed = out, models, seed
        self.start = models / POLICY / "model"
        self.seeded = out / f"seed-{seed}"
        self.seeded.mkdir(parents=True, exist_ok=True)

    @cached_property
    def orders(self) -> dict[str, list[Row]]:
        found = iter(story_rows("train_head_cased.txt.xz", sum(COUNTS.values()), 1))
        training = {name: list(islice(found, count)) for name, count in COUNTS.items()}
        return training | {"measured": story_rows("valid_head.txt.xz", MEASURED, 2)}

    def asked(self, name: str) -> list[Asked]:
        return list(map(as_asked, self.orders[name]))

    def samples(self, name: str) -> list[list[str]]:
        """The policy's stories to these orders, before it learns."""
        path = self.seeded / f"{name}.json"
        if not path.exists():
            sampling = Sampling(max_new_tokens=LONGEST, temperature=1.0, seed=self.seed)
            with LM(self.start, dtype=torch.float32) as lm:
                prompts = [each.prompt for each in self.asked(name)]
                rows = lm.generate(prompts, sampling, samples=SAMPLES[name])
            write_json(path, [[one.text for one in row] for row in rows])
        return list(read_json(path))

    def scores(self, name: str, proxy: Path | None = None) -> torch.Tensor:
        """What gold gives these stories, or a reward model, [orders, samples]."""
        rows = self.samples(name)
        flat = [(each, text) for each, row in zip(self.asked(name), rows, strict=True) for text in row]
        return torch.tensor(scores_of(flat, proxy)).view(len(rows), -1)

    def comparisons(self, name: str, count: int, proxy: Path | None = None) -> Path:
        """Two stories to each of the first orders, ranked by gold or by a reward model."""
        path = self.seeded / f"{name}-{count}.jsonl"
        if path.exists():
            return path
        found = zip(self.orders[name], self.samples(name), self.scores(name, proxy).tolist(), strict=True)
        rows = (
            {
                "prompt": [{"role": "user", "content": order["prompt"]}],
                "answers": _best_and_worst(texts, scores),
            }
            for order, texts, scores in islice(found, count)
        )
        return write_rows(path, (row for row in rows if row["answers"]))

    def proxy(self, base: str = POLICY, count: int = COUNTS["ranked"]) -> Path:
        """A reward model, of two passes over its comparisons."""
        how = ["--method", "reward", "--comparisons", self.comparisons("ranked", count), "--held-out", 0]
        how += ["--too-long", "drop", "--seed", self.seed, *training(1e-3, epochs=2, **PACKED)]
        start = self.models / base / "model"
        return stage(self.seeded / f"proxy-{base}-{count}", "align", start, *how) / "model"

    def reinforced(self, method: str) -> Path:
        """A run of PPO or GRPO: 64 stories a rollout, rewarded by the proxy."""
        prompts = write_rows(
            self.out / "practice.jsonl", ({"prompt": row["prompt"]} for row in self.orders["practice"])
        )
        how = ["--method", method, "--prompts", prompts, "--rewarded-by", self.proxy(), "--held-out", 0]
        how += ["--max-new-tokens", LONGEST, f"--{method}.kl", 0, f"--{method}.largest-kl", 1000]
        epochs = {"grpo": 1, "ppo": 2}[method]
        how += ["--ppo.questions", 64, "--ppo.epochs", epochs] if method == "ppo" else []
        words = [*how, "--seed", self.seed, *_kept(RATE, epochs)]
        return stage(self.seeded / method, "align", self.start, *words)

    def preferred(self) -> Path:
        """A run of DPO on comparisons that the proxy ranked."""
        data = self.comparisons("preferred", COUNTS["preferred"], self.proxy())
        words = _kept(RATE, 1, **DPO_PACKED)
        how = ["--method", "dpo", "--comparisons", data, "--held-out", 0, "--too-long", "drop"]
        return stage(self.seeded / "dpo", "align", self.start, *how, "--seed", self.seed, *words)

    def conditional(self) -> list[dict[str, Any]]:
        """Tuning on the stories of DPO behind markers, for as many updates, measured behind the good one."""
        data = write_rows(
            self.seeded / "marked.jsonl",
            (
                {"prompt": row["prompt"][0]["content"], "chosen": good["content"], "rejected": bad["content"]}
                for row in read_lines(self.comparisons("preferred", COUNTS["preferred"], self.proxy()))
                for good, bad in [row["answers"]]
            ),
        )
        asked = [each for each in self.asked("measured") for _ in range(ASKED)]
        found = []
        for at in MARKED:
            words = ["--data.train", data, "--data.validation-fraction", 0, "--markers.style", "koala"]
            words += training(RATE, steps=at, schedule="constant", **DPO_PACKED)
            run = stage(self.seeded / f"marked-{at}", "tune", self.start, *words, "--seed", self.seed)
            scores, figures = marked(run / "model", self.start, asked, self.proxy())
            gold = torch.tensor(scores).view(-1, ASKED).mean(1).tolist()
            found.append({"updates": at, **figures, "gold": gold})
        return found

    def curve(self, run: Path, epochs: int = 1) -> list[dict[str, Any]]:
        """A run's policies, measured: distance, the proxy's reward, and gold for each order."""
        asked = [each for each in self.asked("measured") for _ in range(ASKED)]
        found = []
        for at in POINTS:
            folder = at_step(run, at * epochs, self.start)
            scores, figures = sampled(folder, self.start, asked, self.proxy())
            gold = torch.tensor(scores).view(-1, ASKED).mean(1).tolist()
            found.append({"updates": at, **figures, "gold": gold})
        return found

    def judged(self, proxy: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """The rewards of the measured stories, and what gold gives them."""
        return self.scores("measured", proxy), self.scores("measured")


def best_of(rewards: torch.Tensor, gold: torch.Tensor) -> list[dict[str, Any]]:
    """The best of n by the rewards: its mean over all choices of n of an order's stories."""
    order, samples = rewards.argsort(1), rewards.shape[1]
    rewards, gold = rewards.gather(1, order), gold.gather(1, order)
    found = []
    for n in (2**power for power in range(samples.bit_length())):
        chance = chance_of_best(n, samples)
        gains = {"reward": float((rewards @ chance).mean()), "gold": (gold @ chance).tolist()}
        found.append({"updates": n, "kl": best_of_n_kl(n), **gains})
    return found


def ordered(rewards: torch.Tensor, gold: torch.Tensor) -> list[list[float]]:
    """Of each measured order: pairs of a better and a worse story, and those in the right order."""
    ahead = rewards[:, :, None] - rewards[:, None, :]
    pairs = (gold[:, :, None] > gold[:, None, :]).float()
    well = ((ahead > 0).float() + 0.5 * (ahead == 0).float()) * pairs
    return [[float(n), float(good)] for n, good in zip(pairs.sum((1, 2)), well.sum((1, 2)), strict=True)]


def _kept(rate: float, epochs: int, **more: object) -> list[object]:
    """Settings of a run whose policies are measured on the way."""
    every = {"checkpoint-every": POINTS[0] * epochs, "keep-checkpoints": UPDATES}
    return training(rate, steps=UPDATES * epochs, schedule="constant", **every, **more)


def _best_and_worst(texts: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    """Two stories, since four with their prompts exceed the context; none if all are equally good."""
    answers = [
        {"content": text, "score": score} for text, score in zip(texts, scores, strict=True) if text.strip()
    ]
    answers.sort(key=lambda answer: answer["score"], reverse=True)
    return [answers[0], answers[-1]] if answers and answers[0]["score"] > answers[-1]["score"] else []


def rewards(bench: Bench) -> dict[str, Any]:
    """Reward models by size and by data: their order of better and worse stories, and their best of n."""

    def measured(base: str, count: int) -> dict[str, Any]:
        judged = bench.judged(bench.proxy(base, count))
        return {"ordered": ordered(*judged), "best_of_n": best_of(*judged)}

    return {f"{base} {count}": partial(measured, base, count) for base, count in REWARDS}


def policies(bench: Bench) -> dict[str, Any]:
    """All methods by the proxy."""
    return {
        "best_of_n": lambda: best_of(*bench.judged(bench.proxy())),
        "conditional": bench.conditional,
        "dpo": lambda: bench.curve(bench.preferred()),
        "grpo": lambda: bench.curve(bench.reinforced("grpo")),
        "ppo": lambda: bench.curve(bench.reinforced("ppo"), 2),
    }


CLAIMS = {"rewards": (rewards, rewards_summary), "policies": (policies, policies_summary)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"{', '.join(CLAIMS)}; or write")
    parser.add_argument("--models", type=Path, default=Path("runs/instruction"))
    parser.add_argument("--out", type=Path, default=Path("runs/overoptimise"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    if arguments.claims == ["write"]:
        write_tables()
        return
    for claim in arguments.claims or CLAIMS:
        parts, summarised = CLAIMS[claim]
        results = []
        for seed in arguments.seeds:
            bench = Bench(arguments.out, arguments.models, seed)
            path = bench.seeded / f"{claim}-results.json"
            found: dict[str, Any] = read_json(path) if path.exists() else {}
            for name, part in parts(bench).items():
                if name not in found:
                    found[name] = part()
                    write_json(path, found)
            results.append(found)
        DATA.mkdir(exist_ok=True)
        write_json(DATA / f"{claim}.json", summarised(results))


if __name__ == "__main__":
    main()
