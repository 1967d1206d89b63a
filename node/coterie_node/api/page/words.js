// How numbers, states and names are written. Pure functions: nothing here knows the document.

export const STATES = {
  ready: { word: "ready", means: "serves its users" },
  syncing: { word: "syncing", means: "compares its records after a start" },
  joining: { word: "joining", means: "is finding its place" },
  forming: { word: "forming", means: "waits until the ring has enough nodes" },
  leaving: { word: "leaving", means: "hands its slots over to others" },
  left: { word: "left", means: "holds nothing any more" },
  unreachable: { word: "unreachable", means: "does not answer" },
};

/** What another node says may be any text: an unknown state is shown as unreachable would be, by its own word. */
export function stateOf(member) {
  return Object.hasOwn(STATES, member.state) ? member.state : "unreachable";
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const number = (value) => whole.format(value);
export const percent = (ratio) => `${tenth.format(ratio * 100)} %`;
export const rate = (value) => (Math.abs(value) >= 100 || !value ? whole : tenth).format(value);
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

export function duration(seconds) {
  if (seconds < 0.001) return `${whole.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${tenth.format(seconds * 1000)} ms`;
  return `${tenth.format(seconds)} s`;
}

export function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString("en-GB");
}

const UNSEEN = /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu; // They would turn the words around them.

/** A name as a label: names may be long, or nothing. What tells nodes of one ring apart is mostly the end of a name. */
export function label(member, most = 18) {
  const name = [...(member.name.replace(UNSEEN, "") || member.uid.slice(0, 8))];
  return name.length > most ? `…${name.slice(name.length - most + 1).join("")}` : name.join("");
}

/** A colour of its own for each node: cool hues are for nodes that are well, warm ones for what needs a look. */
export function hue(uid) {
  let hash = 2166136261;
  for (let i = 0; i < uid.length; i++) hash = Math.imul(hash ^ uid.charCodeAt(i), 16777619);
  return 165 + ((hash >>> 0) % 1000) / 1000 * 145;
}

export function sum(counts) {
  return counts.users + counts.backups + counts.held;
}

export const ROLES = { users: "as owner", backups: "as replica", held: "for others" };
