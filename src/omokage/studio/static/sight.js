// A long list of faces: only those in sight, and those just around them, are in the document. Each has its place in
// px, a screen reader hears which one of how many it is, and arrow keys lead on to those that are not there yet.

import { clamp } from "./dom.js";

export class Sight {
  // scroller scrolls; list is an ul in it. make(thing) → li with .tile; update(li, thing) fills it. place(things,
  // width, height) puts x and y on each thing and returns {across, width, height, total}: how many stand in a row,
  // the size of one, and the height of all. The height given is that of a li as it was drawn, or null.
  constructor(scroller, list, { make, place, update = () => {} }) {
    Object.assign(this, { scroller, list, make, place, update, things: [], elements: new Map(), at: 0, drawn: null, stale: false });
    scroller.addEventListener("scroll", () => this.later());
    list.addEventListener("focusin", ({ target }) => {
      this.at = Math.max(0, this.indexOf(target));
      this.rove();
    });
    this.watch = new ResizeObserver(() => this.layout());
    this.watch.observe(scroller);
  }

  indexOf(element) {
    const { thing } = element.closest("li") ?? {};
    return thing ? this.things.indexOf(thing) : -1;
  }

  // things: {id, …} in the order in which they are read.
  show(things) {
    const active = this.list.contains(document.activeElement) ? document.activeElement : null;
    const held = active ? this.indexOf(active) : -1;
    const id = this.things[held]?.id;
    this.things = things;
    this.at = clamp(this.at, 0, Math.max(0, things.length - 1));
    this.layout(true);
    const now = things.findIndex((thing) => thing.id === id);
    if (held < 0 || things.length === 0) return;
    if (now < 0) this.go(Math.min(held, things.length - 1)); // it is gone: its neighbour has its place
    else if (now !== held) this.reveal(now);
  }

  layout(refill = this.stale) {
    this.stale = refill;
    if (this.scroller.clientWidth === 0) return; // not seen: it is laid out when it is
    this.stale = false;
    for (let round = 0; round < 2; round++) {
      Object.assign(this, this.place(this.things, this.list.clientWidth, this.drawn));
      this.list.style.height = `${this.total}px`;
      this.list.style.setProperty("--side", `${this.width}px`);
      this.render(refill);
      const drawn = this.elements.values().next().value?.offsetHeight ?? this.drawn;
      if (drawn === this.drawn) return;
      this.drawn = drawn;
    }
  }

  later() {
    if (this.planned) return;
    this.planned = requestAnimationFrame(() => {
      this.planned = null;
      this.render();
    });
  }

  inSight({ x, y }, beyond = 1) {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.scroller;
    const within = (at, size, from, length) => at + size * (1 + beyond) > from && at - size * beyond < from + length;
    return within(x, this.width, scrollLeft, clientWidth) && within(y, this.height, scrollTop, clientHeight);
  }

  render(refill = false) {
    const active = document.activeElement;
    const shown = this.things.filter((thing) => this.inSight(thing) || this.elements.get(thing.id)?.contains(active));
    const ids = new Set(shown.map(({ id }) => id));
    for (const [id, element] of this.elements) {
      if (ids.has(id)) continue;
      element.remove();
      this.elements.delete(id);
    }
    for (const [at, thing] of shown.entries()) {
      const known = this.elements.get(thing.id);
      const element = known ?? this.make(thing);
      if (!known || refill) this.update(element, thing);
      this.elements.set(thing.id, element);
      element.thing = thing;
      element.style.transform = `translate(${thing.x}px, ${thing.y}px)`;
      element.setAttribute("aria-setsize", this.things.length);
      element.setAttribute("aria-posinset", this.things.indexOf(thing) + 1);
      if (this.list.children[at] !== element) this.list.insertBefore(element, this.list.children[at] ?? null);
    }
    // Whoever is moved in the document loses the focus.
    if (active !== document.activeElement && this.list.contains(active)) active.focus({ preventScroll: true });
    this.rove();
  }

  // One face can be reached by Tab: the one at hand, or the first in sight.
  rove() {
    const elements = [...this.elements.values()];
    const chosen = elements.find(({ thing }) => thing === this.things[this.at]) ?? elements.find(({ thing }) => this.inSight(thing, 0)) ?? elements[0];
    for (const element of elements) element.tile.tabIndex = element === chosen ? 0 : -1;
  }

  // Arrow keys, Home and End.
  move(tile, key) {
    const at = this.indexOf(tile);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - this.across, ArrowDown: at + this.across, Home: 0, End: this.things.length - 1 }[key];
    if (this.things[to]) this.go(to);
  }

  reveal(index) {
    const { x, y } = this.things[index];
    const { scroller } = this;
    const within = (from, length, at, size) => (at < from ? at : Math.max(from, at + size - length));
    scroller.scrollTop = within(scroller.scrollTop, scroller.clientHeight, y, this.height + this.list.offsetTop);
    scroller.scrollLeft = within(scroller.scrollLeft, scroller.clientWidth, x, this.width);
    this.render();
  }

  go(index) {
    this.at = index;
    this.reveal(index);
    this.elements.get(this.things[index].id)?.tile.focus({ preventScroll: true });
  }
}

// Places in rows of across, gap px apart, for Sight's place(). low: px that are under a face before one is drawn.
export function inRows(things, width, height, { across, gap, low = 0 }) {
  const side = (width - gap * (across - 1)) / across;
  const high = height ?? side + low;
  for (const [at, thing] of things.entries()) {
    thing.x = (at % across) * (side + gap);
    thing.y = Math.floor(at / across) * (high + gap);
  }
  return { across, width: side, height: high, total: Math.max(0, Math.ceil(things.length / across) * (high + gap) - gap) };
}
