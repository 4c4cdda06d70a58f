"""A verifier's rows: sampled solutions with their labels and worked solutions, in equal parts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from camelid.align.solutions import Solved
from camelid.align.verifier import LABEL, language_example, rated_example
from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.examples import Example
from camelid.data.rows.holdout import uniform
from camelid.data.rows.packing import MixedRows, PackedExamples, Rows, digest_of
from camelid.engine.encoding import Ids, encode_pair
from camelid.lm.interface import Prompt, as_pairs
from camelid.model.spec import ModelSpec
from camelid.recipes.align import AlignRecipe
from camelid.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class RatedText:
    """A question and a solution as tokens, and whether it is right."""

    prompt: Ids
    solution: Ids
    right: bool


@dataclass(frozen=True)
class VerifierData:
    """The rows to train on, and the questions that measure: for each the texts and labels of its
    solutions."""

    rows: Rows
    held_out: tuple[tuple[RatedText, ...], ...]


def verifier_data(
    recipe: AlignRecipe, questions: Sequence[Solved], tokenizer: Tokenizer, spec: ModelSpec
) -> VerifierData:
    """Rows of sampled solutions with their labels and of worked solutions, in equal parts.

    Questions are held out whole, by their text. Raises `CamelidError` for a solution that is longer than the
    context, and for questions without the worked steps that the recipe asks for.
    """
    encode = _Encoder(tokenizer, spec, recipe.training.context_length)
    trained = [each for each in questions if uniform(str(each.prompt)) >= recipe.held_out]
    kept = [each for each in questions if uniform(str(each.prompt)) < recipe.held_out]
    if not trained:
        raise CamelidError(
            f"all {len(questions)} questions are held out; lower --held-out, or give more questions"
        )
    rated = [
        rated_example(*encode(one.prompt, one.text), one.right, every_token=recipe.verifier.every_token)
        for each in trained
        for one in each.solutions
    ]
    texts = [
        tuple(RatedText(*encode(one.prompt, one.text), one.right) for one in each.solutions) for each in kept
    ]
    language = [language_example(*encode(*pair)) for pair in _language(recipe, trained)]
    return VerifierData(_mixed(recipe, rated, language, tokenizer), tuple(texts))


def _language(recipe: AlignRecipe, trained: Sequence[Solved]) -> Iterator[tuple[Prompt, str]]:
    """Prompts with the texts that are trained as in a language model."""
    for each in trained:
        if recipe.verifier.language == "reference":
            if not each.reference:
                raise CamelidError(
                    f"the question {each.id} has no worked steps to train on as a language model; give "
                    "--verifier.language right for the sampled solutions that are right, or none"
                )
            yield each.prompt, each.reference
        elif recipe.verifier.language == "right":
            yield from ((one.prompt, one.text) for one in each.solutions if one.right)


def _mixed(
    recipe: AlignRecipe, rated: Sequence[Example], language: Sequence[Example], tokenizer: Tokenizer
) -> Rows:
    context, pad = recipe.training.context_length, tokenizer.pad_id or 0
    sources = {
        name: PackedExamples(examples, context, recipe.seed, pad_id=pad, digest=_digest(examples))
        for name, examples in (("rated", rated), ("language", language))
        if examples
    }
    return MixedRows(sources, dict.fromkeys(sources, 1 / len(sources)))


def _digest(examples: Sequence[Example]) -> str:
    return digest_of(
        *((each.tokens.tobytes(), each.weights.tobytes(), each.extra[LABEL].tobytes()) for each in examples)
    )


class _Encoder:
    """Prompts with their continuations as tokens that fit the context, as `ValueScorer` encodes them."""

    def __init__(self, tokenizer: Tokenizer, spec: ModelSpec, context: int) -> None:
        self.tokenizer, self.spec, self.context = tokenizer, spec, context

    def __call__(self, prompt: Prompt, text: str) -> tuple[Ids, Ids]:
        [pair] = as_pairs([prompt], [text])
        ids = encode_pair(self.tokenizer, self.spec, *pair)
        if (length := len(ids[0]) + len(ids[1])) > self.context:
            raise WrongCall(
                f"a question and its solution have {length} tokens, and training.context_length is "
                f"{self.context}; raise it, or lower --max-new-tokens"
            )
        return ids
