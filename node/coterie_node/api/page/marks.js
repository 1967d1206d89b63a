// A sign for each state, so that no state is told by its colour alone. Drawn in a square from -1 to 1.

const SVG = "http://www.w3.org/2000/svg";

const SIGNS = {
  ready: { fill: "M-.62 0a.62.62 0 1 0 1.24 0a.62.62 0 1 0-1.24 0" },
  syncing: { line: "M-.7 0a.7.7 0 1 0 1.4 0a.7.7 0 1 0-1.4 0", fill: "M0-.7a.7.7 0 0 1 0 1.4z" },
  joining: { line: "M-.66 0a.66.66 0 1 0 1.32 0a.66.66 0 1 0-1.32 0" },
  forming: { line: "M-.66-.66h1.32v1.32h-1.32z" },
  leaving: { fill: "M-.75-.6h1.5l-.75 1.35z" },
  left: { line: "M0-.85l.85.85l-.85.85l-.85-.85z" },
  unreachable: { line: "M-.68-.68l1.36 1.36M.68-.68l-1.36 1.36" },
};

export function svg(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Return a group that shows a state's sign; `sign(group, state)` changes it. */
export function mark() {
  const group = svg("g", { class: "mark" });
  group.append(svg("path", { class: "mark-fill" }), svg("path", { class: "mark-line" }));
  return group;
}

export function sign(group, state) {
  if (group.dataset.state === state) return;
  group.dataset.state = state;
  group.children[0].setAttribute("d", SIGNS[state].fill ?? "");
  group.children[1].setAttribute("d", SIGNS[state].line ?? "");
}

/** A small picture of a state's sign for text: it stands beside its word, so it says nothing itself. */
export function icon(state) {
  const box = svg("svg", { class: "icon", viewBox: "-1.1 -1.1 2.2 2.2", "aria-hidden": "true", focusable: "false" });
  const group = mark();
  sign(group, state);
  box.append(group);
  return box;
}
