"""HTML to Markdown, and the language of a text, by hand."""

import time

import pytest

from camelid.makers.markdown import to_markdown
from camelid.text.language import language_of

PYTHON = (
    '<pre><div class="bg-black"><div><span>python</span><button>Copy code</button></div><div><code '
    'class="hljs language-python">def f(a_b):\n    return a_b &lt; 1\n\n\n\n# end\n</code></div></div></pre>'
)
KATEX = (
    '<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>x</mi></mrow>'
    '<annotation encoding="application/x-tex">x^2</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true"><span>x</span><span>2</span></span></span>'
)


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("plain  text\n    List<int> x &lt; &quot;y&quot;", 'plain  text\n    List<int> x < "y"'),
        ("<p>one  two<br>three</p><p>four</p>", "one two\nthree\n\nfour"),
        ("<p>a<strong> b </strong>c <em>d</em> <del>e</del></p>", "a **b** c *d* ~~e~~"),
        ("<p>a &amp;lt; b_c * d</p>", "a &lt; b_c * d"),
        ("<p>use <code>x  `y`</code> and <code>z</code></p>", "use `` x  `y` `` and `z`"),
        ("<p>List<int> stays<b>, <i>open</p>end", "List<int> stays**, *open***\n\nend"),
        ("<h2>Title<br>more</h2>text<hr>", "## Title more\n\ntext\n\n---"),
        ("<ul><li>a<li>b<ol start=3><li>c</ol></ul>d", "- a\n- b\n  3. c\n\nd"),
        ("<ol><li><p>a</p><p>b</p></li><li>c</li></ol>", "1. a\n\n   b\n2. c"),
        ("<blockquote><p>a</p><p>b</p></blockquote>c", "> a\n>\n> b\n\nc"),
        (
            '<a href="http://x/?a&amp;b">link</a> <a href="u">u</a> <a>none</a>',
            "[link](http://x/?a&b) <u> none",
        ),
        ('<p><img src="i.png" alt="z"><img></p>', "![z](i.png)"),
        (PYTHON, "```python\ndef f(a_b):\n    return a_b < 1\n\n\n\n# end\n```"),
        (
            f"<ul><li>see{PYTHON}</li></ul>",
            "- see\n\n  ```python\n  def f(a_b):\n      return a_b < 1\n\n\n\n  # end\n  ```",
        ),
        ("<pre><span>sql</span><code>select</code></pre>", "```sql\nselect\n```"),
        ("<pre>bashCopy code\nls\n</pre>", "```bash\nls\n```"),
        ("<pre><code>``` x</code></pre>", "````\n``` x\n````"),
        ("<pre><code></code></pre>a", "a"),
        (
            "<table><tr><th>A|B</th><th>C</th></tr><tr><td>1</td><td>2<br>3</td></tr></table>",
            "| A\\|B | C |\n| --- | --- |\n| 1 | 2 3 |",
        ),
        (f"<p>{KATEX} grows</p>", "$x^2$ grows"),
        ("2 / 3<p>Hi</p>Copy12 chars / 3 words", "Hi"),
        ("<style>a{}</style><script>b</script><!-- c --><svg>d</svg>e<!DOCTYPE html>", "e"),
        ("</p></div>a</b><p></p>", "a"),
        ("", ""),
        ("<div></div>", ""),
    ],
)
def test_markdown(html: str, markdown: str):
    assert to_markdown(html) == markdown


@pytest.mark.parametrize("piece", ["<b>", "<ul><li>", "</i>", "<a ", '<p title="', "&amp;", "<", " ", "`"])
def test_long_garbage_takes_no_long_time(piece: str):
    began = time.process_time()
    to_markdown("<p>" + piece * 20_000)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "How can I sort the list of words? You can use the function that is in the library."),
        (
            "de",
            "Wie kann ich die Liste sortieren? Das ist nicht schwer, und es geht auch mit einer Schleife.",
        ),
        (
            "fr",
            "Comment est-ce que je peux trier la liste des mots ? Vous pouvez le faire avec une fonction.",
        ),
        ("es", "¿Cómo puedo ordenar la lista de palabras? Es una función que está en la biblioteca."),
        ("it", "Come posso ordinare la lista di parole? Si può usare una funzione che è nella libreria."),
        (
            "pt",
            "Como posso ordenar a lista de palavras? Você pode usar uma função que não está na biblioteca.",
        ),
        ("nl", "Hoe kan ik de lijst met woorden sorteren? Het is een functie die in de bibliotheek zit."),
        (
            "pl",
            "Jak to zrobić? Nie jest to trudne, ale dla listy można użyć funkcji, która jest w bibliotece.",
        ),
        ("tr", "Bu listeyi nasıl sıralarım? Bunun için bir işlev var ve çok kolay, ne kadar olsa da."),
        ("zh", "如何对单词列表进行排序?你可以使用库中的函数。"),
        ("ja", "単語のリストを並べ替えるにはどうすればよいですか?"),
        ("ko", "단어 목록을 어떻게 정렬합니까?"),
        ("ru", "Как мне отсортировать список слов? Можно использовать функцию."),
        ("uk", "Як мені відсортувати список слів? Можна використати функцію з її бібліотеки."),
        ("ar", "كيف يمكنني ترتيب قائمة الكلمات؟"),
        ("unknown", "x = 1"),
        ("unknown", ""),
        (
            "fr",
            "Comment est-ce que vous le faites ?\n```\nfor the item in the list of the words: it is\n```",
        ),
    ],
)
def test_language(language: str, text: str):
    assert language_of(text) == language
