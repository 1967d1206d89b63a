// The same as the picture, for those who do not see it and for those who want numbers.

import { icon } from "./marks.js";
import { hue, label, number, percent, rate, stateOf, STATES, sum } from "./words.js";

const COLUMNS = [
  { key: "name", title: "Node", of: (one) => one.name, text: (one) => label(one, 40), first: 1 },
  { key: "state", title: "State", of: (one) => stateOf(one), text: (one) => STATES[stateOf(one)].word, first: 1 },
  { key: "position", title: "Slot", of: (one) => one.position, text: (one) => (one.position < 0 ? "–" : number(one.position)), number: true, first: 1 },
  { key: "share", title: "Share", of: (one) => one.arc_share, text: (one) => percent(one.arc_share), number: true },
  { key: "owner", title: "Slots owned", of: (one) => one.slots.users, text: (one) => number(one.slots.users), number: true },
  { key: "replica", title: "Slots backed up", of: (one) => one.slots.backups, text: (one) => number(one.slots.backups), number: true },
  { key: "under", title: "Under-replicated", of: (one) => one.slots_under_replicated, text: (one) => number(one.slots_under_replicated), number: true },
  { key: "records", title: "Records owned", of: (one) => one.records.users, text: (one) => number(one.records.users), number: true },
  { key: "copies", title: "Records in all", of: (one) => sum(one.records), text: (one) => number(sum(one.records)), number: true },
  { key: "stored", title: "Messages/s", of: (one) => one.stored_per_second, text: (one) => rate(one.stored_per_second), number: true },
  { key: "rate", title: "Records/s", of: (one) => one.records_per_second, text: (one) => rate(one.records_per_second), number: true },
  { key: "sessions", title: "Sessions", of: (one) => one.sessions, text: (one) => number(one.sessions), number: true },
];

export class Table {
  #rows = new Map(); #heads = []; #model = null; #by = COLUMNS[2]; #way = 1; #said = null;

  /** `to` has point(uid or null) and choose(uid). */
  constructor(to) {
    this.to = to;
    this.body = document.getElementById("rows");
    this.filter = document.getElementById("filter");
    this.#said = document.getElementById("rows-said");
    this.filter.addEventListener("input", () => this.#arrange());
    const heads = document.getElementById("columns");
    for (const column of COLUMNS) {
      const head = document.createElement("th");
      head.scope = "col";
      head.className = column.number ? "number" : "";
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.title;
      button.addEventListener("click", () => this.#sortBy(column));
      head.append(button);
      heads.append(head);
      this.#heads.push([column, head]);
    }
    this.#mark();
    this.body.addEventListener("pointerover", (event) => to.point(uidOf(event.target)));
    this.body.addEventListener("pointerleave", () => to.point(null));
    this.body.addEventListener("click", (event) => to.choose(uidOf(event.target)));
  }

  draw(model) {
    this.#model = model;
    for (const [uid, row] of this.#rows) {
      if (!model.members.has(uid)) { row.line.remove(); this.#rows.delete(uid); }
    }
    for (const member of model.order) this.#fill(this.#rows.get(member.uid) ?? this.#add(member), member);
    this.#arrange();
  }

  show(uid, chosen) {
    for (const [key, row] of this.#rows) {
      row.line.classList.toggle("shown", key === uid);
      row.button.setAttribute("aria-pressed", String(key === chosen));
    }
  }

  #add(member) {
    const line = document.createElement("tr");
    line.dataset.uid = member.uid;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "choose";
    button.setAttribute("aria-pressed", "false");
    button.style.setProperty("--hue", hue(member.uid).toFixed(0));
    const cells = COLUMNS.map((column, i) => {
      const cell = document.createElement(i ? "td" : "th");
      if (!i) { cell.scope = "row"; cell.append(button); }
      if (column.number) cell.className = "number";
      cell.dataset.field = column.key;
      line.append(cell);
      return cell;
    });
    const row = { line, button, cells, state: "" };
    this.#rows.set(member.uid, row);
    return row;
  }

  #fill(row, member) {
    COLUMNS.forEach((column, i) => {
      const text = column.text(member);
      const cell = i ? row.cells[i] : row.button;
      if (column.key === "state") {
        const state = stateOf(member);
        if (row.state !== state) { row.state = row.line.dataset.state = state; cell.replaceChildren(icon(state), text); }
      } else if (cell.textContent !== text) {
        cell.textContent = text;
      }
    });
  }

  #sortBy(column) {
    const first = column.first ?? -1;
    this.#way = this.#by === column ? -this.#way : first;
    this.#by = column;
    this.#mark();
    this.#arrange();
  }

  #mark() {
    for (const [column, head] of this.#heads) {
      if (column === this.#by) head.setAttribute("aria-sort", this.#way > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
  }

  /** Put the rows in order. What is in its place already is not touched: the focus may be in it. */
  #arrange() {
    if (!this.#model) return;
    const wanted = this.filter.value.trim().toLowerCase();
    const fits = (member) => !wanted || [member.name, stateOf(member), member.uid].some((text) => text.toLowerCase().includes(wanted));
    const found = this.#model.order.filter(fits).sort((a, b) => {
      const one = this.#by.of(a), two = this.#by.of(b);
      const way = typeof one === "string" ? one.localeCompare(two, "en", { numeric: true }) : one - two;
      return way * this.#way || a.position - b.position;
    });
    const lines = found.map((member) => this.#rows.get(member.uid).line);
    const keep = new Set(lines);
    for (const line of [...this.body.children]) if (!keep.has(line)) line.remove();
    lines.forEach((line, i) => { if (this.body.children[i] !== line) this.body.insertBefore(line, this.body.children[i] ?? null); });
    const all = this.#model.order.length;
    this.#said.textContent = wanted ? `${found.length} of ${all} nodes` : "";
  }
}

function uidOf(target) {
  return target.closest("[data-uid]")?.dataset.uid ?? null;
}
