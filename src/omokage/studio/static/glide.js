// Glide: a square between four faces. Every place in it is a face.

import { Latest, draw } from "./api.js";
import { Part, button, clamp, h, random } from "./dom.js";
import { slot } from "./chooser.js";
import { between, nestable, textOf, tidy } from "./faces.js";
import { loaded, paint, spotsOf } from "./pictures.js";
import { studio } from "./state.js";
import { say } from "./words.js";

const SIDE = 5; // faces along a side of the square
const STEP = 0.05; // of an arrow key

const kept = { corners: [], at: [0, 0], made: null };

export function glideBetween(faces) {
  const free = () => studio.seed(random(2 ** 31), studio.modelOf(faces[0]) ?? studio.model);
  kept.corners = [...faces, free(), free(), free()].slice(0, 4);
  kept.at = [0, 0];
  kept.made = faces[0];
}

// The weights of the corners (in rows) at a place of the square.
const weights = ([x, y]) => [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y];

class StudioGlide extends Part {
  connected() {
    if (!kept.made || textOf(tidy(kept.made)) !== textOf(tidy(studio.face)) || kept.corners.some(({ model }) => model !== studio.face.model)) {
      glideBetween([studio.face]);
    }
    this.plane = new Latest(async (faces, signal) => {
      const answer = await draw(faces.map(tidy), { channel: "glide-plane", signal });
      await loaded(answer.sprite);
      return answer;
    }, (answer) => {
      for (const [at, spot] of spotsOf(answer).entries()) paint(this.cells[at], spot);
      this.pad.removeAttribute("aria-busy");
    }, (error) => studio.fail(error));
    this.fill();
    this.listen(studio, "face", ({ detail: { by } }) => {
      if (by === "close" || by === "glide") return;
      glideBetween([studio.face]);
      this.fill();
    });
  }

  fill() {
    this.cells = Array.from({ length: SIDE * SIDE }, () => h("span", { class: "cell" }));
    this.knob = h("span", { class: "knob" });
    this.pad = h("div", { class: "pad", role: "slider", tabindex: "0", "aria-label": say("glide.label"), "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-roledescription": say("glide.role"), on: {
        pointerdown: (event) => {
          this.pad.setPointerCapture(event.pointerId);
          this.pad.focus({ preventScroll: true });
          this.point(event);
        },
        pointermove: (event) => this.pad.hasPointerCapture(event.pointerId) && this.point(event),
        keydown: (event) => this.key(event),
      } }, this.cells, this.knob);
    const corners = kept.corners.map((face, at) => slot(this, { label: say("glide.corner", { n: at + 1 }), caption: String(at + 1), face, model: studio.face.model,
      changed: (chosen) => {
        kept.corners[at] = chosen;
        this.drawPlane();
        this.move(kept.at);
      } }));
    this.replaceChildren(
      h("div", { class: "glide" }, corners.slice(0, 2), this.pad, corners.slice(2)),
      h("p", { class: "faint" }, say("glide.hint")),
      h("div", { class: "actions" }, button(say("glide.others"), () => {
        glideBetween([kept.corners[0]]);
        this.fill();
        this.move([0, 0]);
      }, { class: "button small" })));
    this.tell();
    this.drawPlane();
  }

  async drawPlane() {
    this.pad.setAttribute("aria-busy", "true");
    const corners = await studio.try(() => nestable(kept.corners));
    if (!corners || !this.isConnected) return;
    this.corners = corners;
    this.plane.ask(this.cells.map((_, at) => at_(corners, [(at % SIDE) / (SIDE - 1), Math.floor(at / SIDE) / (SIDE - 1)])));
  }

  point(event) {
    const box = this.pad.getBoundingClientRect();
    // The middle of an outer cell is the corner itself.
    const place = (from, length, value) => clamp(((value - from) / length - 0.5 / SIDE) / (1 - 1 / SIDE), 0, 1);
    this.move([place(box.left, box.width, event.clientX), place(box.top, box.height, event.clientY)]);
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") studio.toggle(studio.face, { by: "glide", key: studio.key });
    else if (step) this.move(kept.at.map((value, at) => clamp(value + step[at] * STEP, 0, 1)));
    else if (event.key === "Home") this.move([0, 0]);
    else if (event.key === "End") this.move([1, 1]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  move(at) {
    kept.at = at;
    this.tell();
    if (!this.corners) return;
    kept.made = at_(this.corners, at);
    studio.change(kept.made, "glide");
  }

  tell() {
    const [x, y] = kept.at;
    this.knob.style.left = `${(0.5 / SIDE + x * (1 - 1 / SIDE)) * 100}%`;
    this.knob.style.top = `${(0.5 / SIDE + y * (1 - 1 / SIDE)) * 100}%`;
    this.pad.setAttribute("aria-valuenow", Math.round(x * 100));
    this.pad.setAttribute("aria-valuetext", weights(kept.at).map((share, corner) =>
      say("glide.share", { n: corner + 1, percent: Math.round(share * 100) })).join(", "));
  }
}

function at_(corners, place) {
  const shares = weights(place);
  const whole = shares.findIndex((share) => share > 0.9999);
  return whole >= 0 ? corners[whole] : between(corners, shares);
}

customElements.define("studio-glide", StudioGlide);
