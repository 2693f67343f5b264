// The stages of a study around its trials. Each shows itself and settles when the participant goes on.

import { choice, deferred, h, pause } from "./dom.js";
import { decoded } from "./pictures.js";
import { device, measureFrame } from "./timing.js";
import { day, inLanguage, linked, paragraphs } from "./words.js";

const forever = () => new Promise(() => {});

// A sheet of text: heading, then content.
const sheet = (heading, ...content) => h("article", { class: "sheet" }, h("h1", {}, heading), content);

// Shows a sheet with one button and waits for it.
async function leaf(page, stage, heading, content, label) {
  const done = deferred();
  page.show(stage, sheet(heading, content,
    h("div", { class: "actions" }, choice(label, true, done.resolve, { class: "button main" }))));
  page.enter(done.resolve);
  await done.promise;
}

export async function briefing(page) {
  const { words, study } = page;
  const done = deferred();
  const facts = [
    ["facts.duration", words.say("facts.duration_value")],
    ["facts.trials", words.say(`facts.trials_${study.kind}`)],
    ["facts.age", study.minimum_age ? words.say("facts.age_value") : ""],
    ["facts.identity", words.say("facts.identity_value")],
  ].filter(([, value]) => value);
  const sections = Object.entries(words.texts.briefing.sections)
    .map(([name, section]) => [name, section.heading, words.fill(words.fill(section.text))])
    .filter(([, , text]) => text)
    .map(([name, heading, text]) => h("section", { id: `about-${name}` }, h("h2", {}, heading), paragraphs(text)));
  page.show("briefing", h("div", { class: "brief" },
    h("header", { class: "hero" },
      h("p", { class: "kicker" }, words.say("briefing.kicker")),
      h("h1", {}, study.title),
      h("p", { class: "lead" }, words.say("briefing.intro")),
      h("dl", { class: "facts" }, facts.map(([name, value]) =>
        h("div", {}, h("dt", {}, words.say(name)), h("dd", {}, value))))),
    h("article", { class: "sheet" }, sections,
      h("div", { class: "actions" },
        choice(words.say("briefing.start"), true, done.resolve, { class: "button main" })))),
  { languages: true });
  await done.promise;
}

// Returns {consents: [ids]} or {refused: reason}.
export async function consent(page) {
  const { words, study } = page;
  const done = deferred();
  const box = (name, text) => h("label", { class: "tick" },
    h("input", { type: "checkbox", name, required: true }), h("span", {}, linked(text)));
  const statements = study.consent
    .map(({ id, text }) => [id, text && Object.keys(text).length > 0
      ? words.fill(inLanguage(text, page.language)) : words.say(`consent.statements.${id}`)])
    .filter(([, text]) => text);
  const missing = h("p", { class: "missing", role: "alert" });
  const boxes = statements.map(([id, text]) => box(id, text));
  if (study.minimum_age) boxes.push(box("age", words.say("consent.age")));
  const form = h("form", { novalidate: true, on: {
    submit: (event) => {
      event.preventDefault();
      const empty = [...form.elements].filter((one) => one.type === "checkbox" && !one.checked);
      for (const one of form.elements) one.setAttribute("aria-invalid", String(empty.includes(one)));
      missing.textContent = empty.length > 0 ? words.say("consent.missing") : "";
      if (empty.length > 0) empty[0].focus();
      else done.resolve({ consents: study.consent.map(({ id }) => id) });
    },
    change: ({ target }) => target.checked && target.setAttribute("aria-invalid", "false"),
  } },
  h("p", {}, words.say("consent.intro")),
  h("div", { class: "ticks" }, boxes), missing,
  h("div", { class: "actions" },
    h("button", { class: "button main" }, words.say("consent.accept")),
    choice(words.say("consent.decline"), { refused: "no_consent" }, done.resolve),
    study.minimum_age
      ? choice(words.say("consent.too_young"), { refused: "too_young" }, done.resolve, { class: "button quiet" })
      : null));
  page.show("consent", sheet(words.say("consent.heading"), form));
  return done.promise;
}

export async function refused(page, reason) {
  const { words } = page;
  const { redirect } = await page.api.post("refusals", { reason });
  page.show("refused", sheet(words.say("refused.heading"), words.paragraphs(`refused.${reason}`),
    redirect ? h("div", { class: "actions" },
      h("a", { class: "button main", href: redirect, rel: "noreferrer" }, words.say("refused.panel"))) : null));
}

// The withdrawal code with a button to copy it.
function codeBox(page, code) {
  const { words } = page;
  const copy = choice(words.say("common.copy"), null, async () => {
    await navigator.clipboard?.writeText(code).catch(() => {});
    copy.textContent = words.say("common.copied");
    await pause(2000);
    copy.textContent = words.say("common.copy");
  }, { class: "button quiet" });
  return h("div", { class: "code" }, h("code", {}, code), navigator.clipboard ? copy : null);
}

export async function code(page) {
  const { words, memory } = page;
  if (memory.get("code") && page.study.withdrawal_days) {
    await leaf(page, "code", words.say("code.heading"),
      [words.paragraphs("code.text"), codeBox(page, memory.get("code"))], words.say("common.continue"));
  }
  memory.set("code_seen", true);
}

export async function questions(page) {
  const { words, study, language } = page;
  if ((study.questions ?? []).length === 0) {
    await page.api.post("session/questions", { answers: {} });
    return;
  }
  const done = deferred();
  const fields = study.questions.map((question) => field(page, question));
  const form = h("form", { novalidate: true, on: { submit: (event) => {
    event.preventDefault();
    const wrong = fields.filter((one) => !one.check());
    if (wrong.length > 0) wrong[0].focus();
    else done.resolve(Object.fromEntries(fields.map((one) => [one.id, one.value()]).filter(([, value]) => value !== null)));
  } } },
  h("p", {}, words.say("questions.intro")), fields.map((one) => one.element),
  h("div", { class: "actions" }, h("button", { class: "button main" }, words.say("common.continue"))));
  form.lang = language;
  page.show("questions", sheet(words.say("questions.heading"), form));
  await page.api.post("session/questions", { answers: await done.promise });
}

// A question of the researcher: its element, its value, whether that will do.
function field(page, { id, kind, label, choices = [], minimum = null, maximum = null, required = false }) {
  const { words, language } = page;
  const name = `question-${id}`;
  const text = [inLanguage(label, language),
    required ? null : h("span", { class: "optional" }, ` (${words.say("questions.optional")})`)];
  const error = h("p", { class: "missing", id: `${name}-error`, role: "alert" });
  const described = { "aria-describedby": error.id };
  let element;
  let value;
  let first;
  if (kind === "choice") {
    const radios = choices.map((one) => h("label", { class: "radio" },
      h("input", { type: "radio", name, value: one.id, ...described }),
      h("span", {}, inLanguage(one.label, language))));
    element = h("fieldset", { class: "question" }, h("legend", {}, text), h("div", { class: "radios" }, radios), error);
    first = radios[0].querySelector("input");
    value = () => element.querySelector("input:checked")?.value ?? null;
  } else {
    first = h("input", kind === "number"
      ? { id: name, type: "text", inputmode: "decimal", autocomplete: "off", ...described }
      : { id: name, type: "text", maxlength: "1000", autocomplete: "off", ...described });
    element = h("div", { class: "question" }, h("label", { for: name }, text), first, error);
    value = () => {
      const given = first.value.normalize("NFKC").trim();
      if (given === "") return null;
      return kind === "number" ? Number(given.replace(",", ".")) : given;
    };
  }
  const wrong = () => {
    const given = value();
    if (given === null) return required ? words.say("questions.missing") : "";
    if (kind !== "number") return "";
    if (!Number.isFinite(given)) return words.say("questions.number");
    if ((minimum === null || given >= minimum) && (maximum === null || given <= maximum)) return "";
    const range = minimum === null ? "max" : maximum === null ? "min" : "both";
    return words.say(`questions.range_${range}`, { min: minimum, max: maximum });
  };
  return { id, element, value, focus: () => first.focus(), check: () => {
    error.textContent = wrong();
    element.classList.toggle("wrong", error.textContent !== "");
    for (const input of element.querySelectorAll("input")) {
      input.setAttribute("aria-invalid", String(error.textContent !== ""));
    }
    return error.textContent === "";
  } };
}

// Measures the screen, says how to answer, and waits until the participant starts or goes on.
export async function ready(page, session, returned) {
  const { words, study } = page;
  const done = deferred();
  const measured = h("p", { class: "measured", role: "status" }, words.say("device.measuring"));
  const label = returned ? "common.continue" : study.practice > 0 ? "device.start_practice" : "device.start";
  const start = choice(words.say(label), true, done.resolve, { class: "button main", disabled: true });
  page.show(returned ? "resume" : "device", sheet(
    words.say(returned ? "resume.heading" : "device.heading"),
    returned ? words.paragraphs("resume.text", session) : words.paragraphs("device.text"),
    h("section", { class: "how" }, h("h2", {}, words.say("device.how")),
      paragraphs(words.say(`kinds.${study.kind}.task`)),
      h("p", { class: "keys" }, words.say(`kinds.${study.kind}.keys`))),
    measured,
    h("div", { class: "actions" }, start)));
  page.frame = await measureFrame();
  const told = device(page.frame);
  await page.api.post("session/device", told);
  measured.textContent = words.say("device.measured", { hz: Math.round(told.refresh_hz) });
  start.disabled = false;
  page.enter(done.resolve);
  await done.promise;
}

export function practiceOver(page) {
  const { words } = page;
  return leaf(page, "practice-over", words.say("practice_over.heading"), words.paragraphs("practice_over.text"),
    words.say("practice_over.start"));
}

export function rest(page, trial) {
  const { words } = page;
  const { number, of } = page.place(trial);
  const far = h("progress", { class: "far", max: of, value: number - 1, "aria-label": words.say("break.heading") });
  return leaf(page, "break", words.say("break.heading"),
    [words.paragraphs("break.text", { answered: number - 1, of }), far], words.say("common.continue"));
}

// The dialog behind "Stop": stop for now, withdraw, or go on.
export async function stop(page) {
  const { words, memory } = page;
  const done = deferred();
  const dialog = h("dialog", { "aria-labelledby": "stop-heading", on: { close: () => done.resolve("on") } },
    h("h2", { id: "stop-heading" }, words.say("stop.heading")),
    words.paragraphs("stop.text"),
    h("div", { class: "actions" },
      choice(words.say("stop.resume"), "on", done.resolve, { class: "button main" }),
      choice(words.say("stop.later"), "later", done.resolve),
      choice(words.say("stop.delete"), "delete", done.resolve, { class: "button danger" })));
  document.body.append(dialog);
  dialog.showModal();
  const chosen = await done.promise;
  dialog.remove();
  if (chosen === "on") return;
  page.stopped = true; // the trial behind waits for an answer that never comes
  if (chosen === "delete" && memory.get("code")) {
    const { deleted } = await page.api.post("withdrawals", { code: memory.get("code") });
    if (deleted) {
      page.stopped = false;
      withdrawn(page);
      page.stopped = true;
      return;
    }
  }
  if (chosen === "delete") {
    location.hash = "withdraw";
    return;
  }
  page.stopped = false;
  page.show("stopped", sheet(words.say("stop.stopped_heading"), words.paragraphs("stop.stopped_text"),
    h("div", { class: "actions" }, choice(words.say("stop.resume"), null, () => location.reload(),
      { class: "button main" }))));
  page.stopped = true;
}

export async function debriefing(page) {
  const { words, study } = page;
  const { score, answers, completion, withdrawal_code: given, last_day: last } = await page.api.get("debriefing");
  if (last) words.values.last_day = day(last, page.language); // counted from when this participant began
  const code = given ?? page.memory.get("code");
  const done = deferred();
  const about = words.say(`kinds.${study.kind}.debriefing`);
  page.show("debriefing", h("article", { class: "sheet wide" },
    h("h1", {}, words.say("debriefing.heading")),
    h("p", { class: "lead" }, words.say("debriefing.intro")),
    completion ? panelBox(page, completion) : null,
    score ? h("section", { class: "score" },
      h("h2", {}, words.say("debriefing.score")),
      h("p", { class: "figure", "aria-hidden": "true" }, String(score.correct), h("span", {}, ` / ${score.of}`)),
      h("meter", { min: 0, max: score.of, value: score.correct, "aria-hidden": "true" }),
      h("p", {}, words.say(`kinds.${study.kind}.score`, score))) : null,
    h("section", {}, h("h2", {}, words.say("debriefing.about")), paragraphs(about)),
    answers?.length > 0 ? gallery(page, answers) : null,
    code && study.withdrawal_days ? h("section", {}, h("h2", {}, words.say("code.heading")),
      words.paragraphs("code.text"), codeBox(page, code)) : null,
    completion?.redirect ? null : h("div", { class: "actions" },
      choice(words.say("debriefing.finish"), true, done.resolve, { class: "button main" }))));
  await done.promise;
  page.show("completion", sheet(words.say("completion.heading"), words.paragraphs("completion.text"),
    h("div", { class: "actions" }, choice(words.say("completion.back"), null, () => debriefing(page)))));
}

// The way back to a recruiting service. It stands here only when the server has stored every answer.
function panelBox(page, { code, redirect }) {
  const { words } = page;
  return h("section", { class: "panel" },
    h("h2", {}, words.say("completion.panel_heading")),
    words.paragraphs("completion.panel_text"),
    code ? [h("p", {}, words.say("completion.panel_code")), codeBox(page, code)] : null,
    redirect ? h("div", { class: "actions" },
      h("a", { class: "button main", href: redirect, rel: "noreferrer" }, words.say("completion.panel_button")))
      : null);
}

// All pictures with the truth and the participant's answers; loaded when it is opened.
function gallery(page, answers) {
  const { words } = page;
  const grid = h("ol", { class: answers[0].pictures.length === 1 ? "gallery single" : "gallery" });
  const fill = async (event) => {
    if (!event.target.open || grid.childElementCount > 0) return;
    for (const [number, answer] of answers.entries()) {
      const pictures = answer.pictures.map(() => h("study-picture"));
      grid.append(card(page, number, answer, pictures));
      const blobs = await Promise.all(answer.pictures.map((one) => page.api.get(`pictures/${one.key ?? one}`)));
      const bitmaps = await Promise.all(blobs.map(decoded));
      pictures.forEach((picture, place) => {
        picture.bitmap = bitmaps[place];
        picture.draw("picture");
      });
    }
  };
  return h("section", {}, h("h2", {}, words.say("debriefing.answers")),
    h("p", {}, words.say("debriefing.answers_text")),
    h("details", { on: { toggle: fill } }, h("summary", {}, words.say("debriefing.show")), grid));
}

function card(page, number, answer, pictures) {
  const { words } = page;
  const places = answer.pictures.map((one, number) =>
    one.place ?? (answer.pictures.length === 1 ? "single" : number === 0 ? "left" : "right"));
  // What a picture is: from the right answer, or where none is right, from its source.
  const truth = (place, source) => {
    if (!answer.truth && !source) return null;
    const real = !answer.truth ? source === "real"
      : place === "single" ? answer.truth === "real" : answer.truth === place;
    return h("span", { class: `truth ${real ? "real" : "made"}` },
      words.say(real ? "debriefing.drawn" : "debriefing.generated"));
  };
  const figures = pictures.map((picture, number) => {
    const place = places[number];
    const chosen = place !== "single" && answer.response === place;
    return h("figure", { class: chosen ? "chosen" : "" },
      h("div", { role: "img", "aria-label": words.say(`trial.picture_${place}`) }, picture),
      h("figcaption", {}, truth(place, answer.pictures[number].source),
        chosen ? h("span", { class: "yours" }, words.say(answer.truth ? "debriefing.yours" : "debriefing.chosen")) : null));
  });
  const verdict = typeof answer.correct === "boolean"
    ? h("span", { class: `verdict ${answer.correct ? "right" : "wrong"}` },
      words.say(answer.correct ? "debriefing.right" : "debriefing.wrong")) : null;
  const told = places[0] !== "single" ? null
    : answer.kind === "rating" || typeof answer.response === "number" || /^\d$/.test(answer.response)
      ? words.say("debriefing.rated", { response: answer.response })
      : `${words.say("debriefing.yours")}: ${words.say(`trial.${answer.response}`)}`;
  return h("li", {}, h("p", { class: "which" },
    h("span", {}, words.say("debriefing.number", { number: number + 1 })), verdict),
  h("div", { class: "figures" }, figures), told ? h("p", { class: "told-answer" }, told) : null);
}

export async function withdrawal(page) {
  const { words, memory } = page;
  const error = h("p", { class: "missing", id: "code-error", role: "alert" });
  const input = h("input", { id: "code", type: "text", autocomplete: "off", autocapitalize: "characters",
    spellcheck: "false", value: memory.get("code") ?? "", "aria-describedby": error.id });
  const form = h("form", { novalidate: true, on: { submit: async (event) => {
    event.preventDefault();
    const code = input.value.normalize("NFKC").trim();
    error.textContent = code === "" ? words.say("withdrawal.missing") : "";
    if (code === "") return input.focus();
    let deleted = false;
    try {
      ({ deleted } = await page.api.post("withdrawals", { code }));
    } catch (refusal) {
      if (!refusal.status) throw refusal;
    }
    if (deleted) return withdrawn(page);
    error.textContent = words.say("withdrawal.unknown");
    input.focus();
  } } },
  words.paragraphs("withdrawal.text"),
  h("div", { class: "question" }, h("label", { for: "code" }, words.say("withdrawal.code")), input, error),
  h("div", { class: "actions" },
    h("button", { class: "button danger" }, words.say("withdrawal.submit")),
    choice(words.say("withdrawal.back"), null, () => {
      history.replaceState(null, "", location.pathname + location.search);
      location.reload();
    })));
  page.show("withdrawal", sheet(words.say("withdrawal.heading"), form));
  return forever();
}

export function withdrawn(page) {
  const { words } = page;
  page.memory.clear();
  page.show("withdrawn", sheet(words.say("withdrawal.done_heading"), words.paragraphs("withdrawal.done_text")));
}

export function closed(page) {
  const { words, study } = page;
  const state = study.state === "paused" ? "paused" : "closed";
  page.show(state, sheet(words.say(`states.${state}_heading`), words.paragraphs(`states.${state}_text`),
    h("div", { class: "actions" },
      choice(words.say("states.retry"), null, () => location.reload()))));
}

// Somebody whom the recruiting service has sent before.
export function twice(page) {
  const { words } = page;
  page.show("closed", sheet(words.say("states.twice_heading"), words.paragraphs("states.twice_text")));
}

export function otherTab(page) {
  const { words } = page;
  return leaf(page, "other-tab", words.say("states.other_tab_heading"), words.paragraphs("states.other_tab_text"),
    words.say("states.other_tab_here"));
}

export function moved(page) {
  const { words } = page;
  return sheet(words.say("states.moved_heading"), words.paragraphs("states.moved_text"));
}

export function problem(page, error) {
  const { words } = page;
  if (!words) return h("p", { class: "alone" }, error.message);
  return sheet(words.say("errors.heading"), words.paragraphs("errors.unexpected", { message: error.message }),
    h("div", { class: "actions" },
      choice(words.say("states.retry"), null, () => location.reload(), { class: "button main" })));
}
