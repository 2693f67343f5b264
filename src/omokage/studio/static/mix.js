// Mix: children of two faces, and which parent gives what.

import { FaceList } from "./facelist.js";
import { Part, button, h, icon, iconButton } from "./dom.js";
import { slot } from "./chooser.js";
import { between, mixed, nestable, textOf } from "./faces.js";
import { studio } from "./state.js";
import { say } from "./words.js";

const GROUPS = ["coarse", "middle", "fine"];
// For each child, who gives coarse, middle and fine layers.
const WAYS = ["BAA", "ABA", "AAB", "ABB", "BAB", "BBA"];
const BLENDS = [0.25, 0.5, 0.75];
const MORE_BLENDS = [0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85];

const kept = { a: null, b: null };

export function mixWith(a, b) {
  Object.assign(kept, { a, b });
}

class StudioMix extends Part {
  connected() {
    if (!kept.a || textOf(kept.a) !== textOf(studio.face)) {
      const again = kept.children?.some((face) => textOf(face) === textOf(studio.face));
      if (!again) Object.assign(kept, { a: studio.face, b: null });
    }
    this.list = new FaceList(this, { label: say("mix.children"), channel: "mix", open: (tile) => studio.open(tile.face, { by: "mix", key: tile.key }) });
    this.fill();
    this.listen(studio, "face", ({ detail: { by } }) => {
      // A child that was picked stays on the table with its parents; any other face begins anew.
      if (by === "close" || kept.children?.some((face) => textOf(face) === textOf(studio.face))) return;
      Object.assign(kept, { a: studio.face, b: by === "open" ? null : kept.b });
      this.fill();
    });
  }

  fill() {
    const { face } = studio;
    const model = face.model;
    this.slots = ["a", "b"].map((name) => slot(this, { label: say(`mix.${name}`), title: say("mix.with"), face: kept[name], model, changed: (chosen) => {
      kept[name] = chosen;
      this.show();
    } }));
    const swap = iconButton("mix", say("mix.swap"), () => {
      Object.assign(kept, { a: kept.b, b: kept.a });
      this.fill();
    }, { class: "round swap" });
    const lacks = studio.lacks("mix_layers");
    this.hint = h("p", { class: "faint" }, say("mix.hint"));
    this.legend = lacks ? h("p", { class: "lacks" }, lacks) : h("p", { class: "faint" }, say("mix.rest"));
    this.choose = button([icon("plus"), say("mix.with")], () => this.slots[1].querySelector(".face").click(), { class: "button main" });
    this.replaceChildren(h("div", { class: "parents" }, this.slots[0], swap, this.slots[1]), this.choose, this.hint, this.legend, this.list.element);
    this.show();
  }

  async show() {
    const { a, b } = kept;
    const ready = Boolean(a && b);
    this.choose.hidden = Boolean(b);
    this.hint.hidden = ready;
    this.legend.hidden = !ready;
    this.list.element.hidden = !ready;
    if (!ready) {
      kept.children = [];
      return;
    }
    if (a.model !== b.model) {
      studio.emit("say", { text: say("mix.other_model"), error: true });
      return;
    }
    const pair = await studio.try(() => nestable([a, b]));
    if (!pair || !this.isConnected) return;
    const layers = !studio.lacks("mix_layers");
    const ways = layers ? WAYS : [];
    const blends = layers ? BLENDS : MORE_BLENDS;
    kept.children = [...ways.map((way) => child(pair, way)), ...blends.map((share) => between(pair, [1 - share, share]))];
    const words = (way) => GROUPS.map((group, at) => say("mix.gives", { parent: way[at], layers: say(`layers.${group}`) })).join(", ");
    const percent = (share) => say("mix.blend", { a: Math.round((1 - share) * 100), b: Math.round(share * 100) });
    this.list.show(kept.children, {
      names: [...ways.map(words), ...blends.map(percent)],
      captions: [
        ...ways.map((way) => h("span", { class: `gives from-${rare(way).toLowerCase()}`, title: words(way) },
          say("mix.gives", { parent: rare(way), layers: say(`layers.${GROUPS[way.indexOf(rare(way))]}`) }))),
        ...blends.map((share) => h("span", { class: "gives" }, percent(share))),
      ],
    });
  }
}

// The parent that gives one group only.
const rare = (way) => (way.split("A").length === 2 ? "A" : "B");

// A with what B gives: the groups of one parent lie next to those of the other.
function child([a, b], way) {
  const from = [...way].map((parent, at) => [GROUPS[at], parent]);
  const [own, other] = rare(way) === "B" ? [a, b] : [b, a];
  return from.filter(([, parent]) => parent === rare(way)).reduce((face, [group]) => mixed(face, other, group), own);
}

customElements.define("studio-mix", StudioMix);
