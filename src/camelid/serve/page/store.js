// Conversations in this browser. Each is a tree: an edited question or another answer begins a branch.

const STORE = "camelid.conversations";
const PREFERENCES = "camelid.preferences";

function newId() { return Date.now().toString(36) + Math.random().toString(36).slice(2, 8); }

class Store {
  constructor() {
    this.conversations = this.read(STORE, []).filter(isConversation);
    this.preferences = { temperature: "0.7", top_p: "", top_k: "", min_p: "", max_tokens: "", seed: "", system: "",
      probabilities: false, theme: "", model: "", draft: "", ...this.read(PREFERENCES, {}) };
    this.full = false;
  }

  read(name, fallback) {
    try { return JSON.parse(localStorage.getItem(name)) ?? fallback; } catch { return fallback; }
  }

  write(name, value) {
    try { localStorage.setItem(name, JSON.stringify(value)); this.full = false; }
    catch { this.full = true; } // the quota is used up, or storage is off: said once by the view
  }

  save() { this.write(STORE, this.conversations); }
  savePreferences() { this.write(PREFERENCES, this.preferences); }

  create() {
    const made = { id: newId(), title: "", updated: Date.now(), nodes: {}, first: [], chosen: {} };
    this.conversations.unshift(made);
    return made;
  }

  remove(id) { this.conversations = this.conversations.filter((each) => each.id !== id); this.save(); }

  matching(words) {
    const wanted = words.toLowerCase();
    return this.conversations.filter((each) => !wanted || each.title.toLowerCase().includes(wanted) ||
      Object.values(each.nodes).some((node) => node.content.toLowerCase().includes(wanted)))
      .sort((a, b) => b.updated - a.updated);
  }

  add(found) {
    const known = new Set(this.conversations.map((each) => each.id));
    const added = found.filter(isConversation).map((each) => (known.has(each.id) ? { ...each, id: newId() } : each));
    this.conversations.push(...added);
    this.save();
    return added.length;
  }
}

function isConversation(value) {
  const isNode = (id, node) => node && node.id === id && typeof node.content === "string" &&
    ["user", "assistant"].includes(node.role) && Array.isArray(node.children) &&
    node.children.every((child) => child in value.nodes);
  return Boolean(value) && typeof value.id === "string" && typeof value.title === "string" && Array.isArray(value.first) &&
    value.nodes !== null && typeof value.nodes === "object" && typeof value.chosen === "object" && value.chosen !== null &&
    Object.entries(value.nodes).every(([id, node]) => isNode(id, node)) && value.first.every((id) => id in value.nodes);
}

function siblings(conversation, parent) { return parent ? conversation.nodes[parent].children : conversation.first; }

function append(conversation, parent, role, content) {
  const node = { id: newId(), parent: parent || null, role, content, children: [] };
  conversation.nodes[node.id] = node;
  const beside = siblings(conversation, parent);
  beside.push(node.id);
  conversation.chosen[parent || ""] = beside.length - 1;
  conversation.updated = Date.now();
  if (!conversation.title && role === "user") conversation.title = content.trim().split("\n")[0].slice(0, 60);
  return node;
}

function path(conversation) {
  const nodes = [];
  for (let parent = "", seen = 0; seen < 10000; seen += 1) {
    const beside = siblings(conversation, parent);
    if (!beside.length) break;
    const at = Math.min(conversation.chosen[parent] ?? beside.length - 1, beside.length - 1);
    const node = conversation.nodes[beside[at]];
    nodes.push(node);
    parent = node.id;
  }
  return nodes;
}
