// The page's behaviour: sends, stops, edits, walks branches, and keeps all of it.

const store = new Store();
const client = new Client();
const FIELDS = ["system", "temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];
let open = null;
let views = new Map();
let running = null;
let models = [];

const actions = {
  open(id) { stop(); open = store.conversations.find((each) => each.id === id) || null; closeSide(); show(); },
  remove(id) {
    if (!confirm("Delete this conversation?")) return;
    if (open && open.id === id) { stop(); open = null; }
    store.remove(id);
    show();
  },
  branch(node, index) {
    open.chosen[node.parent || ""] = Math.max(0, Math.min(index, siblings(open, node.parent).length - 1));
    store.save();
    show();
  },
  again(node) { if (!running) answer(node.parent); },
  edit(node, text) { if (!running && text.trim()) { const own = append(open, node.parent, "user", text.trim()); answer(own.id); } },
};

function show() {
  showList(store, open, actions);
  views = showMessages(open, actions);
  setSending(Boolean(running));
  toBottom();
  document.title = open && open.title ? `${open.title} - Camelid` : "Camelid";
  if (store.full) showNotice("This browser keeps no more: delete or export conversations.");
}

function messagesTo(id) {
  const messages = [];
  for (let node = open.nodes[id]; node; node = open.nodes[node.parent]) messages.unshift({ role: node.role, content: node.content });
  const system = store.preferences.system.trim();
  return system ? [{ role: "system", content: system }, ...messages] : messages;
}

function settings() {
  const chosen = {};
  for (const name of FIELDS.slice(1)) if (store.preferences[name] !== "") chosen[name] = Number(store.preferences[name]);
  return store.preferences.probabilities ? { ...chosen, logprobs: true, top_logprobs: 5 } : chosen;
}

async function answer(questionId) {
  const conversation = open;
  const node = append(conversation, questionId, "assistant", "");
  node.model = $("model").value;
  running = new AbortController();
  store.save();
  show();
  showNotice("");
  let drawn = true;
  const tokens = [];
  const redraw = () => {
    drawn = true;
    const follow = nearBottom();
    const view = views.get(node.id);
    if (view) fill(view.body, node);
    if (follow) toBottom();
  };
  try {
    const end = await client.stream({ model: node.model, messages: messagesTo(questionId), ...settings() }, running.signal,
      (text, thought, pieces) => {
        node.content += text;
        if (thought) node.thoughts = (node.thoughts || "") + thought;
        tokens.push(...pieces);
        if (tokens.length) node.tokens = tokens;
        if (drawn) { drawn = false; requestAnimationFrame(redraw); }
      });
    node.stats = statsOf(end);
    if (end.reason === "length") node.note = "The answer was cut at the limit of tokens.";
    showUsage(end.usage, node.model);
    $("live").textContent = node.content.slice(0, 2000);
  } catch (error) {
    if (error.name === "AbortError") node.note = "Stopped.";
    else { node.note = node.content || node.thoughts ? "The answer was broken off." : null; showNotice(error.message); }
    if (!node.content && !node.thoughts && error.name !== "AbortError") drop(conversation, node);
  } finally {
    running = null;
    store.save();
    show();
  }
}

// Takes an answer that never began back, so that its question can be sent again.
function drop(conversation, node) {
  const beside = siblings(conversation, node.parent);
  beside.splice(beside.indexOf(node.id), 1);
  delete conversation.nodes[node.id];
  delete conversation.chosen[node.parent || ""];
  const question = conversation.nodes[node.parent];
  if (question && !beside.length && !$("question").value) {
    const questions = siblings(conversation, question.parent);
    questions.splice(questions.indexOf(question.id), 1);
    delete conversation.nodes[question.id];
    delete conversation.chosen[question.parent || ""];
    setQuestion(question.content);
  }
}

function statsOf(end) {
  if (!end.usage) return "";
  const rate = end.timings && end.timings.predicted_per_second ? `, ${end.timings.predicted_per_second.toFixed(0)} tokens/s` : "";
  return `${end.usage.completion_tokens} tokens${rate}`;
}

function showUsage(usage, model) {
  const card = models.find((each) => each.id === model);
  $("usage").replaceChildren(...(usage && card ? [`${usage.total_tokens} of ${card.context_length}`, element("span", { class: "unit" }, " tokens")] : []));
}

function stop() { if (running) running.abort(); }

// While an answer is being written nothing else can be asked, and the buttons that ask say so.
function setSending(sending) {
  for (const each of document.querySelectorAll(".asks")) each.disabled = sending;
  $("send").textContent = sending ? "Stop" : "Send";
  $("send").setAttribute("aria-label", sending ? "Stop the answer" : "Send");
}

function setQuestion(text) { $("question").value = text; grow(); keepDraft(); }

function keepDraft() { store.preferences.draft = $("question").value; store.savePreferences(); }

function grow() {
  const area = $("question");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight, 240)}px`;
}

function send() {
  if (running) { stop(); return; }
  const text = $("question").value.trim();
  if (!text) return;
  if (!models.length) { showNotice("There is no model yet; the server may still be loading it."); loadModels(); return; }
  open = open || store.create();
  const last = path(open).at(-1);
  const node = append(open, last ? last.id : null, "user", text);
  setQuestion("");
  answer(node.id);
}

async function loadModels() {
  try {
    models = await client.models();
    $("model").replaceChildren(...models.map((each) => element("option", { value: each.id }, each.id)));
    if (models.some((each) => each.id === store.preferences.model)) $("model").value = store.preferences.model;
    showNotice("");
  } catch (error) { showNotice(error.message); }
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme;
}

function closeSide() { document.body.classList.remove("side-open"); $("shade").hidden = true; $("menu").setAttribute("aria-expanded", "false"); }

function exportAll() {
  const file = new Blob([JSON.stringify({ format: "camelid-conversations", version: 1, conversations: store.conversations }, null, 1)],
    { type: "application/json" });
  const anchor = element("a", { href: URL.createObjectURL(file), download: "conversations.json" });
  anchor.click();
  URL.revokeObjectURL(anchor.href);
}

async function importFile(file) {
  try {
    const count = store.add(JSON.parse(await file.text()).conversations);
    showNotice(`${count} conversations were added.`);
  } catch { showNotice(`${file.name} is not a file of exported conversations.`); }
  show();
}

function start() {
  const preferences = store.preferences;
  setTheme(preferences.theme);
  for (const name of FIELDS) {
    $(name).value = preferences[name];
    $(name).addEventListener("input", () => { if ($(name).checkValidity()) { preferences[name] = $(name).value; store.savePreferences(); } });
  }
  $("probabilities").checked = preferences.probabilities;
  $("probabilities").addEventListener("change", (event) => { preferences.probabilities = event.target.checked; store.savePreferences(); });
  $("key").value = client.key;
  $("key").addEventListener("change", (event) => { client.setKey(event.target.value); loadModels(); });
  $("model").addEventListener("change", (event) => { preferences.model = event.target.value; store.savePreferences(); });
  $("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  $("question").addEventListener("input", () => { grow(); keepDraft(); });
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !running) { event.preventDefault(); send(); }
  });
  $("new").addEventListener("click", () => { stop(); open = null; closeSide(); show(); $("question").focus(); });
  $("search").addEventListener("input", () => showList(store, open, actions));
  $("export").addEventListener("click", exportAll);
  $("import").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", (event) => { if (event.target.files[0]) importFile(event.target.files[0]); event.target.value = ""; });
  $("open-settings").addEventListener("click", () => $("settings").showModal());
  $("menu").addEventListener("click", () => {
    const opened = document.body.classList.toggle("side-open");
    $("shade").hidden = !opened;
    $("menu").setAttribute("aria-expanded", String(opened));
  });
  $("shade").addEventListener("click", closeSide);
  $("theme").addEventListener("click", () => {
    const dark = preferences.theme ? preferences.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    preferences.theme = dark ? "light" : "dark";
    store.savePreferences();
    setTheme(preferences.theme);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running) stop();
    if (event.altKey && event.key.toLowerCase() === "n") { event.preventDefault(); $("new").click(); }
  });
  addEventListener("beforeunload", () => { store.save(); keepDraft(); });
  $("question").value = preferences.draft;
  open = store.matching("")[0] || null;
  show();
  grow();
  loadModels();
  $("question").focus();
}

start();
