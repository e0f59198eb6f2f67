// The window: what the node pushes goes into the page. Texts come ready to be shown.
"use strict";
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
let stream = new AbortController();

// el makes an element. Texts are never read as HTML.
function el(tag, attrs, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) if (v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : v);
  e.append(...children);
  return e;
}
// text and attr touch the page only where something is new: a reader's selection stays.
function text(e, s) { if (e.textContent !== s) e.textContent = s; }
function attr(e, k, v) { if (e.getAttribute(k) !== v) e.setAttribute(k, v); }

// fill gives a parent one child for each item, by name, and keeps those that are there.
function fill(parent, items, name, make, update) {
  const there = new Map([...parent.children].map((c) => [c.dataset.name, c]));
  const taken = new Set();
  items.forEach((item, i) => {
    let key = name(item);
    while (taken.has(key)) key += "'"; // another one of that name
    taken.add(key);
    let child = there.get(key);
    if (child) there.delete(key);
    else { child = make(item); child.dataset.name = key; }
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] || null);
    update(child, item);
  });
  for (const c of there.values()) c.remove();
}

const headers = () => {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: "Bearer " + token } : {};
};
function status(tone, s) { attr($("link"), "data-tone", tone); text($("link"), s); }

async function problem(res) {
  try { return (await res.json()).detail; } catch { return res.status + " " + res.statusText; }
}

// follow reads the pushes for as long as there are any, and comes back when they end.
async function follow() {
  stream.abort();
  const mine = stream = new AbortController();
  while (!mine.signal.aborted) {
    try {
      const ask = new URLSearchParams({ dark: dark.matches ? "1" : "0", table: $("table").value, node: $("node").value, find: $("find").value });
      const res = await fetch("/window/events?" + ask, { headers: headers(), signal: mine.signal });
      if (res.status === 401) { login(); return; }
      if (!res.ok) throw new Error(await problem(res));
      await read(res.body.pipeThrough(new TextDecoderStream()).getReader(), mine.signal);
      status("watch", "closed, trying again");
    } catch (e) {
      if (mine.signal.aborted) return;
      status("bad", e instanceof TypeError ? "no connection, trying again" : e.message);
    }
    await new Promise((r) => setTimeout(r, 2000));
  }
}

async function read(reader, signal) {
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done || signal.aborted) return;
    buffer += value;
    for (let end; (end = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(end + 2)) {
      const [, kind, data] = /^event: (\w+)\ndata: (.*)$/s.exec(buffer.slice(0, end)) || [];
      if (kind === "frame") show(JSON.parse(data));
      if (kind === "rows") rows(JSON.parse(data));
    }
  }
}

function login() {
  sessionStorage.removeItem("token");
  status("watch", "the token is missing or wrong");
  document.querySelector("main").hidden = true;
  $("login").hidden = false;
  $("token").focus();
}

function fact(f, wide) {
  return el("div", { class: wide && "wide" }, el("dt", {}, f.name), el("dd", {}));
}
function facts(parent, list, wide) {
  fill(parent, list, (f) => f.name, (f) => fact(f, wide && f.tone === "bad"), (e, f) => { text(e.lastChild, f.text); attr(e.lastChild, "data-tone", f.tone || ""); });
}

function show(f) {
  document.querySelector("main").hidden = false;
  $("login").hidden = true;
  status("good", "as of " + new Date(f.at).toLocaleTimeString("en-GB"));
  text($("title"), f.title);
  document.title = "lockstep " + f.title;
  facts($("facts"), f.facts);
  $("stage").hidden = f.actions.length === 0;
  actions($("actions"), f.actions, "");
  fill($("nodes"), f.nodes, (n) => n.name, card, (e, n) => node(e, n, f.question));
  text($("more"), f.more || (f.nodes.length ? "" : "The tables are loading."));
  choices($("table"), f.tables.map((t) => t.name), f.tables.map((t) => t.name + " · " + t.text));
  const asked = f.nodes.filter((n) => n.asked);
  choices($("node"), asked.map((n) => n.name), asked.map((n) => n.name));
  fill($("log"), f.log.toReversed(), (l) => l.at + l.text, (l) => el("li", { "data-tone": l.tone }, el("time", { datetime: l.at }, new Date(l.at).toLocaleTimeString("en-GB")), l.text), () => {});
}

// choices are a select's. Where the first ones come, the stream is asked for their rows.
function choices(select, values, labels) {
  const had = select.value;
  fill(select, values, (v) => v, (v) => el("option", { value: v }), (e, v) => text(e, labels[values.indexOf(v)]));
  if (select.value !== had) follow();
}

function actions(parent, list, of) {
  fill(parent, list, (a) => a.name, (a) => {
    const b = el("button", { type: "button", title: a.hint, "data-do": a.name, "aria-label": of ? a.label + ": " + of : a.label }, a.label);
    b.addEventListener("click", () => press(b, a.name, of));
    return b;
  }, (b, a) => { b.disabled = !a.on || b.dataset.busy === "1"; });
}

async function press(b, name, of) {
  b.dataset.busy = "1";
  b.disabled = true;
  said("", b.getAttribute("aria-label") + " …");
  try {
    const res = await fetch("/window/do/" + name + (of ? "?node=" + encodeURIComponent(of) : ""), { method: "POST", headers: headers() });
    if (res.status === 401) login();
    if (res.ok) said("good", (await res.json()).said);
    else said("bad", await problem(res));
  } catch { said("bad", "no connection"); }
  delete b.dataset.busy;
}
function said(tone, s) { attr($("said"), "data-tone", tone); text($("said"), s); }

function card(n) {
  return el("article", { class: "node", "aria-label": n.name },
    el("div", { class: "head" }, el("h3", {}, n.name), el("span", { class: "pill" })),
    el("p", { class: "age" }, el("b", {}), el("span", { class: "quiet" })),
    el("p", { class: "answer", hidden: true }, el("span", {}), el("b", {})),
    el("div", { class: "charts" }), el("dl", { class: "facts" }), el("div", { class: "actions" }));
}

function node(e, n, question) {
  const at = (s) => e.querySelector(s);
  text(at(".pill"), n.state);
  attr(at(".pill"), "data-tone", n.tone);
  text(at(".age b"), n.stale);
  attr(at(".age b"), "data-tone", n.tone === "good" ? "" : n.tone);
  text(at(".age span"), n.reason ? n.of + " · " + n.reason : n.of);
  attr(at(".age span"), "title", n.reason || "");
  at(".answer").hidden = !n.answer;
  text(at(".answer span"), question || "");
  text(at(".answer b"), n.answer || "");
  fill(at(".charts"), n.charts, (c) => c.title, (c) => el("figure", {}, el("figcaption", {}, c.title), el("img", {})), (f, c) => {
    attr(f.lastChild, "alt", c.alt);
    attr(f.lastChild, "src", "data:image/svg+xml," + encodeURIComponent(c.svg));
  });
  facts(at("dl"), n.facts, true);
  actions(at(".actions"), n.actions, n.name);
  at(".actions").hidden = n.actions.length === 0;
}

const numeric = (s) => s !== null && /^-?[\d.]+$/.test(s);

// rows shows a table's rows; a cell that is not what it was flashes, and so does a row that is new.
function rows(r) {
  const of = JSON.stringify([r.node, r.table, r.columns, $("find").value]);
  if ($("rows").dataset.of !== of) {
    $("rows").replaceChildren();
    $("columns").replaceChildren(el("tr", {}, ...r.columns.map((c, i) => el("th", { scope: "col", class: r.rows.length && numeric(r.rows[0].cells[i]) && "number" }, c))));
  }
  const old = $("rows").dataset.of === of;
  $("rows").dataset.of = of;
  fill($("rows"), r.rows, (x) => x.key, (x) => el("tr", { class: old && "flash" }, ...x.cells.map(() => el("td"))), (tr, x) => x.cells.forEach((c, i) => {
    const td = tr.children[i];
    if (td.dataset.had === "1" && td.textContent !== (c ?? "null")) {
      td.classList.remove("flash");
      void td.offsetWidth; // begins the animation again
      td.classList.add("flash");
    }
    td.dataset.had = "1";
    text(td, c ?? "null");
    td.classList.toggle("null", c === null);
    td.classList.toggle("number", numeric(c));
  }));
  const many = (n) => n.toLocaleString("en-US");
  text($("rows-note"), r.failed ? r.failed : r.partial ? "Some of " + many(r.total) + " rows: too many to search through, but a whole key is always found."
    : many(r.rows.length) + " of " + many(r.matches) + " rows" + ($("find").value ? " whose key has that in it, of " + many(r.total) : "") + ", in the order of the key.");
}

$("login").addEventListener("submit", (e) => {
  e.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("token").value = "";
  follow();
});
let typing;
$("find").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(follow, 250); });
$("table").addEventListener("change", follow);
$("node").addEventListener("change", follow);
dark.addEventListener("change", follow);
follow();
