// Your drawing: found, cut out and imitated by the model in steps that one sees. Pictures that Omokage made come
// back as they were made.

import { erase, follow, post, upload } from "./api.js";
import { Part, button, clamp, h, icon, pickFile } from "./dom.js";
import { address } from "./pictures.js";
import { studio } from "./state.js";
import { fill, newTile } from "./tiles.js";
import { say, sentence, word } from "./words.js";

const ACCEPT = "image/png,image/jpeg,image/webp,image/gif";
const kept = { shown: null }; // what the last picture led to

class StudioDrawing extends Part {
  connected() {
    this.stop = null;
    if (kept.shown) this.replaceChildren(kept.shown);
    else this.empty();
  }

  disconnected() {
    this.stop?.abort();
  }

  // With a file that was dropped on the page, or with none.
  begin({ file } = {}) {
    if (file) this.take(file);
  }

  show(...children) {
    this.replaceChildren(...children.filter(Boolean));
  }

  empty() {
    kept.shown = null;
    const lacks = studio.lacks("invert", studio.model);
    this.show(
      h("button", { type: "button", class: "drop", on: { click: () => this.choose() } }, icon("upload"),
        h("strong", {}, say("drawing.choose")), h("span", {}, say("drawing.drop"))),
      lacks ? h("p", { class: "lacks" }, lacks) : null,
      h("p", { class: "faint" }, say("drawing.private")));
  }

  async choose() {
    const file = await pickFile(ACCEPT);
    if (file) this.take(file);
  }

  async take(file) {
    this.stop?.abort();
    this.show(h("p", { class: "working", role: "status" }, say("drawing.looking")));
    let answer;
    try {
      answer = await upload(file);
    } catch (error) {
      this.failed(error, file);
      return;
    }
    if (answer.restored) this.restored(answer.restored);
    else this.found(answer, file);
  }

  failed(error) {
    const text = sentence(`errors.${error.code}`, error.message) || say("errors.picture");
    studio.emit("say", { text, error: true, hidden: true });
    this.empty();
    this.prepend(h("p", { class: "trouble" }, text));
  }

  // A picture of ours: shown beside what is set, never over it.
  restored({ faces, lines, model_here: here }) {
    const tiles = h("div", { class: "faces" }, (faces ?? []).slice(0, 48).map((face) => {
      const tile = newTile();
      tile.tabIndex = 0;
      if (here) fill(tile, face);
      const open = () => here && studio.open(face, { by: "import", tab: "steer" });
      tile.addEventListener("click", open);
      tile.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        open();
      });
      return tile;
    }));
    this.show(
      h("h3", {}, say("drawing.ours")),
      here ? tiles : h("p", { class: "trouble" }, say("drawing.other_model")),
      h("div", { class: "actions" },
        here && faces?.length === 1 ? button(say("drawing.open"), () => studio.open(faces[0], { by: "import", tab: "steer" }), { class: "button main" }) : null,
        here ? button(say("drawing.keep"), async () => {
          for (const face of faces) if (!studio.pinOf(face)) await studio.toggle(face, { by: "import" });
        }) : null,
        button(say("drawing.another"), () => this.empty())),
      h("p", { class: "faint" }, say("drawing.beside")),
      h("dl", { class: "facts" }, (lines ?? []).map(fact)));
  }

  // The faces found in it, each in its box.
  async found(answer, file) {
    const { width, height, faces } = answer;
    const shown = h("canvas", { class: "uploaded", role: "img", "aria-label": say("drawing.yours") });
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (bitmap) {
      const scale = Math.min(1, 640 / Math.max(width, height));
      shown.width = Math.round(width * scale);
      shown.height = Math.round(height * scale);
      const context = shown.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, 0, 0, shown.width, shown.height);
    }
    const lacks = studio.lacks("invert", studio.model);
    const frame = h("div", { class: "uploaded-frame" }, bitmap ? shown : null, faces.map(({ box }, at) => {
      const [x, y, w, d] = box;
      const mark = h("button", { type: "button", class: "box", "aria-label": say("drawing.face", { n: at + 1 }), disabled: Boolean(lacks),
        on: { click: () => this.imitate(answer, box, shown) } }, faces.length > 1 ? String(at + 1) : "");
      Object.assign(mark.style, { left: `${(x / width) * 100}%`, top: `${(y / height) * 100}%`, width: `${(w / width) * 100}%`, height: `${(d / height) * 100}%` });
      return mark;
    }));
    const whole = [0, 0, width, height];
    let chosen = faces[0]?.box ?? whole;
    if (!lacks) ownBox(frame, (share) => (chosen = [share[0] * width, share[1] * height, share[2] * width, share[3] * height]));
    const heading = faces.length === 0 ? say("drawing.none") : faces.length === 1 ? say("drawing.one") : say("drawing.several");
    this.show(
      h("h3", { role: "status" }, heading), frame,
      lacks ? null : h("p", { class: "faint" }, say("drawing.own_box")),
      lacks ? h("p", { class: "lacks" }, lacks) : null,
      h("div", { class: "actions" },
        lacks ? null : button(say(faces.length > 0 ? "drawing.imitate" : "drawing.whole"), () => this.imitate(answer, chosen, shown), { class: "button main" }),
        button(say("drawing.another"), () => this.forget(answer))));
  }

  forget({ upload: id }) {
    erase(`uploads/${id}`).catch(() => {});
    this.empty();
  }

  async imitate(answer, box, shown) {
    const { width, height } = answer;
    const [x, y, w, d] = box;
    const scale = shown.width / width;
    const crop = h("canvas", { width: 256, height: 256, class: "beside", role: "img", "aria-label": say("drawing.yours") });
    if (shown.width) crop.getContext("2d").drawImage(shown, x * scale, y * scale, w * scale, d * (shown.height / height), 0, 0, 256, 256);
    const made = h("img", { class: "beside", alt: say("drawing.step"), hidden: true });
    const waiting = h("div", { class: "beside waiting" });
    const bar = h("progress", { max: 1, "aria-label": say("drawing.working") });
    const text = h("p", { role: "status" }, say("drawing.working"));
    const stop = (this.stop = new AbortController());
    this.show(
      h("div", { class: "compare" }, h("figure", {}, crop, h("figcaption", {}, say("drawing.yours"))),
        h("figure", {}, waiting, made, h("figcaption", {}, say("drawing.models")))),
      text, bar, h("div", { class: "actions" }, button(say("common.cancel"), () => {
        stop.abort();
        this.forget(answer);
      })));
    try {
      const { job } = await post("jobs", { kind: "invert", upload: answer.upload, box: box.map(Math.round), model: studio.model.id });
      const result = await follow(job, {
        signal: stop.signal,
        progress: ({ done, total, left_s: left }) => {
          bar.max = total || 1;
          bar.value = done;
          if (left > 1) text.textContent = say("drawing.left", { seconds: Math.ceil(left) });
        },
        picture: ({ url }) => {
          made.src = address(url);
          made.hidden = false;
          waiting.hidden = true;
        },
      });
      this.imitated(result, crop);
    } catch (error) {
      if (!stop.signal.aborted) this.failed(error);
    }
  }

  imitated({ face, fit, before, nearest }, crop) {
    const left = before ? h("img", { class: "beside", src: address(before), alt: say("drawing.yours") }) : crop;
    const page = h("div", { class: "imitated" },
      h("div", { class: "compare" },
        h("figure", {}, left, h("figcaption", {}, say("drawing.yours"))),
        h("figure", {}, h("img", { class: "beside", src: address(nearest), alt: say("drawing.models") }), h("figcaption", {}, say("drawing.models")))),
      h("div", { class: "fit", title: fit.words }, h("strong", {}, say(`fit.${band(fit.share)}`)),
        h("p", { class: "faint" }, say("drawing.nearer", { n: Math.round((1 - fit.share) * 100) }))),
      h("div", { class: "actions" },
        button(say("drawing.steer"), () => studio.open(face, { by: "upload", tab: "steer" }), { class: "button main" }),
        button(say("face.keep"), () => studio.toggle(face, { by: "upload" })),
        button(say("drawing.another"), () => this.empty())),
      h("p", { class: "faint" }, say("drawing.private")));
    kept.shown = page;
    this.show(page);
    studio.emit("say", { text: say("drawing.done"), hidden: true });
  }
}

// A box of one's own, pulled with the pointer; changed gets left, top, width and height as shares of the picture.
function ownBox(frame, changed) {
  const mark = h("span", { class: "box own", hidden: true });
  let from = null;
  const place = (event) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((share) => clamp(share, 0, 1));
  };
  frame.append(mark);
  frame.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button")) return;
    from = place(event);
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = place(event);
    const [left, top, width, height] = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
    if (width < 0.03 || height < 0.03) return;
    mark.hidden = false;
    Object.assign(mark.style, { left: `${left * 100}%`, top: `${top * 100}%`, width: `${width * 100}%`, height: `${height * 100}%` });
    changed([left, top, width, height]);
  });
  for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, () => (from = null));
}

// share: of the model's own faces that are nearer to the drawing than what was found.
const band = (share) => (share <= 0.005 ? "good" : share <= 0.05 ? "fair" : "poor");

// "name: value" as a row; other lines as they are.
export function fact(line) {
  const cut = line.indexOf(": ");
  if (cut <= 0 || cut >= 40) return h("div", {}, h("dd", {}, line));
  const value = line.slice(cut + 2);
  const short = /^[0-9a-f]{40,}$/.test(value) ? `${value.slice(0, 12)}…` : value; // nobody reads all of a hash
  return h("div", {}, h("dt", {}, word("facts", line.slice(0, cut))), h("dd", { title: short === value ? null : value }, short));
}

customElements.define("studio-drawing", StudioDrawing);
