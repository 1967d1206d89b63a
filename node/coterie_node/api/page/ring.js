// The picture: arcs in proportion, a bead at each node's true position, and what a node points to as chords.

import { arc, at, chord, towards } from "./geometry.js";
import { place } from "./labels.js";
import { mark, sign, svg } from "./marks.js";
import { hue, label, percent, plural, stateOf, STATES } from "./words.js";

const GLIDE = 450;
const MANY = 80;
const SOME = 24;

export class Ring {
  #box; #layers = {}; #nodes = new Map(); #model = null; #shown = null; #path = null; #size = 0; #frame = 0;
  #focus = null; #chosen = null;

  /** `to` has point(uid or null), when a node is pointed at or reached by keyboard, and choose(uid or null). */
  constructor(box, picture, to) {
    this.#box = box;
    this.to = to;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    for (const name of ["scale", "bands", "moving", "chords", "nodes", "crowns", "labels", "path"]) {
      this.#layers[name] = svg("g", { class: name });
      if (name !== "nodes") this.#layers[name].setAttribute("aria-hidden", "true");
      box.append(this.#layers[name]);
    }
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("pointerover", (event) => to.point(uidOf(event.target)));
    box.addEventListener("pointerleave", () => to.point(null));
    box.addEventListener("click", (event) => to.choose(uidOf(event.target)));
    // Not on the box: Chromium takes an <svg> that listens to the focus for a stop of Tab.
    picture.addEventListener("focusin", (event) => this.#reached(uidOf(event.target)));
    picture.addEventListener("focusout", () => to.point(null));
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect.width)).observe(picture);
  }

  draw(model) {
    this.#model = model;
    if (this.#size) this.#draw(true);
  }

  /** Show what one node points to; `chosen` stays lit while something else is looked at. */
  show(uid, chosen) {
    this.#shown = uid;
    this.#chosen = chosen;
    for (const [key, node] of this.#nodes) {
      for (const part of [node.group, node.arc]) part.classList.toggle("shown", key === uid);
      node.group.classList.toggle("chosen", key === chosen);
      node.group.setAttribute("aria-pressed", String(key === chosen));
    }
    this.#box.classList.toggle("looking", uid !== null);
    this.#drawChords();
    this.#drawCrowns();
    this.#drawLabels();
  }

  /** Draw the way of a lookup so far: positions in order, and the slot that is looked for. */
  follow(path) {
    const further = path !== null && path.stops.length > (this.#path?.stops.length ?? 0);
    this.#path = path;
    this.#drawPath(further);
  }

  // --- geometry ---

  get #radius() { return this.#size / 2 - this.#margin; }
  get #margin() { return this.#size < 480 ? 66 : 96; }
  get #band() { return this.#size < 480 ? 14 : 22; }
  get #bead() {
    const count = this.#model.order.length;
    return (count <= SOME ? 9 : 6) * (this.#size < 480 ? 0.85 : 1);
  }

  #resize(width) {
    const size = Math.round(Math.min(width, 760));
    if (size === this.#size || size < 100) return;
    this.#size = size;
    this.#box.setAttribute("viewBox", `${-size / 2} ${-size / 2} ${size} ${size}`);
    this.#box.setAttribute("width", size);
    this.#box.setAttribute("height", size);
    this.#box.parentElement.style.setProperty("--hole", `${Math.round(this.#radius * 1.02)}px`);
    if (this.#model) this.#draw(false);
  }

  #draw(glide) {
    this.#drawScale();
    this.#drawNodes(glide && !this.still.matches);
    this.#drawMoving();
    this.show(this.#model.members.has(this.#shown) ? this.#shown : null, this.#model.members.has(this.#chosen) ? this.#chosen : null);
    this.#drawPath();
  }

  #drawScale() {
    const slots = this.#model.totals.slots, radius = this.#radius - this.#band / 2;
    const key = `${slots} ${this.#size}`;
    if (this.#layers.scale.dataset.key === key) return;
    this.#layers.scale.dataset.key = key;
    this.#layers.scale.replaceChildren();
    this.#layers.scale.append(svg("circle", { class: "track", r: this.#radius, "stroke-width": this.#band }));
    if (!slots) return;
    for (let i = 0; i < 64; i++) {
      const long = i % 16 === 0;
      const [x1, y1] = at(i / 64, radius - 5), [x2, y2] = at(i / 64, radius - (long ? 12 : i % 4 === 0 ? 9 : 7));
      this.#layers.scale.append(svg("line", { class: long ? "tick long" : "tick", x1, y1, x2, y2 }));
      if (long && this.#size >= 420) {
        const [x, y] = at(i / 64, radius - 24);
        const text = svg("text", { class: "tick-text", x, y });
        text.textContent = String(Math.round(i / 64 * slots));
        this.#layers.scale.append(text);
      }
    }
  }

  // --- nodes ---

  #drawNodes(glide) {
    const { order, members, totals } = this.#model;
    for (const [uid, node] of this.#nodes) {
      if (!members.has(uid)) { node.group.remove(); node.arc.remove(); this.#nodes.delete(uid); }
    }
    this.#box.classList.toggle("dense", order.length > MANY);
    for (const member of order) {
      const node = this.#nodes.get(member.uid) ?? this.#add(member);
      const state = stateOf(member);
      node.group.dataset.state = node.arc.dataset.state = state;
      node.group.classList.toggle("seat", member.uid === totals.seat.uid);
      node.group.setAttribute("aria-label", spoken(member, totals));
      sign(node.mark, state);
      node.group.dataset.ratio = String(member.position_ratio);
      node.to = { position: member.position_ratio, share: member.arc_share };
      node.hidden = member.position < 0;
      node.group.classList.toggle("placeless", node.hidden);
      node.arc.classList.toggle("placeless", node.hidden);
    }
    if (!this.#inOrder(order)) {
      const focused = uidOf(this.#box.querySelector(":focus"));
      this.#layers.nodes.append(...order.map((member) => this.#nodes.get(member.uid).group));
      if (focused) this.#nodes.get(focused)?.group.focus({ preventScroll: true }); // It was lost by the moving.
    }
    if (!members.has(this.#focus)) this.#tabStop(order.find((one) => one.uid === totals.seat.uid)?.uid ?? order[0]?.uid);
    if (glide) this.#glide();
    else for (const node of this.#nodes.values()) this.#put(node, node.to);
  }

  /** The order in the document is that around the ring, for those who read it; moved only when it must be. */
  #inOrder(order) {
    const groups = this.#layers.nodes.children;
    return groups.length === order.length && order.every((member, i) => groups[i].dataset.uid === member.uid);
  }

  #add(member) {
    const group = svg("g", { class: "node", role: "button", tabindex: "-1", "data-uid": member.uid });
    const arcs = svg("g", { class: "arc", "data-uid": member.uid });
    for (const part of [group, arcs]) part.style.setProperty("--hue", hue(member.uid).toFixed(0));
    const node = {
      group, arc: arcs, reach: svg("path", { class: "reach" }), band: svg("path", { class: "band" }),
      bead: svg("g", { class: "bead" }), rim: svg("circle", { class: "rim", r: 1.28 }), mark: mark(), dot: svg("circle", { class: "speck", r: 0.42 }),
      now: { position: member.position_ratio, share: 0 }, to: null, hidden: false, crown: null,
    };
    node.bead.append(node.rim, node.mark, node.dot);
    arcs.append(node.reach, node.band);
    group.append(node.bead);
    this.#nodes.set(member.uid, node);
    this.#layers.nodes.append(group);
    this.#layers.bands.append(arcs);
    return node;
  }

  #put(node, where) {
    node.now = where;
    const { position, share } = where;
    const many = this.#nodes.size > MANY;
    const [x, y] = at(position, this.#radius);
    const path = share > 0 ? arc(position - share, share, this.#radius, many ? 0.8 : 3) : "";
    node.band.setAttribute("d", path);
    node.reach.setAttribute("d", path);
    node.band.setAttribute("stroke-width", this.#band);
    node.reach.setAttribute("stroke-width", this.#band + 26);
    const turn = node.group.dataset.state === "leaving" ? ` rotate(${(position * 360 - 180).toFixed(1)})` : "";
    const place = `translate(${x.toFixed(2)} ${y.toFixed(2)})${turn} scale(${this.#bead})`;
    node.bead.setAttribute("transform", place);
    node.dot.setAttribute("r", (Math.min(0.42, Math.PI * this.#radius / 2 / this.#nodes.size / this.#bead)).toFixed(2));
    node.crown?.setAttribute("transform", place);
  }

  #glide() {
    cancelAnimationFrame(this.#frame);
    const from = new Map([...this.#nodes].map(([uid, node]) => [uid, node.now]));
    const moved = [...this.#nodes].filter(([uid, { to }]) => {
      const was = from.get(uid);
      return was.position !== to.position || was.share !== to.share;
    });
    for (const [uid, node] of this.#nodes) if (!moved.some(([one]) => one === uid)) this.#put(node, node.to);
    if (!moved.length) return;
    const began = performance.now();
    const step = (time) => {
      const part = Math.min(1, Math.max(0, (time - began) / GLIDE));
      const eased = 1 - (1 - part) ** 3;
      for (const [uid, node] of moved) {
        const was = from.get(uid);
        this.#put(node, part === 1 ? node.to : {
          position: towards(was.position, node.to.position, eased),
          share: was.share + (node.to.share - was.share) * eased,
        });
      }
      if (part < 1) this.#frame = requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }

  /** Beads that one looks for are drawn once more, above all others: in the document they stand in the ring's order. */
  #drawCrowns() {
    const layer = this.#layers.crowns;
    for (const node of this.#nodes.values()) node.crown = null;
    const wanted = new Set([this.#model.totals.seat.uid, this.#chosen, this.#shown, this.focused]);
    layer.replaceChildren(...[...wanted].map((uid) => this.#nodes.get(uid)).filter((node) => node && !node.hidden).map((node) => {
      const group = svg("g", { class: node.group.getAttribute("class") });
      group.classList.add("crown");
      group.classList.toggle("focused", node.group.matches(":focus-visible"));
      group.dataset.state = node.group.dataset.state;
      group.style.setProperty("--hue", node.group.style.getPropertyValue("--hue"));
      node.crown = node.bead.cloneNode(true);
      group.append(node.crown);
      return group;
    }));
  }

  #drawLabels() {
    const { order, totals } = this.#model;
    const first = [this.#shown, totals.seat.uid];
    const gap = this.#band / 2 + this.#bead + 6;
    const labels = place(order.filter((one) => one.position >= 0), first, this.#radius + gap, this.#margin - gap - 2, this.#size < 480);
    this.#layers.labels.replaceChildren(...labels.map(({ member, x, y, side, text }) => {
      const made = svg("text", { class: "label", x: x.toFixed(1), y: y.toFixed(1), "text-anchor": side, "data-uid": member.uid });
      made.classList.toggle("seat", member.uid === totals.seat.uid);
      made.classList.toggle("shown", member.uid === this.#shown);
      made.dataset.state = stateOf(member);
      made.textContent = text;
      return made;
    }));
  }

  // --- what points where ---

  get #inner() { return this.#radius - this.#band / 2 - 1; }

  #line(layer, a, b, classes) {
    const line = svg("path", { class: classes, d: chord(a.position_ratio, b.position_ratio, this.#inner) });
    layer.append(line);
    return line;
  }

  #drawChords() {
    const layer = this.#layers.chords;
    layer.replaceChildren();
    const { members } = this.#model;
    const member = members.get(this.#shown);
    if (!member) return;
    const near = new Set(member.successors);
    for (const uid of member.fingers) {
      if (members.has(uid) && !near.has(uid)) this.#line(layer, member, members.get(uid), "finger");
    }
    member.successors.forEach((uid, rank) => {
      if (members.has(uid)) this.#line(layer, member, members.get(uid), rank ? "successor" : "successor first");
    });
    for (const uid of [...near, ...member.fingers]) {
      if (!members.has(uid)) continue;
      const [cx, cy] = at(members.get(uid).position_ratio, this.#inner);
      layer.append(svg("circle", { class: near.has(uid) ? "end near" : "end", cx, cy, r: 3.2 }));
    }
  }

  #drawMoving() {
    const layer = this.#layers.moving;
    const { members, handovers } = this.#model;
    const key = JSON.stringify([handovers, this.#size, handovers.map((one) => members.get(one.taker).position_ratio)]);
    if (layer.dataset.key === key) return;
    layer.dataset.key = key;
    layer.replaceChildren();
    for (const one of handovers) {
      const line = this.#line(layer, members.get(one.giver), members.get(one.taker), "handover");
      line.style.setProperty("--wide", `${Math.min(6, 1.5 + Math.log2(one.slots))}px`);
    }
  }

  #drawPath(fresh = false) {
    const layer = this.#layers.path;
    layer.replaceChildren();
    this.#box.classList.toggle("following", this.#path !== null);
    if (!this.#path) return;
    const { stops, target } = this.#path;
    const spots = [], size = this.#size < 480 ? 8 : 10;
    for (let i = 1; i < stops.length; i++) {
      const line = this.#line(layer, stops[i - 1], stops[i], stops[i].answered ? "hop" : "hop silent");
      if (fresh && i === stops.length - 1 && !this.still.matches) {
        line.setAttribute("pathLength", "1");
        line.classList.add("fresh");
      }
    }
    stops.forEach((stop, i) => {
      let depth = this.#inner - size - 2;
      let [x, y] = at(stop.position_ratio, depth);
      while (depth > this.#inner / 2 && spots.some(([a, b]) => Math.hypot(a - x, b - y) < 2 * size + 2)) {
        depth -= size;
        [x, y] = at(stop.position_ratio, depth);
      }
      spots.push([x, y]);
      const text = svg("text", { class: "hop-number", x, y });
      text.textContent = String(i);
      layer.append(svg("circle", { class: "hop-spot", cx: x, cy: y, r: size }), text);
    });
    const [x1, y1] = at(target, this.#radius + this.#band / 2 + 2), [x2, y2] = at(target, this.#radius - this.#band / 2 - 2);
    layer.append(svg("line", { class: "target", x1, y1, x2, y2 }));
  }

  // --- by keyboard ---

  /** The node that the keyboard is at, null when it is elsewhere; one that was clicked has the focus, but not for long. */
  get focused() {
    return uidOf(this.#box.querySelector(":focus-visible"));
  }

  #reached(uid) {
    if (uid === null) return;
    this.#tabStop(uid);
    this.to.point(uid);
  }

  #tabStop(uid) {
    if (uid === undefined) return;
    this.#nodes.get(this.#focus)?.group.setAttribute("tabindex", "-1");
    this.#nodes.get(uid)?.group.setAttribute("tabindex", "0");
    this.#focus = uid;
  }

  #key(event) {
    const order = this.#model?.order ?? [];
    const uid = uidOf(event.target);
    const here = order.findIndex((member) => member.uid === uid);
    if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = order.length - 1;
    const next = {
      ArrowRight: (here + 1) % order.length, ArrowDown: (here + 1) % order.length,
      ArrowLeft: (here + last) % order.length, ArrowUp: (here + last) % order.length,
      Home: 0, End: last,
    }[event.key];
    if (next !== undefined) this.#nodes.get(order[next].uid).group.focus();
    else if (event.key === "Enter" || event.key === " ") this.to.choose(uid);
    else return;
    event.preventDefault();
  }
}

function uidOf(target) {
  return target?.closest("[data-uid]")?.dataset.uid ?? null;
}

function spoken(member, totals) {
  const here = member.uid === totals.seat.uid ? ", this page's node" : "";
  return `${label(member, 60)}, ${STATES[stateOf(member)].word}${here}, slot ${member.position}, `
    + `${percent(member.arc_share)} of the circle, owner of ${plural(member.slots.users, "slot")}`;
}
