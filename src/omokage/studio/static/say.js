// What the page says: a line at the foot for a few seconds, and the same for screen readers.

import { Part, button, h } from "./dom.js";
import { studio } from "./state.js";
import { say } from "./words.js";

const SHOWN = 4200; // ms
const SHOWN_ERROR = 9000;

class StudioSay extends Part {
  connected() {
    this.polite = h("p", { class: "unseen", role: "status" });
    this.urgent = h("p", { class: "unseen", role: "alert" });
    this.line = h("div", { class: "said", hidden: true });
    this.append(this.polite, this.urgent, this.line);
    this.listen(studio, "say", ({ detail }) => this.tell(detail));
  }

  tell({ text, error = false, hidden = false, action = null }) {
    const spoken = error ? this.urgent : this.polite;
    spoken.textContent = "";
    requestAnimationFrame(() => (spoken.textContent = text));
    if (hidden) return;
    const hide = () => {
      clearTimeout(this.timer);
      this.line.hidden = true;
    };
    this.line.classList.toggle("error", error);
    this.line.replaceChildren(h("span", {}, text));
    if (action) {
      this.line.append(button(action[0], () => {
        hide();
        studio.try(action[1]);
      }));
    }
    if (error || action) this.line.append(button(say("common.close"), hide, { class: "button quiet" }));
    this.line.hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(hide, error || action ? SHOWN_ERROR : SHOWN);
  }
}

customElements.define("studio-say", StudioSay);
