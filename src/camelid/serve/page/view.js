// What is shown: the list of conversations, and the messages of the open one with their buttons.

const $ = (id) => document.getElementById(id);

function button(words, label, action) {
  return element("button", { type: "button", title: label, "aria-label": label, onclick: action }, words);
}

function showNotice(words) {
  $("notice").hidden = !words;
  $("notice").replaceChildren(...(words ? [element("span", {}, words), button("×", "Close this message", () => showNotice(""))] : []));
}

function showList(store, open, actions) {
  $("list").replaceChildren(...store.matching($("search").value).map((each) => {
    const title = each.title || "New conversation";
    return element("li", { class: each === open ? "open" : "" },
      element("button", { type: "button", class: "title", onclick: () => actions.open(each.id),
        ...(each === open ? { "aria-current": "true" } : {}) }, title),
      button("×", `Delete "${title}"`, () => actions.remove(each.id)));
  }));
}

// One message as an article; `body` is replaced while an answer grows.
function messageView(conversation, node, actions) {
  const body = element("div", { class: "body" });
  const beside = siblings(conversation, node.parent);
  const at = beside.indexOf(node.id);
  const tools = element("div", { class: "tools" });
  if (beside.length > 1) {
    tools.append(button("‹", "Earlier branch", () => actions.branch(node, at - 1)),
      element("span", { class: "quiet" }, `${at + 1}/${beside.length}`),
      button("›", "Later branch", () => actions.branch(node, at + 1)));
    tools.firstChild.disabled = at === 0;
    tools.children[2].disabled = at === beside.length - 1;
  }
  const copy = button("Copy", "Copy this message", () => copyText(node.content, copy));
  tools.append(copy);
  const ask = node.role === "user" ? button("Edit", "Edit and send again, as a new branch", () => editMessage(body, node, actions))
    : button("Again", "Another answer, as a new branch", () => actions.again(node));
  ask.classList.add("asks");
  tools.append(ask);
  if (node.stats) tools.append(element("span", { class: "quiet" }, node.stats));
  const article = element("article", { class: node.role, "aria-label": node.role === "user" ? "You" : "Answer" }, body, tools);
  fill(body, node);
  return { article, body };
}

function fill(body, node) {
  if (node.role === "user") body.replaceChildren(element("p", { class: "typed" }, node.content));
  else if (node.tokens && node.tokens.length) body.replaceChildren(probabilities(node.tokens));
  else body.replaceChildren(...markdown(node.content), ...(node.content || node.note ? [] : [element("span", { class: "dots", "aria-label": "waiting" }, "···")]));
  if (node.thoughts) body.prepend(thoughtsView(node));
  if (node.note) body.append(element("p", { class: "note" }, node.note));
}

// Thoughts are open while there is no answer yet, and as the reader leaves them.
function thoughtsView(node) {
  const view = element("details", { class: "thoughts" }, element("summary", {}, "Thoughts"), element("p", { class: "typed" }, node.thoughts));
  view.open = node.opened ?? !node.content;
  view.firstChild.addEventListener("click", () => { node.opened = !view.open; });
  return view;
}

function probabilities(tokens) {
  const percent = (logprob) => `${(100 * Math.exp(logprob)).toFixed(1)} %`;
  return element("p", { class: "typed tokens" }, ...tokens.map((token) => element("span", {
    class: `likely-${Math.min(4, Math.floor(5 * Math.exp(token.logprob)))}`,
    title: [`${JSON.stringify(token.token)} ${percent(token.logprob)}`,
      ...token.top_logprobs.map((other) => `${JSON.stringify(other.token)} ${percent(other.logprob)}`)].join("\n"),
  }, token.token)));
}

function editMessage(body, node, actions) {
  const area = element("textarea", { "aria-label": "Edit your message", rows: 3 });
  area.value = node.content;
  const send = button("Send", "Send the edited message", () => actions.edit(node, area.value));
  const back = button("Cancel", "Keep the message as it was", () => fill(body, node));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); fill(body, node); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send.click(); }
  });
  body.replaceChildren(element("div", { class: "edit" }, area, element("div", { class: "row" }, send, back)));
  area.focus();
}

function showMessages(conversation, actions) {
  const nodes = conversation ? path(conversation) : [];
  const views = new Map(nodes.map((node) => [node.id, messageView(conversation, node, actions)]));
  const welcome = element("div", { class: "welcome" }, element("span", { class: "mark", "aria-hidden": "true" }),
    element("h1", {}, "What would you like to know?"),
    element("p", { class: "quiet" }, "The model runs on this server. Conversations stay in your browser."));
  $("log").replaceChildren(...(nodes.length ? [...views.values()].map((view) => view.article) : [welcome]));
  return views;
}

function nearBottom() { const log = $("log"); return log.scrollHeight - log.scrollTop - log.clientHeight < 80; }

function toBottom() { $("log").scrollTop = $("log").scrollHeight; }
