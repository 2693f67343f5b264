// The words of the page, with the words in braces filled in.

import { recall, remember } from "./memory.js";

const PLACEHOLDER = /\{(\w+)\}/g;
let texts = {};
let language = "en";

const found = (path) => path.split(".").reduce((inner, key) => inner?.[key], texts);

export async function speak(wanted) {
  language = wanted;
  const answer = await fetch(new URL(`texts/${wanted}.json`, document.baseURI), { cache: "no-cache" });
  if (!answer.ok) throw new Error(`no texts for ${wanted}`);
  texts = await answer.json();
  document.documentElement.lang = wanted;
  document.title = say("page.title");
}

// The language to open in: what was chosen here before, then what the browser prefers.
export function preferred(otherwise) {
  const kept = recall("language");
  if (kept === "en" || kept === "ja") return kept;
  const wanted = navigator.languages.map((tag) => tag.split("-")[0]).find((tag) => tag === "en" || tag === "ja");
  return wanted ?? (otherwise === "ja" ? "ja" : "en");
}

export async function changeLanguage(wanted) {
  remember("language", wanted);
  await speak(wanted);
}

export const spoken = () => language;

export const has = (path) => typeof found(path) === "string";

export function say(path, values = {}) {
  const text = found(path);
  if (typeof text !== "string") throw new Error(`no text ${path}`);
  return text.replace(PLACEHOLDER, (whole, word) => (values[word] === undefined ? whole : String(values[word])));
}

// A word of a model: the page's own word for it where there is one, else as the model says it.
export function word(table, name) {
  const text = texts[table]?.[name];
  return typeof text === "string" ? text : String(name);
}

// What the server says is English. Where the page speaks another language and has a sentence of its own for
// this case, that is shown.
export const sentence = (path, told) => (language !== "en" && has(path) ? say(path) : told || (has(path) ? say(path) : ""));

const numbers = { en: new Intl.NumberFormat("en-GB"), ja: new Intl.NumberFormat("ja-JP") };
export const number = (value) => numbers[language].format(value);
