// Faces as backgrounds: many faces lie in one picture, and an element shows its tile of it.

import { draw, quiet } from "./api.js";
import { textOf, tidy } from "./faces.js";

const MOST = 48; // faces of one request
const KEPT = 600; // spots remembered

export const address = (path) => new URL(path.replace(/^\//, ""), document.baseURI).href;

// Where a face lies: {sprite, columns, rows, tile: [height, width], index}.
export function paint(element, { sprite, columns, rows, tile: [height, width], index }) {
  // Half a pixel at each edge is left out, or the neighbour would shine through when the tile is enlarged.
  const place = (at, count, side) => (count * side === side - 1 ? 0 : ((at * side + 0.5) / (count * side - (side - 1))) * 100);
  const size = (count, side) => ((count * side) / (side - 1)) * 100;
  const { style } = element;
  style.backgroundImage = `url("${address(sprite)}")`;
  style.backgroundSize = `${size(columns, width)}% ${size(rows, height)}%`;
  style.backgroundPosition = `${place(index % columns, columns, width)}% ${place(Math.floor(index / columns), rows, height)}%`;
  element.dataset.drawn = "";
}

export function clear(element) {
  element.style.backgroundImage = "";
  delete element.dataset.drawn;
}

// The spots of an answer of the server, in order.
export function spotsOf({ sprite, columns, tile, faces, keys }) {
  const told = faces ?? keys;
  const rows = Math.ceil(told.length / columns);
  return told.map((one, index) => ({
    sprite, columns, rows, tile, index, key: keys?.[index] ?? one.key, finite: one.finite !== false,
  }));
}

// Settles when the browser has the picture; throws if it is not there any more.
export async function loaded(sprite) {
  const image = new Image();
  image.src = address(sprite);
  await image.decode();
  return image;
}

// Single faces anywhere on the page: what is asked for at the same moment is drawn together.
const known = new Map();
let asked = new Map();

export async function spotOf(face) {
  const text = textOf(tidy(face));
  if (known.has(text)) return known.get(text);
  const promise = (asked.get(text)?.promise) ?? place(text, face);
  return promise;
}

function place(text, face) {
  if (asked.size === 0) queueMicrotask(send);
  let settle;
  const promise = new Promise((resolve, reject) => (settle = { resolve, reject }));
  asked.set(text, { face, promise, ...settle });
  return promise;
}

async function send() {
  const waiting = [...asked];
  asked = new Map();
  const models = Map.groupBy?.(waiting, ([, { face }]) => face.model) ?? new Map([["", waiting]]);
  for (const list of models.values()) {
    for (let from = 0; from < list.length; from += MOST) await together(list.slice(from, from + MOST));
  }
}

async function together(list) {
  try {
    const spots = spotsOf(await draw(list.map(([, { face }]) => tidy(face))));
    await loaded(spots[0].sprite);
    for (const [at, [text, { resolve }]] of list.entries()) {
      known.set(text, spots[at]);
      resolve(spots[at]);
    }
    while (known.size > KEPT) known.delete(known.keys().next().value);
  } catch (error) {
    for (const [, { reject }] of list) reject(error);
  }
}

// Paints a face on an element when it is drawn.
export async function show(element, face) {
  try {
    paint(element, await spotOf(face));
  } catch (error) {
    if (!quiet(error)) element.dataset.failed = "";
  }
}
