"""A reward model as a value: it scores conversations, in its own tokens and its own chat template.

reward = camelid.RewardModel.load("runs/reward/model")
[score] = reward.score([camelid.Conversation.of(("What is 2 + 2?", "4."))])
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from camelid.base.errors import CamelidError
from camelid.base.memory import free_memory
from camelid.engine.device import choose_device
from camelid.engine.memory import gigabytes
from camelid.formats.hub import resolve
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.formats.load import check_tokenizer_fits, load_tokenizer
from camelid.formats.reward import is_reward_model, load_reward_model, read_reward_spec, reward_values
from camelid.lm.interface import PromptTooLong
from camelid.model.reward import last_values
from camelid.model.transformer import Transformer
from camelid.text.chat_template import encode_conversation
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer

ROWS = 8
"""Conversations that are computed together."""


class RewardModel:
    """Scores conversations by the value after their last token, the template's end of the turn included.

    It takes text and not token ids, so its tokenizer may be another than the policy's.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, rows: int = ROWS, name: str = "") -> None:
        self.model, self.tokenizer, self.rows, self.name = model, tokenizer, rows, name
        if tokenizer.chat_template is None:
            raise CamelidError(f"the reward model {name} has no chat template, which conversations need")

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | None = None,
        rows: int = ROWS,
    ) -> "RewardModel":
        """The reward model in a folder; rows: conversations that are computed together."""
        folder, place = resolve(path), choose_device(device)
        _refuse_too_large(folder, dtype, place)
        model, tokenizer = load_reward_model(folder, dtype).to(place), load_tokenizer(folder)
        check_tokenizer_fits(model.spec, tokenizer)
        return cls(model, tokenizer, rows, str(path))

    def score(self, conversations: Sequence[Conversation]) -> list[float]:
        """The reward of each conversation's last answer; raises `PromptTooLong` where the context is too
        small."""
        texts = [self.encode(each) for each in conversations]
        for index, text in enumerate(texts):
            if len(text) > self.context:
                raise PromptTooLong(
                    f"conversation {index} has {len(text)} tokens, and the context of the reward model "
                    f"{self.name} holds {self.context}; shorten it, or take another reward model"
                )
        return last_values(self.model, texts, self.rows)

    @property
    def context(self) -> float:
        """The most tokens of a conversation."""
        return self.model.spec.most_tokens

    def encode(self, conversation: Conversation) -> list[int]:
        """The tokens that are read, as transformers' `apply_chat_template` gives them."""
        return encode_conversation(self.tokenizer, conversation)[0]


def _refuse_too_large(folder: Path, dtype: torch.dtype, device: torch.device) -> None:
    """Raises `CamelidError` where the weights do not fit into the device's free memory."""
    size, free = reward_values(read_reward_spec(folder)) * dtype.itemsize, free_memory(device)
    if size > free:
        raise CamelidError(
            f"the reward model {folder} does not fit into memory: its weights take {gigabytes(size)} in "
            f"{dtype_name(dtype)}, and {gigabytes(free)} are free; close other programs, or train a smaller "
            "one with camelid align --method reward"
        )


def holds_reward_model(path: str | Path) -> bool:
    """Whether a folder, or a name on the hub, holds a reward model."""
    return is_reward_model(resolve(path))
