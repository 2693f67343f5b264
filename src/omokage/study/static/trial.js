// One trial: pictures from memory, one answer, sent until the server has stored it.

import { decoded } from "./pictures.js";
import { choice, deferred, h, pause } from "./dom.js";
import { expose, frames, visible } from "./timing.js";

const CROSS = { timed: 700 }; // ms before the picture; others:
const GAP = 350;
const KEYS = { ArrowLeft: 0, f: 0, ArrowRight: 1, j: 1 };
const ROUND = (ms) => Math.round(ms * 10) / 10;

const two = (kind) => kind === "pairs" || kind === "preference";

// Runs a trial to its acknowledged answer.
export async function ask(page, trial) {
  const { words, memory } = page;
  const bitmaps = await load(page, trial);
  const view = build(words, trial);
  const again = memory.get("shown") === trial.id;
  view.pictures.forEach((picture, number) => (picture.bitmap = bitmaps[number]));
  page.show("trial", view.all, { focus: view.heading, progress: trial });
  await visible();
  memory.set("shown", trial.id);

  const answer = await (trial.exposure_ms ? timed : open)(page, trial, view);
  view.settle(answer.response);
  page.outbox.add({
    trial: trial.id,
    response: answer.response,
    rt: ROUND(answer.at - answer.begun),
    time_elapsed: Math.max(0, Date.now() - (memory.get("started") ?? Date.now())),
    resumed: again || answer.again,
    ...(trial.exposure_ms
      ? { exposure_measured_ms: ROUND(answer.measured), frames_off: Math.round(answer.off * 100) / 100 }
      : {}),
  });
  const reply = await page.outbox.deliver(page.sending);
  if (reply?.feedback) await feedback(page, trial, view, answer.response, reply.feedback.correct);
  view.pictures.forEach((picture) => picture.draw("empty"));
  bitmaps.forEach((bitmap) => bitmap.close());
}

// All pictures of a trial, decoded. A picture that came damaged is asked for again.
async function load(page, trial) {
  for (let tries = 0; ; tries++) {
    const blobs = await Promise.all(
      trial.pictures.map(({ url }) => page.api.get(`pictures/${url.split("/").pop()}`)),
    );
    try {
      return await Promise.all(blobs.map(decoded));
    } catch (error) {
      if (tries >= 5) throw error;
      page.tell(page.words.say("errors.picture"));
      await pause(1000 * (tries + 1));
    }
  }
}

// The elements of a trial. `answered` is a promise of {response, at}; allow(true) lets people answer.
function build(words, trial) {
  const heading = h("h1", { class: "prompt", tabindex: "-1" }, words.say(`prompts.${trial.prompt}`));
  const pictures = trial.pictures.map(() => h("study-picture"));
  const given = deferred();
  let allowed = false;
  const answer = (response, event) => {
    if (!allowed || !all.isConnected) return; // a trial that was stopped takes no answer
    allowed = false;
    given.resolve({ response, at: event.timeStamp });
  };
  const button = (response, attributes, ...inside) =>
    h("button", { type: "button", "data-response": response, ...attributes,
      on: { click: (event) => answer(response, event) } }, ...inside);

  const responses = two(trial.kind) ? trial.pictures.map(({ place }) => place) : trial.options;
  let buttons;
  let body;
  if (two(trial.kind)) {
    buttons = responses.map((place, number) =>
      button(place, { class: "pick", "aria-label": words.say(`trial.picture_${place}`) }, pictures[number],
        h("span", { class: "mark", "aria-hidden": "true" }, words.say(`trial.${place}`))));
    body = h("div", { class: "pair" }, buttons);
  } else {
    const rating = trial.kind === "rating";
    buttons = responses.map((response) => (rating
      ? button(response, { class: "step" }, String(response))
      : button(response, { class: "button answer" }, words.say(`trial.${response}`))));
    const choices = rating
      ? h("div", { class: "scale", role: "group", "aria-label": words.say("trial.scale") },
        h("div", { class: "steps" }, buttons),
        h("div", { class: "ends", "aria-hidden": "true" },
          h("span", {}, words.say("trial.lowest")), h("span", {}, words.say("trial.highest"))))
      : h("div", { class: "answers", role: "group", "aria-label": heading.textContent }, buttons);
    body = h("div", { class: "one" },
      h("div", { role: "img", "aria-label": words.say("trial.picture_single") }, pictures), choices);
  }
  const hint = trial.kind === "rating"
    ? words.say("trial.keys_scale", { highest: trial.options.at(-1) })
    : words.say("trial.keys_two");
  const told = h("div", { class: "told", role: "status" });
  const all = h("section", { class: `trial ${trial.kind}`, "data-trial": trial.id, "data-phase": trial.phase },
    heading, body, told, h("p", { class: "hint" }, hint));

  const key = (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const number = trial.kind === "rating" ? responses.map(String).indexOf(name) : KEYS[name] ?? -1;
    if (number < 0 || number >= responses.length) return;
    event.preventDefault();
    answer(responses[number], event);
  };
  document.addEventListener("keydown", key);
  const allow = (yes) => {
    allowed = yes;
    all.toggleAttribute("data-ready", yes);
    buttons.forEach((one) => one.setAttribute("aria-disabled", String(!yes)));
  };
  allow(false);

  return {
    all, heading, pictures, told, allow,
    answered: given.promise,
    settle(response) {
      document.removeEventListener("keydown", key);
      allow(false);
      for (const one of buttons) one.classList.toggle("chosen", one.dataset.response === String(response));
    },
  };
}

// Pictures stay until the answer. Whoever leaves the tab starts the trial again on return; that is recorded.
async function open(page, trial, view) {
  let again = false;
  for (;;) {
    view.pictures.forEach((picture) => picture.draw("empty"));
    await frames(GAP, page.frame);
    const begun = await new Promise((resolve) => requestAnimationFrame(resolve));
    view.pictures.forEach((picture) => picture.draw("picture"));
    view.allow(true);
    const left = new AbortController();
    const away = new Promise((resolve) => {
      document.addEventListener("visibilitychange", () => document.hidden && resolve(null), { signal: left.signal });
    });
    const answer = await Promise.race([view.answered, away]);
    left.abort();
    if (answer) return { ...answer, begun, again };
    view.allow(false);
    view.pictures.forEach((picture) => picture.draw("empty"));
    again = true;
    await visible();
    const ready = deferred();
    const back = h("div", { class: "away" },
      h("p", {}, h("strong", {}, page.words.say("trial.away")), " ", page.words.say("trial.away_text")),
      choice(page.words.say("common.continue"), true, ready.resolve));
    view.told.replaceChildren(back);
    page.enter(ready.resolve);
    await ready.promise;
    view.told.replaceChildren();
  }
}

// A picture for a time counted in frames, then a mask or nothing. It is shown once, whatever happens.
async function timed(page, trial, view) {
  const [picture] = view.pictures;
  picture.prepareMask();
  picture.draw("cross");
  await frames(CROSS[trial.kind] ?? GAP, page.frame);
  const shown = await expose(
    trial.exposure_ms,
    page.frame,
    () => picture.draw("picture"),
    () => picture.draw(trial.mask ? "mask" : "empty"),
  );
  view.allow(true);
  view.told.textContent = page.words.say("trial.answer_now");
  const answer = await view.answered;
  view.told.textContent = "";
  return { ...answer, ...shown, again: false };
}

async function feedback(page, trial, view, response, correct) {
  const { words } = page;
  const other = { left: "right", right: "left", real: "generated", generated: "real" };
  const truth = correct ? response : other[response];
  if (trial.kind === "timed") view.pictures[0].draw("picture");
  const done = deferred();
  const next = choice(words.say("trial.next"), true, done.resolve, { class: "button main" });
  view.told.replaceChildren(
    h("div", { class: `feedback ${correct ? "right" : "wrong"}` },
      h("p", {}, h("strong", {}, words.say(correct ? "trial.correct" : "trial.wrong")), " ",
        truth ? words.say(`trial.was_${truth}`) : ""),
      next));
  page.enter(done.resolve);
  next.focus();
  await done.promise;
}
