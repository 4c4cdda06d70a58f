"""What one quickstart works on: its arguments, its folders and its journal."""

from dataclasses import dataclass
from pathlib import Path

from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.journal import Journal

PARTS = ("data", "tokenizer", "pretrain", "tune", "model-4bit")
"""The folders that the steps make, in their order."""


@dataclass(frozen=True)
class Job:
    """One call of `camelid quickstart`."""

    out: Path
    text: tuple[Path, ...]
    chats: tuple[Path, ...]
    base: str | None
    seed: int
    journal: Journal
    budget: Budget

    @property
    def asks_the_world(self) -> bool:
        """Whether the embedded conversations are tuned on, so that the world's questions can be asked."""
        return not self.chats

    @property
    def data(self) -> Path:
        """The embedded world as files."""
        return self.out / "data"

    @property
    def text_files(self) -> tuple[Path, ...]:
        """What pretraining reads."""
        return self.text or (self.data / "text.jsonl",)

    @property
    def chat_files(self) -> tuple[Path, ...]:
        """What tuning reads."""
        return self.chats or (self.data / "chats.jsonl",)

    @property
    def tokenizer(self) -> Path:
        """The folder of the vocabulary."""
        return self.out / "tokenizer"

    @property
    def pretrained(self) -> Path:
        """The model before tuning: our own, or the one given."""
        return self.out / "pretrain" / "model" if self.base is None else Path(self.base)

    @property
    def tuned(self) -> Path:
        """The model after tuning."""
        return self.out / "tune" / "model"

    @property
    def small(self) -> Path:
        """The tuned model at 4 bits."""
        return self.out / "model-4bit"
