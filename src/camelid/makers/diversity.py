"""The verb and the noun of an instruction, for a picture of how diverse instructions are (Self-Instruct's
figure 3).

The paper parses each sentence. We have no parser: instructions are mostly commands, so the verb is the first
word that is in a list of verbs, and the noun the head of the phrase behind it: the last word before a
preposition, a conjunction or punctuation. What begins with a question word counts by that word.
"""

import re
from collections import Counter
from collections.abc import Iterable

VERB_LIST = """
add advise analyse analyze answer arrange ask assess brainstorm break build calculate change check choose
cite classify clean collect combine come compare complete compose compute conduct construct continue
convert correct count create debug decide deduce define demonstrate derive describe design detect
determine develop devise diagnose differentiate discuss distinguish divide draft edit elaborate eliminate
enumerate estimate evaluate examine expand explain express extract fill find fix format formulate generate
give group guess highlight identify illustrate imagine improve include infer insert interpret introduce
invent judge justify label list locate look make mark match measure mention merge modify name offer order
organise organize outline paraphrase pick plan point predict prepare present produce proofread propose
prove provide punctuate rank rate read rearrange reason recall recommend reduce reformulate remove reorder
rephrase replace report research retell reverse reword rewrite role-play round say schedule select
separate share shift shorten show simplify simulate solve sort spell split state structure substitute
subtract suggest sum summarise summarize support take tell test think transcribe transform translate turn
type unscramble update use validate verify verbalise verbalize visit vote weigh write"""
SKIPPED_LIST = """
a an the this that these those some any each every all both another one two three four five six seven
eight nine ten several many few more most my your his her its our their me us him them you it"""
END_LIST = """
of to for in on at by with about from into using that which who whose when where why how what whether if
and or but as than so because between among within without is are was were be can could should
would will"""
QUESTION_LIST = """
what which who whom whose when where why how is are was were do does did can could should would will"""
VERBS, SKIPPED = frozenset(VERB_LIST.split()), frozenset(SKIPPED_LIST.split())
ENDS, QUESTIONS = frozenset(END_LIST.split()), frozenset(QUESTION_LIST.split())
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*|\d+|[^\sa-z\d]")


def verb_and_noun(instruction: str) -> tuple[str, str | None] | None:
    """The verb and the head of its object, None where there is none; a question word for a question; None if
    neither is found."""
    found = WORD.findall(instruction.lower())
    if found and found[0] in QUESTIONS:
        return found[0], None
    at = next((at for at, word in enumerate(found) if word in VERBS), None)
    if at is None:
        return None
    return found[at], _head(found[at + 1 :])


def _head(words: list[str]) -> str | None:
    """The last word of the first phrase, in the singular."""
    phrase: list[str] = []
    for word in words:
        if word in SKIPPED or word.isdigit():
            if phrase:
                break
        elif word in ENDS or not word[0].isalpha():
            if phrase or word not in ENDS:
                break
            return None
        else:
            phrase.append(word)
    return _singular(phrase[-1]) if phrase else None


def _singular(noun: str) -> str:
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if noun.endswith(("sses", "xes", "ches", "shes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun


def diversity(instructions: Iterable[str], verbs: int = 20, nouns: int = 4) -> dict[str, object]:
    """The most frequent verbs, each with its count and its most frequent nouns, and the share of instructions
    in which one was found."""
    pairs = [verb_and_noun(each) for each in instructions]
    found = [pair for pair in pairs if pair is not None]
    counts = Counter(verb for verb, _ in found)
    objects = {verb: Counter(noun for each, noun in found if each == verb and noun) for verb in counts}
    table = {
        verb: {"count": count, "nouns": dict(objects[verb].most_common(nouns))}
        for verb, count in counts.most_common(verbs)
    }
    share = round(len(found) / len(pairs), 4) if pairs else 0.0
    return {
        "verbs": table,
        "different_verbs": len(counts),
        "different_pairs": len(set(found)),
        "found": share,
    }
