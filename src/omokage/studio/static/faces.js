// Face documents: how a face is made, as the server and the board files understand it.

import { post } from "./api.js";
import { say, word } from "./words.js";

const DEEP = 8; // a face made of faces made of … this deep is turned into a point before it is used again

const empty = (value) => value === null || value === undefined
  || (Array.isArray(value) ? value.length === 0 : typeof value === "object" && Object.keys(value).length === 0);

// The document without what says nothing.
export function tidy(face) {
  const edits = Object.fromEntries(Object.entries(face.edits ?? {}).filter(([, steps]) => steps !== 0));
  return Object.fromEntries(Object.entries({ ...face, edits }).filter(([, value]) => !empty(value)));
}

// The same text for the same document.
export function textOf(value) {
  if (Array.isArray(value)) return `[${value.map(textOf).join()}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const keys = Object.keys(value).filter((key) => !empty(value[key])).sort();
  return `{${keys.map((key) => `${JSON.stringify(key)}:${textOf(value[key])}`).join()}}`;
}

// The faces that a face was made from.
export function parentsOf(face) {
  const { mix, between, near } = face.from;
  const made = mix ?? between ?? (near ? [near] : []);
  if (made.length === 0 && face.edits && Object.keys(face.edits).length > 0) return [plain(face)];
  return made;
}

// The face before it was steered.
export function plain(face) {
  const { edits, keep, ...rest } = face;
  return rest;
}

export function depth(face) {
  return 1 + Math.max(0, ...parentsOf({ ...face, edits: {} }).map(depth));
}

// The faces, with those that are made of too many others turned into points.
export async function nestable(faces) {
  const deep = faces.filter((face) => depth(face) >= DEEP);
  if (deep.length === 0) return faces;
  const { faces: flat } = await post("flatten", { faces: deep });
  return faces.map((face) => (deep.includes(face) ? flat[deep.indexOf(face)] : face));
}

export const mixed = (a, b, layers) => ({ model: a.model, from: { mix: [a, b], layers } });
export const near = (face, seed, distance) => ({ model: face.model, from: { near: face, seed, distance } });

// A face between others. Weights sum to 1.
export function between(faces, weights) {
  const sum = weights.reduce((a, b) => a + b, 0);
  const round = weights.map((weight) => Math.round((weight / sum) * 1e4) / 1e4);
  const used = faces.map((face, at) => [face, round[at]]).filter(([, weight]) => weight > 0);
  const most = used.reduce((best, pair) => (pair[1] > best[1] ? pair : best));
  most[1] += 1 - used.reduce((total, [, weight]) => total + weight, 0);
  most[1] = Math.round(most[1] * 1e4) / 1e4;
  return { model: faces[0].model, from: { between: used.map(([face]) => face), weights: used.map(([, weight]) => weight) } };
}

export const isSeed = ({ from }) => from.seed !== undefined && !from.near;

// A few words for people.
export function nameOf(face) {
  const { from } = face;
  const name = isSeed(face) ? say("face.seed", { seed: from.seed })
    : from.mix ? say("face.mix") : from.between ? say("face.between")
      : from.near ? say("face.near") : say("face.point");
  const steered = Object.keys(face.edits ?? {}).map((direction) => nameOfDirection(direction));
  return steered.length > 0 ? `${name} · ${steered.slice(0, 2).join(", ")}${steered.length > 2 ? " …" : ""}` : name;
}

// "hair=blue" in the page's words.
export function nameOfDirection(name) {
  const [attribute, value] = name.split("=");
  if (value === undefined) return word("attributes", attribute);
  return say("face.attribute", { attribute: word("attributes", attribute), value: word("values", value) });
}

export const nameOfModel = ({ name }) => (name === "shipped" ? say("bar.shipped") : name);

// The terms of what a model draws, in the page's language.
export const termsOf = ({ shipped }) => say(`terms.${shipped ? "shipped" : "own"}`);

export const madeBy = (face) => (face.edits && Object.keys(face.edits).length > 0 ? "steer"
  : face.from.mix ? "mix" : face.from.between ? "glide" : face.from.near ? "vary" : face.from.point ? "import" : "roll");
