// The bar above the wall: model, typical ↔ daring, what is fixed, and the buttons of the page.

import { Part, dropdown, h, icon, iconButton } from "./dom.js";
import { nameOfModel } from "./faces.js";
import { recall, remember } from "./memory.js";
import { studio } from "./state.js";
import { SWATCHES } from "./swatches.js";
import { say, spoken, word } from "./words.js";

const FIRST = ["hair", "eyes"];

class StudioBar extends Part {
  connected() {
    this.classList.add("bar");
    this.top = h("div", { class: "bar-top" });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": say("bar.wanted") });
    this.append(this.top, this.chips);
    this.fill();
    this.listen(studio, "view", ({ detail: { what } }) => {
      if (what === "model") this.fill();
      else if (what === "fixed") this.fillChips();
    });
    this.listen(studio, "roll", () => (this.before.disabled = studio.starts.length === 0));
  }

  fill() {
    this.before = iconButton("back", say("bar.before"), () => studio.roll(true), { disabled: studio.starts.length === 0 });
    this.top.replaceChildren(
      h("h1", { class: "brand" }, h("img", { src: "static/icon.svg", alt: "", width: "28", height: "28" }), h("span", {}, "Omokage")),
      this.models() ?? "",
      this.daring() ?? "",
      h("div", { class: "rolls" }, this.before,
        h("button", { type: "button", class: "button main roll", "aria-keyshortcuts": "Space",
          on: { click: () => studio.roll() } }, icon("dice"), h("span", {}, say("bar.roll")))),
      h("div", { class: "tools" },
        h("button", { type: "button", class: "button quiet drawing", title: say("bar.drawing_long"),
          on: { click: () => studio.emit("upload") } }, icon("upload"), h("span", {}, say("bar.drawing"))),
        this.languages(), this.theme(),
        iconButton("help", say("bar.keys"), () => studio.emit("help"), { "aria-keyshortcuts": "?", class: "round keys" })),
    );
    this.fillChips();
  }

  models() {
    if (studio.models.length < 2) return null;
    return h("label", { class: "model" }, h("span", { class: "unseen" }, say("bar.model")),
      h("select", { on: { change: ({ target }) => studio.setModel(target.value) } },
        studio.models.map((model) => h("option", { value: model.id, title: model.title, selected: model === studio.model },
          nameOfModel(model)))));
  }

  daring() {
    const setting = studio.setting("psi");
    if (!setting) return null;
    const [low, high] = [Math.max(0.3, setting.low), Math.min(1.4, setting.high)];
    const input = h("input", { type: "range", min: low, max: high, step: 0.05, "aria-label": say("bar.daring_label"),
      on: { input: () => {
        studio.setView({ psi: Number(input.value) });
        tell();
      }, dblclick: () => {
        input.value = 0.8;
        input.dispatchEvent(new Event("input"));
      } } });
    const tell = () => input.setAttribute("aria-valuetext", say("bar.daring_value", { psi: input.value }));
    input.value = studio.view.psi;
    tell();
    return h("div", { class: "daring" }, h("span", {}, say("bar.typical")), input, h("span", {}, say("bar.daring")));
  }

  fillChips() {
    const choices = Object.entries(studio.model.choices ?? {});
    const order = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
    choices.sort(([a], [b]) => order(a) - order(b));
    const focused = document.activeElement?.dataset?.chip;
    const lacks = choices.length === 0 ? studio.lacks("choose", studio.model) || studio.lacks("steer", studio.model) : null;
    this.chips.replaceChildren(
      ...choices.map(([name, values]) => this.chip(name, values)),
      lacks ? h("p", { class: "lacks" }, lacks) : "",
      h("label", { class: "switch broken" }, h("input", { type: "checkbox", role: "switch", checked: studio.view.broken,
        on: { change: ({ target }) => studio.setView({ broken: target.checked }) } }), h("span", {}, say("bar.broken"))),
    );
    if (focused) this.chips.querySelector(`[data-chip="${focused}"]`)?.focus();
  }

  chip(name, values) {
    const fixed = studio.view.fixed[name];
    const label = say("bar.chip", { attribute: word("attributes", name), value: fixed ? valueWord(name, fixed) : say("bar.random") });
    const opener = h("button", { type: "button", class: "chip", "data-chip": name, "data-fixed": Boolean(fixed) },
      fixed ? swatch(name, fixed) : null, h("span", {}, label), icon("down"));
    return dropdown(opener, (sheet, close) => {
      const choose = (value) => {
        const rest = { ...studio.view.fixed };
        delete rest[name];
        close();
        studio.setView({ fixed: value === null ? rest : { ...rest, [name]: value } });
      };
      sheet.classList.add("options");
      sheet.append(h("div", { role: "radiogroup", "aria-label": word("attributes", name), class: "option-list" },
        [null, ...values.filter((value) => value !== "random")].map((value) => h("button", {
          type: "button", role: "radio", class: "option", "aria-checked": String((fixed ?? null) === value),
          on: { click: () => choose(value) },
        }, value === null ? h("span", { class: "swatch any" }) : swatch(name, value),
        h("span", {}, value === null ? say("bar.random") : valueWord(name, value))))));
    });
  }

  languages() {
    const other = spoken() === "en" ? "ja" : "en";
    return h("button", { type: "button", class: "round word", lang: other, "aria-label": { en: "English", ja: "日本語" }[other],
      title: { en: "English", ja: "日本語" }[other], on: { click: () => studio.emit("language", { language: other }) } },
    { en: "EN", ja: "あ" }[other]);
  }

  theme() {
    const dark = () => (document.documentElement.dataset.theme
      ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const label = () => say(dark() ? "bar.light" : "bar.dark");
    const change = () => {
      const theme = dark() ? "light" : "dark";
      document.documentElement.dataset.theme = theme;
      remember("theme", theme);
      control.setAttribute("aria-label", label());
      control.title = label();
      control.replaceChildren(icon(dark() ? "sun" : "moon"));
    };
    const control = iconButton(dark() ? "sun" : "moon", label(), change);
    if (!recall("theme")) {
      this.listen(matchMedia("(prefers-color-scheme: dark)"), "change", () => {
        if (!recall("theme")) control.replaceChildren(icon(dark() ? "sun" : "moon"));
      });
    }
    return control;
  }
}

const valueWord = (name, value) => word(`values_${name}`, value) !== value ? word(`values_${name}`, value) : word("values", value);

// A dot in the colour of a value; a ring where it has none.
export function swatch(name, value, colour = null) {
  const dot = h("span", { class: "swatch" });
  const shown = colour ?? SWATCHES[name]?.[value] ?? null;
  if (!shown) return FIRST.includes(name) ? dot : null;
  dot.style.backgroundColor = shown;
  return dot;
}

customElements.define("studio-bar", StudioBar);
