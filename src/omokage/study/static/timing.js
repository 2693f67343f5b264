// Time by the frames of the screen.

import { frame } from "./dom.js";

// The median time between frames in milliseconds, over about half a second.
export async function measureFrame(forMs = 500) {
  await visible();
  const stamps = [await frame()];
  while (stamps.at(-1) - stamps[0] < forMs || stamps.length < 12) stamps.push(await frame());
  const gaps = stamps.slice(1).map((stamp, number) => stamp - stamps[number]);
  gaps.sort((one, other) => one - other);
  return gaps[gaps.length >> 1];
}

// Settles when the tab can be seen.
export function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}

// Waits for `ms` milliseconds of frames; returns the stamp of the frame in which they are over.
export async function frames(ms, length) {
  const begun = await frame();
  for (;;) {
    const now = await frame();
    if (now - begun > ms - length / 2) return now;
  }
}

// Shows something for `asked` milliseconds, as near as whole frames of `length` milliseconds allow.
//
// show() and cover() paint at once. Both run within a frame, and the time between the stamps of these two frames
// is what is measured. Frames are counted by their stamps, so a frame that the browser dropped counts too.
// A tab that is hidden meanwhile shows nothing more: it is covered at once and marked.
//
// Returns {begun, measured, off}: milliseconds, and the difference to what was asked in frames.
export function expose(asked, length, show, cover) {
  const wanted = Math.max(1, Math.round(asked / length));
  return new Promise((resolve) => {
    let begun = null;
    let over = false;
    const end = (measured, off) => {
      over = true;
      document.removeEventListener("visibilitychange", left);
      cover();
      resolve({ begun, measured, off });
    };
    const left = () => {
      if (document.hidden && !over && begun !== null) end(performance.now() - begun, 99);
    };
    document.addEventListener("visibilitychange", left);
    const step = (now) => {
      if (over) return;
      if (begun === null) {
        begun = now;
        show();
      } else if (Math.round((now - begun) / length) >= wanted) {
        end(now - begun, (now - begun - asked) / length);
        return;
      }
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
}

// What the server may know about the device: covariates of the analysis, nothing that names a person.
// `visit` is random and new whenever the page is loaded, so that the server can count resumptions.
const visit = crypto.getRandomValues(new Uint32Array(3)).join("-");

export function device(length) {
  const coarse = matchMedia("(pointer: coarse)").matches;
  const narrow = Math.min(screen.width, screen.height) < 600;
  return {
    device: coarse ? (narrow ? "phone" : "tablet") : "desktop",
    viewport_width: window.innerWidth,
    viewport_height: window.innerHeight,
    pixel_ratio: Math.round(devicePixelRatio * 100) / 100,
    refresh_hz: Math.round(10_000 / length) / 10,
    pointer: coarse ? "touch" : "mouse",
    visit,
  };
}
