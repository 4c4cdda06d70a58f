"""Overlap of a text with a reference: ROUGE, and BLEU by sacrebleu."""

from collections import Counter
from collections.abc import Mapping, Sequence

from camelid.base.errors import CamelidError
from camelid.tasks.reading import without_reasoning
from camelid.tasks.record import Record, Total
from camelid.text.rouge import f_measure, rouge_l, words


def rouge(text: str, reference: str) -> dict[str, float]:
    """F1 of common words, of common pairs of words, and of the longest common subsequence (Lin 2004,
    W04-1013).

    Words are runs of letters a to z and digits in lower case, unstemmed, the default of Google's
    `rouge_score`; ROUGE-L is computed over the whole text, not per sentence.
    """
    found, wanted = words(text), words(reference)
    return {
        "rouge_1": f_measure(_common(found, wanted, 1), len(found), len(wanted)),
        "rouge_2": f_measure(_common(found, wanted, 2), len(found) - 1, len(wanted) - 1),
        "rouge_l": rouge_l(text, reference),
    }


def corpus_bleu(records: Sequence[Record]) -> Mapping[str, Total]:
    """BLEU from 0 to 100 over all replies, with sacrebleu's defaults: 13a tokens, case kept, exp smoothing.

    Raises `CamelidError` if sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ModuleNotFoundError as error:
        raise CamelidError('BLEU needs the sacrebleu package: pip install "camelid[bleu]"') from error
    replies = [without_reasoning(record.attempt.text).strip() for record in records]
    return {
        "bleu": (float(BLEU().corpus_score(replies, [[record.answer for record in records]]).score), None)
    }


def _common(one: Sequence[str], two: Sequence[str], length: int) -> int:
    runs = [Counter(zip(*(each[start:] for start in range(length)), strict=False)) for each in (one, two)]
    return (runs[0] & runs[1]).total()
