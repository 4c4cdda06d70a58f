"""Drafts beside plain steps: the time of one greedy answer, with a draft model and with what the text itself
holds.

    python bench/speculative.py MODEL --draft SMALLER

The best of three runs for every prompt, with draft tokens and without in turns; texts are checked to be the
same.
"""

import argparse
import time

import torch

from camelid.engine.engine import Engine
from camelid.text.conversation import Conversation, Message

PROMPTS = (
    "Write a short poem about the sea.",
    "Explain why the sky is blue.",
    "Repeat this text exactly: The quick brown fox jumps over the lazy dog. "
    "The quick brown fox jumps over the lazy dog and the cat.",
    "List the months of the year, one per line.",
    "Rewrite in past tense: I go to the market, I buy apples, I meet my friend, and we walk home together.",
)
NEW_TOKENS, ROUNDS = 96, 3


def answered(engine: Engine, prompt: Conversation) -> tuple[float, tuple[int, ...]]:
    """Milliseconds a token, and the tokens; the prompt has been read before."""
    engine.generate([prompt], max_new_tokens=1)
    began = time.perf_counter()
    [[answer]] = engine.generate([prompt], max_new_tokens=NEW_TOKENS)
    return 1e3 * (time.perf_counter() - began) / len(answer.tokens), answer.tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--draft", required=True)
    options = parser.parse_args()
    plain = Engine.load(options.model, dtype=torch.bfloat16, device="cpu")
    for draft in ("prompt", options.draft):
        drafting = Engine.load(options.model, dtype=torch.bfloat16, device="cpu", draft=draft)
        for text in PROMPTS:
            prompt = Conversation((Message("user", text),))
            runs = [(answered(plain, prompt), answered(drafting, prompt)) for _ in range(ROUNDS)]
            (without, expected), (with_draft, found) = (min(side) for side in zip(*runs, strict=True))
            same = "" if found == expected else ", ANOTHER TEXT"
            print(
                f"draft {draft}: {without:.2f} ms a token, {with_draft:.2f} with draft tokens: "
                f"{without / with_draft:.2f}{same}  ({text[:30]}...)",
                flush=True,
            )


if __name__ == "__main__":
    main()
