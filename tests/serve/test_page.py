"""The chat page in the system's Chromium: a conversation, its branches, and text that tries to run."""

import json
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, sync_playwright
from running_server import PATIENCE

HOSTILE = """\
<script>document.title = "owned"</script> <img src=x onerror="document.title='owned'">

[click](javascript:document.title='owned') ![x](data:text/html,owned) [good](https://example.org/a)

```html
<b onclick="document.title='owned'">code</b>
```

| a | b<i>c</i> |
|---|--:|
| `<u>` | **bold** |

1. one
2. two
   - inner $x^2 < 3$

**unclosed <svg/onload=document.title='owned'>"""


@pytest.fixture(scope="module")
def browser_page(url: str) -> Iterator[Page]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium here: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox"], timeout=PATIENCE * 1000
        )
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(url)
        page.wait_for_selector("#model option", state="attached")
        yield page
        browser.close()


@pytest.fixture
def page(browser_page: Page) -> Iterator[Page]:
    faults: list[str] = []
    browser_page.on("pageerror", lambda error: faults.append(str(error)))
    browser_page.click("#new")
    yield browser_page
    browser_page.unroute("**/v1/chat/completions")
    assert not faults


def ask(page: Page, text: str) -> None:
    page.fill("#question", text)
    page.press("#question", "Enter")
    page.wait_for_selector("article.assistant .tools .quiet >> nth=-1")
    page.wait_for_selector('#send:text("Send")')


def events_of(text: str, kind: str = "content") -> str:
    """The body of a streamed answer of this text, in pieces of seven characters."""
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    choices = [{"index": 0, "delta": {kind: piece}, "finish_reason": None} for piece in pieces]
    events = [{"choices": [choice]} for choice in choices]
    events.append({"choices": [], "usage": {"completion_tokens": 9, "total_tokens": 12}, "timings": {}})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


def answer_with(page: Page, text: str) -> None:
    def fulfill(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body=events_of(text))

    page.route("**/v1/chat/completions", fulfill)


def test_the_page_is_one_file_that_asks_nobody_else(page: Page, url: str) -> None:
    response = page.request.get(url)
    assert len(response.body()) < 150_000
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in response.text().replace("https?:", "").split("<body>")[0]
    assert "innerHTML" not in response.text()


def test_an_answer_a_second_one_and_an_edited_question(page: Page) -> None:
    page.click("#open-settings")
    page.fill("#max_tokens", "8")
    page.fill("#temperature", "0")
    page.click('dialog button[value="close"]')
    ask(page, "the cat sat")
    assert page.inner_text("article.assistant .tools .quiet").startswith("8 tokens")
    assert "of 128 tokens" in page.inner_text("#usage")
    page.click('button[aria-label^="Another answer"]')
    page.wait_for_selector('article.assistant .tools:has-text("2/2")')
    page.click('article.assistant button[aria-label="Earlier branch"]')
    page.wait_for_selector('article.assistant .tools:has-text("1/2")')
    page.click('button[aria-label^="Edit"]')
    page.fill(".edit textarea", "one two three")
    page.press(".edit textarea", "Enter")
    page.wait_for_selector('article.user .tools:has-text("2/2")')
    page.wait_for_selector('#send:text("Send")')
    assert page.inner_text("article.user .body") == "one two three"
    page.reload()  # everything is kept
    page.wait_for_selector('article.user .tools:has-text("2/2")')
    assert page.inner_text("#list li.open .title") == "the cat sat"
    page.fill("#search", "nothing like it")
    assert page.locator("#list li").count() == 0
    page.fill("#search", "")


def test_branches_are_walked_while_an_answer_is_written(page: Page) -> None:
    answer_with(page, "first")
    ask(page, "the cat sat")
    page.unroute("**/v1/chat/completions")
    held: list[Route] = []
    page.route("**/v1/chat/completions", lambda route: held.append(route))
    page.click('button[aria-label^="Another answer"]')
    page.wait_for_selector('article.assistant .tools:has-text("2/2")')
    assert page.is_disabled('button[aria-label^="Another answer"]')
    page.click('article.assistant button[aria-label="Earlier branch"]')
    page.wait_for_selector('article.assistant .tools:has-text("1/2")')
    assert page.inner_text("article.assistant .body") == "first"
    held[0].fulfill(content_type="text/event-stream", body=events_of("second"))
    page.wait_for_selector('#send:text("Send")')
    assert page.inner_text("article.assistant .body") == "first"
    page.click('article.assistant button[aria-label="Later branch"]')
    page.wait_for_selector('article.assistant .body:has-text("second")')


def test_markup_in_an_answer_never_runs(page: Page) -> None:
    answer_with(page, HOSTILE)
    ask(page, "be hostile")
    assert "owned" not in page.title()
    body = page.locator("article.assistant .body").last
    assert body.locator("script, img, svg, iframe, b, i, u").count() == 0
    assert [a.get_attribute("href") for a in body.locator("a").all()] == ["https://example.org/a"]
    assert "<b onclick=\"document.title='owned'\">code</b>" in body.locator("pre").inner_text()
    assert body.locator("td").all_inner_texts() == ["<u>", "bold"]
    assert body.locator("ol > li").count() == 2
    assert body.locator("ol ul code.tex").inner_text() == "x^2 < 3"
    assert "<script>" in body.inner_text()


def test_thoughts_are_apart_from_the_answer(page: Page) -> None:
    thoughts = events_of("Hm, <b>what</b> is it?", "reasoning_content").partition('data: {"choices": []')[0]
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(content_type="text/event-stream", body=thoughts + events_of("It is.")),
    )
    ask(page, "think")
    body = page.locator("article.assistant .body").last
    assert body.locator("summary").inner_text() == "Thoughts"
    assert not body.locator("details p").is_visible()
    body.locator("summary").click()
    assert body.locator("details p").inner_text() == "Hm, <b>what</b> is it?"
    assert body.locator(":scope > p").inner_text() == "It is."


def test_what_was_typed_is_not_lost_where_the_server_fails(page: Page) -> None:
    message = json.dumps({"error": {"message": "256 requests are being answered"}})
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=429, body=message))
    page.fill("#question", "a long question")
    page.press("#question", "Enter")
    page.wait_for_selector("#notice:has-text('The server is busy: 256 requests')")
    assert page.input_value("#question") == "a long question"
    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    page.press("#question", "Enter")
    page.wait_for_selector("#notice:has-text('cannot be reached')")
    assert page.input_value("#question") == "a long question"
    page.reload()
    assert page.input_value("#question") == "a long question"
    page.fill("#question", "")


def test_it_fits_a_narrow_screen_in_both_themes(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.set_viewport_size({"width": 360, "height": 700})
    try:
        assert page.locator("body").evaluate("body => body.scrollWidth") <= 360
        assert not page.locator("#search").is_visible()
        page.click("#menu")
        assert page.locator("#search").is_visible()
        page.mouse.click(350, 300)
        before = page.locator("body").evaluate(f"() => {ground}")
        page.click("#theme")
        assert page.locator("body").evaluate(f"() => {ground}") != before
    finally:
        page.set_viewport_size({"width": 1000, "height": 700})


def test_token_probabilities_on_hover(page: Page) -> None:
    page.click("#open-settings")
    page.check("#probabilities")
    page.click('dialog button[value="close"]')
    ask(page, "the cat sat")
    titles = [each.get_attribute("title") or "" for each in page.locator(".tokens span").all()]
    assert titles
    assert all(title.count(" %") == 6 for title in titles)
    page.click("#open-settings")
    page.uncheck("#probabilities")
    page.click('dialog button[value="close"]')
