"""`camelid quickstart`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg


def quickstart(
    *,
    minutes: float = 12.0,
    out: Path = Path("quickstart"),
    text: tuple[Path, ...] = (),
    chats: tuple[Path, ...] = (),
    from_: Annotated[str | None, arg(name="from")] = None,
    seed: int = 0,
) -> None:
    """Makes a model that you can talk to: tokenizer, pretraining, tuning, 4 bits, evaluation, report.

    Args:
        minutes: time for all of it; model size and amount of text follow from it and from this machine's speed
        out: folder for everything that is made; the same command goes on with what is there
        text: files or folders of text to learn from, in place of the embedded world
        chats: files of conversations (Alpaca, ShareGPT or OpenAI rows), in place of those of the embedded world
        from_: a model folder or hub name to tune with --chats, in place of pretraining one
        seed: of the data, the first weights and the samples
    """
    from camelid.workflows.quickstart.steps import make_assistant

    make_assistant(minutes=minutes, out=out, text=text, chats=chats, base=from_, seed=seed)
