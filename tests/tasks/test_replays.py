"""Published generations read again: under the paper's reading, every verdict of their authors."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

ACCURACIES = {
    "addsub": (72.15, 69.62),
    "aqua": (22.44, 33.46),
    "coin_flip": (12.8, 91.4),
    "commonsensqa": (68.8, 64.62),
    "date_understanding": (49.32, 67.48),
    "gsm8k": (10.39, 40.71),
    "last_letters": (0.2, 57.6),
    "multiarith": (17.67, 78.67),
    "shuffled_objects": (31.33, 52.4),
    "singleeq": (74.61, 77.95),
    "strategyqa": (12.66, 54.76),
    "svamp": (58.8, 62.1),
}
"""Zero-shot and zero-shot chain of thought, as the logs end; table 1 of the paper rounds them."""
RESULTS = {
    "aqua_s0_e-1_11_06_18_38": 54.15,
    "aqua_sc_s0_e-1_11_07_20_49": 58.1,
    "aqua_zs_s0_e-1_11_19_11_56": 37.94,
    "gsm8K_s0_e-1_11_17_10_20": 71.55,
    "gsm8K_zs_s0_e-1_11_19_09_55": 56.95,
    "multiarith_zs_s0_e-1_11_19_20_12": 92.15,
    "svamp_s0_e-1_11_24_14_38": 85.19,
    "svamp_sc_s0_e-1_11_08_14_02": 88.19,
    "svamp_zs_s0_e-1_11_18_20_12": 70.87,
}
"""What the authors' compute_score.py prints; their README has 71.6, 54.1 and 85.2 for the first of each."""


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bench"))
        yield importlib.import_module("replay_logs")


@pytest.fixture
def logs(shared: Path) -> Path:
    folder = shared / "data/reasoning"
    if not (folder / "outputs").is_dir():
        pytest.skip("no logs of published generations in ../shared/data/reasoning/outputs")
    return folder


@pytest.mark.parametrize("name", ACCURACIES)
def test_zero_shot_logs(bench, logs: Path, name: str) -> None:
    for method, published in zip(("zero_shot", "zero_shot_cot"), ACCURACIES[name], strict=True):
        replay = bench.kojima(logs, name, method)
        assert (replay.different, replay.paper) == (0, pytest.approx(published, abs=0.006))


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("6b_finetuning", 21.68),
        ("6b_verification", 39.04),
        ("175b_finetuning", 34.72),
        ("175b_verification", 56.25),
    ],
)
def test_gsm8k_solutions(bench, logs: Path, model: str, published: float) -> None:
    replay = bench.openai(logs, model)
    assert (replay.different, replay.paper) == (0, pytest.approx(published, abs=0.006))


@pytest.mark.parametrize("name", RESULTS)
def test_program_of_thoughts(bench, logs: Path, name: str) -> None:
    replay = bench.program_of_thoughts(logs / f"outputs/program_of_thoughts/{name}.jsonl.gz")
    assert (replay.different, replay.paper) == (0, pytest.approx(RESULTS[name], abs=0.006))


@pytest.mark.parametrize(
    ("name", "right"),
    [("naive_cot_sample_100", 403), ("naive_standard_sample_100", 734), ("propose1_value3_greedy5", 119)],
)
def test_game_of_24(bench, logs: Path, name: str, right: int) -> None:
    replay = bench.game_of_24(logs, logs / f"outputs/tot_game24/gpt-4_0.7_{name}_start900_end1000.json.gz")
    assert (replay.different, round(replay.paper * replay.replies / 100)) == (0, right)


def test_votes_and_rewards_of_eight_samples(bench, logs: Path) -> None:
    each, vote, best = bench.samples_with_rewards(logs)
    assert (each.paper, vote.paper, best.paper) == (91, 93, 94)
    assert vote.different == best.different == 0


def test_the_page_is_what_the_script_writes(bench, logs: Path) -> None:
    script = importlib.import_module("replay")
    assert (ROOT / "docs/replays.md").read_text() == script.page(list(bench.replays(logs)))
