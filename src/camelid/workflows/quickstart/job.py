"""One quickstart's arguments, folders and journal."""

from dataclasses import dataclass
from pathlib import Path

from camelid.workflows.quickstart.budget import Budget
from camelid.workflows.quickstart.journal import Journal

PARTS = ("data", "tokenizer", "pretrain", "tune", "reinforce", "model-4bit")
"""The folders that the steps make, in order."""

PRACTICE_STOPPED = "practice stopped"
"""The journal's entry with the reason why reinforcement ended at a gate."""

LONGEST_REPLY = 160
"""Tokens of a reply to a question at most."""


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
    reinforces: bool = False
    law: Path | None = None
    """The folder of a scaling law, which chooses the size and predicts the loss of pretraining."""

    @property
    def asks_the_world(self) -> bool:
        """Whether tuning uses the generated world's conversations, so that its questions can be asked."""
        return not self.chats

    @property
    def data(self) -> Path:
        """The folder of the generated world's files."""
        return self.out / "data"

    @property
    def text_files(self) -> tuple[Path, ...]:
        """The files for pretraining."""
        return self.text or (self.data / "text.jsonl",)

    @property
    def chat_files(self) -> tuple[Path, ...]:
        """The files for tuning."""
        return self.chats or (self.data / "chats.jsonl",)

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder."""
        return self.out / "tokenizer"

    @property
    def pretrained(self) -> Path:
        """The model before tuning: the pretrained one, or the one given with --from."""
        return self.out / "pretrain" / "model" if self.base is None else Path(self.base)

    @property
    def tuned(self) -> Path:
        """The model after tuning."""
        return self.out / "tune" / "model"

    @property
    def reinforced(self) -> Path:
        """The model after reinforcement."""
        return self.out / "reinforce" / "model"

    @property
    def practised(self) -> bool:
        """Whether the finished model is the reinforced one: it was asked for, and no gate stopped it."""
        return self.reinforces and PRACTICE_STOPPED not in self.journal.decisions

    @property
    def finished(self) -> Path:
        """The model at the end of training, before it is quantised."""
        return self.reinforced if self.practised else self.tuned

    @property
    def small(self) -> Path:
        """The finished model at 4 bits."""
        return self.out / "model-4bit"
