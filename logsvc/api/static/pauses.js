/** How long to wait before the next try. */
import { Cut, Refused } from "./source.js";

/** ms of the first pause, and of the longest. */
const FIRST = 500;
const LONGEST = 10_000;

/**
 * @typedef {{error: unknown, until: number}} Trouble `until`: when the next try is, as performance.now(); Infinity where
 *   there is none before somebody asks for it
 */

/** Pauses between tries, each longer than the one before it. */
export class Pauses {
  #next = FIRST;

  reset() {
    this.#next = FIRST;
  }

  /** @param {unknown} error of the last try @returns {Trouble} */
  behind(error) {
    if (error instanceof Refused && !passes(error.status)) return { error, until: Infinity };
    if (error instanceof Refused && error.retry) return { error, until: performance.now() + error.retry };
    const pause = error instanceof Cut && error.retry !== undefined ? error.retry : this.#next;
    this.#next = Math.min(2 * this.#next, LONGEST);
    // Many panes lose a server at once, and must not all be back at once.
    return { error, until: performance.now() + pause * (0.5 + Math.random()) };
  }
}

/** Whether it is worth trying again. @param {number} status */
function passes(status) {
  return status === 404 || status === 408 || status === 429 || status >= 500;
}
