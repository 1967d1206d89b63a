// Which names fit around the ring. Those that matter most are placed first; one that would cover another is left out.

import { at } from "./geometry.js";
import { label, stateOf } from "./words.js";

const LINE = 15;
const LETTER = { wide: 7.1, narrow: 6.5 };

/** Return the labels that fit: {member, x, y, side, text}. `first` are uids that matter most, the most first. */
export function place(members, first, radius, room, narrow) {
  const letter = narrow ? LETTER.narrow : LETTER.wide;
  const most = Math.max(4, Math.floor(room / letter));
  const rank = (member) => {
    const named = first.indexOf(member.uid);
    return named >= 0 ? named : first.length + (stateOf(member) === "ready" ? 1 : 0);
  };
  const taken = [], found = [];
  for (const member of spread(members).sort((a, b) => rank(a) - rank(b))) {
    const [x, y] = at(member.position_ratio, radius);
    const side = Math.abs(x) < radius * 0.18 ? "middle" : x > 0 ? "start" : "end";
    const text = label(member, side === "middle" ? Math.max(most, narrow ? 8 : 18) : Math.min(most, 18));
    const wide = [...text].length * letter;
    const left = side === "middle" ? x - wide / 2 : side === "start" ? x : x - wide;
    const box = [left - 4, y - LINE / 2, left + wide + 4, y + LINE / 2];
    if (taken.some((one) => box[0] < one[2] && one[0] < box[2] && box[1] < one[3] && one[1] < box[3])) continue;
    taken.push(box);
    found.push({ member, x, y, side, text });
  }
  return found;
}

/** Order members so that any first few of them stand evenly around the ring: every 2^k-th before the rest. */
function spread(members) {
  const found = [], seen = new Set();
  for (let step = 2 ** Math.ceil(Math.log2(Math.max(members.length, 1))); step >= 1; step /= 2) {
    for (let i = 0; i < members.length; i += step) {
      if (!seen.has(i)) { seen.add(i); found.push(members[i]); }
    }
  }
  return found;
}
