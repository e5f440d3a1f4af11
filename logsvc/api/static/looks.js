/** How the pane looks to this user, kept in the browser. */

const KEY = "log-pane";

/** @type {import("./times.js").TimeForm[]} */
const FORMS = ["local", "utc", "relative"];

export class Looks {
  /** @type {import("./times.js").TimeForm} */
  time = "local";
  wrap = true;

  constructor() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      if (FORMS.includes(kept.time)) this.time = kept.time;
      this.wrap = kept.wrap !== false;
    } catch {
      // A browser may forbid it, and anybody may have written there.
    }
  }

  /** The next form of times. */
  get next() {
    return FORMS[(FORMS.indexOf(this.time) + 1) % FORMS.length];
  }

  keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify({ time: this.time, wrap: this.wrap }));
    } catch {
      // Then it is for this page only.
    }
  }
}
