// The participant's page: which stage comes when. The server knows where a participant is; the page asks it.

import { Api, Refusal } from "./api.js";
import { choice, h, pause } from "./dom.js";
import { Memory, Outbox } from "./memory.js";
import * as stages from "./stages.js";
import { ask } from "./trial.js";
import { Words, day, linked } from "./words.js";

const SECONDS = { pairs: 8, single: 6, timed: 7, rating: 6, preference: 8 }; // an answer takes about so long
// Nothing can be answered any more: another tab may have the study.
const FINAL = new Set(["refused", "stopped", "debriefing", "completion", "withdrawn", "closed", "paused", "error"]);

class StudyPage extends HTMLElement {
  async connectedCallback() {
    this.memory = new Memory();
    this.api = new Api((kind) => this.waiting(kind));
    this.outbox = new Outbox(this.memory, this.api);
    this.sending = (kind) => this.waiting(kind, "errors.offline");
    this.language = document.documentElement.lang;
    this.frame = 1000 / 60;
    this.stopped = false;
    this.build();
    window.addEventListener("hashchange", () => location.reload());
    document.addEventListener("keydown", (event) => this.key(event));
    try {
      await this.flow();
    } catch (error) {
      if (this.stopped) return;
      console.warn(error);
      this.show("error", stages.problem(this, error));
    }
  }

  // The frame around all stages.
  build() {
    this.headline = h("p", { class: "title" });
    this.count = h("p", { class: "count" });
    this.bar = h("progress", { max: 1, value: 0, hidden: true });
    this.corner = h("div", { class: "corner" });
    this.pilot = h("p", { class: "pilot", hidden: true });
    this.main = h("main", { id: "main", tabindex: "-1" });
    this.footer = h("footer", { class: "foot" });
    this.notice = h("p", { class: "notice", role: "status" });
    this.replaceChildren(
      h("header", { class: "top" }, this.headline, this.count, this.corner),
      this.bar, this.pilot, this.main, this.footer, this.notice,
    );
  }

  async flow() {
    const stored = this.memory.get("language");
    const asked = new URLSearchParams(location.search).get("lang");
    this.study = await this.api.get("study");
    if (this.memory.get("token") && stored && !asked && stored in this.names()) this.language = stored;
    const texts = await this.api.get(`texts/${this.language}`);
    document.documentElement.lang = this.language;
    this.words = new Words(texts, this.values(texts));
    this.dress();

    if (location.hash === "#withdraw") return stages.withdrawal(this);
    await this.claim();
    if (!this.memory.keeps) this.tell(this.words.say("errors.storage"));

    let session = await this.session();
    const returned = session !== null;
    if (!session) {
      if (!this.study.open) return stages.closed(this);
      await stages.briefing(this);
      const { consents, refused } = await stages.consent(this);
      if (refused) return stages.refused(this, refused);
      const barred = await this.join(consents);
      if (barred) return barred(this);
      session = await this.session();
    }
    if (!this.memory.get("code_seen")) await stages.code(this);
    if (session?.stage === "questions") {
      await stages.questions(this);
      session = await this.session();
    }
    if (session?.stage === "trials") {
      await stages.ready(this, session, returned && session.answered > 0);
      await this.trials().catch(refusedByState); // closed meanwhile, or withdrawn in another browser
      session = await this.session();
    }
    if (session?.stage === "debriefing") return stages.debriefing(this);
    if (session?.stage === "withdrawn") return stages.withdrawn(this);
    return stages.closed(this);
  }

  names() {
    return this.study.languages instanceof Array
      ? Object.fromEntries(this.study.languages.map((code) => [code, inOwnName(code)]))
      : this.study.languages;
  }

  values(texts) {
    const { study } = this;
    const parts = study.kind === "rating" ? Math.max(1, study.parts?.length ?? 1) : 1;
    const answers = study.trials + study.practice * parts; // trials counts checks and parts already
    const kind = texts.kinds[study.kind];
    return {
      title: study.title,
      trials: study.trials,
      practice: study.practice * parts || "",
      minutes: Math.max(2, Math.ceil(1.5 + (answers * SECONDS[study.kind]) / 60)),
      minimum_age: study.minimum_age || "",
      withdrawal_days: study.withdrawal_days || "",
      last_day: day(study.last_day, this.language),
      researcher: study.researcher?.name,
      researcher_email: study.researcher?.email,
      supervisor: study.supervisor?.name,
      supervisor_email: study.supervisor?.email,
      about: kind.about,
      task: kind.task,
      panel: study.panel ? texts.common.panel : "",
    };
  }

  // Title, contact and languages around the stages.
  dress() {
    const { words, study } = this;
    document.title = study.title;
    document.documentElement.style.setProperty("--picture", `${study.size}px`);
    this.headline.textContent = study.title;
    this.pilot.textContent = words.say("common.pilot");
    this.pilot.hidden = !study.pilot;
    this.footer.replaceChildren(
      h("p", {}, linked(words.say("common.contact"))),
      h("p", {}, h("a", { href: "#withdraw" }, words.say("common.withdraw"))),
    );
  }

  languageLinks() {
    const names = this.names();
    if (Object.keys(names).length < 2) return null;
    return h("nav", { class: "languages", "aria-label": this.words.say("common.language") },
      Object.entries(names).map(([code, name]) => {
        const query = new URLSearchParams(location.search);
        query.set("lang", code);
        return h("a", { href: `?${query}`, lang: code, hreflang: code,
          "aria-current": code === this.language ? "true" : null }, name);
      }));
  }

  // Where the participant of this browser is; null if there is none, or if the server does not know the key.
  async session() {
    this.api.token = this.memory.get("token");
    if (!this.api.token) return null;
    try {
      await this.outbox.deliver(this.sending).catch(refusedByState);
      return await this.api.get("session");
    } catch (error) {
      if (!(error instanceof Refusal) || ![401, 404, 410].includes(error.status)) throw error;
      this.memory.clear();
      this.api.token = null;
      return null;
    }
  }

  // Begins to take part; returns the stage to show instead if the server does not allow it. The same attempt is sent
  // again if the reply is lost, so that nobody starts twice.
  async join(consents) {
    const attempt = [...crypto.getRandomValues(new Uint8Array(24))]
      .map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const query = new URLSearchParams(location.search);
    const ids = ["PROLIFIC_PID", "STUDY_ID", "SESSION_ID"].filter((name) => query.get(name));
    const panel = this.study.panel && ids.length > 0
      ? { panel: Object.fromEntries(ids.map((name) => [name, query.get(name)])) } : {};
    const started = await this.api.post("participants", {
      language: this.language, consents, age_confirmed: true, attempt, ...panel,
    }).catch((error) => {
      if (error.status === 403) return stages.closed; // full, paused or closed meanwhile
      if (error.status === 409) return stages.twice;
      throw error;
    });
    if (typeof started === "function") return started;
    const { token, withdrawal_code } = started;
    this.memory.set("token", token);
    this.memory.set("code", withdrawal_code);
    this.memory.set("language", this.language);
    this.memory.set("started", Date.now());
    return null;
  }

  async trials() {
    let last = null;
    for (;;) {
      const { trial, after } = await this.api.get("trials/next");
      if (!trial) return;
      if (last?.phase === "practice" && trial.phase !== "practice") await stages.practiceOver(this);
      else if (after === "break" && last) await stages.rest(this, trial);
      await ask(this, trial);
      last = trial;
    }
  }

  // Practice is counted apart from the trials that follow.
  place(trial) {
    const parts = this.study.kind === "rating" ? Math.max(1, this.study.parts?.length ?? 1) : 1;
    const practice = Math.min(this.study.practice * parts, trial.of);
    return trial.phase === "practice"
      ? { number: trial.index + 1, of: practice }
      : { number: trial.index + 1 - practice, of: trial.of - practice };
  }

  // Shows a stage. Resolves never if another tab has taken over.
  show(stage, content, { focus = null, progress = null, languages = false } = {}) {
    if (this.stopped && stage !== "moved") return;
    this.onEnter = null;
    if (FINAL.has(stage)) this.release?.();
    document.body.dataset.stage = stage;
    this.main.replaceChildren(...[content].flat());
    this.footer.hidden = stage === "trial";
    this.bar.hidden = !progress;
    this.count.textContent = "";
    this.corner.replaceChildren();
    if (progress) {
      const { number, of } = this.place(progress);
      const practice = progress.phase === "practice";
      this.count.textContent = (practice ? `${this.words.say("trial.practice")} ` : "")
        + this.words.say("trial.progress", { number, of });
      this.bar.value = (number - 1) / of;
      this.bar.setAttribute("aria-label", this.words.say("trial.progress", { number, of }));
      this.corner.append(choice(this.words.say("trial.stop"), null, () => stages.stop(this),
        { class: "button quiet" }));
    } else if (languages) {
      this.corner.append(...[this.languageLinks()].filter(Boolean));
    }
    const heading = focus ?? this.main.querySelector("h1");
    if (heading) {
      heading.tabIndex = -1;
      heading.focus({ preventScroll: true });
    }
    window.scrollTo(0, 0);
  }

  // Enter and the space bar press the main button of a stage from wherever the focus is.
  enter(settle) {
    this.onEnter = settle;
  }

  key(event) {
    if (event.key !== "Enter" && event.key !== " ") return;
    if (!this.onEnter || event.repeat || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("button, a, input, select, textarea, summary")) return;
    event.preventDefault();
    const settle = this.onEnter;
    this.onEnter = null;
    settle(true);
  }

  // A message below everything, read aloud; null takes it away.
  tell(message) {
    this.notice.textContent = message ?? "";
  }

  waiting(kind, offline = "errors.waiting") {
    clearTimeout(this.soon);
    if (kind === null) {
      this.tell(this.words?.say("errors.back_online"));
      this.soon = setTimeout(() => this.tell(null), 3000);
    } else if (this.words) {
      this.tell(this.words.say(kind === "busy" ? "errors.busy" : offline));
    } else {
      this.tell("…");
    }
  }

  // One tab at a time: two would show the same trial twice. Needs a browser with locks; without, 409 helps.
  async claim() {
    if (!navigator.locks) return;
    const name = `omokage-study:${new URL(".", document.baseURI).pathname}`;
    const take = (options) => new Promise((resolve) => {
      navigator.locks.request(name, options, (lock) => {
        resolve(lock !== null);
        return lock && new Promise((release) => (this.release = release));
      }).catch(() => this.moved());
    });
    for (let tries = 0; tries < 4; tries++) {
      if (await take({ ifAvailable: true })) return;
      await pause(150); // the tab that was just closed may not have let go yet
    }
    await stages.otherTab(this);
    await take({ steal: true });
  }

  moved() {
    this.stopped = true;
    this.show("moved", stages.moved(this));
  }
}

// Past a refusal that says where a participant stands; the session tells what comes next.
function refusedByState(error) {
  if (!(error instanceof Refusal) || error.status !== 403) throw error;
}

function inOwnName(code) {
  return new Intl.DisplayNames([code], { type: "language" }).of(code);
}

customElements.define("study-page", StudyPage);
