"""When to stop: Kaplan's bound against the law that it comes from, and the words of the report."""

import pytest

from camelid.report.stopping import when_to_stop
from camelid.scaling.stopping import earliest_stop, kaplan_loss


def test_kaplan_loss_by_hand():
    # (6.4e13 / 1e8)^(0.076 / 0.103) = 19,239; 1.8e13 / 1e9 = 18,000; 37,239^0.103 = 2.957
    assert kaplan_loss(1e8, 1e9) == pytest.approx(2.957, abs=1e-3)
    assert kaplan_loss(1e8, float("inf")) == pytest.approx((6.4e13 / 1e8) ** 0.076)


@pytest.mark.parametrize(("n", "d"), [(1e6, 1e7), (1e8, 1e9), (1e9, 2e10)])
def test_the_bound_is_where_the_loss_on_endless_text_reaches_that_on_limited_text(n: float, d: float):
    least = earliest_stop(n, d, float("inf"))
    endless = (6.4e13 / n) ** 0.076 + (2.1e3 / least) ** 0.76  # eq. 5.6 at a batch far above the critical
    assert endless == pytest.approx(kaplan_loss(n, d))
    critical = 2e8 / kaplan_loss(n, d) ** (1 / 0.21)
    assert earliest_stop(n, d, critical) == pytest.approx(2 * least)  # eq. 5.4
    assert earliest_stop(n, 2 * d, critical) > 2 * least


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([3.0, 2.0, 1.5, 1.7, 2.0], "lowest at step 3,000 (1.5000) and has risen by 33.3% since"),
        # 1 - 1.2 / 1.4 = 14.3 %; over 1,000 updates that is 1.4 % for every 100
        ([3.0, 2.0, 1.5, 1.4, 1.2], "by 14.3% over the last 1,000 updates, 1.4 % per 100. It has not passed"),
        # lowest before, but the end is within 0.5 % of it
        ([3.0, 2.0, 1.2, 1.3, 1.203], "It was lowest at step 3,000 (1.2000), within 0.5% of the end"),
        ([3.0, 2.0, 1.5, 1.2, 1.201], "has not fallen since step 4,000"),
    ],
)
def test_the_report_says_when(losses: list[float], words: str):
    rows = [{"step": 1000 * (k + 1), "validation_loss": loss} for k, loss in enumerate(losses)]
    [section] = when_to_stop([{"step": 1, "loss": 3.0}, *rows])
    assert words in section.text
    assert when_to_stop(rows[:3]) == ()


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ([3.0, 2.0, 1.4, 1.2, 1.0], "fell, from 1.4000 to 1.0000, so repeats of the same comparisons"),
        ([3.0, 2.0, 1.4, 1.6, 1.9], "rose too, from 1.4000 to 1.9000, so training itself got worse"),
    ],
)
def test_more_data_is_advised_only_where_the_training_loss_still_falls(training: list[float], words: str):
    rows = [
        {"step": 10 * (k + 1), "loss": loss, "validation_loss": held_out}
        for k, (loss, held_out) in enumerate(zip(training, [3.0, 2.0, 1.5, 1.7, 2.0], strict=True))
    ]
    [section] = when_to_stop(rows, "comparisons")
    assert words in section.text
    assert ("more comparisons" in section.text) == (training[-1] < 1.4)
