"""Control tokens: those that plain text can never become, although it may spell them.

They are the special tokens, and the other added tokens that the chat template writes: a vocabulary may
declare `<|im_end|>` as not special, and a user who types it must not end a turn. transformers protects the
same tokens with `sanitize_control_tokens=True`; it misses those that a template builds from a role's name.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

import jinja2
import tokenizers
from jinja2 import nodes
from tokenizers import AddedToken

from camelid.base.errors import CamelidError
from camelid.text.chat_template import ChatTemplate
from camelid.text.conversation import ROLES, Conversation

_GENERATION = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")
_SAMPLE = "So be it."


def control_tokens(added: Iterable[AddedToken], template: ChatTemplate | None) -> list[AddedToken]:
    """The special tokens, and those that the template writes; white space is never one of the latter."""
    added = list(added)
    source = "" if template is None else template.source
    others = [token for token in added if not token.special and not token.content.isspace()]
    literal = _literal_text(source) if any(token.content in source for token in others) else ""
    built = [token for token in others if any(role in token.content for role in ROLES)]
    written = (
        "" if template is None or all(token.content in literal for token in built) else _sample(template)
    )
    return [
        token
        for token in added
        if token.special
        or (token in others and (token.content in literal or (token in built and token.content in written)))
    ]


def without_matching(backend: tokenizers.Tokenizer, control: Sequence[AddedToken]) -> tokenizers.Tokenizer:
    """The backend with these tokens as special ones, which it can be told not to look for in a text."""
    hidden = {token.content for token in control if not token.special}
    if not hidden:
        return backend
    description = json.loads(backend.to_str())
    for token in description["added_tokens"]:
        token["special"] = token["special"] or token["content"] in hidden
    again = tokenizers.Tokenizer.from_str(json.dumps(description))
    again.encode_special_tokens = True
    return again


def spelling(control: Sequence[AddedToken]) -> re.Pattern[str]:
    """Finds the tokens in a template's text, the longest first, with the white space that they take."""
    return re.compile(
        "|".join(
            (r"\s*" if token.lstrip else "")
            + f"({re.escape(token.content)})"
            + (r"\s*" if token.rstrip else "")
            for token in sorted(control, key=lambda token: -len(token.content))
        )
        or r"(?!)"
    )


def cuts(
    encoding: tokenizers.Encoding, text: str, control: Mapping[int, str], unknown: int | None
) -> list[int]:
    """Where to cut a text so that the control tokens in its encoding, by id, are not found again.

    Models that choose pieces by their characters (unigram) know these tokens as pieces too. The unknown token
    also stands for characters without a piece.
    """
    found = []
    for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        spelled = text[start:end].lstrip()
        if index in control and len(spelled) > 1 and (index != unknown or spelled.rstrip() == control[index]):
            found.append(end - len(spelled) + 1)
    return found


def _literal_text(source: str) -> str:
    """The template's own text and string constants, apart from each other."""
    try:
        environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
        tree = environment.parse(_GENERATION.sub("", source))
    except (jinja2.TemplateSyntaxError, RecursionError):
        return source  # refused when it is rendered
    texts = [node.data for node in tree.find_all(nodes.TemplateData)]
    return "\0".join(
        texts + [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    )


def _sample(template: ChatTemplate) -> str:
    """A short conversation as the template writes it; empty if it rejects that."""
    for system in (_SAMPLE, None):
        try:
            segments = template.render(Conversation.of((_SAMPLE, _SAMPLE), system=system), True, mask=False)
        except CamelidError:
            continue
        return "".join(segment.text for segment in segments)
    return ""
