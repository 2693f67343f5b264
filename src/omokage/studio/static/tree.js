// The family tree of the board: from the faces that came by themselves to what was made of them.

import { ask, button, h, svg } from "./dom.js";
import { nameOf, parentsOf, textOf, tidy } from "./faces.js";
import { studio } from "./state.js";
import { fill, newTile } from "./tiles.js";
import { say } from "./words.js";

const SIDE = 84; // px
const [ACROSS, DOWN] = [SIDE + 24, SIDE + 56];
const NAME = 20; // px, under a face
const MOST = 120; // faces shown

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
    if (nodes.size >= MOST) return null;
    const node = { face: tidy(face), pin, parents: [], generation: 0 };
    nodes.set(text, node);
    const told = pin?.parents?.map((id) => byId.get(id)).filter(Boolean) ?? [];
    const parents = [...parentsOf(node.face).map((parent) => add(parent, studio.pinOf(parent))),
      ...told.map((parent) => add(parent.face, parent))].filter((parent) => parent && parent !== node);
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
  const place = (node) => [node.x * ACROSS + ACROSS / 2, node.generation * DOWN];
  const lines = svg("svg", { class: "tree-lines", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    nodes.flatMap((node) => node.parents.map((parent) => {
      const [[x0, y0], [x1, y1]] = [place(parent), place(node)];
      const from = y0 + SIDE + NAME;
      return svg("path", { d: `M${x0} ${from}C${x0} ${(from + y1) / 2} ${x1} ${(from + y1) / 2} ${x1} ${y1}` });
    })));
  const box = h("div", { class: "tree" }, lines, nodes.map((node) => {
    const tile = newTile();
    tile.draggable = false;
    tile.tabIndex = 0;
    const name = node.pin?.note || nameOf(node.face);
    const parents = node.parents.map((parent) => parent.pin?.note || nameOf(parent.face));
    fill(tile, node.face, null, parents.length > 0 ? say("tree.made_of", { name, parents: parents.join(", ") }) : name);
    tile.removeAttribute("data-pinned");
    tile.removeAttribute("data-open"); // the ring would be cut off, and mark a parent
    tile.classList.toggle("faded", !node.pin);
    const open = () => chosen(node.face);
    tile.addEventListener("click", open);
    tile.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      open();
    });
    const item = h("div", { class: "tree-node" }, tile, h("span", { "aria-hidden": "true" }, name));
    const [x, y] = place(node);
    item.style.transform = `translate(${x - ACROSS / 2}px, ${y}px)`;
    return item;
  }));
  box.style.width = `${width}px`;
  box.style.height = `${height}px`;
  return box;
}

export function showTree() {
  return ask(say("board.tree"), (dialog, close) => {
    dialog.classList.add("wide");
    dialog.append(h("p", { class: "faint" }, say("tree.hint")),
      h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("board.tree") }, treeOf(studio.pins, (face) => {
        close();
        studio.open(face);
      })),
      h("div", { class: "actions" }, button(say("common.close"), () => close())));
  });
}
