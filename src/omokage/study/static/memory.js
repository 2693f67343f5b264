// What the browser keeps so that a closed tab can go on: the key, the start, answers that are not acknowledged yet.

const PREFIX = `omokage-study:${new URL(".", document.baseURI).pathname}:`;

export class Memory {
  constructor() {
    this.here = new Map(); // for browsers that refuse to keep data
    this.keeps = true;
    try {
      localStorage.setItem(`${PREFIX}test`, "1");
      localStorage.removeItem(`${PREFIX}test`);
    } catch {
      this.keeps = false;
    }
  }

  get(name) {
    const text = this.keeps ? localStorage.getItem(PREFIX + name) : this.here.get(name);
    try {
      return text ? JSON.parse(text) : null;
    } catch {
      return null;
    }
  }

  set(name, value) {
    const text = JSON.stringify(value);
    if (this.keeps) {
      try {
        localStorage.setItem(PREFIX + name, text);
        return;
      } catch {
        this.keeps = false; // full, or forbidden meanwhile
      }
    }
    this.here.set(name, text);
  }

  clear() {
    this.here.clear();
    if (!this.keeps) return;
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(PREFIX)) localStorage.removeItem(key);
    }
  }
}

// Answers on their way. Each is written down before it is sent and struck out when the server has stored it.
export class Outbox {
  constructor(memory, api) {
    this.memory = memory;
    this.api = api;
  }

  get waiting() {
    return this.memory.get("outbox") ?? [];
  }

  add(answer) {
    this.memory.set("outbox", [...this.waiting, answer]);
  }

  // Sends what is waiting, oldest first. Returns the reply to the last answer; null if there was none, or if the
  // server has another answer for that trial already (a second tab, say), which counts.
  async deliver(told) {
    let reply = null;
    for (let left = this.waiting; left.length > 0; left = this.waiting) {
      try {
        reply = await this.api.post("answers", left[0], told);
      } catch (error) {
        if (error.status !== 409) throw error;
        reply = null;
      }
      this.memory.set("outbox", left.slice(1));
    }
    return reply;
  }
}
