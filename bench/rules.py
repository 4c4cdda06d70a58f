"""The rules of IFEval beside lm-evaluation-harness' checkers: decisions on real answers, one by one.

The answers are AlpacaEval's, by 50 models, as they are and changed so that rules hold (in capitals, quoted,
as JSON, with sections, ...); arguments are drawn. The peer, in an interpreter with lm_eval, langdetect and
nltk, reads sentences with nltk's Punkt, which is untrained where its data is not installed.

    python bench/rules.py --peer-python PYTHON
    python bench/rules.py --peer-python PYTHON --record tests/tasks/ifeval_decisions.json
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Case = dict[str, Any]
RELATIONS = ("less than", "at least")
DOUBTFUL = ("language", "change_case:english")
"""Kinds that are asked less often, since the peer's language model is slow."""
PARTS = (
    "The fox ran over the hill. It was late, and Dr. Hill was tired!",
    "Is that so? I don't think so... But NASA says YES.",
    "* one point\n* another, longer point\n- a third",
    "First paragraph.\n\nSecond one, with *a highlight* and **another**.\n\nThird [name] of [place].",
    "Section 1\nFog.\nSECTION 2\nRain, e.g. in May.",
    "<<A small title>>\nThe text below it.",
    '{"answer": 3, "why": ["a", "b"]}',
    "One thought *** another thought *** the last",
    "An answer.\n\nP.S. Write soon. P.P.S. Really!",
    "My answer is maybe. Any other questions?",
    "Le chat est dans la maison et il ne veut pas sortir avec les enfants.",
    "Der Hund ist nicht im Haus, und wir sind mit den Kindern auf dem Weg.",
    "1. wash it\n2. dry it\n3. put it back where it was",
    "42",
)
"""Texts of our own for the recorded decisions."""


def changed(text: str, draw: random.Random) -> str:
    """The text, or a form of it that some rule asks for."""
    return draw.choice(
        (
            text,
            text.upper(),
            text.lower(),
            f'"{text}"',
            f"{text} P.S. There is more.",
            f"<<A title>>\n{text}",
            text.replace(",", ""),
            json.dumps({"a": text[:50]}),
            f"```json\n{json.dumps([text[:20]])}\n```",
            f"{text[:60]} *** {text[60:90]}",
            f"{text}******{text[:30]}",
            f"Section 1\n{text}\nSection 2 ends it",
            "* " + text.replace(". ", ".\n* "),
            f"{text} Any other questions?",
            f"[name] {text}\n\n\n\n",
        )
    )


def arguments_for(text: str, draw: random.Random) -> Mapping[str, Callable[[], Case]]:
    """Arguments of the rules that have some, near what the text has, so that both decisions occur."""
    words = [word for word in text.split() if word.isalpha()] or ["none"]
    paragraphs = sum(bool(part.strip()) for part in text.split("\n\n"))
    relation, number = draw.choice(RELATIONS), draw.randint
    first = (text.split() or ["x"])[0].strip(".,!?'\"").lower()
    return {
        "keywords:existence": lambda: {"keywords": [draw.choice(words), draw.choice(["the", *words])]},
        "keywords:frequency": lambda: {
            "keyword": draw.choice(words),
            "frequency": number(1, 4),
            "relation": relation,
        },
        "keywords:forbidden_words": lambda: {"forbidden_words": [draw.choice(words)[: number(2, 9)]]},
        "keywords:letter_frequency": lambda: {
            "letter": draw.choice("aeiouqz"),
            "let_frequency": number(1, 60),
            "let_relation": relation,
        },
        "language:response_language": lambda: {"language": draw.choice(("en", "fr", "de", "es"))},
        "length_constraints:number_sentences": lambda: {"num_sentences": number(1, 20), "relation": relation},
        "length_constraints:number_paragraphs": lambda: {"num_paragraphs": number(1, 3)},
        "length_constraints:number_words": lambda: {"num_words": number(10, 300), "relation": relation},
        "length_constraints:nth_paragraph_first_word": lambda: {
            "num_paragraphs": max(1, paragraphs - number(0, 1)),
            "nth_paragraph": 1,
            "first_word": first or "x",
        },
        "detectable_content:number_placeholders": lambda: {"num_placeholders": number(1, 3)},
        "detectable_content:postscript": lambda: {"postscript_marker": draw.choice(("P.S.", "P.P.S"))},
        "detectable_format:number_bullet_lists": lambda: {"num_bullets": number(1, 6)},
        "detectable_format:number_highlighted_sections": lambda: {"num_highlights": number(1, 4)},
        "detectable_format:multiple_sections": lambda: {
            "section_spliter": draw.choice(("Section", "SECTION")),
            "num_sections": number(1, 3),
        },
        "combination:repeat_prompt": lambda: {"prompt_to_repeat": draw.choice((text[:20], "xyz")) or "x"},
        "startend:end_checker": lambda: {
            "end_phrase": draw.choice(("Any other questions?", text[-12:] or "x"))
        },
        "change_case:capital_word_frequency": lambda: {
            "capital_frequency": number(1, 6),
            "capital_relation": relation,
        },
    }


def cases(texts: Sequence[str], rounds: int, seed: int = 0) -> Iterator[Case]:
    """Every rule on every text, `rounds` times in another form."""
    from camelid.tasks.rules import RULES

    draw = random.Random(seed)
    for text in texts:
        for _ in range(rounds):
            reply = changed(text, draw)
            for name in RULES:
                if not name.startswith(DOUBTFUL) or draw.random() < 0.25:
                    given = arguments_for(reply, draw).get(name, dict)()
                    yield {"rule": name, "arguments": given, "reply": reply}


def serve_peer() -> None:
    """The peer's process: a decision for each case that comes in."""
    import langdetect
    import nltk
    from lm_eval.tasks.ifeval import instructions_registry, instructions_util
    from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer

    langdetect.DetectorFactory.seed = 0
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        print("nltk's Punkt is untrained: its data is not installed", file=sys.stderr)
        sentences, words = PunktSentenceTokenizer(), NLTKWordTokenizer()
        instructions_util._get_sentence_tokenizer = lambda: sentences
        nltk.word_tokenize = lambda text: [
            word for part in sentences.tokenize(text) for word in words.tokenize(part)
        ]
    for line in sys.stdin:
        case = json.loads(line)
        checker = instructions_registry.INSTRUCTION_DICT[case["rule"]](case["rule"])
        checker.build_description(**case["arguments"])
        print(json.dumps(bool(case["reply"].strip() and checker.check_following(case["reply"]))))


def peer_decisions(python: str, asked: Sequence[Case]) -> list[bool]:
    """lm-evaluation-harness' decisions."""
    sent = "".join(json.dumps(case) + "\n" for case in asked)
    command = [python, __file__, "--peer"]
    done = subprocess.run(command, input=sent, stdout=subprocess.PIPE, text=True, check=True)
    found = [line for line in done.stdout.splitlines() if line in ("true", "false")]
    return [line == "true" for line in found]


def real_answers(count: int) -> list[str]:
    """Answers of many models, in seeded order."""
    import lzma

    from instruction_rows import RATED

    with lzma.open(RATED, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["output_2"] for line in file]
    random.Random(0).shuffle(texts)
    return texts[:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has lm_eval")
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--record", type=Path, help="write decisions on texts of our own to this file")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve_peer()
        return
    from camelid.tasks.rules import follows

    asked = list(cases(PARTS, 1) if options.record else cases(real_answers(options.texts), 1))
    theirs = peer_decisions(options.peer_python, asked)
    ours = [follows(case["reply"], case["rule"], case["arguments"]) for case in asked]
    if options.record:
        rows = [case | {"peer": decision} for case, decision in zip(asked, theirs, strict=True)]
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        options.record.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    differ = Counter(case["rule"] for case, own, peer in zip(asked, ours, theirs, strict=True) if own != peer)
    print(f"{len(asked):,} decisions, {sum(theirs):,} of them true; {differ.total()} differ: {dict(differ)}")


if __name__ == "__main__":
    main()
