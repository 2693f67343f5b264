// The endless wall of faces. Only the rows in sight are in the document; pages of 24 faces far away are forgotten
// and drawn again on the way back.

import { LONG, quiet, wall } from "./api.js";
import { Part, button, clamp, h } from "./dom.js";
import { nameOf } from "./faces.js";
import { loaded, spotsOf } from "./pictures.js";
import { studio } from "./state.js";
import { fill, mark, newTile, tileEvents } from "./tiles.js";
import { has, number as digits, say, word } from "./words.js";

const PAGE = 24;
const GAP = 8; // px, as in the stylesheet
const KEPT = 12; // pages kept on each side of what is in sight

class StudioWall extends Part {
  connected() {
    this.note = h("p", { class: "wall-note", role: "status" });
    this.space = h("div", { class: "space", role: "group", "aria-label": say("wall.label") });
    this.again = h("div", { class: "wall-failed", hidden: true },
      h("p", {}, say("wall.failed")), button(say("wall.again"), () => this.retry()));
    this.further = h("div", { class: "further", hidden: true },
      h("p", {}, say("wall.none")), button(say("wall.further"), () => this.lookFurther()));
    this.tabIndex = -1;
    this.append(this.note, this.space, this.further, this.again);
    this.rows = new Map();
    this.at = 0;
    this.columns = 0;
    this.fresh = true; // nothing has been shown yet
    this.waiting = false;
    tileEvents(this, this.space, {
      next: (tile, key) => this.move(tile, key),
      open: (tile) => {
        this.at = tile.index;
        studio.open(tile.face, { key: tile.key });
      },
    });
    this.listen(studio, "face", ({ detail: { by } }) => ["open", "close"].includes(by) && this.tiles().forEach(mark));
    this.listen(this, "scroll", () => this.later());
    this.listen(studio, "roll", () => this.begin());
    this.listen(studio, "view", ({ detail: { what } }) => (["model", "fixed", "broken"].includes(what)
      ? this.begin(what !== "model") : this.refresh()));
    this.listen(studio, "board", () => this.tiles().forEach(mark));
    this.watch = new ResizeObserver(() => this.measure());
    this.watch.observe(this);
    this.begin();
  }

  disconnected() {
    this.watch.disconnect();
    this.stop?.abort();
  }

  tiles() {
    return [...this.space.querySelectorAll(".face")];
  }

  // From the top, with the seeds from studio.start on. kept: the faces in sight stay until the new ones are there.
  begin(kept = false) {
    this.stop?.abort();
    this.starts = [studio.start];
    this.counts = [PAGE]; // faces of each page; fewer where what is fixed is rare
    const old = kept ? this.pages?.get(0) : null;
    this.pages = new Map(old ? [[0, { ...old, stale: true }]] : []);
    this.announced = false;
    this.at = 0;
    this.scrollTop = 0;
    this.again.hidden = true;
    this.further.hidden = true;
    this.measure(true);
  }

  // How many faces there are, or will be, on the pages before this one.
  before(number) {
    let sum = 0;
    for (let page = 0; page < number; page++) sum += this.counts[page];
    return sum;
  }

  get total() {
    return this.before(this.starts.length);
  }

  // The page of a face, and its place on it.
  place(index) {
    let number = 0;
    while (number < this.starts.length - 1 && index >= this.counts[number]) index -= this.counts[number++];
    return [number, index];
  }

  // The same seeds in another view: what is in sight is drawn first, and stays until it is.
  refresh() {
    for (const page of this.pages.values()) page.stale = true;
    if (this.since && performance.now() - this.since > LONG) this.stop?.abort();
    this.pump();
  }

  retry() {
    this.again.hidden = true;
    this.pump();
  }

  measure(again = false) {
    const style = getComputedStyle(this);
    const width = this.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (width <= 0) return;
    const wanted = width < 520 ? width / 3 : clamp(width / 7.5, 128, 172);
    const columns = Math.max(2, Math.round((width + GAP) / (wanted + GAP)));
    const side = (width - GAP * (columns - 1)) / columns;
    if (columns !== this.columns || Math.abs(side - this.side) > 0.5 || again) {
      // What somebody looks at stays where it is: the face at hand if it is in sight, else the first one.
      const before = this.side + GAP;
      const row = (index) => Math.floor(index / this.columns);
      const seen = (index) => row(index) * before + before > this.scrollTop && row(index) * before < this.scrollTop + this.clientHeight;
      const anchor = this.columns && seen(this.at) ? this.at : Math.floor(this.scrollTop / before) * this.columns || 0;
      const height = this.columns ? row(anchor) * before - this.scrollTop : 0;
      const moved = columns !== this.columns && !again;
      Object.assign(this, { columns, side });
      for (const row of this.rows.values()) row.remove();
      this.rows.clear();
      this.style.setProperty("--columns", columns);
      if (moved) {
        this.render();
        this.scrollTop = Math.floor(anchor / columns) * (side + GAP) - height;
        this.render();
      }
    }
    this.render();
  }

  later() {
    if (this.planned) return;
    this.planned = requestAnimationFrame(() => {
      this.planned = null;
      this.render();
    });
  }

  // The rows that are in sight or nearly so: [first, one past the last].
  sight(beyond) {
    const height = this.side + GAP;
    const top = this.scrollTop - this.space.offsetTop;
    const all = Math.ceil(this.total / this.columns);
    return [clamp(Math.floor((top - beyond) / height), 0, all), clamp(Math.ceil((top + this.clientHeight + beyond) / height), 0, all)];
  }

  render() {
    if (!this.columns) return;
    const height = this.side + GAP;
    const all = Math.ceil(this.total / this.columns);
    this.space.style.height = `${all * height}px`;
    const [from, to] = this.sight(height * 1.2);
    for (const [at, row] of this.rows) {
      if ((at < from || at >= to) && !row.contains(document.activeElement)) {
        row.remove();
        this.rows.delete(at);
      }
    }
    for (let at = from; at < to; at++) {
      if (this.rows.has(at)) continue;
      const row = h("div", { class: "row" }, Array.from({ length: this.columns }, newTile));
      row.style.transform = `translateY(${at * height}px)`;
      this.rows.set(at, row);
      const after = [...this.rows.keys()].filter((other) => other > at).sort((a, b) => a - b)[0];
      this.space.insertBefore(row, this.rows.get(after) ?? null);
      this.fillRow(at);
    }
    this.forget();
    this.rove();
    this.pump();
  }

  fillRow(at) {
    const tiles = this.rows.get(at).querySelectorAll(".face");
    const { total } = this;
    for (const [column, tile] of tiles.entries()) {
      const index = at * this.columns + column;
      const [number, place] = this.place(index);
      const page = this.pages.get(number);
      const face = page?.faces[place] ?? null;
      tile.index = index;
      tile.hidden = index >= total;
      if (face) fill(tile, face, page.spots[place], nameOf(face));
      else fill(tile, null);
    }
  }

  fillPage(number) {
    const [from, to] = [this.before(number), this.before(number + 1) - 1].map((index) => Math.floor(index / this.columns));
    for (let at = from; at <= to; at++) if (this.rows.has(at)) this.fillRow(at);
  }

  // One tile can be reached by Tab; arrow keys lead on from there.
  rove() {
    const tiles = this.tiles();
    const chosen = tiles.find((tile) => tile.index === this.at) ?? tiles.find((tile) => tile.face) ?? tiles[0];
    for (const tile of tiles) tile.tabIndex = tile === chosen ? 0 : -1;
  }

  move(tile, key) {
    const screen = Math.max(1, Math.floor(this.clientHeight / (this.side + GAP))) * this.columns;
    const row = tile.index - (tile.index % this.columns);
    const to = {
      ArrowLeft: tile.index - 1, ArrowRight: tile.index + 1, ArrowUp: tile.index - this.columns,
      ArrowDown: tile.index + this.columns, PageUp: tile.index - screen, PageDown: tile.index + screen,
      Home: row, End: row + this.columns - 1,
    }[key];
    this.go(clamp(to, 0, this.total - 1));
  }

  go(index) {
    this.at = index;
    const height = this.side + GAP;
    const top = this.space.offsetTop + Math.floor(index / this.columns) * height;
    if (top < this.scrollTop) this.scrollTop = Math.max(0, top - GAP);
    else if (top + height > this.scrollTop + this.clientHeight) this.scrollTop = top + height - this.clientHeight + GAP;
    this.render();
    this.tiles().find((tile) => tile.index === index)?.focus({ preventScroll: true });
  }

  focusFace() {
    this.go(clamp(this.at, 0, Math.max(0, this.total - 1)));
  }

  forget() {
    const [from, to] = this.sight(0).map((row) => this.place(row * this.columns)[0]);
    for (const number of this.pages.keys()) {
      if (number < from - KEPT || number > to + KEPT) this.pages.delete(number);
    }
  }

  // The page to draw next: in sight first, then just below.
  wanted() {
    if (!this.columns || !this.clientHeight) return null;
    const missing = (number) => number < this.starts.length
      && (!this.pages.has(number) || this.pages.get(number).stale);
    for (const beyond of [0, this.clientHeight]) {
      const [from, to] = this.sight(beyond);
      const [last] = this.place(Math.max(0, to * this.columns - 1));
      for (let [number] = this.place(from * this.columns); number <= last; number++) if (missing(number)) return number;
    }
    return null;
  }

  async pump() {
    if (this.pumping || !this.again.hidden) return;
    this.pumping = true;
    try {
      for (let number = this.wanted(); number !== null; number = this.wanted()) await this.load(number);
    } catch (error) {
      this.again.hidden = false;
      studio.fail(error);
    } finally {
      this.pumping = false;
      this.setAttribute("aria-busy", "false");
    }
  }

  async load(number) {
    const { model, view } = studio;
    // What comes first is shown as it comes; broken faces are replaced a moment later.
    const first = this.fresh && number === 0 && !view.broken;
    const { starts } = this;
    const page = this.pages.get(number);
    if (page) page.stale = false;
    const stop = (this.stop = new AbortController());
    this.since = performance.now();
    this.setAttribute("aria-busy", "true");
    try {
      const answer = await wall({
        model: model.id, start: starts[number], count: PAGE, psi: view.psi, settings: view.settings,
        fixed: view.fixed, broken: view.broken || first ? "show" : "replace", channel: `wall-${number}`,
      }, stop.signal);
      if (answer.sprite) await loaded(answer.sprite);
      if (stop.signal.aborted || starts !== this.starts) return;
      const stale = first || Boolean(this.pages.get(number)?.stale);
      this.pages.set(number, { faces: answer.faces, spots: answer.sprite ? spotsOf(answer) : [], stale });
      this.fresh = false;
      this.told(number, answer);
      const moved = this.counts[number] !== answer.faces.length;
      this.counts[number] = answer.faces.length;
      if (starts[number + 1] !== answer.next) {
        starts.length = this.counts.length = number + 1;
        for (const other of this.pages.keys()) if (other > number) this.pages.get(other).stale = true;
        // After a page on which nothing was found, somebody is asked first.
        this.further.hidden = answer.faces.length > 0;
        if (this.further.hidden) this.grow(answer.next);
        else this.next = answer.next;
      }
      if (moved) this.rows.forEach((row, at) => this.fillRow(at));
      else this.fillPage(number);
      this.render();
    } catch (error) {
      if (page && starts === this.starts) page.stale = true;
      if (!quiet(error)) throw error;
    } finally {
      this.since = null;
    }
  }

  grow(start) {
    this.starts.push(start);
    this.counts.push(PAGE);
  }

  lookFurther() {
    this.further.hidden = true;
    this.grow(this.next);
    this.render();
  }

  told(number, answer) {
    if (number !== 0 && answer.faces.length > 0) return;
    this.note.textContent = answer.notes ? answer.notes.map(inWords).join(" ") : (answer.told ?? []).join(" ");
    this.note.title = (answer.told ?? []).join(" ");
    this.note.hidden = !this.note.textContent;
    if (!this.announced && !this.fresh) {
      studio.emit("say", { text: say("wall.rolled", { n: digits(answer.faces.length) }), hidden: true });
    }
    this.announced = true;
  }
}

// What the server notes of a page, as a sentence.
function inWords({ code, n = 0, tried = 0, fixed = {} }) {
  const what = Object.entries(fixed).map(([name, value]) => say("bar.chip", { attribute: word("attributes", name), value: word("values", value) }));
  return has(`notes.${code}`) ? say(`notes.${code}`, { n: digits(n), tried: digits(tried), fixed: what.join(", ") }) : "";
}

customElements.define("studio-wall", StudioWall);
