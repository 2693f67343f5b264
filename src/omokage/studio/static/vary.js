// Vary: faces near the one on the table. A click puts one there, and the next ones are near that.

import { FaceList } from "./facelist.js";
import { Part, button, h } from "./dom.js";
import { near, nestable } from "./faces.js";
import { studio } from "./state.js";
import { say } from "./words.js";

const COUNT = 12;
const kept = { distance: 0.3 };

class StudioVary extends Part {
  connected() {
    this.first = 1;
    this.list = new FaceList(this, { label: say("vary.label"), channel: "vary", by: "vary" });
    const input = h("input", { type: "range", min: 0.05, max: 1, step: 0.05, "aria-label": say("vary.distance"), on: {
      input: () => {
        kept.distance = Number(input.value);
        tell();
        this.show();
      },
    } });
    const tell = () => input.setAttribute("aria-valuetext", say("common.percent", { n: Math.round(kept.distance * 100) }));
    input.value = kept.distance;
    tell();
    this.append(
      h("div", { class: "daring" }, h("span", {}, say("vary.near")), input, h("span", {}, say("vary.far"))),
      this.list.element,
      h("div", { class: "actions" }, button(say("vary.more"), () => {
        this.first += COUNT;
        this.show();
      })));
    this.listen(studio, "face", ({ detail: { by } }) => {
      if (by === "close") return;
      this.first = 1;
      this.show();
    });
    this.show();
  }

  async show() {
    const pair = await studio.try(() => nestable([studio.face]));
    if (!pair || !this.isConnected) return;
    const [face] = pair;
    this.list.show(Array.from({ length: COUNT }, (_, at) => near(face, this.first + at, kept.distance)),
      { names: Array.from({ length: COUNT }, (_, at) => say("vary.one", { n: this.first + at })) });
  }
}

customElements.define("studio-vary", StudioVary);
