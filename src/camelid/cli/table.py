"""The verbs: one line each. A newcomer who looks for `camelid tune` opens `cli/tune.py`."""

from typing import NamedTuple


class Verb(NamedTuple):
    """One command: the group it is shown in, where its function lives, and what it does."""

    group: str
    target: str
    help: str


def _in(group: str, **verbs: tuple[str, str]) -> dict[str, Verb]:
    """The verbs of a group, each with its function, which lies in the module of its name, and its help."""
    return {
        name.rstrip("_"): Verb(group, f"camelid.cli.{function}:{function}", about)
        for name, (function, about) in verbs.items()
    }


VERBS: dict[str, Verb] = {
    **_in(
        "Start here",
        quickstart=("quickstart", "raw text to a model you can talk to, in minutes"),
    ),
    **_in(
        "Make a model",
        tokenizer=("tokenizer", "learn a vocabulary from text"),
        pretrain=("pretrain", "train a new model on raw text"),
        tune=("tune", "teach a model to answer, from conversations"),
        quantize=("quantize", "make a model small: 2, 3, 4 or 8 bits a weight"),
        import_=("import_model", "turn a GGUF file or Meta's folder into a model folder"),
        export=("export", "write a model for llama.cpp, transformers or vLLM"),
    ),
    **_in(
        "Use a model",
        generate=("generate", "continue a prompt, or answer it with --chat"),
        chat=("chat", "talk to a model in the terminal"),
    ),
    **_in(
        "Judge",
        eval=("evaluate", "accuracy on a task, perplexity and bits per byte on text"),
        compare=("compare", "quantised or tuned models side by side"),
        check=("check", "find what is wrong with recipes, data and models beforehand"),
        report=("report", "write a run's report.html again"),
    ),
    **_in(
        "Plan",
        models=("models", "published models: parameters, cost to train, memory to run"),
        fits=("fits", "whether a model and its cache fit into memory, and what would"),
    ),
}
