// A few faces to pick from, drawn together: variations, children, what else there is.

import { Latest, draw } from "./api.js";
import { h } from "./dom.js";
import { nameOf, tidy } from "./faces.js";
import { loaded, spotsOf } from "./pictures.js";
import { studio } from "./state.js";
import { fill, marks, moveOver, newTile, tileEvents } from "./tiles.js";

export class FaceList {
  // open(tile): what a click does; the default puts the face on the table.
  constructor(part, { label, channel, open, by }) {
    this.element = h("div", { class: "faces", role: "group", "aria-label": label });
    this.latest = new Latest(async ({ faces }, signal) => {
      const answer = await draw(faces.map(tidy), { channel, signal });
      await loaded(answer.sprite);
      return answer;
    }, (answer, { faces, names }) => {
      for (const [at, spot] of spotsOf(answer).entries()) {
        if (this.tiles[at]) fill(this.tiles[at], faces[at], spot, names?.[at] ?? nameOf(faces[at]));
      }
      this.element.removeAttribute("aria-busy");
    }, (error) => {
      this.element.removeAttribute("aria-busy");
      studio.fail(error);
    });
    this.by = by;
    this.tiles = [];
    tileEvents(part, this.element, {
      open: open ?? ((tile) => studio.open(tile.face, { key: tile.key, by })),
      pin: (tile) => studio.toggle(tile.face, { key: tile.key, by }),
      next: (tile, key) => this.move(tile, key),
    });
    part.listen(studio, "board", () => marks(this.element));
  }

  // captions: an element under each face, or nothing.
  show(faces, { names = null, captions = null } = {}) {
    if (this.tiles.length !== faces.length || captions) {
      this.tiles = faces.map(newTile);
      this.element.replaceChildren(...this.tiles.map((tile, at) => (captions
        ? h("figure", { class: "child" }, tile, h("figcaption", { "aria-hidden": "true" }, captions[at])) : tile)));
      if (this.tiles[0]) this.tiles[0].tabIndex = 0;
      for (const tile of this.tiles) fill(tile, null);
    }
    this.element.setAttribute("aria-busy", "true");
    this.latest.ask({ faces, names });
  }

  move(tile, key) {
    const across = this.tiles.filter((other) => other.getBoundingClientRect().top === this.tiles[0].getBoundingClientRect().top).length;
    moveOver(this.tiles, tile, key, across);
  }
}
