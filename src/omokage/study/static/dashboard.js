// The researcher's page: who has taken part, and the state of the study. Results stay hidden until asked for.

import { Api, Refusal } from "./api.js";
import { choice, h, pause } from "./dom.js";
import { Words, locale } from "./words.js";

const EVERY = 10_000; // ms between looks at the counts
const KEY = `omokage-study-dashboard:${new URL(".", document.baseURI).pathname}`;
const SVG = "http://www.w3.org/2000/svg";
const STATES = { open: "open", paused: "pause", closed: "close" };
const COUNTS = ["completed", "active", "started", "withdrawn", "refused", "screened_out"];

class StudyDashboard extends HTMLElement {
  async connectedCallback() {
    this.api = new Api((kind) => this.tell(kind));
    this.language = document.documentElement.lang;
    this.words = new Words(await this.api.get(`texts/${this.language}`));
    this.locale = locale(this.language);
    this.headline = h("p", { class: "title" }, document.title);
    this.corner = h("div", { class: "corner" });
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.notice = h("p", { class: "notice", role: "status" });
    this.replaceChildren(
      h("header", { class: "top" }, this.headline, h("p", { class: "count" }, this.words.say("dashboard.title")), this.corner),
      this.main, this.notice);
    // A token in the fragment never reaches a server's log; it leaves the address at once.
    if (location.hash.length > 1) {
      sessionStorage.setItem(KEY, decodeURIComponent(location.hash.slice(1)));
      history.replaceState(null, "", location.pathname + location.search);
    }
    this.api.token = sessionStorage.getItem(KEY);
    if (this.api.token && (await this.look())) this.watch();
    else this.enter(Boolean(this.api.token));
  }

  say(name, more) {
    return this.words.say(`dashboard.${name}`, more);
  }

  tell(kind) {
    this.notice.textContent = kind ? this.words.say(kind === "busy" ? "errors.busy" : "errors.waiting") : "";
  }

  // The form for the token.
  enter(wrong) {
    const error = h("p", { class: "missing", id: "token-error", role: "alert" }, wrong ? this.say("token_wrong") : "");
    const input = h("input", { id: "token", type: "password", autocomplete: "current-password", "aria-describedby": error.id });
    this.corner.replaceChildren();
    this.main.replaceChildren(h("article", { class: "sheet enter" },
      h("h1", {}, this.say("title")),
      h("p", {}, this.say("token_text")),
      h("form", { on: { submit: async (event) => {
        event.preventDefault();
        this.api.token = input.value.trim();
        if (this.api.token && (await this.look())) {
          sessionStorage.setItem(KEY, this.api.token);
          this.watch();
        } else {
          error.textContent = this.say("token_wrong");
          input.focus();
        }
      } } },
      h("div", { class: "question" }, h("label", { for: "token" }, this.say("token")), input, error),
      h("div", { class: "actions" }, h("button", { class: "button main" }, this.say("enter"))))));
  }

  // Asks for the counts and shows them; false if the token is wrong.
  async look() {
    try {
      this.show(await this.api.get("dashboard"));
      return true;
    } catch (error) {
      if (!(error instanceof Refusal) || ![401, 403].includes(error.status)) throw error;
      sessionStorage.removeItem(KEY);
      return false;
    }
  }

  async watch() {
    for (;;) {
      await pause(EVERY);
      if (document.hidden) continue;
      if (!(await this.look())) return this.enter(true);
    }
  }

  show(told) {
    const first = !this.overview;
    if (first) {
      this.heading = h("h1", { tabindex: "-1" }, told.title);
      this.overview = h("div", { class: "dash-head" });
      this.cards = h("dl", { class: "cards" });
      this.time = h("section", { class: "block" });
      this.results = h("section", { class: "block" });
      this.updated = h("p", { class: "faint" });
      this.pilot = h("p", { class: "pilot", hidden: true }, this.say("pilot"));
      this.hideResults(told.looks);
    }
    if (!this.overview.isConnected) {
      this.main.replaceChildren(this.overview, this.pilot, this.cards,
        h("div", { class: "columns" }, this.time, this.results), this.links(told), this.updated);
      this.corner.replaceChildren(choice(this.say("sign_out"), null, () => {
        sessionStorage.removeItem(KEY);
        location.reload();
      }, { class: "button quiet" }));
    }
    this.pilot.hidden = !told.pilot;
    if (this.state !== told.state) {
      this.state = told.state;
      this.overview.replaceChildren(this.heading,
        h("span", { class: `chip ${told.state}`, role: "status" }, this.say(told.state)),
        ...Object.entries(STATES).filter(([state]) => state !== told.state).map(([state, verb]) =>
          choice(this.say(`do_${verb}`), null, () => this.change(state),
            { class: state === "closed" ? "button danger" : "button" })));
    }
    this.cards.replaceChildren(...[
      ...COUNTS.map((name) => [name, String(told.counts[name] ?? 0)]),
      ["median", typeof told.median_minutes === "number"
        ? this.say("minutes", { minutes: told.median_minutes.toFixed(1) }) : "–"],
    ].map(([name, value]) => h("div", { class: "card" }, h("dt", {}, this.say(name)), h("dd", {}, value))));
    this.chart(told);
    this.updated.textContent = this.say("updated", { time: new Date().toLocaleTimeString(this.locale) });
  }

  links(told) {
    const copy = choice(this.words.say("common.copy"), null, async () => {
      await navigator.clipboard?.writeText(told.link).catch(() => {});
      copy.textContent = this.words.say("common.copied");
      await pause(2000);
      copy.textContent = this.words.say("common.copy");
    }, { class: "button quiet" });
    return h("section", { class: "block" }, h("h2", {}, this.say("link")),
      h("div", { class: "code" }, h("code", {}, told.link), copy));
  }

  async change(state) {
    if (state === "closed" && !(await this.sure(this.say("confirm_close"), this.say("do_close")))) return;
    await this.api.post("dashboard/state", { state });
    await this.look();
    this.overview.querySelector("button")?.focus();
  }

  // Asks before something that cannot be taken back.
  sure(question, label) {
    return new Promise((resolve) => {
      const dialog = h("dialog", { "aria-label": label }, h("p", {}, question),
        h("div", { class: "actions" },
          choice(label, true, (yes) => { resolve(yes); dialog.close(); }, { class: "button main" }),
          choice(this.words.say("common.cancel"), false, () => dialog.close())));
      dialog.addEventListener("close", () => { dialog.remove(); resolve(false); });
      document.body.append(dialog);
      dialog.showModal();
    });
  }

  // Completed participants over time as a staircase, with the planned number as a broken line.
  chart({ completions, counts, target }) {
    const done = counts.completed ?? 0;
    const caption = h("p", {}, target ? this.say("target", { completed: done, target })
      : this.say("no_target", { completed: done }));
    const width = Math.max(260, (this.time.clientWidth || 600) - 2 * parseFloat(getComputedStyle(this.time).paddingLeft || 0));
    const parts = [h("h2", {}, this.say("over_time")), caption];
    if (completions?.length > 0) parts.push(staircase(width, completions, target, this.locale, this.say("over_time_label", { completed: done })));
    else parts.push(h("p", { class: "faint" }, this.say("nobody")));
    this.time.replaceChildren(...parts);
  }

  hideResults(looks) {
    this.results.replaceChildren(h("h2", {}, this.say("results")), h("p", {}, this.say("results_hidden")),
      h("p", { class: "faint" }, looks?.length > 0
        ? this.say("looks", { times: looks.map((at) => this.when(at)).join(", ") }) : this.say("never")),
      h("div", { class: "actions" }, choice(this.say("reveal"), null, () => this.reveal())));
  }

  async reveal() {
    if (!(await this.sure(this.say("confirm_reveal"), this.say("reveal")))) return;
    this.results.replaceChildren(h("h2", {}, this.say("results")), h("p", { role: "status" }, this.say("computing")));
    const { rows, sentence } = await this.api.get("dashboard/results?reveal=true");
    const { kind } = await this.api.get("study");
    const number = (value) => (typeof value !== "number" ? "–"
      : kind === "rating" ? value.toFixed(2) : `${(100 * value).toFixed(1)}%`);
    const column = (text, more = {}) => h("th", { scope: "col", ...more }, text);
    const cell = (text) => h("td", { class: "number" }, text);
    this.results.replaceChildren(...[
      h("h2", { tabindex: "-1" }, this.say("results")),
      sentence ? h("p", { lang: "en" }, sentence) : null,
      rows.length === 0 ? h("p", {}, this.say("no_results")) : h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, column(this.say("result")), column(this.say("value"), { class: "number" }),
          column(this.say("interval"), { class: "number" }), column(this.say("count"), { class: "number" }))),
        h("tbody", {}, rows.map((row) => h("tr", {}, h("td", {}, row.label), cell(number(row.value)),
          cell(typeof row.low === "number" ? `${number(row.low)} – ${number(row.high)}` : "–"),
          cell(String(row.n ?? "–"))))))),
    ].filter(Boolean));
    this.results.querySelector("h2").focus();
  }

  when(at) {
    return new Date(at).toLocaleString(this.locale, { dateStyle: "medium", timeStyle: "short" });
  }
}

function staircase(width, completions, target, language, label) {
  const [height, left, right, top, bottom] = [220, 40, 4, 10, 26];
  const times = completions.map(({ at }) => new Date(at).valueOf());
  const from = times[0];
  const span = Math.max(60_000, times.at(-1) - from);
  const most = Math.max(target ?? 0, completions.at(-1).completed, 1);
  const x = (time) => left + ((time - from) / span) * (width - left - right);
  const y = (count) => height - bottom - (count / most) * (height - top - bottom);
  const draw = (tag, attributes, text) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const chart = draw("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const count of new Set([0, Math.round(most / 2), most])) {
    chart.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(count), y2: y(count) }),
      draw("text", { x: left - 8, y: y(count) + 4, "text-anchor": "end" }, String(count)));
  }
  let path = `M${left},${y(0)}`;
  completions.forEach(({ completed }, number) => {
    path += `H${x(times[number]).toFixed(1)}V${y(completed).toFixed(1)}`;
  });
  path += `H${width - right}`;
  chart.append(draw("path", { class: "area", d: `${path}V${y(0)}Z` }), draw("path", { class: "line", d: path }));
  if (target) chart.append(draw("line", { class: "aim", x1: left, x2: width - right, y1: y(target), y2: y(target) }));
  const short = (time) => new Date(time).toLocaleString(language,
    span > 86_400_000 ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" });
  chart.append(draw("text", { x: left, y: height - 6 }, short(from)),
    draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, short(from + span)));
  return chart;
}

customElements.define("study-dashboard", StudyDashboard);
