"""`camelid check`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction


def check(
    paths: Annotated[tuple[str, ...], Positional],
    model: str | None = None,
    context_length: int = 2048,
    skip_bad_rows: bool = False,
    items: Annotated[tuple[Path, ...], UseAppendAction] = (),
    show: int = 0,
    parity: str | None = None,
    against: Annotated[tuple[str, ...], UseAppendAction] = (),
    drift: float | None = None,
    reward: str | None = None,
    reward_seconds: float = 60.0,
) -> None:
    """Finds errors in recipes, data, models and runs before any compute is spent, and in exports.

    Args:
        paths: recipes (.yaml), data files or folders, model, run or quickstart folders, .gguf files, URLs of
            OpenAI-compatible servers; with --parity: exports of the model, folders or .gguf files
        model: checkpoint folder or hub name; also render and tokenise conversations as for tuning this model
        context_length: longest conversation in tokens; needs --model
        skip_bad_rows: count malformed rows instead of failing at the first
        items: a file of evaluation items that must not occur in the training data
        show: print this many rows of training data, with the tokens that are trained marked; needs --model
            for data files
        parity: a model folder; check that the training forward, the engine and every export give the same ids
            and log-probabilities for the same conversations
        against: with --parity, an export to compare, like the paths
        drift: with --parity, the largest mean difference of log-probabilities of quantised exports, in nats a
            token; by default it depends on their bits
        reward: a reward function FILE.py:NAME, or a reward model's folder; check that it rates degenerate
            answers below the real ones in the paths, by default those of the embedded world
        reward_seconds: with --reward, time of a reward function for one answer
    """
    from camelid.workflows.gated import check as look

    look(
        paths,
        model,
        context_length,
        skip_bad_rows,
        items,
        show,
        parity,
        against,
        drift,
        reward,
        reward_seconds,
    )
