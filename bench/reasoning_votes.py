"""Self-consistency in bench/reasoning.py: the majority of the first samples, of a model that errs seldom and
of one that errs often."""

from dataclasses import replace
from pathlib import Path

from reasoning_claims import EACH, LONG, MAIN, SPANS, STRICT, Row, ask, in_steps, row, task

from camelid.prompting.ensembles import elect, self_consistency

EARLY, EARLY_UPDATES = "early", 800
MODELS = (EARLY, MAIN)
SAMPLES, TEMPERATURES = 16, (0.4, 0.7, 1.0)


def votes(out: Path) -> list[Row]:
    """Self-consistency on sums by the number of samples; validation questions choose the temperature."""
    rows = []
    for name in MODELS:
        for span in SPANS:
            chosen = best_temperature(out, name, span)
            asked = task("sums", span, EACH // 2)
            about = {"model": name, "span": span}
            greedy = ask(out, name, asked, in_steps("sums"), "steps")
            rows.append(row(greedy, **about, samples=0, temperature=0.0))
            for samples, correct in voted(out, name, chosen, span, "test", SAMPLES, EACH // 2).items():
                voting = {"samples": samples, "temperature": chosen}
                rows.append({**about, **voting, "right": correct, "n": len(asked.items)})
    return rows


def best_temperature(out: Path, name: str, span: str) -> float:
    """The temperature whose votes of 8 are right most often on validation questions; the lowest of equals."""
    tried = {value: voted(out, name, value, span, "validation", 8, EACH // 4)[8] for value in TEMPERATURES}
    return max(tried, key=lambda value: tried[value])


def voted(
    out: Path, name: str, temperature: float, span: str, split: str, samples: int, each: int
) -> dict[int, int]:
    """Right answers of a majority of the first 1, 2, 4, ... samples."""
    asked = task("sums", span, each, split)
    warm = replace(LONG, max_new_tokens=110, temperature=temperature)
    program = self_consistency(in_steps("sums", sampling=warm), samples)
    found = ask(out, name, asked, program, f"votes-{samples}-{temperature}")
    counts = {2**power: 0 for power in range(samples.bit_length())}
    for item, record in zip(asked.items, found.records, strict=True):
        texts = [sample.text for sample in record.attempt.samples]
        answers = [asked.read(item, text)[STRICT] for text in texts]
        for count in counts:
            winner = elect(answers[:count], [1.0] * count)
            counts[count] += winner is not None and asked.grade(item, texts[winner])[STRICT].correct
    return counts
