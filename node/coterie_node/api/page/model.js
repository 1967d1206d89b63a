// The ring as the stream has told it so far, and what has happened from one telling to the next.

import { label, plural, stateOf, STATES } from "./words.js";

const EMPTY = {
  at: "", ring_uid: "", replication_factor: 0, slots: 0,
  slots_under_replicated: 0, slots_unowned: 0, slots_forming: 0, slots_without_quorum: 0,
  seat: { uid: "", name: "", version: "", state: "joining", reasons: [] },
};

export class Model {
  constructor() {
    this.totals = { ...EMPTY };
    this.members = new Map();
    this.order = [];
    this.known = false;
  }

  /** Take everything anew; returns what is different from before, none the first time. */
  begin(snapshot) {
    const { members, ...totals } = snapshot;
    const before = this.members;
    this.totals = { ...EMPTY, ...totals };
    this.members = new Map(members.map((member) => [member.uid, member]));
    const first = !this.known;
    this.known = true;
    this.#sort();
    return first ? [] : happenings(before, this.members);
  }

  /** Take what has changed. */
  apply(change) {
    const { members = [], gone = [], ...totals } = change;
    const before = new Map(this.members);
    Object.assign(this.totals, totals);
    for (const member of members) this.members.set(member.uid, member);
    for (const uid of gone) this.members.delete(uid);
    this.#sort();
    return happenings(before, this.members);
  }

  name(uid) {
    const member = this.members.get(uid);
    return member ? label(member, 40) : uid.slice(0, 8);
  }

  get handovers() {
    return this.order.flatMap((member) => member.handovers).filter(
      (one) => this.members.has(one.giver) && this.members.has(one.taker));
  }

  get ready() {
    return this.order.filter((member) => member.state === "ready").length;
  }

  get sessions() {
    return this.order.reduce((total, member) => total + member.sessions, 0);
  }

  /** How much wider than fair the widest arc is; 1 is even. */
  get skew() {
    const shares = this.order.map((member) => member.arc_share).filter((share) => share > 0);
    return shares.length ? Math.max(...shares) * shares.length : 0;
  }

  /** One word and one sentence for how the ring is. */
  verdict() {
    const { slots_under_replicated: under, slots_without_quorum: lost, slots_forming: forming, seat } = this.totals;
    const copies = this.totals.replication_factor;
    const moving = this.handovers.reduce((total, one) => total + one.slots, 0);
    if (!this.totals.ring_uid) return { word: "Waiting", tone: "wait", text: sentence(seat.reasons.join("; ") || "this node is in no ring yet") };
    if (lost) return { word: "Unavailable", tone: "bad", text: `${plural(lost, "slot")} ${lost === 1 ? "has" : "have"} no majority: no account there can be used.${this.#missing()}` };
    if (forming) return { word: "Forming", tone: "wait", text: `${plural(forming, "slot")} ${forming === 1 ? "waits" : "wait"} for more nodes.` };
    if (moving) return { word: "Moving", tone: "wait", text: `${plural(moving, "slot")} ${moving === 1 ? "is" : "are"} handed over.` };
    if (under) return { word: "Healing", tone: "wait", text: `${plural(under, "slot")} ${under === 1 ? "has" : "have"} fewer than ${plural(copies, "good copy", "good copies")}.` };
    return { word: "Whole", tone: "good", text: copies === 1 ? "Every slot has its one copy." : `Every slot has its ${copies} copies.` };
  }

  #missing() {
    const away = this.order.filter((member) => member.state === "unreachable").map((member) => label(member, 40));
    const more = away.length > 5 ? ` and ${away.length - 5} more` : "";
    return away.length ? ` Bring back ${away.slice(0, 5).join(", ")}${more}.` : "";
  }

  #sort() {
    this.order = [...this.members.values()].sort(
      (a, b) => a.position - b.position || (a.uid < b.uid ? -1 : 1));
  }
}

const sentence = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;

function happenings(before, now) {
  const found = [];
  for (const [uid, member] of now) {
    const old = before.get(uid);
    const name = label(member, 40);
    if (!old) found.push({ uid, state: stateOf(member), text: `${name} is in the ring: ${STATES[stateOf(member)].word}` });
    else if (old.state !== member.state) found.push({ uid, state: stateOf(member), text: `${name} is ${STATES[stateOf(member)].word}` });
    else if (old.position !== member.position) found.push({ uid, state: stateOf(member), text: `${name} has moved to slot ${member.position}` });
  }
  for (const [uid, member] of before) {
    if (!now.has(uid)) found.push({ uid, state: "left", text: `${label(member, 40)} has left the ring` });
  }
  return found;
}
