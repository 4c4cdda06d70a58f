"""Reports: every value that goes in is on the page, and the page needs nothing but itself."""

import re
from html.parser import HTMLParser

import pytest

from camelid.cli import main as cli
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.tune import TuneRecipe
from camelid.report.figures import POINTS, draw
from camelid.report.page import render, show_cell, write_report
from camelid.report.training import training_report
from camelid.report.values import (
    BarPlot,
    Curve,
    Dialogue,
    Estimate,
    LinePlot,
    Passage,
    Report,
    Section,
    Table,
)
from camelid.runs.run import Run
from camelid.text.conversation import Conversation

VOID = {"meta", "br", "img", "link", "path", "use", "rect", "stop"}


class Balance(HTMLParser):
    """Collects text and checks that tags close in the order they open."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]

    def handle_startendtag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture
def report():
    talk = Conversation.of(("Who is <b>Mina</b>?", "A baker & a friend."), system="Be kind.")
    return Report(
        title="A <small> model",
        summary="What came out.",
        facts={"parameters": "6.4 M"},
        commands=("camelid chat runs/a/model",),
        sections=(
            Section(
                "Accuracy",
                "Held out.",
                figures=(
                    BarPlot(
                        "Bars",
                        "% right",
                        ("coin", "dates"),
                        {"16": (Estimate(90, 80, 95), None), "4": (None, None)},
                    ),
                    LinePlot("Lines", "step", "loss", (Curve("train", range(9), range(9)),)),
                ),
                tables=(Table("Sizes", ("part", "bytes"), (("model", 12_800_000), ("none", None))),),
                dialogues=(Dialogue("Held-out 1", talk),),
                passages=(Passage("Story 1", "Once <script>alert(1)</script>"),),
            ),
        ),
        footer="Written by hand.",
    )


def test_everything_is_on_the_page_and_escaped(report):
    page = render(report)
    text = " ".join("".join(parse(page).text).split())
    for words in (
        "A <small> model",
        "What came out.",
        "6.4 M",
        "camelid chat runs/a/model",
        "Who is <b>Mina</b>?",
        "A baker & a friend.",
        "Be kind.",
        "12,800,000",
        "Once <script>alert(1)</script>",
        "Written by hand.",
    ):
        assert words in text
    assert "<script" not in page
    assert page.count("<svg") == 2


def test_the_page_needs_nothing_but_itself(report):
    page = render(report)
    assert all(link.startswith("#") for link in parse(page).links)
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_same_report_is_the_same_page(report):
    assert render(report) == render(report)


def test_figures_follow_the_page_in_light_and_dark(report):
    for plot in report.sections[0].figures:
        svg = draw(plot)
        assert not re.search(r"#0[12]030|#01020|white", svg)
        assert "var(--series-1)" in svg
        assert "var(--ink)" in svg


def test_a_long_curve_stays_small():
    def plot(count):
        return LinePlot(
            "Loss", "step", "loss", (Curve("loss", range(count), [x % 7 for x in range(count)], spread=True),)
        )

    assert len(draw(plot(100_000))) < 3 * len(draw(plot(POINTS + 1)))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        ("word", "word"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (Estimate(97.25, 93.0, 99.5), "97.2 [93.0, 99.5]"),
        (Estimate(0.5, 0.25, 0.75), "0.500 [0.250, 0.750]"),
        (Estimate(2.5052, 2.447, 2.574), "2.51 [2.45, 2.57]"),
        (Estimate(3.0, 3.0, 3.0), "3.0 [3.0, 3.0]"),
    ],
)
def test_cells(cell, text):
    assert show_cell(cell) == text


def test_a_run_is_reported_from_its_folder(tmp_path, capsys):
    settings = {"model": "m", "data.train": "rows.jsonl", "training.steps": 4, "out": str(tmp_path)}
    with Run.create(tmp_path, load_recipe(TuneRecipe, None, settings), data={"rows.jsonl": "abc"}) as run:
        for step in range(1, 5):
            record = {
                "step": step,
                "loss": 2.0 / step,
                "learning_rate": 1e-3,
                "grad_norm": 1.0,
                "tokens": 100,
            }
            record |= {"seconds": 0.5, "tokens_per_second": 200.0, "memory_bytes": 10**9}
            if step == 4:
                record |= {"validation_loss": 0.75, "validation_bits_per_byte": 0.25}
            run.log(record)
    page = write_report(training_report(tmp_path), tmp_path).read_text(encoding="utf-8")
    text = " ".join("".join(parse(page).text).split())
    for words in (
        "4 steps over 400 tokens, in 2s",
        "from 2.000 to 0.500",
        "0.750",
        "1 GB",
        "learning_rate: 0.001",
        "abc",
    ):
        assert words in text
    (tmp_path / "report.html").unlink()
    assert cli.main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 0, "validation_loss": 2.0}\n')
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "has no steps yet" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_sweep_names_what_writes_its_page(tmp_path, capsys):
    recipe = load_recipe(SweepRecipe, None, {"out": str(tmp_path), "minutes": 1})
    with Run.create(tmp_path, recipe) as run:
        run.log({"step": 0, "rungs": 5})
    assert cli.main(["report", str(tmp_path)]) == 2
    assert f"camelid scale sweep {tmp_path / 'recipe.yaml'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("updates", "terms", "shown"),
    [
        (30, (1.0, 64.0), "64 tokens; a batch trains 100"),
        (30, (1.0, -64.0), "too noisy to tell"),
        (19, (1.0, 64.0), "not shown before 20 updates"),
        (
            30,
            None,
            "not measured: a process needs two micro-batches an update, see training.micro_batch_size",
        ),
    ],
)
def test_a_pretraining_shows_its_noise_scale_or_why_it_has_none(tmp_path, updates, terms, shown):
    recipe = load_recipe(
        PretrainRecipe,
        None,
        {
            "data": {"train": ["a.txt"]},
            "tokenizer": "t",
            "out": str(tmp_path),
            "training": {"steps": 30, "learning_rate": 0.01},
        },
    )
    with Run.create(tmp_path, recipe) as run:
        run.log({"step": 0, "validation_loss": 2.0})
        for step in range(1, updates + 1):
            record = {"step": step, "loss": 1.0, "trained_tokens": 100}
            run.log({**record, **dict(zip(("gradient_square", "gradient_trace"), terms or (), strict=False))})
    assert training_report(tmp_path).facts["gradient noise scale"] == shown
