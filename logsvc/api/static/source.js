/** The service, as the pane reads it: events of `/logs`, documents of `/apps` and `/volume`, errors in words. */

import { headersFor, linesPath } from "./asking.js";
import { taken } from "./early.js";

/** The service answered, and the answer is no. */
export class Refused extends Error {
  /** @param {number} status @param {string} detail @param {number} [retry] ms @param {string} [parameter] */
  constructor(status, detail, retry, parameter) {
    super(detail);
    this.status = status;
    this.retry = retry;
    this.parameter = parameter;
  }

  /** Whether it asked for what is in front of or behind a place that isn't there, or isn't any more. */
  get unplaced() {
    return this.parameter === "after" || this.parameter === "before";
  }
}

/** The answer ended before it was complete. */
export class Cut extends Error {
  /** @param {number} [retry] ms after which to come back, where the service said so before it went */
  constructor(retry) {
    super("cut");
    this.retry = retry;
  }
}

/** The service never answered, and stands elsewhere than the page: a browser doesn't say whether it is there at all. */
export class Unshared extends Error {
  /** @param {string} base address of the service */
  constructor(base) {
    super(`No answer from ${base}. Where it runs, this page must be one of its http.origins: ${location.origin}.`);
  }
}

/**
 * @typedef {{lines: string[], id: string, notice: boolean}} Batch JSON objects, and the cursor of the last one
 * @typedef {{start: string, each: AsyncGenerator<Batch>}} Answer
 * @typedef {() => string | Promise<string>} Token
 */

/** ms without a byte after which a connection is dead: the service sends a heartbeat each 20 s at the latest. */
const SILENCE = 45_000;

/** ms of work after which the browser gets a turn, so that no task is a long one. */
export const TURN = 8;

export class Service {
  #answered = false;

  /** @param {string} base address of the service, with a slash at the end @param {Token} [token] of who is asking */
  constructor(base, token) {
    this.base = base;
    this.token = token;
  }

  /** @param {string} app @param {URLSearchParams} query @param {AbortSignal} signal @returns {Promise<any>} */
  async volume(app, query, signal) {
    return (await this.#get(`v1/apps/${encodeURIComponent(app)}/volume?${query}`, "application/json", signal)).json();
  }

  /** @param {AbortSignal} signal @returns {Promise<{apps: {app: string, processes: string[], last: string}[]}>} */
  async apps(signal) {
    return (await this.#get("v1/apps", "application/json", signal)).json();
  }

  /** The place before the first line kept. @param {string} app @param {AbortSignal} signal */
  async start(app, signal) {
    const path = `v1/apps/${encodeURIComponent(app)}/logs?since=1970-01-01T00:00:00Z`;
    const answer = await this.#get(path, "text/event-stream", signal, "HEAD");
    return answer.headers.get("Logsvc-Cursor") ?? "";
  }

  /**
   * Lines. The answer is complete when `each` ends; where it was cut, `each` throws Cut.
   * @param {string} app @param {URLSearchParams} query @param {AbortSignal} signal @returns {Promise<Answer>}
   */
  async lines(app, query, signal) {
    const answer = await this.#get(linesPath(app, query), "text/event-stream", signal);
    return { start: answer.headers.get("Logsvc-Cursor") ?? "", each: batches(answer) };
  }

  /**
   * What the service answers to whatever else is asked.
   * @param {string} method @param {string} path @param {object} [body] @returns {Promise<any>}
   */
  async ask(method, path, body) {
    const signal = AbortSignal.timeout(30_000);
    return (await this.#get(path, "application/json", signal, method, body && JSON.stringify(body))).json();
  }

  /**
   * @param {string} path @param {string} accept @param {AbortSignal} signal @param {string} [method]
   * @param {string} [body] JSON
   */
  async #get(path, accept, signal, method = "GET", body) {
    const headers = headersFor(accept, (await this.token?.()) ?? "");
    if (body) headers.set("Content-Type", "application/json");
    const answer = await this.#fetch(path, { method, headers, body, signal, cache: "no-store" });
    if (!answer.ok) throw await refusal(answer);
    return answer;
  }

  /** @param {string} path @param {RequestInit & {headers: Headers, signal: AbortSignal}} init */
  async #fetch(path, init) {
    try {
      const answer = await (taken(this.base + path, init) ?? fetch(this.base + path, init));
      this.#answered = true;
      return answer;
    } catch (error) {
      const elsewhere = new URL(this.base).origin !== location.origin;
      throw elsewhere && !this.#answered && !init.signal.aborted ? new Unshared(this.base) : error;
    }
  }
}

/** @param {Response} answer */
async function refusal(answer) {
  const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
  /** @type {{detail?: string, parameter?: string}} */
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Something between here and the service answered.
  }
  const retry = Number.isFinite(seconds) ? seconds * 1000 : undefined;
  return new Refused(answer.status, problem.detail ?? answer.statusText, retry, problem.parameter);
}

/** @param {Response} answer @returns {AsyncGenerator<Batch>} */
async function* batches(answer) {
  if (!answer.body) throw new Cut();
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  const stream = new EventStream();
  let begun = performance.now();
  let complete = false;
  try {
    for (;;) {
      const { done, value } = await timely(reader.read());
      if (done && complete) return;
      if (done) throw new Cut(stream.retry);
      for (const event of stream.feed(decoder.decode(value, { stream: true }))) {
        if (event.type === "end") complete = true;
        else yield { lines: event.data, id: event.id, notice: event.type === "notice" };
      }
      if (performance.now() - begun > TURN) {
        await turn();
        begun = performance.now();
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @template T @param {Promise<T>} reading @returns {Promise<T>} */
function timely(reading) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Cut()), SILENCE);
    reading.finally(() => clearTimeout(timer)).then(resolve, reject);
  });
}

const turns = new MessageChannel();
/** @type {(() => void)[]} */
const waiting = [];
turns.port1.onmessage = () => waiting.shift()?.();

/** Let the browser draw and take input. @returns {Promise<void>} */
export function turn() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    turns.port2.postMessage(null);
  });
}

/**
 * Server-sent events (WHATWG HTML, section 9.2) as this service writes them: lines end with LF. An event that was cut
 * is never given out, and one without data is: its `id` moves the reader on.
 */
export class EventStream {
  #rest = "";
  #id = "";
  /** ms after which to come back, once the stream has named it. @type {number | undefined} */
  retry;

  /** @param {string} text @returns {{type: string, id: string, data: string[]}[]} data by line */
  feed(text) {
    const from = Math.max(0, this.#rest.length - 1);
    const all = this.#rest + text;
    const events = [];
    let begin = 0;
    for (let end = all.indexOf("\n\n", from); end >= 0; end = all.indexOf("\n\n", begin)) {
      events.push(this.#event(all.slice(begin, end)));
      begin = end + 2;
    }
    this.#rest = all.slice(begin);
    return events;
  }

  /** @param {string} block */
  #event(block) {
    let type = "message";
    let at = 0;
    while (at < block.length && !block.startsWith("data: ", at)) {
      const end = block.indexOf("\n", at);
      const field = end < 0 ? block.slice(at) : block.slice(at, end);
      if (field.startsWith("id: ")) this.#id = field.slice(4);
      else if (field.startsWith("event: ")) type = field.slice(7);
      else if (/^retry: \d{1,9}$/.test(field)) this.retry = Number(field.slice(7));
      at = end < 0 ? block.length : end + 1;
    }
    // No JSON has a newline in it, so what looks like the begin of a field is one.
    return { type, id: this.#id, data: at < block.length ? block.slice(at + 6).split("\ndata: ") : [] };
  }
}
