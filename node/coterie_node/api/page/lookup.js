// A lookup that one can type, and watch as it goes from node to node.

import { duration, label, number, percent } from "./words.js";

const PACE = 700; // Milliseconds a hop is looked at; the real ones take well under one.
const get = (id) => document.getElementById(id);

export class Lookup {
  #turn = 0; #timer = 0;

  constructor(ring, model) {
    this.ring = ring;
    this.model = model;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    get("lookup-form").addEventListener("submit", (event) => { event.preventDefault(); this.#ask(); });
    get("lookup-kind").addEventListener("change", () => this.#kind());
  }

  /** Forget what was looked up. */
  clear() {
    this.#turn++;
    clearTimeout(this.#timer);
    this.ring.follow(null);
    get("lookup-hops").replaceChildren();
    get("lookup-said").textContent = "The way through the ring is shown, hop by hop. Whether a name is taken is not asked.";
  }

  #kind() {
    get("lookup-label").textContent = get("lookup-kind").value === "name" ? "User name" : "Slot, or 40 digits";
  }

  async #ask() {
    this.clear();
    const turn = this.#turn;
    const query = new URLSearchParams({ [get("lookup-kind").value]: get("lookup-word").value.trim() });
    get("lookup-said").textContent = "Asking …";
    let found;
    try {
      const answer = await fetch(`api/v1/lookup?${query}`, { cache: "no-store" });
      found = await answer.json();
      if (!answer.ok) throw new Error(typeof found.detail === "string" ? found.detail : "the node refused");
    } catch (error) {
      if (turn === this.#turn) get("lookup-said").textContent = `It could not be looked up: ${error.message}`;
      return;
    }
    if (turn === this.#turn) this.#walk(found, turn);
  }

  #walk(found, turn) {
    const steps = this.#steps(found);
    const show = (count) => {
      if (turn !== this.#turn) return;
      const { words, uid, stop } = steps[count - 1];
      const stops = steps.slice(0, count).map((step) => step.stop).filter(Boolean);
      const line = document.createElement("li");
      line.textContent = words;
      line.dataset.uid = uid;
      line.dataset.number = String(stops.length - 1);
      line.className = stop && !stop.answered ? "silent" : "";
      get("lookup-hops").append(line);
      this.ring.follow({ stops, target: found.position_ratio });
      if (count === steps.length) this.#said(found);
      else if (!this.still.matches) this.#timer = setTimeout(show, PACE, count + 1);
    };
    if (this.still.matches) for (let count = 1; count <= steps.length; count++) show(count);
    else show(1);
  }

  /** Return the way in words, each with where it leads; who is the owner may have been asked already. */
  #steps(found) {
    const slots = this.model.totals.slots || 1;
    const here = this.model.members.get(found.start);
    const start = { position_ratio: here?.position_ratio ?? 0, answered: true };
    const steps = [{ words: `${this.model.name(found.start)} looks at its own pointers`, uid: found.start, stop: start }];
    for (const hop of found.hops) {
      const name = label(hop, 40);
      const words = hop.answered ? `asks ${name}: answered in ${duration(hop.rtt_seconds)}` : `asks ${name}: no answer, goes round it`;
      steps.push({ words, uid: hop.uid, stop: { position_ratio: hop.position / slots, answered: hop.answered } });
    }
    const owner = this.model.members.get(found.owner);
    if (found.owner !== null) {
      const last = found.hops.at(-1)?.uid ?? found.start;
      const stop = owner && found.owner !== last ? { position_ratio: owner.position_ratio, answered: true } : null;
      steps.push({ words: `The owner is ${this.model.name(found.owner)}`, uid: found.owner, stop });
    }
    return steps;
  }

  #said(found) {
    const where = `Slot ${number(found.slot)}, at ${percent(found.position_ratio)} of the circle`;
    if (found.owner === null) {
      get("lookup-said").textContent = `${where}: nobody could tell who owns it in time. The ring may be healing; try again.`;
      return;
    }
    const holders = found.holders.map((uid) => this.model.name(uid)).join(", ");
    const hops = ["No other node had to be asked", "One node was asked"][found.hops.length] ?? `${found.hops.length} nodes were asked`;
    get("lookup-said").textContent = `${where}. ${hops}.${holders ? ` Its copies are on ${holders}.` : ""}`;
  }
}
