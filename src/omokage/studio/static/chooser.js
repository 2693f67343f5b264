// Choosing a second face without dragging: from the board, from fresh ones, or by its seed.

import { ask, button, h, random } from "./dom.js";
import { nameOf } from "./faces.js";
import { Sight, inRows } from "./sight.js";
import { studio } from "./state.js";
import { dropTarget, fill, newTile } from "./tiles.js";
import { say } from "./words.js";

const FRESH = 10;
const [LEAST, GAP] = [92, 8]; // px: width of a face of the board, and between two

// Resolves to a face, or to null.
export function chooseFace(title, id = studio.model.id) {
  const model = studio.models.find((one) => one.id === id) ?? studio.model;
  return ask(title, (dialog, close) => {
    const pick = (face) => {
      const tile = newTile();
      tile.draggable = false;
      tile.tabIndex = 0;
      fill(tile, face, null, nameOf(face));
      tile.addEventListener("click", () => close(face));
      tile.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        close(face);
      });
      return tile;
    };
    const fresh = h("div", { class: "faces" });
    const more = () => {
      const start = random(2 ** 31);
      fresh.replaceChildren(...Array.from({ length: FRESH }, (_, at) => pick(studio.seed(start + at, model))));
    };
    more();
    const pins = studio.pins.filter(({ face }) => face.model === model.id);
    const list = h("ul", { class: "pins" });
    const scroller = h("div", { class: "pins-scroll" }, list);
    const sight = new Sight(scroller, list, {
      make: ({ face }) => {
        const tile = pick(face);
        tile.addEventListener("keydown", (event) => /^(Arrow|Home|End)/.test(event.key) && (event.preventDefault(), sight.move(tile, event.key)));
        return Object.assign(h("li", { class: "pin" }, tile), { tile });
      },
      place: (things, width, height) => inRows(things, width, height, { across: Math.max(1, Math.floor((width + GAP) / (LEAST + GAP))), gap: GAP }),
    });
    sight.show(pins.map(({ id: name, face }) => ({ id: name, face })));
    const seed = h("input", { type: "text", class: "text short", inputmode: "numeric", pattern: "[0-9]{1,15}", required: true,
      placeholder: "17", "aria-label": say("choose.seed") });
    dialog.classList.add("chooser");
    dialog.append(
      pins.length > 0 ? h("section", {}, h("h3", {}, say("choose.board")), scroller) : "",
      h("section", {}, h("h3", {}, say("choose.fresh"), button(say("choose.more"), more, { class: "button small" })), fresh),
      h("form", { class: "line", on: { submit: (event) => {
        event.preventDefault();
        close(studio.seed(Number(seed.value), model));
      } } }, h("label", { class: "line" }, h("span", {}, say("choose.seed")), seed), h("button", { class: "button small" }, say("choose.take"))),
      h("div", { class: "actions" }, button(say("common.cancel"), () => close())));
  });
}

// A place for a face: a click chooses one, a face can be dropped on it. changed(face) is called with the new one.
export function slot(part, { label, title = label, caption: shown = label, face = null, changed, model }) {
  const tile = newTile();
  tile.classList.add("slot");
  tile.draggable = false;
  tile.tabIndex = 0;
  const caption = h("span", { class: "slot-name", "aria-hidden": "true" }, shown);
  const element = h("div", { class: "slot-box" }, tile, caption);
  element.set = (value) => {
    element.face = value;
    if (value) fill(tile, value, null, nameOf(value));
    else {
      fill(tile, null);
      tile.setAttribute("aria-disabled", "false");
    }
    tile.toggleAttribute("data-empty", !value);
    tile.removeAttribute("data-pinned");
    tile.setAttribute("aria-label", value ? say("choose.slot", { label, name: nameOf(value) }) : say("choose.slot_empty", { label }));
  };
  const take = async () => {
    const chosen = await chooseFace(title, model);
    if (chosen) accept(chosen);
    tile.focus();
  };
  const accept = (chosen) => {
    element.set(chosen);
    changed(chosen);
  };
  tile.addEventListener("click", take);
  tile.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    take();
  });
  dropTarget(part, element, accept);
  element.set(face);
  return element;
}
