// The family tree of the board: from the faces that came by themselves to what was made of them.

import { ask, button, h, svg } from "./dom.js";
import { nameOf, parentsOf, textOf, tidy } from "./faces.js";
import { Sight } from "./sight.js";
import { studio } from "./state.js";
import { fill, newTile } from "./tiles.js";
import { say } from "./words.js";

const SIDE = 84; // px
const [ACROSS, DOWN] = [SIDE + 24, SIDE + 56];
const NAME = 20; // px, under a face

// Faces by generation: [{face, pin, parents: [nodes], generation}], parents before children.
export function family(pins) {
  const nodes = new Map();
  const byId = new Map(pins.map((pin) => [pin.id, pin]));
  const add = (face, pin = null) => {
    const text = textOf(tidy(face));
    const known = nodes.get(text);
    if (known) {
      known.pin ??= pin;
      return known;
    }
    const node = { face: tidy(face), pin, parents: [], generation: 0 };
    nodes.set(text, node);
    const told = pin?.parents?.map((id) => byId.get(id)).filter(Boolean) ?? [];
    const parents = [...parentsOf(node.face).map((parent) => add(parent, studio.pinOf(parent))),
      ...told.map((parent) => add(parent.face, parent))].filter((parent) => parent !== node);
    node.parents = [...new Set(parents)];
    node.generation = Math.max(-1, ...node.parents.map(({ generation }) => generation)) + 1;
    return node;
  };
  for (const pin of pins) add(pin.face, pin);
  return [...nodes.values()];
}

export function treeOf(pins, chosen = (face) => studio.open(face)) {
  const nodes = family(pins);
  const rows = [];
  for (const node of nodes) (rows[node.generation] ??= []).push(node);
  // A child stands under the middle of its parents, as far as there is room.
  for (const row of rows) {
    for (const node of row) {
      const at = node.parents.map(({ x }) => x);
      node.wish = at.length > 0 ? at.reduce((a, b) => a + b, 0) / at.length : null;
    }
    row.sort((a, b) => (a.wish ?? 1e9) - (b.wish ?? 1e9));
    let free = 0;
    for (const node of row) {
      node.x = Math.max(free, node.wish ?? free);
      free = node.x + 1;
    }
  }
  const width = (Math.max(...nodes.map(({ x }) => x)) + 1) * ACROSS;
  const height = rows.length * DOWN;
  for (const node of nodes) Object.assign(node, { x: node.x * ACROSS, y: node.generation * DOWN });
  const middle = ({ x }) => x + ACROSS / 2;
  const line = (parent, { y, ...node }) => {
    const from = parent.y + SIDE + NAME;
    return `M${middle(parent)} ${from}C${middle(parent)} ${(from + y) / 2} ${middle(node)} ${(from + y) / 2} ${middle(node)} ${y}`;
  };
  const lines = svg("svg", { class: "tree-lines", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("path", { d: nodes.flatMap((node) => node.parents.map((parent) => line(parent, node))).join("") }));
  const item = (node) => {
    const tile = newTile();
    tile.draggable = false;
    const name = node.pin?.note || nameOf(node.face);
    const parents = node.parents.map((parent) => parent.pin?.note || nameOf(parent.face));
    fill(tile, node.face, null, parents.length > 0 ? say("tree.made_of", { name, parents: parents.join(", ") }) : name);
    tile.removeAttribute("data-pinned");
    tile.removeAttribute("data-open"); // the ring would be cut off, and mark a parent
    tile.classList.toggle("faded", !node.pin);
    const open = () => chosen(node.face);
    tile.addEventListener("click", open);
    tile.addEventListener("keydown", (event) => {
      if (/^(Arrow|Home|End)/.test(event.key)) move(node, event.key);
      else if (event.key === "Enter" || event.key === " ") open();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return Object.assign(h("li", { class: "tree-node" }, tile, h("span", { "aria-hidden": "true" }, name)), { tile });
  };
  // Up and down lead to a parent or a child, or else to the nearest face in the row there.
  const move = (node, key) => {
    const down = key === "ArrowDown" ? 1 : -1;
    const kin = down > 0 ? nodes.filter((one) => one.parents.includes(node)) : node.parents;
    const there = kin.length > 0 ? kin : rows[node.generation + down] ?? [];
    const nearest = there.reduce((best, one) => (best && Math.abs(best.x - node.x) <= Math.abs(one.x - node.x) ? best : one), null);
    if (!["ArrowUp", "ArrowDown"].includes(key)) sight.move(sight.elements.get(node.id).tile, key);
    else if (nearest) sight.go(ordered.indexOf(nearest));
  };
  const ordered = rows.flat();
  for (const [at, node] of ordered.entries()) node.id = at;
  const list = h("ul", { class: "tree-nodes" });
  const box = h("div", { class: "tree" }, lines, list);
  box.style.width = `${width}px`;
  const scroller = h("div", { class: "scroll", role: "group", "aria-label": say("board.tree") }, box);
  const sight = new Sight(scroller, list, { make: item, place: () => ({ across: 1, width: ACROSS, height: SIDE + NAME, total: height }) });
  sight.show(ordered);
  return scroller;
}

export function showTree() {
  return ask(say("board.tree"), (dialog, close) => {
    dialog.classList.add("wide");
    dialog.append(h("p", { class: "faint" }, say("tree.hint")), treeOf(studio.pins, (face) => {
      close();
      studio.open(face);
    }), h("div", { class: "actions" }, button(say("common.close"), () => close())));
  });
}
