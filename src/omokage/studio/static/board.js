// The board: faces that are kept, with notes; undo and redo; boards as files; the family tree.

import { upload } from "./api.js";
import { Part, ask, button, dropdown, h, icon, iconButton, pickFile } from "./dom.js";
import { nameOf } from "./faces.js";
import { save } from "./saving.js";
import { Sight, inRows } from "./sight.js";
import { studio } from "./state.js";
import { dropTarget, fill, newTile, tileEvents } from "./tiles.js";
import { showTree } from "./tree.js";
import { say } from "./words.js";

const GAP = 10; // px between faces
const LOW = 30; // px of the note under a face

class StudioBoard extends Part {
  connected() {
    this.setAttribute("role", "region");
    this.setAttribute("aria-label", say("board.label"));
    this.chosen = new Set();
    this.choosing = false;
    this.head = h("div", { class: "board-head" });
    this.list = h("ul", { class: "pins" });
    this.empty = h("div", { class: "empty" }, icon("heart"), h("p", {}, say("board.empty")));
    this.scroller = h("div", { class: "pins-scroll" }, this.list, this.empty);
    this.append(this.head, this.scroller);
    this.sight = new Sight(this.scroller, this.list, {
      make: ({ pin }) => this.item(pin),
      update: (item, { pin }) => this.update(item, pin),
      place: (things, width, height) => inRows(things, width, height, { across: this.across(), gap: GAP, low: LOW }),
    });
    this.listen(studio, "board", () => this.render());
    tileEvents(this, this.list, {
      open: (tile) => (this.choosing ? this.choose(tile.pin) : studio.open(tile.face, { key: tile.key, by: tile.pin.made_by })),
      pin: (tile) => (this.choosing ? this.choose(tile.pin) : studio.open(tile.face, { key: tile.key, by: tile.pin.made_by })),
      heart: (tile) => studio.toggle(tile.face, { key: tile.key }),
      next: (tile, key) => this.sight.move(tile, key),
      drop: (onto, face) => {
        const pin = studio.pinOf(face);
        if (pin) studio.edit({ edit: "move", pin: pin.id, position: onto.pin.position });
        else studio.toggle(face);
      },
    });
    dropTarget(this, this, (face) => !studio.pinOf(face) && studio.toggle(face));
    this.listen(this.list, "keydown", (event) => this.key(event), { capture: true });
    if (studio.board) this.render();
  }

  render() {
    const { board } = studio;
    for (const id of this.chosen) if (!board.pins.some((pin) => pin.id === id)) this.chosen.delete(id);
    if (board.pins.length === 0) this.choosing = false;
    this.fillHead(board);
    this.fillPins(board.pins);
  }

  fillHead(board) {
    const at = document.activeElement?.closest?.(".board-head") ? document.activeElement.dataset.name : null;
    const named = (name, element) => {
      element.dataset.name = name;
      return element;
    };
    const opener = h("button", { type: "button", class: "board-name" }, h("span", {}, board.name), icon("down"));
    const menu = iconButton("more", say("board.more"), () => {});
    this.head.replaceChildren(
      named("name", dropdown(opener, (sheet, close) => this.boards(sheet, close))),
      h("span", { class: "count" }, h("span", { class: "unseen" }, say("board.count", { n: board.pins.length })),
        h("span", { "aria-hidden": "true" }, String(board.pins.length))),
      h("div", { class: "board-tools" },
        named("undo", iconButton("undo", say("board.undo"), () => studio.undo(), { disabled: !board.can_undo, "aria-keyshortcuts": "Control+Z" })),
        named("redo", iconButton("redo", say("board.redo"), () => studio.redo(), { disabled: !board.can_redo, "aria-keyshortcuts": "Control+Shift+Z" })),
        named("choose", iconButton("select", say("board.choose"), () => this.setChoosing(!this.choosing),
          { "aria-pressed": String(this.choosing), disabled: board.pins.length === 0 })),
        named("tree", iconButton("tree", say("board.tree"), () => showTree(), { disabled: board.pins.length === 0 })),
        named("more", dropdown(menu, (sheet, close) => this.menu(sheet, close), { role: "menu" }))),
      this.choosing ? this.chosenBar() : "",
    );
    if (at) this.head.querySelector(`[data-name="${at}"]`)?.focus();
  }

  boards(sheet, close) {
    const list = h("div", { class: "menu" });
    const item = (label, click, attributes = {}) => h("button", { type: "button", class: "item", ...attributes,
      on: { click: () => {
        close();
        studio.try(click);
      } } }, label);
    const fillList = () => list.replaceChildren(
      ...studio.boards.map(({ id, name, pins }) => item([h("span", {}, name), h("span", { class: "faint" }, String(pins))],
        () => studio.openBoard(id), { "aria-current": id === studio.board.id ? "true" : null })),
      item([icon("plus"), say("board.new")], () => this.create()),
      item(say("board.rename"), () => this.rename()),
      item(say("board.remove"), () => studio.removeBoard()));
    fillList();
    sheet.append(list);
    studio.listBoards().then(fillList, () => {});
  }

  menu(sheet, close) {
    const { pins } = studio;
    const item = (label, click, disabled = false) => h("button", { type: "button", role: "menuitem", class: "item", disabled,
      on: { click: () => {
        close();
        studio.try(click);
      } } }, label);
    sheet.append(h("div", { class: "menu", role: "none" },
      item(say("board.open_file"), () => this.openFile()),
      item(say("board.save_file"), () => save({ kind: "board", faces: [], board: studio.board.id }), pins.length === 0),
      item(say("board.folder"), () => save({ kind: "folder", faces: pins.map(({ face }) => face), board: studio.board.id }), pins.length === 0),
      item(say("board.contact"), () => save({ kind: "contact", faces: pins.map(({ face }) => face), name: studio.board.name }), pins.length === 0),
      item(say("board.clear_others"), () => studio.edit({ edit: "clear", keep: "favourites" }), !pins.some((pin) => !pin.favourite)),
      item(say("board.clear"), () => studio.edit({ edit: "clear", keep: "none" }), pins.length === 0)));
  }

  async create() {
    const name = await askName(say("board.new"), say("board.unnamed", { n: studio.boards.length + 1 }));
    if (name) await studio.newBoard(name);
  }

  async rename() {
    const name = await askName(say("board.rename"), studio.board.name);
    if (name) await studio.edit({ edit: "rename", name });
  }

  async openFile() {
    const file = await pickFile(".omokage-board,application/json");
    if (file) await openBoardFile(file);
  }

  // ---- choosing several

  setChoosing(on) {
    this.choosing = on;
    this.chosen.clear();
    this.render();
  }

  choose(pin) {
    if (!this.chosen.delete(pin.id)) this.chosen.add(pin.id);
    this.render();
  }

  chosenBar() {
    const pins = studio.pins.filter(({ id }) => this.chosen.has(id));
    const faces = pins.map(({ face }) => face);
    const done = () => this.setChoosing(false);
    const act = (label, least, click) => button(label, click, { class: "button small", disabled: faces.length < least });
    return h("div", { class: "chosen", role: "group", "aria-label": say("board.with_chosen") },
      h("p", { role: "status" }, say("board.chosen", { n: faces.length })),
      act(say("board.remove_chosen"), 1, () => {
        done();
        studio.edit({ edit: "remove", pins: pins.map(({ id }) => id) });
      }),
      act(say("tab.mix"), 2, () => {
        done();
        studio.emit("mix", { a: faces[0], b: faces[1] });
      }),
      act(say("tab.glide"), 2, () => {
        done();
        studio.emit("glide", { faces: faces.slice(0, 4) });
      }),
      act(say("export.film"), 2, () => {
        done();
        studio.open(faces[0], { tab: "export" });
        studio.emit("film", { faces });
      }),
      act(say("board.all"), 0, () => {
        for (const { id } of studio.pins) this.chosen.add(id);
        this.render();
      }));
  }

  // ---- pins

  fillPins(pins) {
    this.empty.hidden = pins.length > 0;
    this.sight.show(pins.map((pin) => ({ id: pin.id, pin })));
  }

  across() {
    return Number(getComputedStyle(this.list).getPropertyValue("--across"));
  }

  item(pin) {
    const tile = newTile();
    const note = h("input", { class: "note", type: "text", maxlength: 500, placeholder: say("board.note"), "aria-label": say("board.note_of", { name: nameOf(pin.face) }),
      on: {
        change: () => studio.edit({ edit: "note", pin: item.pin.id, text: note.value }),
        keydown: (event) => {
          event.stopPropagation();
          if (event.key === "Enter") note.blur();
        },
      } });
    const star = iconButton("star", "", () => studio.edit({ edit: "favourite", pin: item.pin.id, on: !item.pin.favourite }), { class: "round star" });
    const item = h("li", { class: "pin" }, tile, star, note);
    return Object.assign(item, { tile, star, note });
  }

  update(item, pin) {
    const { tile, star, note } = item;
    const same = item.pin?.key === pin.key;
    item.pin = pin;
    tile.pin = pin;
    if (!same || !tile.face) {
      fill(tile, pin.face);
      tile.key = pin.key;
      if (!studio.modelOf(pin.face)) tile.dataset.failed = "";
    }
    const name = pin.note || nameOf(pin.face);
    tile.setAttribute("aria-label", name);
    tile.toggleAttribute("data-pinned", false);
    if (this.choosing) tile.setAttribute("aria-pressed", String(this.chosen.has(pin.id)));
    else tile.removeAttribute("aria-pressed");
    const label = say(pin.favourite ? "board.unfavourite" : "board.favourite", { name });
    star.setAttribute("aria-label", label);
    star.title = say(pin.favourite ? "board.unfavourite_short" : "board.favourite_short");
    star.setAttribute("aria-pressed", String(pin.favourite));
    if (document.activeElement !== note) note.value = pin.note ?? "";
  }

  // Keys for one pin: Delete removes it, F makes it a favourite, Alt and arrows move it.
  key(event) {
    const tile = event.target.closest(".face");
    if (!tile?.pin) return;
    const { pin } = tile;
    if (event.key === "Delete" || event.key === "Backspace") studio.edit({ edit: "remove", pins: [pin.id] });
    else if (event.key === "f" && studio.letters && !event.ctrlKey && !event.metaKey) studio.edit({ edit: "favourite", pin: pin.id, on: !pin.favourite });
    else if (event.altKey && event.key.startsWith("Arrow")) {
      const position = pin.position + (event.key === "ArrowLeft" || event.key === "ArrowUp" ? -1 : 1);
      if (position >= 0 && position < studio.pins.length) studio.edit({ edit: "move", pin: pin.id, position });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

export async function openBoardFile(file) {
  const board = await upload(file, "boards/import");
  await studio.listBoards();
  studio.setBoard(board);
  studio.say(say("board.opened", { name: board.name }));
}

function askName(title, value) {
  return ask(title, (dialog, close) => {
    const input = h("input", { type: "text", class: "text", maxlength: 80, value, required: true, "aria-label": say("board.name"), autofocus: true });
    dialog.append(h("form", { method: "dialog", on: { submit: (event) => {
      event.preventDefault();
      close(input.value.trim() || null);
    } } }, input, h("div", { class: "actions" }, h("button", { class: "button main" }, say("common.ok")),
      button(say("common.cancel"), () => close()))));
  });
}

customElements.define("studio-board", StudioBoard);
