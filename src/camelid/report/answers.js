"use strict";
// Texts only ever become text nodes. The state of the page is in its address, so that a view can be linked.
const data = JSON.parse(document.getElementById("data").textContent);
const STEP = 200;
const MARKS = { right: "✓", wrong: "✗", unparsed: "?", tied: "=" };
// Controls, directions and other characters without a shape would hide or reorder text; joiners of emoji stay.
const HIDDEN = /((?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}])+/gu;
const by = (id) => document.getElementById(id);
const state = Object.assign({ first: "0", second: "", reading: "", show: "all", text: "", open: "" },
  Object.fromEntries(new URLSearchParams(location.hash.slice(1))));

function node(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function visible(text) {
  const parts = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    const found = Array.from(match[0]);
    const codes = found.slice(0, 8).map((each) => "U+" + each.codePointAt(0).toString(16).toUpperCase().padStart(4, "0"));
    const more = found.length > 8 ? " … " + found.length + " in all" : "";
    parts.append(text.slice(end, match.index), node("mark", {}, codes.join(" ") + more));
    end = match.index + match[0].length;
  }
  parts.append(text.slice(end));
  return parts;
}

const plain = (index) => {
  const text = data.texts[index];
  return Array.isArray(text) ? text[0] + " … " + text[2] : text;
};

function shown(index, where) {
  const text = data.texts[index];
  if (!Array.isArray(text)) return visible(text);
  const parts = document.createDocumentFragment();
  const note = ` … ${text[1].toLocaleString("en")} characters are left out here; they are in ${where} … `;
  parts.append(visible(text[0]), node("small", {}, note), visible(text[2]));
  return parts;
}

function size(index) {
  const text = data.texts[index];
  return Array.isArray(text) ? text[0].length + text[1] + text[2].length : text.length;
}

const short = (index, most = 60) => {
  const text = plain(index).trim().replace(/\s+/g, " ");
  return visible(text.length > most ? text.slice(0, most) + "…" : text);
};

function verdict(item, reading) {
  const grade = item && item.grades[reading];
  if (!grade) return "";
  if (grade[1]) return "right";
  return grade[2] ? "tied" : grade[0] === null ? "unparsed" : "wrong";
}

function question(item) {
  const parts = item.chain.length ? item.chain[0].prompt : [];
  return parts.length ? parts[parts.length - 1][1] : item.answer;
}

function badge(item, reading) {
  const found = verdict(item, reading);
  if (!found) return node("span", {}, "– ");
  const grade = item.grades[reading];
  const degree = grade[3] === null ? "" : ` (${grade[3].toFixed(2)})`;
  const parts = node("span", { className: found, title: found }, `${MARKS[found]} `);
  parts.append(grade[0] === null ? found : short(grade[0], 24), degree, " ");
  if (item.cut) parts.append(node("span", { className: "cut" }, "cut "));
  return parts;
}

function prompts(chain, where, open) {
  return chain.flatMap((link, at) => {
    const pre = node("pre", {});
    const before = [];
    let length = 0;
    for (const [role, index, isShared] of link.prompt) {
      length += size(index);
      if (isShared) {
        const title = `the beginning of every prompt, ${size(index).toLocaleString("en")} characters`;
        before.push(node("details", {}, node("summary", {}, title), node("pre", {}, shown(index, where))));
      } else pre.append(...(role ? [node("small", {}, `[${role}] `), shown(index, where), "\n"] : [shown(index, where)]));
    }
    const many = chain.length > 1 ? ` ${at + 1} of ${chain.length}` : "";
    const title = node("summary", {}, `prompt${many} as sent, ${length.toLocaleString("en")} characters`);
    const parts = [node("details", { open: open && at === 0 }, title, ...before, pre)];
    if (link.reply !== null) parts.push(node("h3", {}, `reply${many}`), node("pre", { className: "reply" }, shown(link.reply, where)));
    return parts;
  });
}

const number = (value) => value === null ? "–" : value.toFixed(4);

function table(names, rows) {
  const head = node("tr", {}, ...names.map((name) => node("th", {}, name)));
  const body = rows.map((row) => node("tr", {}, ...row.map((cell) => node("td", {}, cell))));
  return node("div", { className: "scroll" }, node("table", {}, head, ...body));
}

function sampled(item, where) {
  const votes = Object.entries(item.votes).filter(([, counts]) => counts.length);
  const answers = [...new Set(votes.flatMap(([, counts]) => counts.map(([answer]) => answer)))];
  const count = (counts, wanted) => String((counts.find(([answer]) => answer === wanted) || ["", "–"])[1]);
  const parts = votes.length ? [table(["votes", ...votes.map(([name]) => name)],
    answers.map((answer) => [short(answer, 200), ...votes.map(([, counts]) => count(counts, answer))]))] : [];
  return parts.concat(item.samples.map((sample, at) => {
    const elects = Object.keys(item.elected).filter((name) => item.elected[name] === at);
    const title = node("summary", {}, `sample ${at + 1} `);
    for (const [name, index] of Object.entries(sample.readings))
      title.append(node("small", {}, ` ${name}: `), index === null ? "–" : short(index, 40));
    if (elects.length) title.append(node("span", { className: "right" }, ` elected by ${elects.join(", ")}`));
    if (sample.cut) title.append(node("span", { className: "cut" }, " cut"));
    return node("details", { className: "sample" }, title, ...prompts(sample.chain, where, false));
  }));
}

function opened(evaluation, item) {
  const where = `${evaluation.file}, line ${item.line}`;
  const parts = [node("h3", {}, evaluation.name)];
  const grades = Object.entries(item.grades).map(([name, grade]) => {
    const found = verdict(item, name);
    const degree = grade[3] === null ? "" : ` (${grade[3].toFixed(3)})`;
    return [name, grade[0] === null ? "–" : shown(grade[0], where), node("span", { className: found }, found + degree)];
  });
  parts.push(table(["reading", "extracted", "grade"], grades));
  parts.push(node("p", {}, "right answer: ", shown(item.answer, where), item.cut ? node("span", { className: "cut" }, " · cut at the length limit") : ""));
  if (item.samples) parts.push(...prompts(item.samples[0].chain.slice(0, 1).map((link) => ({ ...link, reply: null })), where, true), ...sampled(item, where));
  else parts.push(...prompts(item.chain, where, true));
  if (item.scores.length) parts.push(table(["choice", "log-probability", "tokens", "after the answer context", "after content-free texts"],
    item.scores.map(([text, logprob, tokens, ...others]) => [shown(text, where), number(logprob), String(tokens), ...others.map(number)])));
  parts.push(node("small", {}, where));
  return node("div", {}, ...parts);
}

const CHECKS = {
  all: () => true,
  right: (item, reading) => verdict(item, reading) === "right",
  wrong: (item, reading) => verdict(item, reading) === "wrong",
  unparsed: (item, reading) => verdict(item, reading) === "unparsed",
  tied: (item, reading) => verdict(item, reading) === "tied",
  cut: (item) => item.cut,
};
const is = (item, reading) => verdict(item, reading) === "right";
const COMPARED = {
  "right only here": (item, reading, other, same) => is(item, reading) && !is(other, same),
  "right only there": (item, reading, other, same) => !is(item, reading) && is(other, same),
  "right in both": (item, reading, other, same) => is(item, reading) && is(other, same),
  "right in neither": (item, reading, other, same) => !is(item, reading) && !is(other, same),
};

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, name]) => node("option", { value, selected: value === chosen }, name)));
}

let most = STEP;

function show() {
  const first = data.evaluations[state.first] || data.evaluations[0];
  const second = first.comparable.includes(Number(state.second || -1)) ? data.evaluations[state.second] : null;
  if (!second) state.second = "";
  if (!first.readings.includes(state.reading)) state.reading = first.readings[0];
  const reading = state.reading;
  const same = second && (second.readings.includes(reading) ? reading : second.readings[0]);
  options(by("first"), data.evaluations.map((each, at) => [String(at), each.name]), state.first);
  options(by("second"), [["", "nothing"], ...first.comparable.map((at) => [String(at), data.evaluations[at].name])], state.second);
  options(by("reading"), first.readings.map((name) => [name, name]), reading);
  const others = new Map(second ? second.items.map((item) => [item.id, item]) : []);
  const pairs = first.items.filter((item) => !second || others.has(item.id)).map((item) => [item, others.get(item.id)]);
  const checks = second ? { ...CHECKS, ...COMPARED } : CHECKS;
  const check = checks[state.show] || checks.all;
  by("filters").replaceChildren(...Object.entries(checks).flatMap(([name, holds]) => {
    const count = pairs.filter(([item, other]) => holds(item, reading, other, same)).length;
    if (name === "tied" && !count) return [];
    const button = node("button", { onclick: () => change({ show: name }) }, `${name} ${count.toLocaleString("en")}`);
    button.setAttribute("aria-pressed", String(check === holds));
    return [button];
  }));
  const wanted = state.text.toLowerCase();
  const matches = (item) => !wanted || [question(item), item.answer].some((index) => plain(index).toLowerCase().includes(wanted));
  const found = pairs.filter(([item, other]) => check(item, reading, other, same) && matches(item));
  by("summary").textContent = `${found.length.toLocaleString("en")} of ${pairs.length.toLocaleString("en")} items` +
    (second ? "; the first answer is from here, the second from the evaluation it is compared with" : "") +
    (data.limit === null ? "." : `. Texts longer than ${data.limit.toLocaleString("en")} characters are cut on this page.`);
  by("items").replaceChildren(...found.slice(0, most).map(([item, other]) => {
    const summary = node("summary", {}, badge(item, reading), ...(second ? [" | ", badge(other, same)] : []),
      node("small", {}, visible(` ${item.id} · `)), short(question(item), 140));
    const box = node("details", { className: "item" }, summary);
    const fill = () => {
      if (!box.open || box.children.length > 1) return;
      const columns = [opened(first, item), ...(second ? [opened(second, other)] : [])];
      box.append(node("div", { className: "two" }, ...columns));
    };
    box.addEventListener("toggle", fill);
    box.open = state.open === item.id;
    fill();
    return box;
  }));
  by("more").hidden = found.length <= most;
}

function change(changes) {
  Object.assign(state, changes);
  most = STEP;
  show();
  history.replaceState(null, "", "#" + new URLSearchParams(Object.entries(state).filter(([, value]) => value)));
}

for (const name of ["first", "second", "reading"]) by(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
by("text").addEventListener("input", (event) => change({ text: event.target.value }));
by("more").addEventListener("click", () => { most += STEP; show(); });
by("text").value = state.text;
show();
