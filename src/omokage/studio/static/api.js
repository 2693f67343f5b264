// Talking to the server.

import { pause, randomId } from "./dom.js";

const BASE = new URL("api/", document.baseURI);
export const LONG = 1000; // ms after which a request is given up for a newer one
const TRIES = [400, 1200, 3000, 5000, 5000, 10_000, 10_000, 30_000]; // ms between tries of what must not get lost

// The server answered and said no.
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// No answer came.
export class Silence extends Error {
  code = "offline";
}

export const quiet = (error) => error.name === "AbortError" || error.code === "superseded";

const client = randomId();
let order = 0;

// The token that the terminal printed comes behind # in the address, where no server and no log sees it. It is
// changed for a cookie at once.
export async function enter(token = new URLSearchParams(location.hash.slice(1)).get("token")) {
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  const answer = await fetch(new URL("session", BASE), { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new Refusal(answer.status, "token", "");
}

export async function call(method, path, body, { signal, name } = {}) {
  const headers = { "X-Client": client };
  const file = body instanceof Blob;
  if (file) headers["X-File-Name"] = encodeURIComponent(name ?? "");
  else if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method, headers, signal, cache: "no-store", redirect: "error",
      body: body === undefined || file ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw new DOMException("aborted", "AbortError");
    throw new Silence(error.message);
  }
  const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (signal?.aborted) throw new DOMException("aborted", "AbortError");
  if (!response.ok) {
    throw new Refusal(response.status, answer.code ?? "", typeof answer.error === "string" ? answer.error : "");
  }
  return answer;
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body, options) => call("POST", path, body, options);
export const erase = (path) => call("DELETE", path);

// Like post, but tried again while no answer comes: for edits, which the server applies once whatever happens.
export async function insist(path, body, waiting) {
  for (let tries = 0; ; tries++) {
    try {
      return await post(path, body);
    } catch (error) {
      if (!(error instanceof Silence) || tries >= TRIES.length) throw error;
      waiting?.(error);
      await pause(TRIES[tries]);
    }
  }
}

// Faces drawn together: {sprite, columns, tile, faces}. Of one channel only the newest request is answered.
export function draw(faces, { size = "wall", channel = null, exact = false, signal } = {}) {
  return post("draw", { faces, size, channel, order: ++order, exact }, { signal });
}

export function wall(request, signal) {
  return post("wall", { ...request, order: ++order }, { signal });
}

export function grid(request, signal) {
  return post("grid", { ...request, order: ++order }, { signal });
}

// Sends a file as it is; the server makes no path of its name.
export function upload(file, path = "uploads") {
  return call("POST", path, file, { name: file.name });
}

// One job at a time, and of what is asked meanwhile only the newest: a slider never queues up.
export class Latest {
  // work(value, signal) → answer; done(answer, value); failed(error).
  constructor(work, done, failed = () => {}) {
    Object.assign(this, { work, done, failed, waiting: null, running: null });
  }

  ask(value) {
    this.waiting = { value };
    // What takes this long is given up for the newer one; sooner, nothing would be seen while a slider moves.
    if (this.running && performance.now() - this.running.since > LONG) this.running.stop.abort();
    if (!this.running) this.run();
  }

  stop() {
    this.waiting = null;
    this.running?.stop.abort();
  }

  async run() {
    while (this.waiting) {
      const { value } = this.waiting;
      this.waiting = null;
      this.running = { since: performance.now(), stop: new AbortController() };
      const { signal } = this.running.stop;
      try {
        const answer = await this.work(value, signal);
        if (!signal.aborted) await this.done(answer, value);
      } catch (error) {
        if (!quiet(error)) this.failed(error);
      }
    }
    this.running = null;
  }
}

// Follows a job to its end. progress({done, total, left_s, text}), picture({url}). Returns what it made.
export async function follow(job, { progress = () => {}, picture = () => {}, signal } = {}) {
  const events = new EventSource(new URL(`jobs/${job}/events`, BASE));
  try {
    return await new Promise((resolve, reject) => {
      events.addEventListener("progress", ({ data }) => progress(JSON.parse(data)));
      events.addEventListener("picture", ({ data }) => picture(JSON.parse(data)));
      events.addEventListener("done", ({ data }) => resolve(JSON.parse(data)));
      events.addEventListener("error", ({ data }) => {
        if (data) {
          const told = JSON.parse(data);
          reject(new Refusal(422, told.code ?? "", told.error ?? ""));
        } else if (events.readyState === EventSource.CLOSED) {
          reject(new Silence("the events ended"));
        }
      });
      signal?.addEventListener("abort", () => {
        erase(`jobs/${job}`).catch(() => {});
        reject(new DOMException("aborted", "AbortError"));
      });
    });
  } finally {
    events.close();
  }
}
