"""The published models with their training and inference costs."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from camelid.base.errors import WrongCall
from camelid.model.presets import PRESETS, preset
from camelid.model.spec import ModelSpec
from camelid.scaling.cluster import TRAINING_BYTES

COLUMNS = (
    "model",
    "parameters",
    "GFLOPs/token",
    "KV bytes/token",
    "train GB",
    "run GB",
    "context",
    "differs from LLaMA in",
)


def print_models(names: Sequence[str] = ()) -> None:
    """Prints a table of the published models, or of those whose names begin with one of `names`."""
    chosen = [name for name in PRESETS if not names or name.startswith(tuple(names))]
    if not chosen:
        raise WrongCall(f"no model name begins with {' or '.join(names)}; available: {', '.join(PRESETS)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if 0 < number < len(COLUMNS) - 1 else "left", no_wrap=True)
    for name in chosen:
        table.add_row(name, *_figures(preset(name)))
    console = Console(highlight=False)
    # A pipe has no width; do not wrap rows there.
    console.print(table) if console.is_terminal else Console(highlight=False, width=200).print(table)


def _figures(spec: ModelSpec) -> Sequence[str]:
    cache = spec.kv_bytes_per_token()
    running = 2 * spec.parameter_count() + cache * spec.context_length
    return (
        f"{spec.parameter_count():,}",
        f"{spec.training_flops_per_token() / 1e9:,.2f}",
        f"{cache:,}",
        f"{TRAINING_BYTES * spec.parameter_count() / 1e9:,.1f}",
        f"{running / 1e9:,.1f}",
        f"{spec.context_length:,}",
        ", ".join(_differences(spec)) or "-",
    )


def _differences(spec: ModelSpec) -> list[str]:
    """The differences between the spec and LLaMA."""
    positions = type(spec.positions).__name__
    scaling = getattr(spec.positions, "scaling", None)
    candidates = (
        (
            positions != "Rotary",
            {"Learned": "learned positions", "RelativeBuckets": "relative positions"}.get(positions),
        ),
        (scaling is not None, "scaled RoPE"),
        (getattr(spec.positions, "dims", None) is not None, "RoPE on a part of each head"),
        (spec.norm.kind != "rms", "LayerNorm"),
        (spec.feed_forward.kind != "swiglu", spec.feed_forward.kind),
        (spec.num_kv_heads == 1, "multi-query"),
        (1 < spec.num_kv_heads < spec.num_heads, "grouped queries"),
        (not spec.norm.gain, "no norm parameters"),
        (spec.parallel, "parallel blocks"),
        (spec.output_bias, "output bias"),
        (spec.encoder_layers > 0, "encoder"),
        (spec.attention_bias != "none", f"biases ({spec.attention_bias})"),
        (spec.query_key_norm, "query-key norm"),
        (spec.window is not None, "window"),
        (spec.tie_embeddings, "tied"),
    )
    return [str(text) for holds, text in candidates if holds]
