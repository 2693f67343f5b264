// Steer: sliders with names, live. What the model cannot do is not there, with a line that says why.

import { Part, button, clamp, h, iconButton } from "./dom.js";
import { swatch } from "./bar.js";
import { slot } from "./chooser.js";
import { isSeed, mixed, nameOfDirection, nestable } from "./faces.js";
import { studio } from "./state.js";
import { say, word } from "./words.js";

const GROUPS = ["coarse", "middle", "fine"];

class StudioSteer extends Part {
  connected() {
    this.fill();
    this.listen(studio, "face", ({ detail: { by } }) => by !== "steer" && by !== "close" && this.fill());
  }

  get model() {
    return studio.modelOf(studio.face) ?? studio.model;
  }

  fill() {
    if (!studio.face) return;
    const { model } = this;
    this.sliders = [];
    this.layers = takenApart(studio.face);
    const steers = !studio.lacks("steer");
    this.replaceChildren(...[
      this.psi(model),
      this.conditions(model),
      steers ? this.directions(model) : h("p", { class: "lacks" }, studio.lacks("steer")),
      steers ? this.keep() : null,
      this.layersFrom(),
      h("div", { class: "actions" }, button(say("steer.reset"), () => this.reset(), { class: "button small" })),
    ].filter(Boolean));
  }

  // What is set now, as a face; live.
  change(changes) {
    const face = { ...studio.face, ...changes };
    face.keep = this.kept(face.edits ?? {}, changes.keep ?? Boolean(studio.face.keep?.length));
    studio.change(face, "steer");
    for (const slider of this.sliders) slider.refresh();
  }

  psi(model) {
    const setting = model.settings.find(({ name }) => name === "psi");
    if (!setting || !isSeed(studio.face)) return null;
    const start = studio.base.psi ?? setting.default;
    return this.slider({
      label: say("bar.daring_label"), ends: [say("bar.typical"), say("bar.daring")], low: Math.max(0, setting.low), high: Math.min(1.5, setting.high),
      rest: start, read: () => studio.face.psi ?? setting.default, write: (psi) => this.change({ psi }),
    });
  }

  conditions(model) {
    if (!model.can.conditions) return null;
    return h("div", { class: "lines" }, Object.entries(model.conditions ?? {}).map(([name, values]) => h("label", { class: "line" },
      h("span", {}, word("attributes", name)),
      h("select", { on: { change: ({ target }) => {
        const conditions = { ...studio.face.conditions, [name]: target.value };
        if (!target.value) delete conditions[name];
        this.change({ conditions });
      } } }, [["", say("bar.random")], ...values.map((value) => [value, word("values", value)])].map(([value, text]) =>
        h("option", { value, selected: (studio.face.conditions?.[name] ?? "") === value }, text))))));
  }

  directions(model) {
    const groups = new Map();
    for (const direction of model.directions) {
      if (!groups.has(direction.attribute)) groups.set(direction.attribute, []);
      groups.get(direction.attribute).push(direction);
    }
    const named = [...groups].filter(([attribute, list]) => list.length > 1 && list[0].value && attribute);
    const single = [...groups].flatMap(([attribute, list]) => (named.some(([name]) => name === attribute) ? [] : list));
    const [known, others] = [single.filter(isNamed), single.filter((one) => !isNamed(one))];
    return h("div", { class: "directions" },
      named.map(([attribute, list]) => this.colours(attribute, list)),
      known.map((direction) => this.direction(direction)),
      others.length > 0 ? h("details", {}, h("summary", {}, say("steer.others")), others.map((direction) => this.direction(direction))) : null);
  }

  direction({ name, low, high }) {
    return this.slider({
      label: nameOfDirection(name), low, high, rest: studio.base.edits?.[name] ?? 0,
      read: () => studio.face.edits?.[name] ?? 0, write: (steps) => this.change({ edits: { ...studio.face.edits, [name]: steps } }),
    });
  }

  // One attribute of several values: a swatch chooses the value, one slider says how strongly.
  colours(attribute, list) {
    const chosen = () => list.find(({ name }) => studio.face.edits?.[name]);
    const without = () => Object.fromEntries(Object.entries(studio.face.edits ?? {}).filter(([name]) => !list.some((one) => one.name === name)));
    const row = h("div", { class: "swatches", role: "group", "aria-label": word("attributes", attribute) },
      list.map((direction) => h("button", { type: "button", class: "swatch-button", "data-name": direction.name, "aria-pressed": "false",
        title: word("values", direction.value), "aria-label": word("values", direction.value), on: { click: () => {
          const off = chosen()?.name === direction.name;
          this.change({ edits: off ? without() : { ...without(), [direction.name]: direction.chosen } });
          refresh();
        } } }, swatch(attribute, direction.value, direction.swatch) ?? word("values", direction.value))));
    const holder = h("div");
    const value = h("span", { class: "chosen-value" });
    const refresh = () => {
      const now = chosen();
      value.textContent = now ? word("values", now.value) : "";
      for (const one of row.children) one.setAttribute("aria-pressed", String(one.dataset.name === now?.name));
      if (holder.dataset.name === (now?.name ?? "")) return;
      holder.dataset.name = now?.name ?? "";
      this.sliders = this.sliders.filter((slider) => slider.isConnected || !slider.optional);
      const slider = now ? this.slider({
        label: say("steer.strength", { attribute: word("attributes", attribute) }), hidden: true, low: 0, high: now.high, rest: 0,
        read: () => studio.face.edits?.[now.name] ?? 0,
        write: (steps) => this.change({ edits: { ...without(), ...(steps ? { [now.name]: steps } : {}) } }),
      }) : null;
      holder.replaceChildren(slider ?? "");
    };
    refresh();
    return h("div", { class: "colours" }, h("p", { class: "slider-label" }, word("attributes", attribute), value), row, holder);
  }

  // A slider that can be put back: by a double click or its own button.
  slider({ label, low, high, rest, read, write, ends = null, hidden = false }) {
    const input = h("input", { type: "range", min: low, max: high, step: "any", "aria-label": label, on: {
      input: () => write(Math.round(Number(input.value) * 100) / 100),
      dblclick: () => write(rest),
      keydown: (event) => {
        const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const by = ((high - low) / 40) * step;
        write(Math.round(clamp(read() + by, low, high) * 100) / 100);
      },
    } });
    const back = iconButton("reset", say("steer.reset_one", { name: label }), () => {
      write(rest);
      input.focus();
    }, { class: "round reset" });
    const text = h("span", { class: "slider-label" }, label);
    const element = h("div", { class: "slider", "data-hidden-label": hidden }, hidden ? null : text,
      ends ? h("span", { class: "ends", "aria-hidden": "true" }, ends.map((end) => h("span", {}, end))) : null,
      h("div", { class: "slider-line" }, input, back));
    element.refresh = () => {
      const value = read();
      if (Math.abs(Number(input.value) - value) > 0.004) input.value = value;
      input.setAttribute("aria-valuetext", value.toFixed(2));
      back.classList.toggle("idle", Math.abs(value - rest) < 0.005);
      back.disabled = Math.abs(value - rest) < 0.005;
      element.style.setProperty("--zero", `${((clamp(0, low, high) - low) / (high - low)) * 100}%`);
    };
    element.toggleAttribute("data-zero", low < 0);
    element.optional = hidden;
    element.refresh();
    this.sliders.push(element);
    return element;
  }

  // "Keep the rest": attributes with directions that nobody moved stay what they are.
  keep() {
    return h("label", { class: "switch", title: say("steer.keep_long") }, h("input", { type: "checkbox", role: "switch", checked: Boolean(studio.face.keep?.length),
      on: { change: ({ target }) => this.change({ keep: target.checked }) } }), h("span", {}, say("steer.keep")));
  }

  kept(edits, on) {
    if (!on) return [];
    const moved = new Set(Object.keys(edits).filter((name) => edits[name]).map((name) => name.split("=")[0]));
    const all = this.model.keeps ?? [...new Set(this.model.directions.filter(isNamed).map(({ attribute }) => attribute))];
    return all.filter((attribute) => !moved.has(attribute));
  }

  layersFrom() {
    const lacks = studio.lacks("mix_layers");
    if (lacks) return h("p", { class: "lacks" }, lacks);
    return h("fieldset", { class: "layers" }, h("legend", {}, say("steer.layers")),
      h("div", { class: "slots" }, GROUPS.map((group) => {
        const box = slot(this, { label: say(`layers.${group}`), title: say("steer.layers_from", { layers: say(`layers.${group}`) }), face: this.layers.from[group] ?? null, model: studio.face.model,
          changed: (face) => this.take(group, face) });
        const remove = iconButton("close", say("steer.layers_own", { layers: say(`layers.${group}`) }), () => {
          box.set(null);
          this.take(group, null);
        }, { class: "round small-round" });
        remove.hidden = !this.layers.from[group];
        box.append(remove);
        return box;
      })));
  }

  async take(group, face) {
    this.layers.from[group] = face;
    for (const [at, box] of [...this.querySelectorAll(".slots > .slot-box")].entries()) {
      box.querySelector(".small-round").hidden = !this.layers.from[GROUPS[at]];
    }
    const { base } = this.layers;
    let made = base;
    for (const name of GROUPS) {
      const from = this.layers.from[name];
      if (!from) continue;
      const pair = await studio.try(() => nestable([made, from]));
      if (!pair) return;
      made = mixed(...pair, name);
    }
    const { edits, keep } = studio.face;
    this.change(made === base ? { from: base.from, psi: base.psi, settings: base.settings, conditions: base.conditions, edits, keep: Boolean(keep?.length) }
      : { from: made.from, psi: undefined, settings: undefined, conditions: undefined, edits, keep: Boolean(keep?.length) });
  }

  reset() {
    studio.change(studio.base, "reset");
  }
}

const isNamed = ({ attribute }) => Boolean(attribute) && !/^(sefa|pca)/.test(attribute);

// The face without the layers that came from others, and those others.
function takenApart(face) {
  const from = {};
  const { edits, keep, ...inner } = face;
  let base = inner;
  while (base.from.mix && GROUPS.includes(base.from.layers) && !from[base.from.layers]) {
    from[base.from.layers] = base.from.mix[1];
    [base] = base.from.mix;
  }
  return Object.keys(from).length > 0 && base.edits === undefined ? { base, from } : { base: inner, from: {} };
}

customElements.define("studio-steer", StudioSteer);
