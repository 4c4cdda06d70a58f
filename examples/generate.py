"""Generate from any model: samples, a chat, and the likelihood of answers.

    python examples/generate.py runs/example/tune/model --tokens 60

The model is a folder, a name on the hub, or the URL of an OpenAI-compatible server.
"""

import argparse

import camelid
from camelid import Conversation, Message

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", nargs="?", default="runs/example/tune/model")
parser.add_argument("--tokens", type=int, default=60, help="the most to generate, for each text")
arguments = parser.parse_args()
lm = camelid.LM(arguments.model)

# Samples: many prompts are computed together, and each prompt only once for all of its samples.
prompts = ["Once upon a time", "One day"]
for prompt, completions in zip(
    prompts,
    lm.generate(prompts, max_new_tokens=arguments.tokens, temperature=0.8, top_p=0.95, samples=2, seed=1),
    strict=True,
):
    for completion in completions:
        print(f"{prompt}{completion.text} [{completion.finish_reason}]")

# A chat: a conversation goes through the model's chat template, and the text comes in pieces.
messages = [Message("user", "Hello. Who are you?")]
for piece in lm.stream(Conversation(tuple(messages)), max_new_tokens=arguments.tokens):
    print(piece, end="", flush=True)
print()

# Scores: which answer is the most probable?
answers = [" blue.", " loud.", " seven."]
scores = lm.score(["The sky is"] * len(answers), answers)
for answer, score in sorted(zip(answers, scores, strict=True), key=lambda pair: -pair[1].logprob):
    print(f"The sky is{answer} {score.logprob:.2f}")
