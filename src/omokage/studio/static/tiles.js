// A face as a tile: opened by a click, kept by Enter or its heart, mixed by dropping one on another.

import { h, icon } from "./dom.js";
import { nameOf, textOf, tidy } from "./faces.js";
import { clear, paint, show } from "./pictures.js";
import { studio } from "./state.js";
import { say } from "./words.js";

export const KIND = "application/x-omokage-face";
let carried = null; // the face that is dragged: other windows get the document as text

export function newTile() {
  return h("div", { class: "face", role: "button", tabindex: "-1", draggable: "true" });
}

// Shows a face on a tile: with its spot in a picture that is there already, without one as soon as it is drawn.
export function fill(tile, face, spot = null, label = null) {
  tile.face = face;
  tile.key = spot?.key ?? null;
  tile.name = label ?? (face ? nameOf(face) : "");
  if (spot) paint(tile, spot);
  else clear(tile);
  if (face && !spot) show(tile, face);
  tile.toggleAttribute("data-broken", spot !== null && !spot.finite);
  tile.setAttribute("aria-disabled", String(!face));
  mark(tile);
}

// The name of a tile says whether it is on the board.
export function mark(tile) {
  const pinned = Boolean(tile.face && studio.pinOf(tile.face, tile.key));
  tile.toggleAttribute("data-pinned", pinned);
  tile.toggleAttribute("data-open", Boolean(tile.face && studio.opened && textOf(tidy(tile.face)) === studio.opened));
  const name = tile.face ? tile.name : say("wall.coming");
  const label = pinned ? say("face.kept", { name }) : name;
  if (tile.getAttribute("aria-label") !== label) tile.setAttribute("aria-label", label);
}

export const marks = (container) => container.querySelectorAll(".face").forEach(mark);

// Arrow keys, Home and End over tiles that lie in rows of across: the next one gets the focus, and alone stays
// in the order of the Tab key.
export function moveOver(tiles, tile, key, across) {
  const at = tiles.indexOf(tile);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - across, ArrowDown: at + across, Home: 0, End: tiles.length - 1 }[key];
  if (!tiles[to]) return;
  for (const other of tiles) other.tabIndex = other === tiles[to] ? 0 : -1;
  tiles[to].focus();
}

// What happens with the tiles in a container: open by a click, pin by Enter, heart by the heart, drop(tile, face)
// when a face is let go over a tile, next(tile, key) by arrow keys.
export function tileEvents(part, container, { open = (tile) => studio.open(tile.face, { key: tile.key }), next,
  pin = (tile) => studio.toggle(tile.face, { key: tile.key }), heart = pin, drop = null }) {
  const tileOf = (event) => {
    const tile = event.target.closest?.(".face");
    return tile && container.contains(tile) && tile.face ? tile : null;
  };
  part.listen(container, "click", (event) => {
    const tile = tileOf(event);
    if (tile) open(tile);
  });
  part.listen(container, "keydown", (event) => {
    const tile = event.target.closest?.(".face");
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (key === "Enter" && tile.face) pin(tile);
    else if (key === "o" && tile.face && studio.letters) open(tile);
    else if (key === "m" && tile.face && studio.letters) studio.emit("mix", { a: tile.face });
    else if (key === "v" && tile.face && studio.letters) studio.open(tile.face, { key: tile.key, tab: "vary" });
    else if (/^(Arrow|Home|End|Page)/.test(key) && next) next(tile, key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  part.listen(container, "dragstart", (event) => {
    const tile = tileOf(event);
    if (!tile) return;
    carried = tile.face;
    event.dataTransfer.setData(KIND, JSON.stringify(tile.face));
    event.dataTransfer.effectAllowed = "copyMove";
    document.body.dataset.dragging = "";
  });
  part.listen(container, "dragend", letGo);
  dropTarget(part, container, (face, event) => {
    const tile = tileOf(event);
    if (tile && tile.face !== face) (drop ?? ((onto) => studio.emit("mix", { a: onto.face, b: face })))(tile, face);
  }, ".face");
  hearts(part, container, tileOf, heart);
}

// Calls dropped(face, event) when a face is let go over the element (over such a child of it, if named).
export function dropTarget(part, element, dropped, child = null) {
  const over = (event) => (child ? event.target.closest?.(child) : element);
  part.listen(element, "dragover", (event) => {
    if (!carried || !over(event)) return;
    event.preventDefault();
    over(event).dataset.over = "";
  });
  part.listen(element, "dragleave drop", (event) => {
    if (over(event)) delete over(event).dataset.over;
  });
  part.listen(element, "drop", (event) => {
    if (!carried || !over(event)) return;
    event.preventDefault();
    event.stopPropagation();
    const face = carried;
    letGo(); // the tile may be gone before it hears that the dragging has ended
    dropped(face, event);
  });
}

function letGo() {
  carried = null;
  delete document.body.dataset.dragging;
}

// One heart for all tiles: it sits on the tile under the pointer.
function hearts(part, container, tileOf, pin) {
  let under = null;
  const heart = h("button", { type: "button", class: "heart", tabindex: "-1", hidden: true, on: {
    click: (event) => {
      event.stopPropagation();
      if (under?.face) pin(under);
    },
  } }, icon("heart"));
  const put = () => {
    const kept = Boolean(under.pin) || under.hasAttribute("data-pinned");
    heart.setAttribute("aria-label", say(kept ? "face.let_go" : "face.keep"));
    heart.title = heart.getAttribute("aria-label");
    heart.toggleAttribute("data-on", kept);
  };
  part.listen(container, "pointerover", (event) => {
    const tile = tileOf(event);
    if (event.pointerType !== "mouse" || !tile || tile === under) return;
    under = tile;
    tile.parentElement.append(heart);
    heart.style.left = `${tile.offsetLeft + tile.offsetWidth}px`;
    heart.style.top = `${tile.offsetTop + tile.offsetHeight}px`;
    heart.toggleAttribute("data-small", tile.offsetWidth < 104);
    heart.hidden = false;
    put();
  });
  part.listen(container, "pointerleave", () => {
    heart.hidden = true;
    under = null;
  });
  part.listen(studio, "board", () => under && queueMicrotask(() => under && put()));
}
