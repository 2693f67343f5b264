// The page: a wall of faces, one of them large with sliders, and its PNG.
import { changed, forced, freshRoll, latent, normals, pixels, recipe, style, withText } from "./drawing.js";

const at = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let asked = 0;
worker.onmessage = ({ data }) => {
  const { done, failed } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) failed(new Error(data.error));
  else done(data);
};
worker.onerror = () => say("This browser cannot run the model.");
const ask = (message) =>
  new Promise((done, failed) => {
    waiting.set(++asked, { done, failed });
    worker.postMessage({ id: asked, ...message });
  });

let told, named;
let chosen = null; // the face that is shown large
let turn = 0; // a newer wall ends the drawing of an older one
let redrawing = false;
let stale = false;

function say(text) {
  at("name").textContent = text;
}

function newFace(where) {
  return { psi: 1, steps: {}, conditions: {}, ...where };
}

function numbers(face) {
  const count = told.latent_shape.reduce((a, b) => a * b, 1);
  if (face.seed === undefined) return normals(face.roll, count);
  const place = told.seeds.indexOf(face.seed) * count;
  return named.slice(place, place + count);
}

async function draw(face) {
  const z = numbers(face);
  let point;
  if (told.styles) {
    face.w ??= await ask({ ask: "style", z: forced(told, Float32Array.from(z), face) });
    point = { values: style(told, face.w.values, face.w.shape[0], face), shape: face.w.shape };
  } else {
    point = { values: latent(told, z, face), shape: told.latent_shape };
  }
  face.point = point;
  return (await ask({ ask: "image", ...point })).values;
}

async function paint(face, canvas) {
  const [height, width] = told.resolution;
  const image = pixels(await draw(face), width, height);
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function title(face) {
  const where = face.seed === undefined ? `roll ${face.roll}` : `seed ${face.seed}`;
  return changed(face) ? `${where}, changed` : where;
}

async function wall(faces) {
  const mine = ++turn;
  at("wall").replaceChildren();
  for (const face of faces) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", title(face));
    button.setAttribute("aria-pressed", "false");
    const canvas = document.createElement("canvas");
    button.append(canvas);
    at("wall").append(button);
    button.onclick = () => choose(face, button, canvas);
  }
  for (const [i, button] of [...at("wall").children].entries()) {
    if (mine !== turn) return;
    await paint(faces[i], button.firstChild);
    if (mine === turn && i === 0) choose(faces[0], button, button.firstChild);
  }
  document.body.dataset.wall = mine;
}

function choose(face, button, canvas) {
  for (const other of at("wall").children) other.setAttribute("aria-pressed", String(other === button));
  chosen = { face, canvas };
  for (const input of at("sliders").querySelectorAll("input, select")) input.show(face);
  redraw();
}

// The newest state is drawn; states that a slider passed meanwhile are left out.
async function redraw() {
  stale = true;
  if (redrawing) return;
  redrawing = true;
  try {
    while (stale && chosen) {
      stale = false;
      const { face, canvas } = chosen;
      await paint(face, at("face"));
      if (canvas.width === at("face").width) canvas.getContext("2d").drawImage(at("face"), 0, 0);
      say(title(face));
      for (const id of ["save", "again"]) at(id).disabled = false;
      document.body.dataset.face = title(face);
    }
  } catch (error) {
    say(error.message);
  } finally {
    redrawing = false;
  }
}

function slider(name, low, high, get, set) {
  const label = document.createElement("label");
  const output = document.createElement("output");
  const input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step: 0.05 });
  input.setAttribute("aria-label", name);
  input.show = (face) => {
    input.value = get(face);
    output.textContent = Number(input.value).toFixed(2);
  };
  input.oninput = () => {
    output.textContent = Number(input.value).toFixed(2);
    if (!chosen) return;
    set(chosen.face, Number(input.value));
    redraw();
  };
  label.append(name, output, input);
  at("sliders").append(label);
}

function choice(name, values) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  for (const value of ["", ...values]) select.add(new Option(value || "as it comes", value));
  select.show = (face) => (select.value = face.conditions[name] ?? "");
  select.onchange = () => {
    if (!chosen) return;
    chosen.face.conditions[name] = select.value;
    delete chosen.face.w;
    redraw();
  };
  label.append(name, select);
  at("sliders").append(label);
}

function build() {
  at("about").textContent = `${told.family}, ${told.images.toLocaleString("en")} images seen, snapshot ${told.snapshot.slice(0, 12)}`;
  at("terms").textContent = told.terms;
  document.body.style.setProperty("--shape", `${told.resolution[1]} / ${told.resolution[0]}`);
  if (told.psi) {
    slider("psi", told.psi.low, told.psi.high, (face) => face.psi, (face, value) => (face.psi = value));
  }
  for (const [name, { values }] of Object.entries(told.conditions)) choice(name, values);
  for (const way of told.directions) {
    const get = (face) => face.steps[way.name] ?? 0;
    slider(way.name.replace("=", ": "), -way.limit, way.limit, get, (face, value) => (face.steps[way.name] = value));
  }
  at("change").hidden = !at("sliders").children.length;
  at("change").open = matchMedia("(min-width: 48rem)").matches; // on a phone, the faces come first
  at("roll").onclick = () => wall(Array.from({ length: 24 }, () => newFace({ roll: freshRoll() })));
  at("named").onclick = () => wall(told.seeds.slice(0, 24).map((seed) => newFace({ seed })));
  at("again").onclick = () => {
    Object.assign(chosen.face, { psi: 1, steps: {}, conditions: {}, w: undefined });
    for (const input of at("sliders").querySelectorAll("input, select")) input.show(chosen.face);
    redraw();
  };
  at("save").onclick = save;
}

async function save() {
  const face = chosen.face;
  const canvas = document.createElement("canvas");
  await paint(face, canvas);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const png = withText(new Uint8Array(await blob.arrayBuffer()), "omokage", recipe(told, face, face.point));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([png], { type: "image/png" }));
  link.download = `${title(face).replace(/[^a-z0-9]+/g, "-")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function start() {
  try {
    const [config, seeds] = await Promise.all([fetch("config.json"), fetch("seeds.bin")]);
    told = await config.json();
    named = new Float32Array(await seeds.arrayBuffer());
    build();
    await ask({ ask: "nothing" });
    for (const id of ["roll", "named"]) at(id).disabled = false;
    await wall(told.seeds.slice(0, 24).map((seed) => newFace({ seed })));
  } catch (error) {
    say(`The model could not be loaded: ${error.message}`);
  }
}

start();
