// What is known of one node, or of the whole ring while none is looked at.

import { icon } from "./marks.js";
import { label, number, percent, rate, ROLES, stateOf, STATES, sum } from "./words.js";

const get = (id) => document.getElementById(id);

export class Details {
  #rows = new Map();

  draw(model, uid) {
    const member = model.members.get(uid);
    get("details").classList.toggle("of-node", Boolean(member));
    if (member) this.#member(model, member);
    else this.#ring(model);
  }

  #ring(model) {
    const { totals } = model;
    get("details-title").textContent = "The whole ring";
    get("details-lead").textContent = model.known ? model.verdict().text : "";
    const records = model.order.reduce((total, member) => total + sum(member.records), 0);
    this.#facts(!totals.ring_uid ? [] : [
      ["Ring uid", totals.ring_uid, "uid"],
      ["Copies of everything", number(totals.replication_factor)],
      ["Slots", number(totals.slots)],
      ["Under-replicated", number(totals.slots_under_replicated), totals.slots_under_replicated ? "warn" : ""],
      ["Without a majority", number(totals.slots_without_quorum), totals.slots_without_quorum ? "bad" : ""],
      ["Moving now", number(model.handovers.reduce((all, one) => all + one.slots, 0))],
      ["Widest arc, of a fair one", model.skew ? `${model.skew.toFixed(2)} ×` : "–"],
      ["Records, all copies", number(records)],
      ["Sessions", number(model.sessions)],
    ]);
    this.#roles(null);
    get("details-hint").hidden = false;
  }

  #member(model, member) {
    const state = stateOf(member);
    get("details-title").textContent = label(member, 80);
    const lead = get("details-lead");
    lead.replaceChildren(icon(state), document.createTextNode(`${STATES[state].word}: ${STATES[state].means}`));
    lead.dataset.state = state;
    const names = (uids) => uids.map((uid) => model.name(uid)).join(", ") || "none";
    this.#facts([
      ["Uid", member.uid, "uid"],
      ["Stands at slot", member.position < 0 ? "nowhere yet" : `${number(member.position)} (${percent(member.position_ratio)})`],
      ["Share of the circle", percent(member.arc_share)],
      ["Sessions", number(member.sessions)],
      ["Messages a second", `${rate(member.stored_per_second)} in, ${rate(member.delivered_per_second)} delivered`],
      ["Records a second", rate(member.records_per_second)],
      ["Under-replicated", number(member.slots_under_replicated), member.slots_under_replicated ? "warn" : ""],
      ["Predecessor", member.predecessor ? model.name(member.predecessor) : "unknown"],
      ["Successors", names(member.successors)],
      ["Fingers", names(member.fingers)],
    ]);
    this.#roles(member);
    get("details-hint").hidden = true;
  }

  /** Rows are kept and only their texts change, so that what somebody reads or has marked stays where it is. */
  #facts(facts) {
    const list = get("details-facts");
    const wanted = facts.map(([name]) => name).join();
    if (list.dataset.rows !== wanted) {
      list.dataset.rows = wanted;
      this.#rows.clear();
      list.replaceChildren(...facts.map(([name]) => {
        const row = document.createElement("div");
        const term = document.createElement("dt"), value = document.createElement("dd");
        term.textContent = name;
        row.append(term, value);
        this.#rows.set(name, value);
        return row;
      }));
    }
    for (const [name, text, kind = ""] of facts) {
      const value = this.#rows.get(name);
      if (value.textContent !== text) value.textContent = text;
      value.className = kind;
    }
  }

  #roles(member) {
    const box = get("details-roles");
    box.replaceChildren();
    if (!member) return;
    for (const [title, counts] of [["Slots", member.slots], ["Records", member.records]]) {
      const line = document.createElement("div");
      const name = document.createElement("h3");
      name.textContent = title;
      const bar = document.createElement("div");
      bar.className = "bar";
      bar.setAttribute("aria-hidden", "true");
      const words = document.createElement("p");
      const total = sum(counts);
      for (const role of Object.keys(ROLES)) {
        const part = document.createElement("span");
        part.className = role;
        part.style.flexGrow = String(total ? counts[role] / total : 0);
        if (counts[role]) bar.append(part);
        const word = document.createElement("span");
        word.className = `role ${role}`;
        word.textContent = `${number(counts[role])} ${ROLES[role]}`;
        words.append(word, " ");
      }
      line.append(name, bar, words);
      box.append(line);
    }
  }
}

/** Draw the signs that the picture has just now. */
export function legend(list, model) {
  const present = Object.keys(STATES).filter((state) => state === "ready" || model.order.some((one) => stateOf(one) === state));
  const moving = model.handovers.length > 0;
  const key = `${present} ${moving} ${model.order.length > 0}`;
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.hidden = !model.order.length;
  list.replaceChildren(
    ...present.map((state) => item(icon(state), STATES[state].word, state)),
    item(swatch("successor"), "successors of a node", ""),
    item(swatch("finger"), "its fingers", ""),
    ...(moving ? [item(swatch("handover"), "slots on their way", "")] : []),
  );
}

function item(picture, text, state) {
  const made = document.createElement("li");
  made.dataset.state = state;
  made.append(picture, text);
  return made;
}

function swatch(kind) {
  const made = document.createElement("span");
  made.className = `swatch ${kind}`;
  made.setAttribute("aria-hidden", "true");
  return made;
}

