// What a face is made of: normal numbers, psi, steps along directions; and the PNG that says so. No page here.

// A generator of normal numbers of its own (sfc32, then Box and Muller): the same roll gives the same face.
// PyTorch's seeds give other numbers, so the latents of named seeds come in a file.
export function normals(roll, count) {
  let [a, b, c, d] = [roll >>> 0, Math.floor(roll / 2 ** 32) >>> 0, 0x9e3779b9, 1];
  const next = () => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 16; i++) next();
  const found = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    found[i] = radius * Math.cos(angle);
    if (i + 1 < count) found[i + 1] = radius * Math.sin(angle);
  }
  return found;
}

export function freshRoll() {
  const [low, high] = crypto.getRandomValues(new Uint32Array(2));
  return (high % 2 ** 21) * 2 ** 32 + low;
}

// A latent after psi, steps and chosen conditions, for models without styles.
export function latent(told, z, face) {
  const scale = told.psi?.of === "latents" ? face.psi : 1;
  const found = z.map((value) => value * scale);
  const start = Float32Array.from(found);
  for (const way of told.directions) {
    const steps = way.space === "z" ? face.steps[way.name] ?? 0 : 0;
    if (steps) offset(told, way, steps, start).forEach((value, i) => (found[i] += value));
  }
  return forced(told, found, face);
}

// What steps along a direction add to a latent or to a style. Forward, a value of several leads to its goal, where
// faces with this value lie: omokage.explore.directions.Goal.
function offset(told, way, steps, start) {
  if (steps < 0 || !way.place) return way.vector.map((value) => steps * value);
  const goal = told.goals[way.attribute];
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const missing = way.place.map((value, j) => value - dot(goal.reading[j], start));
  const whole = way.vector.map((_, i) => missing.reduce((sum, value, j) => sum + value * goal.way[j][i], 0));
  const square = dot(whole, whole);
  const variance = Math.max(0, dot(missing, missing.map((_, j) => dot(goal.spread[j], missing)))) / Math.max(square, 1e-12);
  const length = Math.sqrt(square) / Math.max(Math.sqrt(variance), 1e-12);
  const share = Math.min(told.beyond, steps / Math.max(length, 1e-6));
  return whole.map((value) => share * value);
}

// The last entries of a latent decide about conditions; these leave no doubt.
export function forced(told, z, face) {
  for (const [name, { values, at }] of Object.entries(told.conditions)) {
    const chosen = values.indexOf(face.conditions[name]);
    if (chosen >= 0) values.forEach((_, i) => (z[at + i] = i === chosen ? told.forced : -told.forced));
  }
  return z;
}

// Styles (layers × width) after psi and steps.
export function style(told, w, layers, face) {
  const width = w.length / layers;
  const found = Float32Array.from(w);
  if (told.psi?.of === "styles" && face.psi !== 1) {
    for (let i = 0; i < Math.min(layers, told.psi.layers) * width; i++) {
      const average = told.psi.average[i % width];
      found[i] = average + face.psi * (found[i] - average);
    }
  }
  const start = Float32Array.from(found);
  for (const way of told.directions) {
    const steps = way.space === "w" ? face.steps[way.name] ?? 0 : 0;
    if (!steps) continue;
    const moved = [...Array(layers).keys()].filter((layer) => !way.layers.length || way.layers.includes(layer));
    const mean = way.vector.map((_, i) => moved.reduce((sum, layer) => sum + start[layer * width + i], 0) / moved.length);
    const added = offset(told, way, steps, mean);
    for (const layer of moved) added.forEach((value, i) => (found[layer * width + i] += value));
  }
  return found;
}

// Float32 (3 or 1, height, width) in [-1, 1] to pixels; what is not finite is black.
export function pixels(image, width, height) {
  const found = new ImageData(width, height);
  const size = width * height;
  const channels = image.length / size;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) {
      const value = (image[(channels === 1 ? 0 : c) * size + i] + 1) * 127.5;
      found.data[4 * i + c] = Number.isFinite(value) ? Math.round(value) : 0;
    }
    found.data[4 * i + 3] = 255;
  }
  return found;
}

function base64(floats) {
  const bytes = new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}

// The recipe in the form that Omokage's own pictures have, so that its commands take the PNG as a face.
export function recipe(told, face, point) {
  const plain = face.seed !== undefined && !changed(face);
  const space = told.styles ? "w" : "z";
  const entry = plain
    ? { seed: face.seed }
    : { [space]: { shape: told.styles ? point.shape : told.latent_shape, float32: base64(point.values) } };
  if (!plain && face.seed === undefined) entry.name = `roll ${face.roll}`;
  return JSON.stringify({
    format: 1,
    version: told.version,
    kind: "face",
    model: { recipe: told.recipe, images: told.images, snapshot: told.snapshot },
    settings: plain && face.psi !== 1 ? { psi: face.psi } : {},
    faces: [entry],
    size: [told.resolution[1], told.resolution[0]],
  });
}

export function changed(face) {
  return Object.values(face.steps).some(Boolean) || Object.values(face.conditions).some(Boolean);
}

function crc(bytes) {
  let found = ~0;
  for (const byte of bytes) {
    found ^= byte;
    for (let i = 0; i < 8; i++) found = (found >>> 1) ^ (found & 1 ? 0xedb88320 : 0);
  }
  return ~found >>> 0;
}

// A PNG with a text chunk (Latin letters) after its header.
export function withText(png, key, text) {
  const body = new TextEncoder().encode(`tEXt${key}\0${text}`);
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, crc(body));
  const header = 33; // signature and IHDR
  const found = new Uint8Array(png.length + chunk.length);
  found.set(png.subarray(0, header));
  found.set(chunk, header);
  found.set(png.subarray(header), header + chunk.length);
  return found;
}
