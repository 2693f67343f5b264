// Making elements, and waiting for what people do with them.

// An element: attributes, then children (elements, strings, lists; null and false are left out).
// The attribute "on" holds listeners by event; true sets an attribute without value.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The time stamp of the next frame.
export const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

// A button that settles a promise with its value. Stages wait for the promise.
export function choice(label, value, settle, attributes = {}) {
  return h("button", { type: "button", class: "button", ...attributes, on: { click: () => settle(value) } }, label);
}

export function deferred() {
  let resolve;
  const promise = new Promise((settle) => (resolve = settle));
  return { promise, resolve };
}
