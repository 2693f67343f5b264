// Your drawing: found, cut out and imitated by the model in steps that one sees. Pictures that Omokage made come
// back as they were made.

import { erase, follow, post, upload } from "./api.js";
import { Part, button, h, icon, pickFile } from "./dom.js";
import { address } from "./pictures.js";
import { studio } from "./state.js";
import { fill, newTile } from "./tiles.js";
import { say, sentence } from "./words.js";

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
      h("dl", { class: "facts" }, (lines ?? []).map((line) => fact(line))));
  }

  // The faces found in it, each in its box.
  async found(answer, file) {
    const { width, height, faces, told } = answer;
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
    const heading = faces.length === 0 ? say("drawing.none") : faces.length === 1 ? say("drawing.one") : say("drawing.several");
    this.show(
      h("h3", { role: "status" }, heading), frame,
      (told ?? []).map((text) => h("p", { class: "faint" }, text)).at(0),
      lacks ? h("p", { class: "lacks" }, lacks) : null,
      h("div", { class: "actions" },
        lacks ? null : faces.length > 0
          ? button(say("drawing.imitate"), () => this.imitate(answer, faces[0].box, shown), { class: "button main" })
          : button(say("drawing.whole"), () => this.imitate(answer, whole, shown), { class: "button main" }),
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
    const share = Math.round((fit?.share ?? 0) * 100);
    const left = before ? h("img", { class: "beside", src: address(before), alt: say("drawing.yours") }) : crop;
    const page = h("div", { class: "imitated" },
      h("div", { class: "compare" },
        h("figure", {}, left, h("figcaption", {}, say("drawing.yours"))),
        h("figure", {}, h("img", { class: "beside", src: address(nearest), alt: say("drawing.models") }), h("figcaption", {}, say("drawing.models")))),
      h("p", { class: "fit" }, h("meter", { min: 0, max: 100, value: share, "aria-label": say("drawing.fit") }),
        h("span", {}, sentence(`fit.${band(fit?.share ?? 0)}`, fit?.words) || say(`fit.${band(fit?.share ?? 0)}`))),
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

const band = (share) => (share >= 0.75 ? "good" : share >= 0.45 ? "fair" : "poor");

// "name: value" as a row; other lines as they are.
export function fact(line) {
  const cut = line.indexOf(": ");
  return cut > 0 && cut < 40 ? h("div", {}, h("dt", {}, line.slice(0, cut)), h("dd", {}, line.slice(cut + 2))) : h("div", {}, h("dd", {}, line));
}

customElements.define("studio-drawing", StudioDrawing);
