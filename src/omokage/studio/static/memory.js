// What the browser keeps of the view: theme, language, model, how daring. Faces are kept by the server alone.

const PREFIX = "omokage-studio:";
const here = new Map(); // for browsers that refuse to keep data

export function remember(name, value) {
  const text = JSON.stringify(value);
  here.set(name, text);
  try {
    localStorage.setItem(PREFIX + name, text);
  } catch {
    // Then it is forgotten with the page.
  }
}

export function recall(name, otherwise = null) {
  try {
    const text = here.get(name) ?? localStorage.getItem(PREFIX + name);
    return text ? JSON.parse(text) : otherwise;
  } catch {
    return otherwise;
  }
}
