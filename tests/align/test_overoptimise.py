"""The pure parts of bench/overoptimise.py: best-of-n, and the forms fitted to curves."""

import itertools
import math

import pytest
import torch


@pytest.fixture
def measure(bench_module):
    return bench_module("overoptimise_measure")


@pytest.fixture
def fit(bench_module):
    return bench_module("overoptimise_fit")


def test_the_best_of_n_is_the_mean_over_all_choices_of_n(measure):
    gold = torch.tensor([0.0, 1.0, 0.5, 0.0, 0.25])  # in the order of their rewards
    for n in range(1, 6):
        chosen = [gold[max(places)] for places in itertools.combinations(range(5), n)]
        found = gold @ measure.chance_of_best(n, 5)
        assert found == pytest.approx(float(torch.stack(chosen).mean()))


def test_nats_of_the_best_of_n(measure):
    # Gao et al., section 2: log n - (n - 1) / n
    assert measure.best_of_n_kl(1) == 0
    assert measure.best_of_n_kl(4) == pytest.approx(0.6363, abs=1e-4)


def curve(gains):
    """Points of d squared nats whose gold is 0.2 more than nothing, plus the gain, for each of two orders."""
    return [{"updates": 0, "kl": d * d, "reward": 0.0, "gold": [0.2 + gain] * 2} for d, gain in gains.items()]


@pytest.mark.parametrize(
    ("name", "form", "peak"),
    [
        ("best_of_n", lambda d: d * (0.3 - 0.1 * d), 1.5**2),
        ("ppo", lambda d: d * (0.3 - 0.1 * math.log(d)) if d else 0.0, math.exp(2 * (0.3 / 0.1 - 1))),
    ],
)
def test_the_constants_of_a_form_come_back(fit, name, form, peak):
    points = curve({d: form(d) for d in (0.0, 0.5, 1.0, 1.5, 2.0)})
    found = fit.policies_summary([{"best_of_n": curve({0.0: 0.0, 1.0: 0.2, 2.0: 0.1}), name: points}])[
        "forms"
    ][name]
    assert (found["alpha"]["value"], found["beta"]["value"]) == pytest.approx((0.3, 0.1))
    assert found["explained"] == pytest.approx(1)
    assert found["peak"] == pytest.approx(peak)


def test_methods_are_compared_at_distances_that_they_reach(fit):
    far, near = curve({0.0: 0.0, 1.0: 0.1, 2.0: 0.2}), curve({0.0: 0.0, 0.5: 0.2, 0.75: 0.3})
    levels = fit.policies_summary([{"best_of_n": far, "dpo": near}])["levels"]
    assert list(levels["best_of_n"]) == ["0.25", "0.5", "1.0", "2.0"]
    assert list(levels["dpo"]) == ["0.25", "0.5"]
    assert levels["best_of_n"]["1.0"]["value"] == pytest.approx(0.1)
    assert levels["dpo"]["0.25"]["value"] == pytest.approx(0.2)  # linear in the root of the nats


def test_markers_are_compared_at_their_end_alone(fit):
    base, marked = curve({0.0: 0.0, 1.0: 0.1}), curve({5.0: 0.3, 6.0: 0.05})
    found = fit.policies_summary([{"best_of_n": base, "conditional": marked}])
    assert "conditional" not in found["levels"]
    assert found["gains"]["conditional"]["value"] == pytest.approx(0.05)


def test_accuracy_counts_instructions_alike_and_knows_the_longer_answer(bench_module) -> None:
    preferred = bench_module("preferred")

    class Judge:
        """Likes answers with a b."""

        def score(self, conversations):
            return [float("b" in each.messages[-1].content) for each in conversations]

    rows = [
        {"instruction": "i", "output_1": "b", "output_2": "aaa", "preference": 1.0},
        {"instruction": "i", "output_1": "a", "output_2": "bbb", "preference": 1.0},
        {"instruction": "i", "output_1": "b", "output_2": "a", "preference": 1.0},
        {"instruction": "j", "output_1": "aaa", "output_2": "a", "preference": 1.0},
    ]
    found = preferred.accuracy(Judge(), rows)
    assert found["judge"]["mean"] == pytest.approx((2 / 3 + 0.5) / 2)
    assert found["longer"]["mean"] == pytest.approx((0.5 / 3 + 1) / 2)
    assert found["judge"]["n"] == 2
    edges = sorted(preferred.PARTS.values())
    assert [low for low, _ in edges] == [0.0, *(high for _, high in edges)][:-1]
