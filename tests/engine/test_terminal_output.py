"""An answer in Markdown as it is printed while it comes."""

import io
import re

import pytest
from rich.console import Console

from camelid.engine.terminal_output import complete_blocks, printing

ANSWER = """\
# Rivers

They **run** to the `sea`.

```python
def run():

    return "sea"
```

- one
- two

The end."""


def screen(terminal: bool, markdown: bool = True, size: int = 1, height: int = 25) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=60, height=height, color_system=None)
    with printing(markdown, console) as write:
        for at in range(0, len(ANSWER), size):
            write(ANSWER[at : at + size])
    return file.getvalue()


def drawn(output: str) -> list[str]:
    """The lines that a terminal shows after cursor movements and erasures, of those that rich writes."""
    lines, row, column = [""], 0, 0
    for control, text in re.findall(r"\x1b\[(\??\d*[A-Za-z])|([^\x1b])", output):
        if control.endswith("A"):
            row -= int(control[:-1] or 1)
        elif control == "2K":
            lines[row] = ""
        elif text == "\r":
            column = 0
        elif text == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("height", [6, 25])
def test_pieces_end_as_the_whole(size: int, height: int) -> None:
    shown = drawn(screen(terminal=True, size=size, height=height))
    assert [line.strip() for line in shown if "Rivers" in line] != []
    text = "\n".join(shown)
    assert "They run to the sea." in text
    assert "**" not in text
    assert "```" not in text
    assert 'return "sea"' in text
    assert " • one" in text
    assert shown[-1].strip() == "The end."
    assert text.count("return") == text.count("They run") == 1


def test_elsewhere_the_text_is_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert screen(terminal=False) == ""
    assert capsys.readouterr().out == ANSWER + "\n"
    assert screen(terminal=True, markdown=False) == ""
    assert capsys.readouterr().out == ANSWER + "\n"


def test_blocks_are_complete_at_empty_lines_outside_code() -> None:
    done, rest = complete_blocks(ANSWER)
    assert (done + rest, rest) == (ANSWER, "The end.")
    inside = ANSWER[: ANSWER.index("    return")]
    assert complete_blocks(inside)[1].startswith("```python")
    assert complete_blocks("a") == ("", "a")
    longer = "````\n```\n\nx"
    assert complete_blocks(longer) == ("", longer)
