"""HTML to Markdown, for the answers of shared chats.

One pass over the tags, without a tree: an open element collects its text, and its end tag writes it in
Markdown. Parsers that build a tree first (BeautifulSoup with markdownify, lxml) take most of the time of
cleaning, and what they repair, tags that are not closed, is a stack here. Tags that HTML does not have are
text: people write `List<int>`.
"""

import html
import re
from collections.abc import Callable

_TOKEN = re.compile(
    r"<!--.*?-->|<![a-zA-Z][^>]*>|"
    r"<(/?)([a-zA-Z][a-zA-Z0-9]*)((?:\s(?:[^<>\"']++|\"[^\"]*+\"|'[^']*+')*+)?/?)>",
    re.S,
)
_ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_SPACES, _LINES = re.compile(r"[ \t]+"), re.compile(r"[ \t]*\n(?:[ \t]*\n)+")
_EDGES = re.compile(r"[ \t]*\n[ \t]*")
_CODE = re.compile(r"^([ >]*(?:[-*] |\d+\. )?)\ufdd0(\d+)\ufdd1", re.M)
_LANGUAGE = re.compile(r"\blanguage-([\w+#.-]+)")
_COPIED = re.compile(r"\s*([\w+#.-]*?)\s*Copy code\s*", re.I)
_NAME = re.compile(r"[\w+#.-]{1,20}(?:\s*Copy code)?", re.I)
_COUNTER = re.compile(r"\A\s*\d+ / \d+")
_COPY_COUNTS = re.compile(r"Copy\d+ chars / \d+ words")
_MARKS = re.compile("[\ufdd0-\ufdd2]")
_BACKTICKS = re.compile(r"`+")


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


DEEPEST = 200
"""Elements inside one another; the tags of deeper ones are left out."""
_VOID = _names("area base br col embed hr img input link meta source track wbr")
_DROPPED = _names("button head noscript script style svg template title")
_BLOCKS = _names(
    "address article aside details dialog div dl dd dt fieldset figcaption figure footer form header "
    "main nav p section summary"
)
_HEADINGS = _names("h1 h2 h3 h4 h5 h6")
_INLINE = {"b": "**", "strong": "**", "i": "*", "em": "*", "del": "~~", "s": "~~", "strike": "~~"}
_SPANS = _names(
    "abbr bdi bdo big body caption center cite data dfn font html ins label legend mark meter output "
    "picture progress q rp rt ruby small span sub sup tbody tfoot thead time tt u var video audio "
    "canvas iframe object option optgroup select textarea colgroup map math semantics annotation mrow "
    "mi mo mn msup msub mfrac msqrt mtext mstyle mspace munder mover munderover mtable mtr mtd"
)
_LISTS, _CELLS, _SAMPLES = (
    frozenset(["ul", "ol"]),
    frozenset(["td", "th"]),
    frozenset(["code", "kbd", "samp"]),
)
_KNOWN = (
    _VOID | _DROPPED | _BLOCKS | _HEADINGS | _INLINE.keys() | _SPANS | _LISTS | _CELLS | _SAMPLES
) | frozenset(["a", "blockquote", "li", "pre", "table", "tr"])
_OPENS_BLOCK = _BLOCKS | _HEADINGS | _LISTS | frozenset(["blockquote", "hr", "pre", "table"])
_LITERAL = _SAMPLES | {"pre"}
_BORDERS: dict[str, frozenset[str]] = {
    "li": _LISTS,
    "td": frozenset(["tr"]),
    "th": frozenset(["tr"]),
    "tr": frozenset(["table"]),
}
"""What an item or a cell that is not closed ends at: beyond it is another list or row."""


def to_markdown(text: str) -> str:
    """The text of an HTML fragment in Markdown, without the buttons and counters of chat pages.

    Text without a tag of HTML only has its entities replaced: its spaces and line breaks stay.
    """
    if "<" in text and any(found[2].lower() in _KNOWN for found in _TOKEN.finditer(text) if found[2]):
        text = _Writer().markdown(text)
    elif "&" in text:
        text = html.unescape(text)
    return _COPY_COUNTS.sub("", _COUNTER.sub("", text)).strip()


class _Element:
    """An open element: its name, its attributes as written, and what it holds so far."""

    __slots__ = ("attributes", "count", "name", "parts")

    def __init__(self, name: str, attributes: str = ""):
        self.name, self.attributes = name, attributes
        self.parts: list[str] = []
        self.count = 0
        """Of a list, the items so far; of a table, the rows."""

    def get(self, name: str) -> str:
        """An attribute's value, empty without it."""
        for found in _ATTRIBUTE.finditer(self.attributes):
            if found[1].lower() == name:
                return html.unescape(found[2] or found[3] or found[4] or "")
        return ""


class _Writer:
    """Writes one fragment."""

    def __init__(self) -> None:
        self.open = [_Element("")]
        self.code: list[tuple[str, str]] = []
        """The code blocks, language and text; marks stand for them until the end."""
        self.literal = self.pre = 0
        """How many open elements keep their white space, and how many of them are pre."""
        self.dropped = 0
        """How many open elements are left out."""

    def markdown(self, text: str) -> str:
        """The fragment in Markdown."""
        pieces = _TOKEN.split(_MARKS.sub("", text))
        self._text(pieces[0])
        for slash, written, attributes, after in zip(
            pieces[1::4], pieces[2::4], pieces[3::4], pieces[4::4], strict=True
        ):
            name = written.lower() if written else ""  # empty: a comment
            if name and name not in _KNOWN:
                self._text(f"<{slash}{written}{attributes}>")
            elif slash:
                self._end(name)
            elif name:
                self._start(name, attributes)
            if after:
                self._text(after)
        while len(self.open) > 1:
            self._close()
        whole = _LINES.sub("\n\n", "".join(self.open[0].parts))
        return _CODE.sub(self._fenced, whole).strip()

    def _text(self, text: str) -> None:
        if self.dropped:
            return
        if "&" in text:
            text = html.unescape(text)
        if not self.literal and ("  " in text or "\t" in text):
            text = _SPACES.sub(" ", text)
        self.open[-1].parts.append(text)

    def _start(self, name: str, attributes: str) -> None:
        if name in _VOID:
            self._void(name, attributes)
            return
        if len(self.open) > DEEPEST:
            return
        if name in _OPENS_BLOCK or name in _BORDERS:
            self._close_implied(name)
        element = _Element(name, attributes)
        self.open.append(element)
        if name in _LITERAL:
            self.pre += name == "pre"
            self.literal += 1
        self.dropped += _is_dropped(element)

    def _close_implied(self, name: str) -> None:
        """Closes what HTML ends without an end tag: a paragraph before a block, an item before the next."""
        if name in _OPENS_BLOCK and self.open[-1].name == "p":
            self._close()
        border = _BORDERS.get(name)
        if border is None:
            return
        for depth in range(len(self.open) - 1, 0, -1):
            other = self.open[depth].name
            if other in border:
                return
            if other == name or (name in _CELLS and other in _CELLS):
                while len(self.open) > depth:
                    self._close()
                return

    def _end(self, name: str) -> None:
        if self.open[-1].name == name:
            self._close()
            return
        for depth in range(len(self.open) - 1, 0, -1):
            if self.open[depth].name == name:
                while len(self.open) > depth:
                    self._close()
                return

    def _void(self, name: str, attributes: str) -> None:
        if self.dropped:
            return
        if name == "br":
            self.open[-1].parts.append("\n")
        elif name == "hr":
            self.open[-1].parts.append("\n\n---\n\n")
        elif name == "img":
            image = _Element(name, attributes)
            if source := image.get("src"):
                self.open[-1].parts.append(f"![{image.get('alt')}]({source})")

    def _close(self) -> None:
        element = self.open.pop()
        if element.name in _LITERAL:
            self.pre -= element.name == "pre"
            self.literal -= 1
        if _is_dropped(element):
            self.dropped -= 1
        elif not self.dropped:
            text, writer = "".join(element.parts), _WRITERS.get(element.name)
            self.open[-1].parts.append(text if writer is None else writer(self, element, text))

    def _block(self, element: _Element, text: str) -> str:
        return text if self.literal else f"\n\n{text.strip()}\n\n"

    def _heading(self, element: _Element, text: str) -> str:
        words = _EDGES.sub(" ", text.strip())
        return f"\n\n{'#' * int(element.name[1])} {words}\n\n" if words else ""

    def _inline(self, element: _Element, text: str) -> str:
        """Inline markup around the text without the spaces at its ends; code inside pre stays."""
        name, words = element.name, text.strip()
        if self.pre:
            return f"\ufdd0{_language(element)}\ufdd1{text}" if name == "code" else text
        if not words:
            return " " if text else ""
        if name == "a":
            target = element.get("href")
            marked = (
                f"[{words}]({target})" if target and target != words else (target and f"<{target}>") or words
            )
        elif name in _SAMPLES:
            fence = "`" * (1 + max(map(len, _BACKTICKS.findall(words)), default=0))
            space = " " if words[0] == "`" or words[-1] == "`" else ""
            marked = f"{fence}{space}{words}{space}{fence}"
        else:
            marked = f"{_INLINE[name]}{words}{_INLINE[name]}"
        lead, tail = " " * text[0].isspace(), " " * text[-1].isspace()
        return f"{lead}{marked}{tail}"

    def _item(self, element: _Element, text: str) -> str:
        outer = next((one for one in reversed(self.open) if one.name in _LISTS), None)
        if outer is None:
            return f"\n- {text.strip()}\n"
        start = outer.get("start") if outer.name == "ol" else ""
        number = (int(start) if start.isdecimal() else 1) + outer.count
        outer.count += 1
        mark = f"{number}. " if outer.name == "ol" else "- "
        lines = _LINES.sub("\n\n", text.strip()).split("\n")
        rest = "".join(f"\n{' ' * len(mark)}{line}" if line else "\n" for line in lines[1:])
        return f"{mark}{lines[0]}{rest}\n"

    def _list(self, element: _Element, text: str) -> str:
        nested = any(one.name == "li" for one in self.open)
        items = text.strip("\n")
        return f"\n{items}\n" if nested else f"\n\n{items}\n\n"

    def _quote(self, element: _Element, text: str) -> str:
        lines = _LINES.sub("\n\n", text.strip()).split("\n")
        return "\n\n" + "\n".join(f"> {line}".rstrip() for line in lines) + "\n\n" if text.strip() else ""

    def _pre(self, element: _Element, text: str) -> str:
        language, before, code = "", "", text
        if (mark := re.search("\ufdd0(.*?)\ufdd1", text)) is not None:
            language, before, code = mark[1], text[: mark.start()].strip(), text[mark.end() :]
            language = language or (_COPIED.sub(r"\1", before) if _NAME.fullmatch(before) else "")
        elif (copied := _COPIED.match(code)) is not None:
            language, code = copied[1], code[copied.end() :]
        if not code.strip():
            return ""
        self.code.append((language, code.strip("\n")))
        return f"\n\n\ufdd0{len(self.code) - 1}\ufdd1\n\n"

    def _row(self, element: _Element, text: str) -> str:
        table = next((one for one in reversed(self.open) if one.name == "table"), element)
        table.count += 1
        line = f"| {text.strip()}\n"
        columns = text.count("\ufdd2")
        rule = f"|{' --- |' * columns}\n" if table.count == 1 else ""
        return (line + rule).replace("\ufdd2", "")

    def _cell(self, element: _Element, text: str) -> str:
        words = re.sub(r"\s+", " ", text).strip().replace("|", "\\|")
        return f" {words} |\ufdd2"

    def _table(self, element: _Element, text: str) -> str:
        rows = [line.strip() for line in text.split("\n") if line.strip()]
        return "\n\n" + "\n".join(rows) + "\n\n"

    def _formula(self, element: _Element, text: str) -> str:
        _, mark, source = text.partition("\ufdd1")
        return f"${source.strip()}$" if mark else text

    def _annotation(self, element: _Element, text: str) -> str:
        return f"\ufdd1{text}" if "tex" in element.get("encoding") else text

    def _fenced(self, mark: re.Match[str]) -> str:
        """A code block in place of its mark, indented as its mark is."""
        language, code = self.code[int(mark[2])]
        fence = "`" * max(3, 1 + max(map(len, _BACKTICKS.findall(code)), default=0))
        indent = re.sub(r"[^ >]", " ", mark[1])
        lines = [f"{fence}{language}", *code.split("\n"), fence]
        return mark[1] + lines[0] + "".join(f"\n{indent}{line}" if line else "\n" for line in lines[1:])


def _is_dropped(element: _Element) -> bool:
    # KaTeX writes each formula twice; its source stands in an annotation.
    return element.name in _DROPPED or (element.name == "span" and "katex-html" in element.attributes)


def _language(element: _Element) -> str:
    """The language that a code element's class states; empty if none."""
    found = _LANGUAGE.search(element.attributes)
    return found[1] if found else ""


_WRITERS: dict[str, Callable[[_Writer, _Element, str], str]] = {
    **dict.fromkeys(_BLOCKS, _Writer._block),
    **dict.fromkeys(_HEADINGS, _Writer._heading),
    **dict.fromkeys((*_INLINE, *_SAMPLES, "a"), _Writer._inline),
    "li": _Writer._item,
    "ul": _Writer._list,
    "ol": _Writer._list,
    "blockquote": _Writer._quote,
    "pre": _Writer._pre,
    "tr": _Writer._row,
    "td": _Writer._cell,
    "th": _Writer._cell,
    "table": _Writer._table,
    "math": _Writer._formula,
    "annotation": _Writer._annotation,
}
