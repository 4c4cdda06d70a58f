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
    reinforce: bool = False,
    law: Path | None = None,
) -> None:
    """Makes a model that you can talk to: tokenizer, pretraining, tuning, 4 bits, evaluation, report.

    Args:
        minutes: time for the whole job; with this machine's speed it sets the model's size and amount of text
        out: folder for all results; repeat the same command to resume
        text: files or folders of training text, instead of the generated world
        chats: files of conversations (Alpaca, ShareGPT or OpenAI rows), instead of the generated world's
        from_: a model folder or hub name to tune on --chats, instead of pretraining a model
        seed: seed of the data, the initial weights and the samples
        reinforce: after tuning, let the model practise sums and comparisons by GRPO, a third of the time
        law: folder of `camelid scale sweep` or `scale fit --out`: its law chooses the size of the model and
            predicts the loss of pretraining; the report says hit or miss
    """
    from camelid.workflows.quickstart.steps import make_assistant

    make_assistant(
        minutes=minutes,
        out=out,
        text=text,
        chats=chats,
        base=from_,
        seed=seed,
        reinforce=reinforce,
        law=law,
    )
