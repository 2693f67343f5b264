// The page: starts, puts its parts together, and listens to keys and to files that are dropped on it.

import { Refusal, enter, get } from "./api.js";
import "./bar.js";
import "./board.js";
import { openBoardFile } from "./board.js";
import { chooseFace } from "./chooser.js";
import { Part, ask, button, h, icon } from "./dom.js";
import { glideBetween } from "./glide.js";
import { recall, remember } from "./memory.js";
import { mixWith } from "./mix.js";
import "./panel.js";
import "./say.js";
import { studio } from "./state.js";
import "./wall.js";
import { changeLanguage, preferred, say, speak, spoken } from "./words.js";

const KEYS = ["space", "shift_space", "arrows", "enter", "o", "m", "v", "b", "escape", "undo", "redo", "delete", "f", "alt_arrows", "help"];
// What the space bar presses when the keyboard has led there.
const PRESSED = ":is(button, summary, a, input, .slot, .tab-body .face, .pin .face):focus-visible, input";
const LETTERS = ["o", "m", "v", "b", "f"];

class OmokageStudio extends Part {
  async connected() {
    if (this.begun) return;
    this.begun = true;
    studio.letters = recall("letters", true);
    try {
      await enter();
      await this.start();
    } catch (error) {
      await this.refused(error);
    }
  }

  async start() {
    const kept = recall("language");
    const [info] = await Promise.all([get("studio"), speak(preferred(navigator.language))]);
    if (!kept && !navigator.languages.some((tag) => /^(en|ja)\b/.test(tag)) && info.language && info.language !== spoken()) await speak(info.language);
    studio.begin(info);
    this.build();
    this.keys();
    this.files();
    studio.try(() => studio.beginBoards());
    this.listen(studio, "mix", ({ detail }) => this.mix(detail));
    this.listen(studio, "glide", ({ detail: { faces } }) => {
      glideBetween(faces);
      studio.open(faces[0], { tab: "glide" });
    });
    this.listen(studio, "help", () => this.help());
    this.listen(studio, "language", ({ detail: { language } }) => studio.try(async () => {
      await changeLanguage(language);
      const open = studio.face;
      this.build();
      if (studio.board) studio.emit("board");
      if (open) studio.emit("face", { by: "open" });
      if (open) studio.drawing.ask({ face: open });
      this.querySelector("studio-bar [lang]")?.focus();
    }));
    this.listen(studio, "face upload layout", () => this.layout());
    this.dataset.ready = "";
  }

  // Without a token, or without an answer, the page says so in plain words.
  async refused(error) {
    await speak(preferred("en")).catch(() => {});
    const token = error instanceof Refusal && error.status === 401;
    let text = "The studio does not answer. Is it still running? スタジオが応答しません。";
    try {
      text = token ? say("page.token") : say("errors.offline");
    } catch {
      // Not even the words came.
    }
    if (!token) console.error(error);
    const input = h("input", { type: "password", class: "text", autocomplete: "off", "aria-label": token ? say("page.token_label") : "" });
    this.replaceChildren(h("main", { class: "alone" }, h("img", { src: "static/icon.svg", alt: "", width: "48", height: "48" }),
      h("h1", {}, "Omokage Studio"), h("p", { role: "alert" }, text),
      token ? h("form", { on: { submit: async (event) => {
        event.preventDefault();
        try {
          await enter(input.value.trim());
          location.reload();
        } catch {
          input.setAttribute("aria-invalid", "true");
          input.select();
        }
      } } }, input, h("button", { class: "button main" }, say("page.token_go"))) : h("button", { type: "button", class: "button main",
        on: { click: () => location.reload() } }, "↻")));
  }

  build() {
    this.bar = h("studio-bar");
    this.wall = h("studio-wall");
    this.board = h("studio-board");
    this.panel = h("studio-panel");
    const foot = (name, symbol, label) => h("button", { type: "button", class: "foot-button", "data-view": name,
      on: { click: () => (name === "roll" ? (this.view("wall"), studio.roll()) : this.view(name)) } }, icon(symbol), h("span", {}, label));
    this.count = h("span", { class: "foot-count", "aria-hidden": "true" });
    const boardFoot = foot("board", "heart", say("foot.board"));
    boardFoot.append(this.count);
    this.replaceChildren(
      h("a", { class: "skip", href: "#wall", on: { click: (event) => {
        event.preventDefault();
        this.wall.focusFace();
      } } }, say("page.skip")),
      h("header", {}, this.bar),
      h("div", { class: "stage" }, this.board, h("main", { id: "wall" }, this.wall), this.panel),
      h("nav", { class: "foot", "aria-label": say("foot.label") }, foot("wall", "faces", say("foot.faces")), foot("roll", "dice", say("bar.roll")), boardFoot),
      h("studio-say"));
    this.view(this.dataset.view ?? "wall");
    if (!this.counting) {
      this.counting = true;
      this.listen(studio, "board", () => (this.count.textContent = studio.pins.length || ""));
    }
  }

  // On a small screen one thing at a time: the wall or the board.
  view(name) {
    this.dataset.view = name;
    for (const one of this.querySelectorAll(".foot-button")) {
      if (one.dataset.view !== "roll") one.setAttribute("aria-pressed", String(one.dataset.view === name));
    }
  }

  layout() {
    this.toggleAttribute("data-panel", this.panel.open);
  }

  async mix({ a, b = null }) {
    const other = b ?? (await chooseFace(say("mix.with"), a.model));
    if (!other) return;
    mixWith(a, other);
    studio.open(a, { tab: "mix" });
  }

  keys() {
    this.listen(document, "keydown", (event) => {
      const typing = event.target.closest?.("input:not([type=range], [type=checkbox], [type=radio]), textarea, select");
      const { key } = event;
      if ((event.ctrlKey || event.metaKey) && !event.altKey && !typing) {
        const low = key.toLowerCase();
        if (low !== "z" && low !== "y") return;
        event.preventDefault();
        const again = low === "y" || event.shiftKey;
        // Beside the sliders it is for them, as long as there is something to take back; else for the board.
        const steps = again ? studio.future : studio.past;
        if (this.panel.contains(document.activeElement) && steps.length > 0) studio.step(!again);
        else if (again) studio.redo();
        else studio.undo();
        return;
      }
      if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      const open = document.querySelector(".dropdown");
      if (key === "Escape" && !open && this.panel.open) this.panel.shut();
      else if (open) return;
      else if (key === "?") this.help();
      else if (key === " " && !event.target.closest?.(PRESSED)) {
        // What was clicked with the mouse keeps the focus; the space bar is not for it.
        if (event.target !== document.body && !event.target.closest("studio-wall")) event.target.blur();
        studio.roll(event.shiftKey);
      }
      else if (key.startsWith("Arrow") && !event.target.closest?.("[role=slider], input, [role=tab]") && !this.panel.contains(event.target)
        && !this.board.contains(event.target)) this.wall.focusFace();
      else if (key === "b" && studio.letters && studio.face && !event.repeat) this.panel.before(true);
      else if (!(key === "b" && event.repeat)) return;
      event.preventDefault();
    });
    this.listen(document, "keyup", ({ key }) => key === "b" && this.panel.before(false));
    this.listen(window, "blur", () => this.panel.before(false));
  }

  // Files dropped anywhere: a drawing, a picture of ours, a board.
  files() {
    const isFile = (event) => event.dataTransfer?.types.includes("Files");
    this.listen(document, "dragover", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      document.body.dataset.file = "";
    });
    this.listen(document, "dragleave", (event) => {
      if (!event.relatedTarget) delete document.body.dataset.file;
    });
    this.listen(document, "drop", (event) => {
      delete document.body.dataset.file;
      if (!isFile(event)) return;
      event.preventDefault();
      this.take(event.dataTransfer.files[0]);
    });
    this.listen(document, "paste", (event) => event.clipboardData?.files[0] && this.take(event.clipboardData.files[0]));
  }

  take(file) {
    if (!file) return;
    if (/\.(omokage-board|json)$/i.test(file.name)) studio.try(() => openBoardFile(file));
    else studio.emit("upload", { file });
  }

  help() {
    if (document.querySelector("dialog[open]")) return null;
    return ask(say("keys.title"), (dialog, close) => {
      dialog.classList.add("keys-dialog");
      dialog.append(
        h("dl", { class: "keys-list" }, KEYS.map((name) => h("div", { "data-letter": LETTERS.includes(name) },
          h("dt", {}, h("kbd", {}, say(`keys.${name}`))), h("dd", {}, say(`keys.${name}_does`))))),
        h("label", { class: "switch" }, h("input", { type: "checkbox", role: "switch", checked: studio.letters, on: { change: ({ target }) => {
          studio.letters = target.checked;
          remember("letters", target.checked);
        } } }), h("span", {}, say("keys.letters"))),
        h("p", { class: "faint" }, say("keys.drag")),
        h("div", { class: "actions" }, button(say("common.close"), () => close(), { class: "button main" })));
    });
  }
}

customElements.define("omokage-studio", OmokageStudio);
