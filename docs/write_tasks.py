"""Writes the table of `reasoning_tasks.md` from the data sets themselves: python docs/write_tasks.py."""

from pathlib import Path

from camelid.tasks.graders import TwoWays
from camelid.tasks.reasoning import DATASETS, Dataset, dataset_named
from camelid.tasks.reasoning.symbolic import GENERATORS

PAGE = Path(__file__).with_name("reasoning_tasks.md")
BEGIN, END = "<!-- written by write_tasks.py -->", "<!-- end -->"
HEAD = ("`--task`", "questions", "read as", "our exemplars", "least-to-most", "paper's reading", "source")


def table() -> str:
    """The rows of the table, one for each data set."""
    sets = [*DATASETS.values(), dataset_named("bbh/navigate")]
    rows = [HEAD, tuple("-" * 3 for _ in HEAD), *(_row(each) for each in sets if each)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(dataset: Dataset) -> tuple[str, ...]:
    name = "bbh/<task>" if dataset.name.startswith("bbh/") else dataset.name
    names = f"`{name}`" + (f", `{name}/4` without a file" if name in GENERATORS else "")
    grader = dataset.grader.__name__ if isinstance(dataset.grader, TwoWays) else ""  # type: ignore[attr-defined]
    shown = "3 for each task, or more" if name == "bbh/<task>" else str(len(dataset.exemplars))
    paper = f"`{dataset.paper.name}`" if dataset.paper else ""
    return (
        names,
        dataset.published,
        f"`{grader}`",
        shown,
        "yes" if dataset.decomposition else "",
        paper,
        dataset.source,
    )


def written(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
