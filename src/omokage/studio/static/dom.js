// Making elements, and small helpers around them.

// An element: attributes, then children (elements, strings, lists; null and false are left out).
// The attribute "on" holds listeners by event; true sets an attribute without value.
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
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

export const random = (below) => crypto.getRandomValues(new Uint32Array(1))[0] % below;

export const randomId = () => [...crypto.getRandomValues(new Uint8Array(12))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

const PATHS = {
  back: "M14.500 5.500 8 12l6.500 6.500",
  check: "M5 12.500 10 17.500 19 7",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
  down: "M7 10l5 5 5-5",
  faces: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  heart: "M12 19.500C6 15.500 4 12.500 4 9.500A4 4 0 0 1 12 8a4 4 0 0 1 8 1.500c0 3-2 6-8 10z",
  help: "M9 9a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 17.500h.01",
  language: "M4 6h9M8.500 4v2M6 11c3-1 5-3 5.500-5M6 8c1 2 3 3.500 5 4M12 20l4-9 4 9M13.500 17h5",
  mix: "M4 7h4c4 0 4 10 8 10h4M4 17h4c4 0 4-10 8-10h4M17 4l3 3-3 3M17 14l3 3-3 3",
  moon: "M19 14.500A7.500 7.500 0 0 1 9.500 5a7.500 7.500 0 1 0 9.500 9.500z",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  plus: "M12 5v14M5 12h14",
  redo: "M15 5l4 4-4 4M19 9H10a5 5 0 0 0 0 10h4",
  reset: "M5 12a7 7 0 1 0 2.200-5.100M5 4v4h4",
  save: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
  select: "M5 5h14v14H5zM8.500 12l2.500 2.500 4.500-5",
  star: "M12 4l2.400 5.200 5.600.7-4.100 3.900 1.100 5.700L12 16.700 7 19.500l1.100-5.700L4 9.900l5.600-.7z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v1.500M12 19.500V21M3 12h1.500M19.500 12H21M5.600 5.600l1.100 1.100M17.300 17.300l1.100 1.100M5.600 18.400l1.100-1.100M17.300 6.700l1.100-1.100",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12M10.500 10.500v5M13.500 10.500v5",
  tree: "M12 4v5M6 20v-5h12v5M12 9v6M12 20v-5",
  undo: "M9 5 5 9l4 4M5 9h9a5 5 0 0 1 0 10h-4",
  upload: "M12 16V5M7 9.500 12 4.500l5 5M5 20h14",
};

export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" },
    svg("path", { d: PATHS[name] }));
}

// A button that shows an icon only; its name is for screen readers and the tooltip.
export function iconButton(name, label, click, attributes = {}) {
  return h("button", { type: "button", class: "round", "aria-label": label, title: label, ...attributes,
    on: { click } }, icon(name));
}

export function button(label, click, attributes = {}) {
  return h("button", { type: "button", class: "button", ...attributes, on: { click } }, label);
}

// A custom element whose listeners end when it leaves the page.
export class Part extends HTMLElement {
  connectedCallback() {
    this.alive = new AbortController();
    this.connected?.();
  }

  disconnectedCallback() {
    this.alive.abort();
    this.disconnected?.();
  }

  listen(target, names, listener, options = {}) {
    for (const name of names.split(" ")) {
      target.addEventListener(name, listener, { ...options, signal: this.alive.signal });
    }
  }
}

// A small sheet under a button, in the browser's top layer. fill(sheet, close) puts its content in.
export function dropdown(opener, fill, attributes = {}) {
  opener.setAttribute("aria-haspopup", attributes.role === "menu" ? "menu" : "dialog");
  opener.setAttribute("aria-expanded", "false");
  opener.addEventListener("click", () => {
    if (opener.getAttribute("aria-expanded") === "true") return;
    const sheet = h("div", { class: "dropdown", popover: "auto", role: "dialog", "aria-label":
      opener.getAttribute("aria-label") ?? opener.textContent, ...attributes });
    const close = () => sheet.hidePopover();
    fill(sheet, close);
    opener.after(sheet);
    sheet.addEventListener("toggle", ({ newState }) => {
      if (newState !== "closed") return;
      const inside = sheet.contains(document.activeElement) || document.activeElement === document.body;
      opener.setAttribute("aria-expanded", "false");
      sheet.remove();
      if (inside) opener.focus({ preventScroll: true });
    });
    sheet.showPopover();
    const [at, size] = [opener.getBoundingClientRect(), sheet.getBoundingClientRect()];
    const below = at.bottom + 6 + size.height <= innerHeight || at.top < size.height + 6;
    sheet.style.top = `${Math.max(8, below ? at.bottom + 6 : at.top - size.height - 6)}px`;
    sheet.style.left = `${clamp(at.left, 8, Math.max(8, innerWidth - size.width - 8))}px`;
    opener.setAttribute("aria-expanded", "true");
    (sheet.querySelector("[aria-checked=true], [autofocus]") ?? sheet.querySelector("button, input"))?.focus();
    sheet.addEventListener("keydown", (event) => moveFocus(event, [...sheet.querySelectorAll("button")]));
  });
  return opener;
}

// Arrow keys through a list of buttons.
export function moveFocus(event, list) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const at = list.indexOf(document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  event.stopPropagation();
  list[(at + step + list.length) % list.length].focus();
}

// A dialog in the middle of the screen; settles when it closes, with what close() was given.
export function ask(title, fill, attributes = {}) {
  return new Promise((resolve) => {
    let result = null;
    const heading = h("h2", { id: "ask-title" }, title);
    const dialog = h("dialog", { "aria-labelledby": "ask-title", ...attributes });
    const close = (value = null) => {
      result = value;
      dialog.close();
    };
    dialog.append(heading);
    fill(dialog, close);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.body.append(dialog);
    dialog.showModal();
  });
}

// A file from the person's disk, or null.
export function pickFile(accept) {
  return new Promise((resolve) => {
    const input = h("input", { type: "file", accept, hidden: true, on: {
      change: () => resolve(input.files[0] ?? null),
      cancel: () => resolve(null),
    } });
    document.body.append(input);
    input.click();
    input.remove();
  });
}
