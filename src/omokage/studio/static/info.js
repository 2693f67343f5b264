// Info: how the face was made, what it was made of, and the command that makes it again.

import { post } from "./api.js";
import { Part, button, h, icon, pause } from "./dom.js";
import { fact } from "./drawing.js";
import { nameOfModel, termsOf, tidy } from "./faces.js";
import { address } from "./pictures.js";
import { studio } from "./state.js";
import { treeOf } from "./tree.js";
import { say } from "./words.js";

const ACTIONS = { roll: "sample", steer: "steer", mix: "mix", glide: "walk", vary: "sample", upload: "invert", import: "sample" };

class StudioInfo extends Part {
  connected() {
    this.fill();
    this.listen(studio, "face", ({ detail: { by } }) => by !== "close" && this.fill());
  }

  async fill() {
    const { face } = studio;
    if (!face) return;
    const document_ = tidy(face);
    const [told, command] = await Promise.all([
      studio.try(() => post("describe", { face: document_ })),
      post("command", { action: ACTIONS[studio.by] ?? "sample", face: document_ }).catch(() => null),
    ]);
    if (face !== studio.face || !this.isConnected) return;
    const model = studio.modelOf(face);
    const pin = studio.pinOf(face, studio.key);
    const copy = button([icon("copy"), h("span", {}, say("common.copy"))], async () => {
      await navigator.clipboard?.writeText(command.command).catch(() => {});
      copy.lastChild.textContent = say("common.copied");
      await pause(2000);
      copy.lastChild.textContent = say("common.copy");
    }, { class: "button small" });
    this.replaceChildren(...[
      h("section", {}, h("h3", {}, say("info.family")), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("info.family") },
        treeOf([pin ?? { id: -1, face: document_, parents: [], note: "" }], (parent) => studio.open(parent)))),
      told ? h("section", {}, h("h3", {}, say("info.made")), h("dl", { class: "facts" }, told.lines.map(fact))) : null,
      command ? h("section", {}, h("h3", {}, say("info.command")), h("pre", { class: "command", tabindex: "0" }, command.command), copy,
        command.files?.length > 0 ? h("p", { class: "faint" }, say("info.files"), " ", command.files.map(({ name, url }) =>
          h("a", { href: address(url), download: name }, name))) : null) : null,
      model ? h("section", {}, h("h3", {}, say("info.model")), h("p", {}, nameOfModel(model), h("span", { class: "faint" }, ` · ${model.title}`)),
        h("p", { class: "faint" }, termsOf(model)), Object.values(model.why_not ?? {}).length > 0
          ? h("ul", { class: "plain faint" }, Object.keys(model.why_not).map((ability) => h("li", {}, studio.lacks(ability, model)))) : null) : null,
    ].filter(Boolean));
  }
}

customElements.define("studio-info", StudioInfo);
