/** A request that is begun before the module is there that reads its answer. It is handed over from bundle to bundle. */

/** @typedef {{url: string, headers: Headers, answer: Promise<Response>, control: AbortController}} Early */

const KEY = Symbol.for("logsvc.early");
const shared = /** @type {{[KEY]?: Early}} */ (globalThis);

/** @param {string} url @param {Headers} headers */
export function begin(url, headers) {
  const control = new AbortController();
  const answer = fetch(url, { headers, signal: control.signal, cache: "no-store" });
  answer.catch(() => {}); // whoever takes it hears of that
  shared[KEY] = { url, headers, answer, control };
}

/**
 * The answer to the same request, where that was begun; to the first who asks.
 * @param {string} url @param {{method?: string, headers: Headers, signal: AbortSignal}} asked
 */
export function taken(url, { method, headers, signal }) {
  const early = shared[KEY];
  if (early?.url !== url || method !== "GET" || !alike(headers, early.headers)) return undefined;
  delete shared[KEY];
  signal.addEventListener("abort", () => early.control.abort());
  return early.answer;
}

/** Let go of an answer that nobody has asked for. */
export function drop() {
  shared[KEY]?.control.abort();
  delete shared[KEY];
}

/** @param {Headers} one @param {Headers} other */
function alike(one, other) {
  return JSON.stringify([...one]) === JSON.stringify([...other]);
}
