"""The verbs: one line each. A newcomer who looks for `camelid tune` opens `cli/tune.py`."""

from typing import NamedTuple


class Verb(NamedTuple):
    """One command: the group it is shown in, where its function lives, and what it does."""

    group: str
    target: str
    help: str


def _in(group: str, **verbs: tuple[str, str]) -> dict[str, Verb]:
    """The verbs of a group, each given by its function, which is in the module of the same name, and its
    help."""
    return {
        name.rstrip("_"): Verb(group, f"camelid.cli.{function}:{function}", about)
        for name, (function, about) in verbs.items()
    }


# A name of two words, such as `make answers`, is a verb of a family.
VERBS: dict[str, Verb] = {
    **_in(
        "Start here",
        quickstart=("quickstart", "from raw text to a model you can talk to, in minutes"),
    ),
    **_in(
        "Make a model",
        tokenizer=("tokenizer", "learn a vocabulary from text"),
        pretrain=("pretrain", "train a new model on raw text"),
        tune=("tune", "fine-tune a model on conversations, or an adapter to it"),
        merge=("merge", "add an adapter to the weights of its base"),
        align=("align", "train on how good answers are: rewards, DPO, GRPO"),
        quantize=("quantize", "make a model smaller: 2, 3, 4 or 8 bits per weight"),
        import_=("import_model", "convert a GGUF file or Meta's folder into a model folder"),
        export=("export", "write a model for llama.cpp, transformers or vLLM"),
    ),
    **_in(
        "Make data",
        **{
            "make answers": ("make_answers", "let a teacher answer questions, for `tune`"),
            "make preferences": ("make_preferences", "rank several answers of a model, for `align`"),
            "make self-instruct": ("make_self_instruct", "let a model write instructions and their answers"),
            "make self-chat": ("make_self_chat", "let a model write both sides of conversations"),
            "make clean": ("make_clean", "clean threads that people shared, for `tune`"),
        },
    ),
    **_in(
        "Use a model",
        generate=("generate", "continue a prompt, or answer it with --chat"),
        chat=("chat", "talk to a model in the terminal"),
        serve=("serve", "an OpenAI-compatible server"),
    ),
    **_in(
        "Evaluate",
        eval=("evaluate", "accuracy on a task, perplexity and bits per byte on text"),
        compare=("compare", "compare quantised or tuned models side by side"),
        check=("check", "find errors in recipes, data and models beforehand"),
        report=("report", "rewrite a run's report, or the answers of evaluations"),
    ),
    **_in(
        "Plan",
        **{
            "scale plan": ("scale_plan", "the best model for a budget, with its recipe"),
            "scale sweep": ("scale_sweep", "train a ladder of small models and fit a law to them"),
            "scale fit": ("scale_fit", "fit a scaling law to runs: loss by size, tokens, FLOPs"),
        },
        models=("models", "published models: parameters, cost, memory to run"),
        fits=("fits", "whether a model and its cache fit into memory"),
    ),
}
