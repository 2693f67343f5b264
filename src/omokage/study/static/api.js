// Talking to the server: every request ends in an answer, a refusal, or a lost connection that is tried again.

import { pause } from "./dom.js";

const BASE = new URL("api/", document.baseURI);
const PATIENCE = 20_000; // ms until a request without an answer counts as lost
const WAITS = [500, 1000, 2000, 4000, 8000, 15_000]; // ms between tries

// The server answered, and said no.
export class Refusal extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export class Api {
  // waiting(kind): called with "offline" or "busy" when a request has to be tried again, with null when it went
  // through after all.
  constructor(waiting = () => {}) {
    this.waiting = waiting;
    this.token = null;
  }

  async once(method, path, body) {
    const headers = {};
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(new URL(path, BASE), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    if (!response.ok) {
      const told = await response.json().catch(() => ({}));
      const message = typeof told.error === "string" ? told.error : `${response.status}`;
      throw new Refusal(response.status, message, Number(response.headers.get("Retry-After")) || 0);
    }
    return response.headers.get("Content-Type")?.startsWith("image/") ? response.blob() : response.json();
  }

  // Tries until the server has answered. Only a refusal that trying again cannot mend is thrown.
  async send(method, path, body, waiting = this.waiting) {
    let told = false;
    for (let tries = 0; ; tries++) {
      try {
        const answer = await this.once(method, path, body);
        if (told) waiting(null);
        return answer;
      } catch (error) {
        const refused = error instanceof Refusal;
        if (refused && error.status < 500 && error.status !== 429 && error.status !== 408) {
          if (told) waiting(null);
          throw error;
        }
        if (tries > 0 || !refused) {
          waiting(refused ? "busy" : "offline");
          told = true;
        }
        const wait = Math.max(WAITS[Math.min(tries, WAITS.length - 1)], refused ? error.retryAfter * 1000 : 0);
        await Promise.race([pause(wait), backOnline()]);
      }
    }
  }

  get(path) {
    return this.send("GET", path);
  }

  post(path, body, waiting) {
    return this.send("POST", path, body, waiting);
  }
}

// Settles when the browser says that the network is back, which it never says if it was there all the time.
function backOnline() {
  return new Promise((resolve) => window.addEventListener("online", () => resolve(), { once: true }));
}
