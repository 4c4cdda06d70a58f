"""Good orders of exemplars without labelled data: GlobalE and LocalE (Lu et al., arXiv:2104.08786, section
3).

The model itself writes probing questions; an order whose predictions on them are balanced (GlobalE), or not
overconfident (LocalE), is probably a good one.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Hashable, Sequence

from camelid.base.errors import WrongCall
from camelid.lm.interface import LM
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import QUESTION_ANSWER, Asking, Exemplar, Wording
from camelid.prompting.attempt import Program
from camelid.prompting.calibration import ContentFree, probabilities

PROBE = Sampling(max_new_tokens=64, temperature=1.0)


def global_entropy(predictions: Sequence[Hashable]) -> float:
    """GlobalE of an order, in nats: the entropy of the labels predicted for the probing questions (eq.
    3-4)."""
    shares = [count / len(predictions) for count in Counter(predictions).values()]
    return _entropy(shares)


def local_entropy(predictions: Sequence[Sequence[float]]) -> float:
    """LocalE of an order, in nats: the mean entropy of the label probabilities of each question (eq. 5-6)."""
    return sum(map(_entropy, predictions)) / len(predictions)


def probing_questions(
    lm: LM,
    orders: Sequence[Sequence[Exemplar]],
    wording: Wording = QUESTION_ANSWER,
    sampling: Sampling = PROBE,
) -> list[str]:
    """A question that the model writes after each order of the exemplars; empty and repeated ones are left
    out.

    Raises `WrongCall` for a wording in which nothing marks where a question begins and ends.
    """
    before, _, after = wording.question.partition("{question}")
    if not before.strip() or not after.strip():
        raise WrongCall("probing questions need a wording with a text before and after the question")
    blank = ContentFree("", None)
    prompts = [
        str(Asking(tuple(order), wording=wording).prompt(blank)).removesuffix(after).rstrip(" ")
        for order in orders
    ]
    how = dataclasses.replace(sampling, stop=(after, wording.separator))
    written = [completion.text.strip() for [completion] in lm.generate(prompts, how)]
    return list(dict.fromkeys(text for text in written if text))


def order_entropies(
    lm: LM, program: Program, questions: Sequence[str], labels: Sequence[str]
) -> tuple[float, float]:
    """GlobalE and LocalE of a `likelihood` program on probing questions with these labels as choices.

    Raises `WrongCall` without questions.
    """
    if not questions:
        raise WrongCall("the model wrote no probing questions; raise the number of orders")
    attempts = program(lm, [ContentFree(text, labels) for text in questions])
    found = [probabilities([score.logprob for score in attempt.scores]) for attempt in attempts]
    return global_entropy([each.index(max(each)) for each in found]), local_entropy(found)


def _entropy(shares: Sequence[float]) -> float:
    return sum(-share * math.log(share) for share in shares if share > 0)
