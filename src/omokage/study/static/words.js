// The words of a study, with the words in braces filled in.

const PLACEHOLDER = /\{(\w+)\}/g;
const ADDRESS = /[^\s<>()@,、（）：]+@[^\s<>()@,、（）：]+\.[A-Za-z]{2,}/g;

export class Words {
  constructor(texts, values = {}) {
    this.texts = texts;
    this.values = values;
  }

  raw(path) {
    const found = path.split(".").reduce((inner, key) => inner?.[key], this.texts);
    if (typeof found !== "string") throw new Error(`no text ${path}`);
    return found;
  }

  has(path) {
    return typeof path.split(".").reduce((inner, key) => inner?.[key], this.texts) === "string";
  }

  // A text filled in. A paragraph with a word in braces that has no value is left out, as in pages.py.
  say(path, more = {}) {
    return this.fill(this.raw(path), more);
  }

  fill(text, more = {}) {
    const values = { ...this.values, ...more };
    const given = (word) => values[word] !== undefined && values[word] !== null && values[word] !== "";
    return text
      .split("\n\n")
      .filter((paragraph) => [...paragraph.matchAll(PLACEHOLDER)].every(([, word]) => given(word)))
      .map((paragraph) => paragraph.replace(PLACEHOLDER, (_, word) => String(values[word])))
      .join("\n\n");
  }

  // A text as a list of <p>; addresses of e-mail become links.
  paragraphs(path, more = {}) {
    return paragraphs(this.say(path, more));
  }
}

export function paragraphs(text) {
  return text
    .split("\n\n")
    .filter((paragraph) => paragraph !== "")
    .map((paragraph) => {
      const element = document.createElement("p");
      element.append(...linked(paragraph));
      return element;
    });
}

// A text as nodes, with links where it has addresses of e-mail.
export function linked(text) {
  const nodes = [];
  let from = 0;
  for (const found of text.matchAll(ADDRESS)) {
    const link = document.createElement("a");
    link.href = `mailto:${found[0]}`;
    link.textContent = found[0];
    nodes.push(text.slice(from, found.index), link);
    from = found.index + found[0].length;
  }
  nodes.push(text.slice(from));
  return nodes;
}

// A label given by language; the first of them where the page's language lacks one.
export function inLanguage(label, language) {
  if (typeof label === "string") return label;
  return label?.[language] ?? Object.values(label ?? {})[0] ?? "";
}

// How the browser's owner writes dates and times in a language: 10 December in one country, December 10 in another.
export function locale(language) {
  return navigator.languages.find((tag) => tag.split("-")[0] === language.split("-")[0]) ?? language;
}

// An ISO day such as 2026-05-14 as people write it.
export function day(iso, language) {
  if (!iso) return "";
  const date = new Date(`${iso.slice(0, 10)}T12:00:00`);
  return Number.isNaN(date.valueOf()) ? iso : new Intl.DateTimeFormat(locale(language), { dateStyle: "long" }).format(date);
}
