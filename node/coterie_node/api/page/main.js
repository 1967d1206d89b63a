// Puts the page together: what the stream tells goes into the model, and from there to picture, details and table.

import { Details, legend } from "./details.js";
import { Lookup } from "./lookup.js";
import { icon } from "./marks.js";
import { Model } from "./model.js";
import { Ring } from "./ring.js";
import { Stream } from "./stream.js";
import { Table } from "./table.js";
import { clock, label, number, plural, rate } from "./words.js";

const LATELY = 12;
const QUIET = 1500; // Changes that come together are spoken together, not one by one.

const get = (id) => document.getElementById(id);
const model = new Model();
const details = new Details();
const looks = { point, choose };
const ring = new Ring(get("ring"), get("picture"), looks);
const table = new Table(looks);
const lookup = new Lookup(ring, model);

let pointed = null;
let chosen = null;
let waiting = [];
let speaking = 0;

const stream = new Stream("api/v1/events", {
  ring: (snapshot) => tell(model.begin(snapshot)),
  change: (change) => tell(model.apply(change)),
  live: () => connection("live", "Live"),
  lost,
  resting: () => connection("resting", "Resting while the page is hidden"),
});

/** Look at a node; with none pointed at, at the one that the keyboard is at. */
function point(uid) {
  uid ??= ring.focused;
  if (pointed === uid) return;
  pointed = uid;
  look();
}

function choose(uid) {
  chosen = uid === chosen ? null : uid;
  look();
}

function look() {
  if (!model.members.has(chosen)) chosen = null;
  if (!model.members.has(pointed)) pointed = null;
  const uid = pointed ?? chosen;
  ring.show(uid, chosen);
  table.show(uid, chosen);
  details.draw(model, uid);
}

function tell(happened) {
  const { seat, ring_uid: uid } = model.totals;
  const verdict = model.verdict();
  document.title = `${verdict.word} – ${seat.name} – Coterie ring`;
  get("seat-name").textContent = label(seat, 40);
  get("verdict").textContent = verdict.word;
  get("centre").dataset.tone = verdict.tone;
  const { ready, order } = model;
  get("count").textContent = ready === order.length ? number(ready) : `${number(ready)}/${number(order.length)}`;
  get("count-text").textContent = `${order.length === 1 ? "node" : "nodes"} ready`;
  get("rate").textContent = uid ? `${rate(order.reduce((all, one) => all + one.stored_per_second, 0))} messages/s` : "";
  if (model.known) ring.draw(model);
  table.draw(model);
  legend(get("legend"), model);
  look();
  if (happened.length) note(happened);
}

function note(happened) {
  get("lately-none").hidden = true;
  const list = get("lately");
  for (const one of happened.slice(0, LATELY)) {
    const line = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = model.totals.at;
    time.textContent = clock(model.totals.at);
    line.dataset.state = one.state;
    line.append(time, icon(one.state), one.text);
    list.prepend(line);
  }
  while (list.children.length > LATELY) list.lastChild.remove();
  waiting.push(...happened);
  if (!speaking) speaking = setTimeout(speak, QUIET);
}

function speak() {
  const said = waiting.slice(0, 3).map((one) => one.text);
  if (waiting.length > 3) said.push(`${plural(waiting.length - 3, "further change")}`);
  get("now").textContent = `${said.join(". ")}. ${plural(model.ready, "node")} of ${number(model.order.length)} ready.`;
  waiting = [];
  speaking = 0;
}

function connection(state, text) {
  if (get("live").dataset.state === state) return;
  get("live").dataset.state = state;
  get("live-text").textContent = text;
  document.body.classList.toggle("stale", state === "lost");
  if (state !== "lost") get("notice").hidden = true;
}

function lost(why) {
  connection("lost", "Trying again");
  const seen = model.totals.at ? ` What you see is from ${clock(model.totals.at)}.` : "";
  const text = `${why}${seen} The page comes back by itself.`;
  if (get("notice-text").textContent !== text) get("notice-text").textContent = text;
  const others = model.order.filter((one) => one.uid !== model.totals.seat.uid && one.state !== "unreachable");
  get("notice-nodes").replaceChildren(...others.map(link).filter(Boolean).slice(0, 8));
  get("notice").hidden = false;
}

/** A link to another node's page. Its address is what that node says: it must be a host and a port, nothing more. */
function link(member) {
  let url;
  try {
    url = new URL(`${location.protocol}//${member.admin}/`);
  } catch {
    return null;
  }
  if (url.host !== member.admin.toLowerCase() || !url.hostname || url.port === "0") return null;
  const line = document.createElement("li");
  const made = document.createElement("a");
  made.href = url.href;
  made.rel = "noreferrer";
  made.textContent = label(member, 40);
  line.append(made);
  return line;
}

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  if (event.target === get("filter") && get("filter").value) return;
  chosen = null;
  pointed = null;
  lookup.clear();
  look();
});

stream.open();
