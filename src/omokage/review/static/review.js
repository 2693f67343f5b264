// One face at a time. A key keeps or rejects it; the server has written the verdict before the next one comes.

const at = (id) => document.getElementById(id);
const KEYS = {
  k: () => judge("keep"), x: () => judge("reject"), u: () => judge(""),
  ArrowRight: () => go(here + 1), ArrowLeft: () => go(here - 1),
};
const NAMES = { keep: "kept", reject: "rejected", "": "not judged" };

let verdicts = [];
let here = 0;
let busy = false;

async function call(path, body) {
  const response = await fetch(path, body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  return response.json();
}

function count() {
  const kept = verdicts.filter((one) => one === "keep").length;
  const rejected = verdicts.filter((one) => one === "reject").length;
  at("count").textContent = verdicts.length === 0 ? "no faces"
    : `${here + 1} of ${verdicts.length}: ${NAMES[verdicts[here]]} · ${kept} kept, ${rejected} rejected`;
  at("far").max = Math.max(verdicts.length, 1);
  at("far").value = kept + rejected;
}

async function go(number) {
  if (busy || number < 0 || number >= verdicts.length) return;
  here = number;
  document.body.dataset.verdict = verdicts[here];
  at("face").src = `api/faces/${here}`;
  if (here + 1 < verdicts.length) new Image().src = `api/faces/${here + 1}`;
  count();
  const shown = here;
  const about = await call(`api/faces/${here}/about`);
  if (shown !== here) return;
  at("about").textContent = Object.entries(about).map(([name, value]) => `${name} ${value}`).join(" · ");
  at("face").alt = `face ${about.key}`;
  document.body.dataset.face = String(here);
}

async function judge(verdict) {
  if (busy || verdicts.length === 0) return;
  busy = true;
  try {
    await call("api/verdicts", { face: here, verdict });
    verdicts[here] = verdict;
    at("trouble").hidden = true;
  } catch (error) {
    at("trouble").textContent = `Not written: ${error.message}. Is the command still running?`;
    at("trouble").hidden = false;
    return;
  } finally {
    busy = false;
  }
  if (verdict !== "" && here + 1 < verdicts.length) await go(here + 1);
  else {
    document.body.dataset.verdict = verdict;
    count();
  }
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
at("keep").addEventListener("click", KEYS.k);
at("reject").addEventListener("click", KEYS.x);
at("clear").addEventListener("click", KEYS.u);
at("next").addEventListener("click", KEYS.ArrowRight);
at("back").addEventListener("click", KEYS.ArrowLeft);

verdicts = (await call("api/review")).verdicts;
const first = verdicts.indexOf("");
await go(first < 0 ? 0 : first);
count();
