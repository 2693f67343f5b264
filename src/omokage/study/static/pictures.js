// Pictures on canvases: decoded before a trial begins, painted from memory, so that no loading is ever timed.

import { h } from "./dom.js";

const FINE = [4, 8, 16, 32, 64]; // cells along a side of the layers of a mask

export async function decoded(blob) {
  return createImageBitmap(blob);
}

// A square that can show nothing, a cross to look at, a picture, or a mask. Its size is set in the stylesheet.
class StudyPicture extends HTMLElement {
  constructor() {
    super();
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.bitmap = null;
    this.state = "empty";
    this.pattern = null;
    this.resized = new ResizeObserver(() => this.fit());
  }

  connectedCallback() {
    if (!this.canvas.isConnected) this.append(this.canvas);
    this.resized.observe(this);
    this.fit();
  }

  disconnectedCallback() {
    this.resized.disconnect();
  }

  // As many canvas pixels as the screen has, so that the picture is scaled once and well.
  fit() {
    const pixels = Math.round(this.clientWidth * devicePixelRatio);
    if (pixels === 0 || this.canvas.width === pixels) return;
    this.canvas.width = pixels;
    this.canvas.height = pixels;
    this.pattern = null;
    this.draw(this.state);
  }

  draw(state) {
    this.state = state;
    this.dataset.state = state;
    const { canvas } = this;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (state === "picture" && this.bitmap) {
      context.imageSmoothingQuality = "high";
      context.drawImage(this.bitmap, 0, 0, canvas.width, canvas.height);
    } else if (state === "mask") {
      this.prepareMask();
      context.drawImage(this.pattern, 0, 0);
    } else if (state === "cross") {
      const [middle, arm] = [canvas.width / 2, canvas.width / 18];
      context.strokeStyle = getComputedStyle(this).color;
      context.lineWidth = Math.max(2, canvas.width / 110);
      context.beginPath();
      context.moveTo(middle - arm, middle);
      context.lineTo(middle + arm, middle);
      context.moveTo(middle, middle - arm);
      context.lineTo(middle, middle + arm);
      context.stroke();
    }
  }

  // Colours at random in coarse and fine cells over one another: shapes of every size are covered.
  prepareMask() {
    if (this.pattern) return;
    this.pattern = h("canvas", { width: this.canvas.width, height: this.canvas.height });
    const context = this.pattern.getContext("2d");
    for (const [number, cells] of FINE.entries()) {
      const noise = h("canvas", { width: cells, height: cells });
      const small = noise.getContext("2d");
      const pixels = small.createImageData(cells, cells);
      for (let at = 0; at < pixels.data.length; at += 4) {
        const light = 20 + 215 * Math.random();
        for (let channel = 0; channel < 3; channel++) {
          pixels.data[at + channel] = 0.65 * light + 0.35 * 255 * Math.random();
        }
        pixels.data[at + 3] = 255;
      }
      small.putImageData(pixels, 0, 0);
      context.globalCompositeOperation = number === 0 ? "source-over" : "overlay"; // keeps the contrast
      context.imageSmoothingEnabled = number < 2;
      context.drawImage(noise, 0, 0, this.pattern.width, this.pattern.height);
    }
  }
}

customElements.define("study-picture", StudyPicture);
