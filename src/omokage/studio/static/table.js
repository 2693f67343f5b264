// Grid: any two settings against each other, as a table of faces to pick from.

import { Latest, draw } from "./api.js";
import { Part, h } from "./dom.js";
import { near, nameOfDirection, tidy } from "./faces.js";
import { loaded, spotsOf } from "./pictures.js";
import { studio } from "./state.js";
import { fill, marks, moveOver, newTile, tileEvents } from "./tiles.js";
import { say, word } from "./words.js";

const kept = { rows: null, columns: null };

class StudioGrid extends Part {
  connected() {
    this.table = h("table", { class: "grid-table" }, h("caption", { class: "unseen" }, say("grid.label")));
    this.latest = new Latest(async ({ faces }, signal) => {
      const answer = await draw(faces, { channel: "grid", signal });
      await loaded(answer.sprite);
      return answer;
    }, (answer, request) => this.drawn(answer, request), (error) => studio.fail(error));
    tileEvents(this, this.table, { next: (tile, key) => moveOver(this.tiles, tile, key, this.across), pin: (tile) => studio.toggle(tile.face, { by: "steer", key: tile.key }),
      open: (tile) => studio.open(tile.face, { by: "steer", key: tile.key }) });
    this.listen(studio, "board", () => marks(this.table));
    this.listen(studio, "face", ({ detail: { by } }) => by !== "close" && this.fill());
    this.fill();
  }

  // What can be varied: its name, in words, its values, and a face with one of them.
  things() {
    const model = studio.modelOf(studio.face) ?? studio.model;
    const steps = (low, high, count) => Array.from({ length: count }, (_, at) => Math.round((low + ((high - low) * at) / (count - 1)) * 100) / 100);
    const settings = model.settings.map((setting) => ({
      name: setting.name, text: word("settings", setting.name), show: (value) => word("values", value),
      put: (face, value) => (setting.name === "psi" ? { ...face, psi: value } : { ...face, settings: { ...face.settings, [setting.name]: value } }),
      values: setting.choices?.length ? setting.choices.slice(0, 6)
        : setting.name === "psi" ? [0.4, 0.6, 0.8, 1, 1.2].filter((value) => value >= setting.low && value <= setting.high)
          : whole(setting) ? steps(setting.low, Math.min(setting.high, setting.low + 8), 5) : steps(setting.low, Math.min(setting.high, 4), 5),
    }));
    const conditions = model.can.conditions ? Object.entries(model.conditions ?? {}).map(([name, values]) => ({
      name, text: word("attributes", name), values: values.slice(0, 6), show: (value) => word("values", value),
      put: (face, value) => ({ ...face, conditions: { ...face.conditions, [name]: value } }),
    })) : [];
    const directions = model.can.steer ? model.directions.map(({ name, low, high, value }) => ({
      name, text: nameOfDirection(name), show: (steps_) => (steps_ > 0 ? `+${steps_}` : String(steps_)),
      put: (face, steps_) => ({ ...face, edits: { ...face.edits, [name]: steps_ } }),
      values: steps(value && name.includes("=") ? 0 : Math.max(low, -3), Math.min(high, 3), 5),
    })) : [];
    const variations = [{
      name: "variation", text: say("face.near"), show: String, values: [1, 2, 3, 4, 5], put: (face, seed) => near(face, seed, 0.3), last: true,
    }];
    return [...settings, ...conditions, ...directions, ...variations].filter(({ values }) => values.length > 1);
  }

  fill() {
    const things = this.things();
    const find = (name, otherwise) => things.find((thing) => thing.name === name) ?? otherwise;
    const rows = find(kept.rows, things[0]);
    const columns = find(kept.columns === rows.name ? null : kept.columns, things.find((thing) => thing !== rows && thing.name.includes("hair")) ?? things.at(-1));
    const choice = (label, chosen, change) => h("label", { class: "line" }, h("span", {}, label), h("select", { on: { change: ({ target }) => {
      change(target.value);
      this.fill();
    } } }, things.map(({ name, text }) => h("option", { value: name, selected: name === chosen.name }, text))));
    this.replaceChildren(h("div", { class: "lines two" },
      choice(say("grid.down"), rows, (name) => Object.assign(kept, { rows: name, columns: name === columns.name ? rows.name : columns.name })),
      choice(say("grid.across"), columns, (name) => Object.assign(kept, { columns: name, rows: name === rows.name ? columns.name : rows.name }))),
    h("div", { class: "scroll" }, this.table));
    const faces = rows.values.flatMap((down) => columns.values.map((across) => {
      const both = [[rows, down], [columns, across]].sort(([a], [b]) => Boolean(a.last) - Boolean(b.last));
      return tidy(both.reduce((face, [thing, value]) => thing.put(face, value), studio.face));
    }));
    this.latest.ask({ faces, rows, columns });
  }

  drawn(answer, { faces, rows, columns }) {
    const spots = spotsOf(answer);
    const across = columns.values.length;
    const heads = columns.values.map((value) => columns.show(value));
    const tiles = spots.map(() => newTile());
    this.table.replaceChildren(this.table.caption,
      h("thead", {}, h("tr", {}, h("td"), heads.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.values.map((value, row) => h("tr", {}, h("th", { scope: "row" }, rows.show(value)),
        tiles.slice(row * across, (row + 1) * across).map((tile) => h("td", {}, tile))))));
    for (const [at, spot] of spots.entries()) {
      const name = [say("grid.cell", { what: rows.text, value: rows.show(rows.values[Math.floor(at / across)]) }),
        say("grid.cell", { what: columns.text, value: heads[at % across] })].join(", ");
      fill(tiles[at], faces[at], spot, name);
    }
    if (tiles[0]) tiles[0].tabIndex = 0;
    Object.assign(this, { tiles, across });
  }
}

const whole = ({ default: value, low, high }) => [value, low, high].every(Number.isInteger) && high > 20;

customElements.define("studio-grid", StudioGrid);
