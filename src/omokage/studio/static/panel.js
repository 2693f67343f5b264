// The table: one face, large, and what can be done with it.

import "./steer.js";
import "./vary.js";
import "./mix.js";
import "./glide.js";
import "./table.js";
import "./drawing.js";
import "./export.js";
import "./info.js";

import { Part, button, h, icon, iconButton, moveFocus } from "./dom.js";
import { nameOf, plain, textOf, tidy } from "./faces.js";
import { clear, paint, spotOf } from "./pictures.js";
import { studio } from "./state.js";
import { dropTarget } from "./tiles.js";
import { say } from "./words.js";

const TABS = ["steer", "vary", "mix", "glide", "grid", "export", "info"];

class StudioPanel extends Part {
  connected() {
    this.setAttribute("role", "region");
    this.setAttribute("aria-label", say("panel.label"));
    this.hidden = true;
    this.picture = h("div", { class: "large", role: "img" });
    this.earlier = h("div", { class: "large earlier", hidden: true, "aria-hidden": "true" }, h("span", {}, say("panel.before")));
    this.heart = h("button", { type: "button", class: "heart large-heart", on: { click: () =>
      studio.toggle(studio.face, { by: studio.by, key: studio.key }) } }, icon("heart"));
    this.hold = button(say("panel.hold"), () => {}, { class: "button small hold", "aria-keyshortcuts": "B", "aria-pressed": "false" });
    this.name = h("h2", { class: "face-name", tabindex: "-1", on: { keydown: ({ key }) => {
      if (key === "Enter" && studio.face) studio.toggle(studio.face, { by: studio.by, key: studio.key });
    } } });
    this.backward = iconButton("back", say("panel.back"), () => studio.back());
    this.figure = h("div", { class: "figure" }, this.picture, this.earlier, this.heart, this.hold);
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": say("panel.tabs") });
    this.body = h("div", { class: "tab-body", role: "tabpanel", id: "tab-body", tabindex: "-1" });
    this.append(
      h("header", { class: "panel-head" }, this.backward, this.name, iconButton("close", say("panel.close"), () => this.shut(),
        { class: "round close", "aria-keyshortcuts": "Escape" })),
      this.figure, this.tabs, this.body);
    this.listen(studio, "face", ({ detail }) => this.changed(detail));
    this.listen(studio, "picture", ({ detail }) => this.drawn(detail));
    this.listen(studio, "board", () => this.marks());
    this.listen(studio, "upload", ({ detail }) => this.openTab("drawing", detail));
    this.listen(this.tabs, "keydown", (event) => this.tabKeys(event));
    for (const [start, end] of [["pointerdown", "pointerup pointercancel pointerleave"], ["keydown", "keyup blur"]]) {
      this.listen(this.hold, start, (event) => (start === "pointerdown" || [" ", "Enter"].includes(event.key)) && this.before(true));
      this.listen(this.hold, end, () => this.before(false));
    }
    dropTarget(this, this.figure, (face) => studio.face && studio.emit("mix", { a: studio.face, b: face }));
  }

  get open() {
    return !this.hidden;
  }

  openTab(tab, detail) {
    studio.tab = tab;
    const opened = this.hidden;
    this.hidden = false;
    if (opened) this.from = document.activeElement;
    this.showTabs(true);
    if (tab === "drawing") this.body.firstElementChild.begin?.(detail);
    (this.tabs.querySelector("[aria-selected=true]") ?? this.name).focus({ preventScroll: true });
  }

  // From a drawing back to the face that lay here before, if any; else away.
  shut() {
    if (studio.tab !== "drawing" || !studio.face) {
      studio.close();
      return;
    }
    studio.tab = "steer";
    this.showTabs(true);
    this.name.focus({ preventScroll: true });
  }

  changed({ by, tab }) {
    if (by === "close") {
      const back = this.contains(document.activeElement);
      this.hidden = true;
      this.body.replaceChildren();
      if (studio.tab === "drawing") studio.tab = "steer";
      studio.emit("layout");
      if (back) (this.from?.isConnected ? this.from : document.querySelector("studio-wall")).focus?.({ preventScroll: true });
      return;
    }
    if (by === "open") {
      if (this.hidden) this.from = document.activeElement;
      const opened = this.hidden;
      this.hidden = false;
      if (studio.tab === "drawing" && !tab) studio.tab = "steer";
      this.showTabs(true);
      this.before(false);
      this.earlierFace = null;
      if (opened) studio.emit("layout");
      if (!this.contains(document.activeElement)) this.name.focus({ preventScroll: true });
    }
    this.name.textContent = nameOf(studio.face);
    this.name.title = this.name.textContent;
    this.picture.setAttribute("aria-label", this.name.textContent);
    this.backward.disabled = studio.trail.length === 0;
    this.marks();
  }

  marks() {
    if (!studio.face) return;
    const kept = Boolean(studio.pinOf(studio.face, studio.key));
    this.heart.toggleAttribute("data-on", kept);
    this.heart.setAttribute("aria-pressed", String(kept));
    this.heart.setAttribute("aria-label", say("face.keep"));
    this.heart.title = say(kept ? "face.let_go" : "face.keep");
    const base = studio.base === studio.face ? plain(studio.face) : studio.base;
    this.hold.hidden = textOf(tidy(base)) === textOf(tidy(studio.face));
  }

  drawn(spot) {
    if (!spot) return;
    paint(this.picture, spot);
    this.picture.toggleAttribute("data-broken", !spot.finite);
    this.marks();
  }

  // The face as it was before it was changed, for as long as the button or B is held.
  async before(on) {
    this.holding = on && Boolean(studio.face);
    this.hold.setAttribute("aria-pressed", String(Boolean(this.holding)));
    if (!this.holding) {
      this.earlier.hidden = true;
      return;
    }
    const base = studio.base === studio.face ? plain(studio.face) : studio.base;
    const spot = await studio.try(() => spotOf(base));
    if (!spot || !this.holding) return;
    clear(this.earlier);
    paint(this.earlier, spot);
    this.earlier.hidden = false;
  }

  showTabs(renew) {
    // A drawing lies on the table alone, until a face comes of it.
    const names = studio.face && studio.tab !== "drawing" ? TABS : [];
    if (names.length === 0) studio.tab = "drawing";
    const large = names.length > 0;
    this.figure.hidden = !large;
    this.tabs.hidden = !large;
    if (!large) this.name.textContent = say("tab.drawing");
    else if (studio.face) this.name.textContent = nameOf(studio.face);
    this.backward.hidden = !large;
    this.tabs.replaceChildren(...names.map((name) => h("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-selected": String(name === studio.tab), "aria-controls": "tab-body",
      tabindex: name === studio.tab ? "0" : "-1", class: "tab", on: { click: () => {
        studio.tab = name;
        this.showTabs(true);
        this.tabs.querySelector("[aria-selected=true]").focus();
      } },
    }, say(`tab.${name}`))));
    if (large) this.body.setAttribute("aria-labelledby", `tab-${studio.tab}`);
    else this.body.removeAttribute("aria-labelledby");
    this.body.setAttribute("role", large ? "tabpanel" : "group");
    this.body.scrollTop = 0;
    if (renew) this.body.replaceChildren(document.createElement(`studio-${studio.tab}`));
    this.dataset.tab = studio.tab;
    const chosen = this.tabs.querySelector("[aria-selected=true]");
    if (chosen) this.tabs.scrollLeft = chosen.offsetLeft - this.tabs.clientWidth / 2 + chosen.offsetWidth / 2;
  }

  tabKeys(event) {
    const tabs = [...this.tabs.children];
    moveFocus(event, tabs);
    const at = tabs.indexOf(document.activeElement);
    if (event.key.startsWith("Arrow") && tabs[at]?.getAttribute("aria-selected") === "false") tabs[at].click();
  }
}

customElements.define("studio-panel", StudioPanel);
