// Keeps the monitor up to date by server-sent events, or by loading the page again without them.
// Elements are changed in place, so that open details, focus, selection and moving bars survive.
"use strict";

const POLL = 15000; // milliseconds between two loads of the page, without events
const AGAIN = 60000; // milliseconds after which events are tried again
const TYPING = 300; // milliseconds without a keystroke after which a word is taken

const cards = document.getElementById("cards");
const summary = document.getElementById("summary");
const nothing = document.getElementById("nothing");
const count = document.getElementById("count");
const state = document.getElementById("state");
const choice = document.getElementById("choice");

// Turn `now` into `wanted`, changing as little as possible.
function morph(now, wanted) {
  if (now.nodeType === Node.ELEMENT_NODE) {
    for (const { name, value } of wanted.attributes) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
    for (const { name } of [...now.attributes]) {
      const opened = name === "open" && now.localName === "details";
      if (!opened && !wanted.hasAttribute(name)) now.removeAttribute(name);
    }
    morphChildren(now, wanted);
  } else if (now.nodeValue !== wanted.nodeValue) {
    now.nodeValue = wanted.nodeValue;
  }
}

function morphChildren(now, wanted) {
  const before = [...now.childNodes];
  const after = [...wanted.childNodes];
  after.forEach((child, i) => {
    const old = before[i];
    if (old === undefined) now.append(child);
    else if (old.nodeName === child.nodeName && old.id === child.id) morph(old, child);
    else old.replaceWith(child);
  });
  before.slice(after.length).forEach((child) => child.remove());
}

function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

// Show the cards named in `order`, in this order. Nodes that are in place aren't moved.
function arrange(order) {
  const wanted = order.map((server) => document.getElementById(`server-${server}`)).filter(Boolean);
  const kept = new Set(wanted);
  for (const card of [...cards.children]) if (!kept.has(card)) card.remove();
  wanted.forEach((card, i) => {
    if (cards.children[i] !== card) cards.insertBefore(card, cards.children[i] ?? null);
  });
  nothing.hidden = wanted.length > 0;
}

function show(change) {
  for (const [server, html] of Object.entries(change.cards ?? {})) {
    const wanted = parsed(html).firstElementChild;
    const now = document.getElementById(`server-${server}`);
    if (now) morph(now, wanted);
    else cards.append(wanted);
  }
  for (const [id, html] of Object.entries(change.parts ?? {})) {
    const now = document.getElementById(id);
    if (now) morphChildren(now, parsed(html));
  }
  if (change.order) arrange(change.order);
  if (change.summary !== undefined) morphChildren(summary, parsed(change.summary));
  if (change.count !== undefined) {
    count.textContent = change.count;
    count.hidden = !change.count;
  }
}

// Update by loading the page, when there are no events.
async function load() {
  try {
    const answer = await fetch(window.location.href);
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = [...page.getElementById("cards").children];
    const html = Object.fromEntries(found.map((card) => [card.id.slice("server-".length), card.outerHTML]));
    const order = found.map((card) => card.id.slice("server-".length));
    const words = page.getElementById("count").textContent;
    show({ cards: html, order, summary: page.getElementById("summary").innerHTML, count: words });
    state.textContent = "";
  } catch {
    const since = new Date().toLocaleTimeString();
    if (!state.textContent) state.textContent = `No answer since ${since}. The numbers are from then.`;
  }
}

let source = null;
let polling = null;

function stop() {
  if (source) source.close();
  clearInterval(polling);
  source = polling = null;
}

function follow() {
  stop();
  source = new EventSource(`${cards.dataset.events}${window.location.search}`);
  source.addEventListener("fleet", (event) => {
    show(JSON.parse(event.data));
    state.textContent = "";
  });
  source.addEventListener("error", () => {
    if (source && source.readyState !== EventSource.CLOSED) return; // it connects again automatically
    stop();
    load();
    polling = setInterval(load, POLL);
    setTimeout(() => { if (polling) follow(); }, AGAIN);
  });
}

// Filters apply at once. They are in the address, so that it can be bookmarked and shared.
let typing = null;
function choose() {
  clearTimeout(typing);
  const given = [...new FormData(choice)].filter(([name, value]) => value && !(name === "sort" && value === "name"));
  const query = new URLSearchParams(given).toString();
  window.history.replaceState(null, "", query ? `?${query}` : window.location.pathname);
  choice.querySelector(".all").hidden = !given.some(([name]) => name !== "sort");
  follow();
}
choice.querySelector("button").hidden = true;
choice.addEventListener("submit", (event) => { event.preventDefault(); choose(); });
choice.addEventListener("change", choose);
choice.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(choose, TYPING); });

// A hidden page needs no events.
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : follow()));
window.addEventListener("pagehide", stop);
follow();
