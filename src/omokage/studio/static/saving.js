// From a click to a saved file: the export as a job, its progress in a small dialog, then the download.

import { follow, post } from "./api.js";
import { button, h } from "./dom.js";
import { tidy } from "./faces.js";
import { address } from "./pictures.js";
import { studio } from "./state.js";
import { say, spoken } from "./words.js";

// Saves what the request describes; resolves to true once the browser has the file.
export async function save(request) {
  const stop = new AbortController();
  const bar = h("progress", { max: 1, "aria-label": say("export.progress") });
  const text = h("p", { role: "status" }, say("export.making"));
  const box = h("div", { class: "job" }, text, bar, button(say("common.cancel"), () => stop.abort()));
  const wait = setTimeout(() => document.querySelector("omokage-studio").append(box), 300);
  try {
    const film = request.kind === "film";
    const { job } = await post(film ? "jobs" : "export", {
      ...request, faces: request.faces.map(tidy), language: spoken(),
    });
    const result = await follow(job, { signal: stop.signal, progress: (told) => {
      if (told.total) {
        bar.max = told.total;
        bar.value = told.done;
      }
      text.textContent = told.left_s > 2 ? say("export.left", { seconds: Math.ceil(told.left_s) }) : say("export.making");
    } });
    const link = h("a", { href: address(result.file), download: "" });
    document.body.append(link);
    link.click();
    link.remove();
    // The last sentence is the terms, which stand beside the button.
    studio.say([say("export.saved", { name: decodeURIComponent(result.file.split("/").at(-1)) }), ...(result.told ?? []).slice(0, -1)].join(" "));
    return true;
  } catch (error) {
    studio.fail(error);
    return false;
  } finally {
    clearTimeout(wait);
    box.remove();
  }
}
