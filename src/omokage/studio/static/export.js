// Export: this face as a picture or a character sheet; the board as a film, a contact sheet, a folder or a file.

import { Part, button, h, icon } from "./dom.js";
import { nameOf, termsOf } from "./faces.js";
import { save } from "./saving.js";
import { studio } from "./state.js";
import { say } from "./words.js";

const kept = { scale: 4, transparent: false, name: "", notes: "", format: "png", seconds: 6, loop: true, film: null };

class StudioExport extends Part {
  connected() {
    this.fill();
    this.listen(studio, "face board", ({ detail: { by } }) => {
      if (by === undefined) kept.film = null; // the board has changed
      if (by === "close" || this.contains(document.activeElement)) this.counts();
      else this.fill();
    });
    this.listen(studio, "film", ({ detail: { faces } }) => {
      kept.film = faces;
      this.fill();
      this.querySelector(".film").scrollIntoView({ block: "nearest" });
    });
  }

  fill() {
    if (!studio.face) return;
    const model = studio.modelOf(studio.face) ?? studio.model;
    const pin = studio.pinOf(studio.face, studio.key);
    this.replaceChildren(
      this.picture(), this.sheet(pin), ...this.board(),
      h("p", { class: "terms" }, termsOf(model), " ",
        model.terms_url ? h("a", { href: model.terms_url, target: "_blank", rel: "noreferrer" }, say("export.terms")) : null));
    this.counts();
  }

  picture() {
    const scales = h("div", { class: "segments", role: "radiogroup", "aria-label": say("export.size") },
      studio.info.upscalers.map((scale) => h("label", {}, h("input", { type: "radio", name: "scale", value: scale, checked: scale === kept.scale,
        on: { change: () => {
          kept.scale = scale;
          this.sizes();
        } } }), h("span", {}, `${scale}×`))));
    const lacks = studio.lacks("cutout");
    this.size = h("span", { class: "faint" });
    return h("section", { class: "card" }, h("h3", {}, say("export.picture")), h("div", { class: "line" }, scales, this.size),
      lacks ? h("p", { class: "lacks" }, lacks) : h("label", { class: "switch" }, h("input", { type: "checkbox", role: "switch", checked: kept.transparent,
        on: { change: ({ target }) => (kept.transparent = target.checked) } }), h("span", {}, say("export.transparent"))),
      saving(say("export.save_png"), () => save({ kind: "png", faces: [studio.face], scale: kept.scale, transparent: !lacks && kept.transparent }), "main"));
  }

  sizes() {
    const [height, width] = (studio.modelOf(studio.face) ?? studio.model).resolution;
    this.size.textContent = `${width * kept.scale} × ${height * kept.scale}`;
  }

  sheet(pin) {
    if (this.sheetFor !== studio.face) Object.assign(kept, { notes: pin?.note ?? "" });
    this.sheetFor = studio.face;
    const name = h("input", { type: "text", class: "text", maxlength: 80, value: kept.name, placeholder: say("export.name_example"),
      on: { input: ({ target }) => (kept.name = target.value) } });
    const notes = h("textarea", { class: "text", rows: 2, maxlength: 1000, on: { input: ({ target }) => (kept.notes = target.value) } }, kept.notes);
    const request = (format) => ({ kind: "sheet", faces: [studio.face], format, name: kept.name || nameOf(studio.face), notes: kept.notes, recipe: true });
    return h("section", { class: "card" }, h("h3", {}, say("export.sheet")), h("p", { class: "faint" }, say("export.sheet_what")),
      h("label", { class: "field" }, h("span", {}, say("export.name")), name),
      h("label", { class: "field" }, h("span", {}, say("export.notes")), notes),
      h("div", { class: "actions" }, saving("PNG", () => save(request("png")), "", say("export.sheet_as", { format: "PNG" })),
        saving("PDF", () => save(request("pdf")), "", say("export.sheet_as", { format: "PDF" }))));
  }

  board() {
    const seconds = h("input", { type: "number", class: "text short", min: 1, max: 120, value: kept.seconds,
      on: { change: ({ target }) => (kept.seconds = Math.min(120, Math.max(1, Number(target.value) || 6))) } });
    const faces = () => studio.pins.map(({ face }) => face);
    const film = () => kept.film ?? faces();
    this.film = h("section", { class: "card film" }, h("h3", {}, say("export.film")), h("p", { class: "faint film-of" }),
      h("div", { class: "line" }, h("label", { class: "line" }, seconds, h("span", {}, say("export.seconds"))),
        h("label", { class: "switch" }, h("input", { type: "checkbox", role: "switch", checked: kept.loop,
          on: { change: ({ target }) => (kept.loop = target.checked) } }), h("span", {}, say("export.loop")))),
      saving(say("export.save_film"), () => save({ kind: "film", faces: film(), seconds: kept.seconds, loop: kept.loop, size: 512 })));
    this.whole = h("section", { class: "card" }, h("h3", {}, say("export.board")), h("p", { class: "faint board-of" }),
      h("div", { class: "actions" },
        saving(say("export.contact"), () => save({ kind: "contact", faces: faces(), name: studio.board.name })),
        saving(say("export.folder"), () => save({ kind: "folder", faces: faces(), board: studio.board.id })),
        saving(say("export.board_file"), () => save({ kind: "board", faces: [], board: studio.board.id }))));
    return [this.film, this.whole];
  }

  // What the board can give now.
  counts() {
    if (!this.film) return;
    this.sizes();
    const n = studio.pins.length;
    const filmed = kept.film?.length ?? n;
    this.film.querySelector(".film-of").textContent = filmed < 2 ? say("export.film_few") : say("export.film_of", { n: filmed });
    for (const one of this.film.querySelectorAll(".save")) one.disabled = filmed < 2;
    this.whole.querySelector(".board-of").textContent = n === 0 ? say("export.board_none") : say("export.board_of", { n });
    for (const one of this.whole.querySelectorAll(".save")) one.disabled = n === 0;
  }
}

// A button that is busy until its file is there.
function saving(label, work, kind = "", name = null) {
  const one = button([icon("save"), h("span", {}, label)], async () => {
    one.setAttribute("aria-busy", "true");
    one.disabled = true;
    await work();
    one.removeAttribute("aria-busy");
    one.disabled = false;
    if (document.activeElement === document.body) one.focus({ preventScroll: true });
  }, { class: `button save ${kind}`, "aria-label": name });
  return one;
}

customElements.define("studio-export", StudioExport);
