// The circle as shapes. A position is a part of the whole in [0, 1): 0 is at the top, and it grows clockwise.

const TURN = 2 * Math.PI;

export function at(position, radius) {
  const angle = position * TURN - Math.PI / 2;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

const xy = (position, radius) => at(position, radius).map((value) => value.toFixed(2)).join(" ");

/** How far two positions are apart, the shorter way: 0 to 0.5. */
export function apart(a, b) {
  const far = Math.abs(a - b) % 1;
  return Math.min(far, 1 - far);
}

/** An arc from one position on for a share of the circle, `gap` pixels short of its ends where there is room. */
export function arc(start, share, radius, gap) {
  if (share >= 0.9999) {
    return `M${xy(0, radius)}A${radius} ${radius} 0 1 1 ${xy(0.5, radius)}A${radius} ${radius} 0 1 1 ${xy(0, radius)}`;
  }
  const cut = Math.min(gap / (TURN * radius), share * 0.2);
  const from = start + cut / 2, to = start + share - cut / 2;
  return `M${xy(from, radius)}A${radius.toFixed(2)} ${radius.toFixed(2)} 0 ${to - from > 0.5 ? 1 : 0} 1 ${xy(to, radius)}`;
}

/** A curve inside of the circle between two positions. It keeps out of the middle, where the words are. */
export function chord(a, b, radius) {
  const far = apart(a, b);
  const straight = radius * Math.cos(Math.PI * far);
  const middle = Math.max(radius * 0.64, straight - radius * Math.min(0.07, far * 0.7));
  const forward = ((b - a) % 1 + 1) % 1 <= 0.5;
  const between = a + (forward ? far : -far) / 2;
  // Two control points reach what one could not without a kink: a bend that stays at the middle's distance.
  const reach = (4 * middle - straight) / 3;
  const side = far * 0.42;
  const one = xy(between - (forward ? side : -side) / 2, reach), two = xy(between + (forward ? side : -side) / 2, reach);
  return `M${xy(a, radius)}C${one} ${two} ${xy(b, radius)}`;
}

/** Move a position towards another, the shorter way. */
export function towards(from, to, part) {
  let far = ((to - from) % 1 + 1) % 1;
  if (far > 0.5) far -= 1;
  return from + far * part;
}
