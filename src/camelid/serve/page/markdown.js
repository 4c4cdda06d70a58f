// Markdown as elements. Only createElement and textContent: no markup of a text is ever run.

function element(name, properties, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties || {})) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const INLINE = [
  [/^(`+)([\s\S]*?[^`])\1(?!`)/, (m) => element("code", {}, m[2].trim() || m[2])],
  [/^\$\$([\s\S]+?)\$\$/, (m) => element("code", { class: "tex" }, m[1].trim())],
  [/^\\\(([\s\S]+?)\\\)/, (m) => element("code", { class: "tex" }, m[1].trim())],
  [/^\\\[([\s\S]+?)\\\]/, (m) => element("code", { class: "tex" }, m[1].trim())],
  [/^\$(?=\S)([^$\n]*[^$\s\\])\$(?!\d)/, (m) => element("code", { class: "tex" }, m[1])],
  [/^\*\*(?=\S)([\s\S]*?\S)\*\*/, (m) => element("strong", {}, ...inline(m[1]))],
  [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, (m) => element("strong", {}, ...inline(m[1]))],
  [/^~~(?=\S)([\s\S]*?\S)~~/, (m) => element("s", {}, ...inline(m[1]))],
  [/^\*(?=[^\s*])([^*]*?[^\s*])\*(?!\*)/, (m) => element("em", {}, ...inline(m[1]))],
  [/^_(?=[^\s_])([^_]*?[^\s_])_(?!\w)/, (m) => element("em", {}, ...inline(m[1]))],
  [/^!?\[([^\]\n]*)\]\(\s*<?([^\s)>]+)>?[^)\n]*\)/, (m) => link(m[2], m[1] || m[2])],
  [/^<(https?:\/\/[^\s>]+)>/, (m) => link(m[1], m[1])],
  [/^https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"]/, (m) => link(m[0], m[0])],
  [/^\\([\\`*_{}[\]()#+\-.!|~$<>])/, (m) => document.createTextNode(m[1])],
];

function link(address, words) {
  // Nothing but web and mail addresses: "javascript:" and "data:" stay text.
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return document.createTextNode(`${words} (${address})`);
  return element("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, words);
}

function inline(text) {
  const nodes = [];
  let plain = "";
  const flush = () => { if (plain) nodes.push(document.createTextNode(plain)); plain = ""; };
  for (let at = 0; at < text.length;) {
    const rest = text.slice(at);
    const inWord = /\w$/.test(text.slice(0, at));
    let found = null;
    if (/[`$\\*_~![<h]/.test(rest[0])) {
      for (const [pattern, make] of INLINE) {
        if (inWord && (rest[0] === "_" || rest[0] === "h")) break;
        const match = pattern.exec(rest);
        if (match) { found = [match[0].length, make(match)]; break; }
      }
    }
    if (found) { flush(); nodes.push(found[1]); at += found[0]; } else { plain += rest[0]; at += 1; }
  }
  flush();
  return nodes;
}

function lined(text) {
  // Two spaces or a backslash before a line's end break it; so does every line of a chat.
  const nodes = [];
  text.split("\n").forEach((line, index) => {
    if (index) nodes.push(element("br"));
    nodes.push(...inline(line.replace(/(\\| {2,})$/, "")));
  });
  return nodes;
}

function codeBlock(code, language) {
  const copy = element("button", { type: "button", class: "copy", onclick: () => copyText(code, copy) }, "Copy");
  return element("figure", { class: "code" },
    element("figcaption", {}, element("span", {}, language || "code"), copy),
    element("pre", { tabindex: "0" }, element("code", {}, code)));
}

async function copyText(text, button) {
  const before = button.textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
  catch { button.textContent = "Not allowed here"; }
  setTimeout(() => { button.textContent = before; }, 1500);
}

const LIST = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

function list(lines) {
  const first = LIST.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const made = element(ordered ? "ol" : "ul", ordered ? { start: parseInt(first[2], 10) } : {});
  const indent = first[1].length;
  let item = null;
  const close = () => { if (item) made.append(element("li", {}, ...listItem(item))); };
  for (const line of lines) {
    const match = LIST.exec(line);
    if (match && match[1].length <= indent + 1) { close(); item = [match[3]]; }
    else item.push(line.slice(Math.min(indent + 2, line.search(/\S|$/))));
  }
  close();
  return made;
}

function listItem(lines) {
  const nested = lines.findIndex((line, index) => index && LIST.test(line));
  if (nested < 0) return lines.some((line) => /^```|^\s*$/.test(line)) ? blocks(lines) : lined(lines.join("\n"));
  return [...lined(lines.slice(0, nested).join("\n")), ...blocks(lines.slice(nested))];
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, "|"));
}

function table(lines) {
  const align = cells(lines[1]).map((cell) => (/^:-+:$/.test(cell) ? "center" : /-:$/.test(cell) ? "right" : "left"));
  const row = (line, kind) => element("tr", {}, ...cells(line).map((cell, index) =>
    element(kind, { class: `to-${align[index] || "left"}` }, ...inline(cell))));
  return element("div", { class: "scroll", tabindex: "0" }, element("table", {},
    element("thead", {}, row(lines[0], "th")), element("tbody", {}, ...lines.slice(2).map((line) => row(line, "td")))));
}

function blocks(lines) {
  const made = [];
  const until = (start, test) => { let end = start; while (end < lines.length && test(lines[end], end)) end += 1; return end; };
  const isRule = (line) => /^\s*([-*_])(\s*\1){2,}\s*$/.test(line);
  const isTable = (at) => lines[at].includes("|") && at + 1 < lines.length && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[at + 1]) && lines[at + 1].includes("|");
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    let end = at + 1;
    const fence = /^\s*(`{3,}|~{3,})\s*([^`]*)$/.exec(line);
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (!line.trim()) { at += 1; continue; }
    if (fence) {
      end = until(at + 1, (each) => each.trim() !== fence[1] && !new RegExp(`^\\s*${fence[1][0]}{${fence[1].length},}\\s*$`).test(each));
      made.push(codeBlock(lines.slice(at + 1, end).join("\n"), fence[2].trim().split(/\s/)[0]));
      end += 1;
    } else if (heading) {
      made.push(element(`h${Math.min(6, heading[1].length + 2)}`, {}, ...inline(heading[2])));
    } else if (isRule(line)) {
      made.push(element("hr"));
    } else if (/^\s*>/.test(line)) {
      end = until(at, (each) => /^\s*>/.test(each));
      made.push(element("blockquote", {}, ...blocks(lines.slice(at, end).map((each) => each.replace(/^\s*> ?/, "")))));
    } else if (isTable(at)) {
      end = until(at, (each) => each.includes("|") && each.trim());
      made.push(table(lines.slice(at, end)));
    } else if (LIST.test(line)) {
      const own = LIST.exec(line);
      end = until(at, (each, index) => LIST.test(each) ? /\d/.test(LIST.exec(each)[2]) === /\d/.test(own[2]) || LIST.exec(each)[1].length > own[1].length
        : /^\s{2,}\S/.test(each) || (!each.trim() && index + 1 < lines.length && (LIST.test(lines[index + 1]) || /^\s{2,}\S/.test(lines[index + 1]))));
      made.push(list(lines.slice(at, Math.max(end, at + 1))));
      end = Math.max(end, at + 1);
    } else {
      end = until(at + 1, (each, index) => each.trim() && !LIST.test(each) && !/^(#{1,6}\s|\s*(`{3,}|~{3,}|>))/.test(each) && !isRule(each) && !isTable(index));
      made.push(element("p", {}, ...lined(lines.slice(at, end).join("\n").trim())));
    }
    at = end;
  }
  return made;
}

function markdown(text) {
  return blocks(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"));
}
