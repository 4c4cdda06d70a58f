"""A prediction of a run's loss, written down before the run: prediction.json."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from camelid.base.errors import WrongCall
from camelid.base.json import read_table, write_json

PREDICTION = "prediction.json"
CLOSE = 0.02
"""The difference in size within which a run is the one that was predicted."""


@dataclass(frozen=True)
class Prediction:
    """The validation loss that a law predicts for a run, with an interval of probability `level`.

    source: digest of the fit that it rests on, or the name of a published law.
    """

    loss: float
    low: float
    high: float
    level: float
    parameters: float
    tokens: float
    flops: float
    form: str
    source: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """The prediction in a file; raises `WrongCall` if it holds none."""
        table = read_table(path, remedy="write it again with `camelid scale plan`")
        try:
            return cls(**{name: table[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise WrongCall(f"{path}: {error} is missing; write it with `camelid scale plan`") from error

    def write(self, path: Path) -> None:
        """Writes it as JSON, atomically."""
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    def hit(self, loss: float) -> bool:
        """Whether a measured loss lies in the interval."""
        return self.low <= loss <= self.high

    def differs(self, parameters: float, tokens: float) -> str | None:
        """How a run differs in size from the one that this is for, by more than `CLOSE`; None if it does
        not."""
        pairs = {"parameters": (self.parameters, parameters), "tokens": (self.tokens, tokens)}
        odd = [
            f"{planned:,.0f} {name} and not {ours:,.0f}"
            for name, (planned, ours) in pairs.items()
            if not abs(ours / planned - 1) <= CLOSE
        ]
        return " and ".join(odd) or None

    def verdict(self, loss: float) -> str:
        """The comparison with a measured loss, in a sentence."""
        off = loss / self.loss - 1
        return (
            f"{'hit' if self.hit(loss) else 'miss'}: the validation loss is {loss:.4f}, predicted "
            f"{self.loss:.4f} ({self.level:.0%}: {self.low:.4f} to {self.high:.4f}), {off:+.1%} off"
        )
