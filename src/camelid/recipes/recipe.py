"""Recipes: small frozen values that say everything a stage does, written as YAML and overridden by flags.

    recipe = load_recipe(PretrainRecipe, Path("recipe.yaml"), {"training.learning_rate": 1e-3})

A key that no recipe has, a value out of bounds and a pair that can never work raise `WrongCall`, which names
the file, the line, the dotted key and the flag that mends it. `load_recipe(save_recipe(r)) == r`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from camelid.base.errors import WrongCall
from camelid.recipes.model_shape import ModelShape as ModelShape
from camelid.recipes.settings import Settings
from camelid.recipes.yaml import Source, explain, merge, nest, parse_yaml, to_yaml, with_sections
from camelid.text.vocabulary_learning import VocabularyKind

OptimizerName = Literal["adamw", "muon", "adafactor"]
ScheduleName = Literal["cosine", "linear", "wsd", "inverse_sqrt", "constant"]
TrackerName = Literal["tensorboard", "wandb"]
DECODER_OBJECTIVES = ("causal", "prefix_lm")


class TextData(Settings):
    """Where the rows come from, and which of them are held out."""

    train: tuple[Path, ...] = Field(min_length=1, description="files or folders to learn from")
    validation: tuple[Path, ...] = Field(
        default=(), description="files or folders to validate on; none: a share of train"
    )
    validation_fraction: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="share of the train documents held out when validation names nothing",
    )
    skip_bad_rows: bool = Field(
        default=False, description="count and list malformed rows instead of stopping at the first"
    )
    shuffle: bool = Field(
        default=True, description="documents in random order; false: as they stand in the files, a curriculum"
    )
    workers: int = Field(
        default=1,
        gt=0,
        description='processes that tokenise; a script that asks for several needs `if __name__ == "__main__":`',
    )

    @field_validator("train", "validation", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value


class Training(Settings):
    """One optimiser run over batches of a fixed number of tokens."""

    steps: int | None = Field(default=None, gt=0, description="updates to make; give this or tokens")
    tokens: int | None = Field(default=None, gt=0, description="tokens to see; give this or steps")
    global_batch_tokens: int = Field(
        default=16_384, gt=0, description="tokens of one update, over all processes"
    )
    micro_batch_size: int | None = Field(
        default=None,
        gt=0,
        description="rows computed at once, the rest is accumulated; left out: what suits the machine",
    )
    context_length: int = Field(default=512, gt=1, description="tokens of one row")
    optimizer: OptimizerName = Field(
        default="adamw",
        description="muon: orthogonalised updates of the layers' matrices, AdamW for the rest; adafactor: T5's",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")
    min_learning_rate_ratio: float = Field(
        default=0.1, ge=0, le=1, description="last learning rate as a share of the peak"
    )
    schedule: ScheduleName = Field(
        default="cosine",
        description="learning rate after the warm-up; wsd: warm-up, stable, decay; inverse_sqrt: T5's",
    )
    warmup_steps: int | None = Field(
        default=None,
        ge=0,
        description="steps of linear warm-up, for inverse_sqrt of constant rate; left out: warmup_fraction",
    )
    warmup_fraction: float = Field(default=0.02, ge=0, lt=1, description="warm-up as a share of all steps")
    decay_fraction: float = Field(
        default=0.2, gt=0, le=1, description="last share of the steps in which wsd decays"
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0,
        description="decay of matrices; norms and biases have none, nor has T5 with adafactor",
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.95), description="AdamW's averaging of gradient and its square"
    )
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    gradient_clip: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0: no limit")
    z_loss: float = Field(
        default=0.0, ge=0, description="weight of log(Z)^2, Z the softmax's normaliser; PaLM takes 1e-4"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="of activations, the weights stay float32; auto: bfloat16, or float32 on a CPU that computes it faster",
    )
    compile: Literal["auto"] | bool = Field(
        default="auto",
        description="torch.compile; auto: where a compiler works",
    )
    recompute_activations: bool = Field(
        default=False, description="save memory: compute activations again going backward"
    )
    validate_every: int = Field(default=100, gt=0, description="steps between validations")
    checkpoint_every: int = Field(default=100, gt=0, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, gt=0, description="newest checkpoints to keep")
    track: tuple[TrackerName, ...] = Field(
        default=(), description="tools that are given the curves too, beside metrics.jsonl"
    )

    @property
    def total_steps(self) -> int:
        """Number of updates: `steps`, or as many as see at least `tokens`."""
        if self.steps is not None:
            return self.steps
        assert self.tokens is not None  # the validator below asks for one of the two
        return -(-self.tokens // self.global_batch_tokens)

    @property
    def total_warmup_steps(self) -> int:
        """Number of warm-up updates."""
        return (
            self.warmup_steps
            if self.warmup_steps is not None
            else round(self.total_steps * self.warmup_fraction)
        )

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError(f"both betas must lie in [0, 1), got {value[0]:g} and {value[1]:g}")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.steps is None) == (self.tokens is None):
            given = "neither" if self.steps is None else "both"
            raise ValueError(
                f"{given} of steps and tokens given; give exactly one: --training.steps or --training.tokens"
            )
        rows = self.context_length * (self.micro_batch_size or 1)
        if self.global_batch_tokens % rows:
            factors = (
                "context_length" if self.micro_batch_size is None else "context_length x micro_batch_size"
            )
            raise ValueError(
                f"global_batch_tokens {self.global_batch_tokens} is no multiple of {factors} = "
                f"{rows}; give --training.global-batch-tokens {max(1, round(self.global_batch_tokens / rows)) * rows}"
            )
        if self.total_warmup_steps > self.total_steps:
            raise ValueError(
                f"warmup_steps {self.total_warmup_steps} exceeds the {self.total_steps} steps; give a smaller --training.warmup-steps"
            )
        return self


class PretrainObjective(Settings):
    """What a model learns to foretell of raw text (arXiv:1910.10683, section 3.3; docs/objectives.md)."""

    kind: Literal["causal", "span", "iid", "drop", "bert", "mass", "deshuffle", "prefix_lm"] | None = Field(
        default=None,
        description="left out: the next token (causal), and span corruption where the model has an encoder",
    )
    noise_density: float = Field(default=0.15, gt=0, lt=1, description="share of the tokens that is noise")
    mean_span: float = Field(default=3.0, ge=1, description="tokens of a span of noise in the mean")


class Recipe(Settings):
    """Everything that one stage does. `stage` is the verb, and `leading` the field that may stand first on a command line."""

    leading: ClassVar[str | None] = None

    stage: str = Field(description="the verb that this recipe is for")
    out: Path = Field(description="folder of the run: fresh, or this very run to resume it")


class TokenizerRecipe(Recipe):
    """Learn a vocabulary from text: byte-level BPE, or unigram."""

    stage: Literal["tokenizer"] = Field(default="tokenizer", description="the verb that this recipe is for")
    data: TextData = Field(description="text: files, folders, or rows with `text`")
    kind: VocabularyKind = Field(
        default="bpe",
        description="bpe: byte-level, as GPT-2; unigram: likeliest pieces, as T5, bytes as last resort",
    )
    vocab_size: int = Field(
        default=8192, ge=260, description="entries, the 256 bytes and the special tokens included"
    )
    sentinels: int = Field(
        default=0,
        ge=0,
        description="T5's <extra_id_0> and on, for span corruption: the last entries, the first of them highest",
    )
    sample_bytes: int = Field(
        default=50_000_000, gt=0, description="text to learn from, taken from the beginning; more adds little"
    )

    @model_validator(mode="after")
    def _room_for_the_special(self) -> Self:
        least = 260 + self.sentinels
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} leaves no room for {self.sentinels} sentinels beside the bytes; "
                f"give --vocab-size {least} or more, or fewer --sentinels"
            )
        return self


class PretrainRecipe(Recipe):
    """Train a new model on raw text."""

    stage: Literal["pretrain"] = Field(default="pretrain", description="the verb that this recipe is for")
    data: TextData = Field(description="text: files, folders, or rows with `text`")
    tokenizer: Path = Field(description="folder with a tokenizer: a tokenizer run or any checkpoint")
    model: ModelShape = Field(default=ModelShape(), description="shape of the model")
    objective: PretrainObjective = Field(
        default=PretrainObjective(), description="what the model learns to foretell"
    )
    training: Training = Field(description="batches, optimiser, schedule")
    seed: int = Field(default=0, ge=0, description="first weights and order of the data")

    @property
    def objective_kind(self) -> str:
        """The objective, or the usual one of the model."""
        return self.objective.kind or ("span" if self.model.has_encoder else "causal")

    @model_validator(mode="after")
    def _objective_fits_the_model(self) -> Self:
        kind, encoder = self.objective_kind, self.model.has_encoder
        if kind == "causal" if encoder else kind not in DECODER_OBJECTIVES:
            others = "all but causal" if encoder else " and ".join(DECODER_OBJECTIVES)
            raise ValueError(
                f"objective.kind {kind} is none for a model {'with' if encoder else 'without'} an encoder, which takes "
                f"{others} (--objective.kind)"
            )
        return self

    @model_validator(mode="after")
    def _rows_fit_the_model(self) -> Self:
        if self.training.context_length > self.model.context_length:
            raise ValueError(
                f"training.context_length {self.training.context_length} exceeds model.context_length {self.model.context_length}; "
                f"give --model.context-length {self.training.context_length} or a shorter --training.context-length"
            )
        return self


class TuneRecipe(Recipe):
    """Tune a model on conversations, where the loss counts the assistant's turns alone, or on pairs of input and target."""

    leading: ClassVar[str | None] = "model"

    stage: Literal["tune"] = Field(default="tune", description="the verb that this recipe is for")
    model: str = Field(description="checkpoint folder or hub name to start from")
    data: TextData = Field(description="conversations: Alpaca, ShareGPT or OpenAI rows; or the task's rows")
    task: str = Field(
        default="chat",
        description="what the rows are: chat, pairs (`input` and `target`), or by name one of T5's tasks, sst2 for one",
    )
    input_weight: float = Field(
        default=0.0,
        ge=0,
        description="weight of each input token's loss where a decoder learns pairs; GPT-1 takes 0.5",
    )
    too_long: Literal["error", "drop", "cut"] = Field(
        default="error",
        description="rows beyond the context: stop, leave out, or keep the whole turns (of pairs the tokens) that fit",
    )
    training: Training = Field(description="batches, optimiser, schedule")
    seed: int = Field(default=0, ge=0, description="order of the data")

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        from camelid.data.read.text_to_text import TASKS

        if value not in ("chat", "pairs", *TASKS):
            raise ValueError(f"no task {value!r}; known are chat, pairs, {', '.join(TASKS)}")
        return value

    @model_validator(mode="after")
    def _chat_has_its_own_weights(self) -> Self:
        if self.task == "chat" and self.input_weight:
            raise ValueError(
                "input_weight is for pairs; in conversations the chat template says what is trained"
            )
        return self


R = TypeVar("R", bound=Recipe)
RECIPES: dict[str, type[Recipe]] = {
    "tokenizer": TokenizerRecipe,
    "pretrain": PretrainRecipe,
    "tune": TuneRecipe,
}


def load_recipe(cls: type[R], path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> R:
    """The recipe in the YAML file at `path` (or an empty one) with `overrides` laid over it.

    `overrides` is nested or has dotted keys; `learning_rate` and `learning-rate` are the same. Raises `WrongCall`
    with file, line, key and the way out for whatever is no recipe of this class.
    """
    source = Source() if path is None else parse_yaml(path)
    given = nest(overrides or {})
    try:
        return cls.model_validate(with_sections(cls, merge(source.values, given)))
    except ValidationError as error:
        raise WrongCall(explain(error, cls, source, given)) from None


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write every setting as YAML, each with its description as a comment."""
    path.write_text(to_yaml(recipe), encoding="utf-8")
