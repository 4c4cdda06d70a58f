"""The language of a text, from its script and its most frequent words.

Threads are hundreds of words long, where function words decide; a classifier with a model file is not needed.
Code is left out, since its words are English in every language.
"""

import re
from collections import Counter

UNKNOWN = "unknown"
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.S)
_WORD = re.compile(r"[^\W\d_]{2,}|[぀-퟿]")
"""Words of at least two letters: single ones are often names in formulas."""
LONGEST = 20_000
"""Characters of a text that are read."""
LEAST_SHARE = 0.1
"""Share of the words that must be frequent words of the language."""
LEAST_WORDS = 2
_SCRIPTS = (
    ("ja", "぀-ヿ"),
    ("ko", "가-힯"),
    ("zh", "一-鿿"),
    ("uk", "іїєґ"),
    ("ru", "Ѐ-ӿ"),
    ("el", "Ͱ-Ͽ"),
    ("he", "֐-׿"),
    ("ur", "ٹڈڑے"),
    ("fa", "پچژگ"),
    ("ar", "؀-ۿ"),
    ("hi", "ऀ-ॿ"),
    ("bn", "ঀ-৿"),
    ("pa", "਀-੿"),
    ("gu", "઀-૿"),
    ("ta", "஀-௿"),
    ("te", "ఀ-౿"),
    ("kn", "ಀ-೿"),
    ("ml", "ഀ-ൿ"),
    ("th", "฀-๿"),
)
"""Letters of each script; those that decide come before those that languages share."""
_FREQUENT = {
    "en": "the and of to in is it you that for on with are this what how can be as my your have not do",
    "de": "der die das und ist nicht ich zu ein eine mit den von für auf wie es im sie dem werden sind kann",
    "fr": "le la les de des et est un une que pour dans vous je pas en du sur avec ce qui au sont comment",
    "es": "el la los las de que en un una es para con por se no del como más su lo puede cómo qué",
    "it": "il di che la per un una non con sono del come si in le da più della questo mi gli",
    "pt": "de que do da em um uma para com não os as no na por mais se como você são",
    "nl": "de het een en van is dat niet ik in op te zijn voor met die je om maar hoe kan deze",
    "sv": "och att det en som på är av för med den till inte jag ett om kan har hur du",
    "da": "og at det en som på er af for med den til ikke jeg et om kan har hvordan du",
    "no": "og at det en som på er av for med den til ikke jeg et om kan har hvordan du hva",
    "fi": "ja on ei että se en oli hän mutta kun niin joka tai ovat voi kuin olen tämä mitä",
    "pl": "na nie się do jest to że jak ale co po dla czy od są przez może",
    "cs": "se na je že to do jak pro ale které jsou by jako nebo může",
    "ro": "și de la în este pe cu nu un să care din că pentru mai sunt ce se",
    "hu": "az és hogy nem is egy van ez de meg mint csak vagy lehet",
    "tr": "ve bir bu için ile da de çok ne gibi olarak daha olan var mı kadar nasıl",
    "id": "yang dan di untuk dengan ini itu dari tidak adalah pada dalam saya bisa akan apa",
    "vi": "là và của có không một cho được các trong để người với những này",
}
_WORDS = {language: frozenset(words.split()) for language, words in _FREQUENT.items()}
_LETTERS = [(language, re.compile(f"[{letters}]")) for language, letters in _SCRIPTS]


def language_of(text: str) -> str:
    """The ISO 639-1 code of a text's language, or `unknown`.

    Known are the languages of `_SCRIPTS` and `_FREQUENT`. A text in Latin letters is unknown if fewer than
    `LEAST_SHARE` of its words are frequent ones, or if two languages have as many.
    """
    words = _WORD.findall(_CODE.sub(" ", text[:LONGEST]).lower())
    letters = "".join(words)
    foreign = sum(letter > "ɏ" and not "Ḁ" <= letter <= "ỿ" for letter in letters)
    if foreign * 2 > len(letters):
        return _of_script(letters)
    counts = Counter(words)
    hits = {
        language: sum(counts[word] for word in frequent if word in counts)
        for language, frequent in _WORDS.items()
    }
    (best, most), (_, second) = Counter(hits).most_common(2)
    enough = most >= LEAST_WORDS and most >= LEAST_SHARE * len(words)
    return best if enough and most > second else UNKNOWN


def _of_script(letters: str) -> str:
    """The language whose letters make up at least a twentieth; those that decide are asked first."""
    for language, known in _LETTERS:
        if len(known.findall(letters)) * 20 >= len(letters):
            return language
    return UNKNOWN
