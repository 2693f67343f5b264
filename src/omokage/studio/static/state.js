// What the page is about: the model, the view of the wall, the face on the table, the board.
//
// Parts listen for: "view" (model, daring, fixed values), "roll", "face" (detail.by: who changed it), "picture",
// "board", "say" ({text, error}).

import { Latest, Refusal, Silence, draw, erase, get, insist, post, quiet } from "./api.js";
import { clamp, random, randomId } from "./dom.js";
import { madeBy, nestable, parentsOf, plain, textOf, tidy } from "./faces.js";
import { recall, remember } from "./memory.js";
import { loaded, spotsOf } from "./pictures.js";
import { say, sentence } from "./words.js";

const TYPICAL = 0.8; // psi that a model opens with, where it has that setting
const STEP = 500; // ms of rest between two steps of steering
const TRAIL = 50; // faces that one can go back to
const REST = 250; // ms after which a slider rests

class Studio extends EventTarget {
  constructor() {
    super();
    this.models = [];
    this.model = null;
    this.view = { psi: 1, settings: {}, fixed: {}, broken: false };
    this.start = 0;
    this.starts = [];
    this.boards = [];
    this.board = null;
    this.pinned = new Map();
    this.face = null; // on the table
    this.base = null; // the face as it came
    this.key = null;
    this.by = null;
    this.trail = [];
    this.past = []; // the face on the table before each step of steering
    this.future = [];
    this.changedAt = 0;
    this.tab = "steer";
    this.edits = Promise.resolve();
    this.drawing = new Latest(
      async ({ face, moving }, signal) => {
        const shown = moving ? { ...face, keep: [] } : face;
        const answer = await draw([tidy(shown)], { size: "full", channel: "table", signal });
        await loaded(answer.sprite);
        return answer;
      },
      (answer, { face, moving }) => {
        const [spot] = spotsOf(answer);
        if (face === this.face && !moving) this.key = spot.key;
        this.emit("picture", { ...spot, face });
      },
      (error) => {
        this.emit("picture", null);
        this.fail(error);
      },
    );
  }

  emit(name, detail = {}) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  say(text) {
    this.emit("say", { text });
  }

  // A friendly sentence for whatever went wrong. Cancelled requests are nobody's business.
  fail(error) {
    if (quiet(error)) return;
    if (!(error instanceof Refusal || error instanceof Silence)) console.error(error);
    const text = error instanceof Silence ? say("errors.offline")
      : (error instanceof Refusal && sentence(`errors.${error.code}`, error.message)) || say("errors.other");
    this.emit("say", { text, error: true });
  }

  // Runs something that may fail; a failure is said, and null comes back.
  async try(work) {
    try {
      return await work();
    } catch (error) {
      this.fail(error);
      return null;
    }
  }

  begin(info) {
    this.info = info;
    this.models = info.models;
    // Started with other models, the first one that was named is shown.
    const kept = recall("view", {});
    if (kept.offered !== this.offered) delete kept.model;
    this.setModel(this.models.find(({ id }) => id === kept.model)?.id ?? this.models[0].id, kept);
  }

  get offered() {
    return this.models.map(({ id }) => id).join();
  }

  modelOf(face) {
    return this.models.find(({ id }) => id === face.model) ?? null;
  }

  setting(name) {
    return this.model.settings.find((setting) => setting.name === name) ?? null;
  }

  // kept: psi and fixed values of an earlier visit, as far as the model knows them.
  setModel(id, kept = {}) {
    this.model = this.models.find((model) => model.id === id);
    const psi = this.setting("psi");
    const wanted = typeof kept.psi === "number" ? kept.psi : this.view.wanted ?? TYPICAL;
    const fixed = Object.fromEntries(Object.entries(kept.fixed ?? this.view.fixed)
      .filter(([name, value]) => this.model.choices?.[name]?.includes(value)));
    this.view = { ...this.view, settings: {}, psi: psi ? clamp(wanted, psi.low, psi.high) : 1, fixed };
    this.start = this.model.seeds_start ?? 0;
    this.starts = [];
    this.changed("model");
  }

  setView(changes) {
    Object.assign(this.view, changes);
    this.changed(Object.keys(changes)[0]);
  }

  changed(what) {
    remember("view", { offered: this.offered, model: this.model.id, psi: this.view.psi, fixed: this.view.fixed });
    this.emit("view", { what });
  }

  // New faces from other seeds; back: those before.
  roll(back = false) {
    if (back && this.starts.length === 0) return;
    if (back) {
      this.start = this.starts.pop();
    } else {
      this.starts.push(this.start);
      this.start = random(2 ** 31);
    }
    this.emit("roll");
  }

  // The face of a seed, as daring as the wall is.
  seed(seed, model = this.model) {
    const own = model === this.model ? this.view.settings : {};
    const psis = model.settings.some(({ name }) => name === "psi") ? { psi: this.view.psi } : {};
    return tidy({ model: model.id, from: { seed }, ...psis, settings: own });
  }

  // Puts a face on the table.
  open(face, { by = null, tab = null, key = null } = {}) {
    if (!this.modelOf(face)) {
      this.emit("say", { text: say("errors.unknown_model"), error: true });
      return;
    }
    if (this.face) this.trail = [...this.trail.slice(1 - TRAIL), [this.base, this.face, this.by]];
    this.put(face, face, by ?? madeBy(face), key);
    Object.assign(this, { past: [], future: [] });
    if (tab) this.tab = tab;
    this.emit("face", { by: "open", tab });
  }

  back() {
    const before = this.trail.pop();
    if (!before) return;
    const [base, face, by] = before;
    this.put(base, face, by);
    Object.assign(this, { past: [], future: [] });
    this.emit("face", { by: "open" });
  }

  put(base, face, by, key = null) {
    Object.assign(this, { base, face, by, key, opened: textOf(tidy(base)) });
    // What the other attributes look like takes long to see. While a slider moves they are left to the directions,
    // which avoid them; what has changed all the same is put back when it rests.
    const moving = by === "steer" && Boolean(face.keep?.length);
    this.drawing.ask({ face, moving });
    clearTimeout(this.resting);
    if (moving) this.resting = setTimeout(() => face === this.face && this.drawing.ask({ face }), REST);
  }

  // The face on the table becomes another one, at once.
  change(face, by) {
    // A slider that is pulled is one step.
    if ((by === "steer" || by === "reset") && performance.now() - this.changedAt > STEP) {
      this.past.push([this.face, this.by]);
      this.future = [];
    }
    this.changedAt = performance.now();
    this.put(this.base, tidy(face), by);
    this.emit("face", { by });
  }

  // Takes back a step of steering, or does it again.
  step(back) {
    const [from, to] = back ? [this.past, this.future] : [this.future, this.past];
    const before = from.pop();
    if (!before) return;
    to.push([this.face, this.by]);
    this.put(this.base, ...before);
    this.changedAt = 0;
    this.emit("face", { by: "step" });
  }

  close() {
    this.drawing.stop();
    Object.assign(this, { face: null, base: null, key: null, opened: null, trail: [], past: [], future: [] });
    this.emit("face", { by: "close" });
  }

  // ---- the board

  async openBoard(id) {
    this.setBoard(await get(`boards/${id}`));
  }

  setBoard(board) {
    this.board = board;
    this.pinned = new Map();
    for (const pin of board.pins) this.pinned.set(pin.key, pin).set(textOf(tidy(pin.face)), pin);
    remember("board", board.id);
    this.emit("board");
  }

  async listBoards() {
    this.boards = await get("boards");
    return this.boards;
  }

  async beginBoards() {
    await this.listBoards();
    const kept = this.boards.find(({ id }) => id === recall("board")) ?? this.boards.at(-1);
    if (kept) await this.openBoard(kept.id);
    else await this.newBoard(say("board.first"));
  }

  async newBoard(name) {
    const { id } = await post("boards", { name });
    await this.listBoards();
    await this.openBoard(id);
  }

  // Edits go one after the other; each is applied once, even if the answer to it got lost.
  edit(edit) {
    return this.boardCall("edits", { ...edit, request: randomId() });
  }

  undo() {
    return this.boardCall("undo", { request: randomId() });
  }

  redo() {
    return this.boardCall("redo", { request: randomId() });
  }

  boardCall(what, body) {
    const { id } = this.board;
    this.edits = this.edits.then(() => this.try(async () => {
      const board = await insist(`boards/${id}/${what}`, body, (error) => this.fail(error));
      if (this.board.id === id) this.setBoard(board);
      return board;
    }));
    return this.edits;
  }

  async removeBoard() {
    const { id, name } = this.board;
    await erase(`boards/${id}`);
    remember("board", null);
    await this.beginBoards();
    this.emit("say", { text: say("board.removed", { name }), action: [say("board.bring_back"), async () => {
      await post(`boards/${id}/restore`, {});
      await this.listBoards();
      await this.openBoard(id);
    }] });
  }

  get pins() {
    return this.board?.pins ?? [];
  }

  pinOf(face, key = null) {
    return this.pinned.get(key) ?? this.pinned.get(textOf(tidy(face))) ?? null;
  }

  // Keeps a face on the board, or lets it go again.
  async toggle(face, { by = null, key = null } = {}) {
    if (!this.board) return;
    const pin = this.pinOf(face, key);
    if (pin) {
      await this.edit({ edit: "remove", pins: [pin.id] });
      this.say(say("board.let_go", { n: this.pins.length }));
      return;
    }
    const [flat] = await nestable([tidy(face)]);
    const parents = [...parentsOf(face), ...(face === this.face && this.base ? [this.base] : [])]
      .flatMap((parent) => this.pinOf(parent)?.id ?? this.pinOf(plain(parent))?.id ?? []);
    const done = await this.edit({ edit: "pin", face: flat, parents: [...new Set(parents)], made_by: by ?? madeBy(face) });
    if (done) this.say(say("board.kept", { n: this.pins.length }));
  }

  // Why a model cannot do something, in one sentence; null if it can.
  lacks(ability, model = this.face ? this.modelOf(this.face) ?? this.model : this.model) {
    if (model.can[ability]) return null;
    return sentence(`lacks.${ability}`, model.why_not?.[ability]);
  }
}

export const studio = new Studio();
