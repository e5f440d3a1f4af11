/** What the pane says of itself: its state, notices, what is at the ends of the list; to eyes and to screen readers. */
import { button, counted, h } from "./dom.js";
import { status, unseen } from "./status.js";

/** Lines a second above which drawing is shed. */
const FLOOD = 10_000;
/** ms over which that is measured, and between two sentences to screen readers. */
const MEASURED = 1000;
const SPOKEN = 5000;
/** ms for which what was said is not replaced by what the pane says of its state. */
const MOMENT = 1000;
/** Most notices that the bar leads to. */
const NOTICES = 1000;

export class Said {
  #spokenAt = 0;
  #spoken = 0;
  #measuredAt = 0;
  #measured = 0;
  #rate = 0;
  /** @type {import("./line.js").Line[]} */
  #notices = [];
  /** What was put away, so that it doesn't come again with older lines. @type {Set<string>} */
  #away = new Set();
  /** The last state that was live or not. @type {string} */
  #state = "";
  /** The refusal that the page was told of. @type {import("./pauses.js").Trouble | undefined} */
  #expired;

  /**
   * @param {import("./log.js").Log} log @param {import("./list.js").List} list
   * @param {import("./toolbar.js").Toolbar} toolbar
   * @param {{live: () => void, show: (line: import("./line.js").Line) => void, expired: () => void}} commands
   */
  constructor(log, list, toolbar, commands) {
    this.log = log;
    this.list = list;
    this.toolbar = toolbar;
    this.commands = commands;
    this.banner = h("div", { class: "banner", hidden: true, role: "alert" });
    this.countdown = h("span", { "aria-hidden": "true" });
    this.edge = h("div", { class: "edge", hidden: true });
    this.back = button("", commands.live, { class: "back", part: "back", hidden: true });
    this.gaps = button("", () => this.#nextGap(), { class: "gaps" });
    const seen = button("✕", () => this.#seen(), { class: "seen", "aria-label": "Put the notices away", title: "Put away" });
    this.bar = h("div", { class: "bar", hidden: true }, this.gaps, seen);
    this.spoken = h("div", { class: "spoken", "aria-live": "polite" });
  }

  /** Say what there is to say. @param {boolean} filtered whether lines are left out */
  show(filtered) {
    const { log } = this;
    const state = status(log, performance.now());
    const { pill } = this.toolbar;
    const word = this.list.slow
      ? `${state.word} · ${counted(this.#rate)} lines/s, drawn 4 times a second, none lost`
      : state.word;
    if (pill.textContent !== word) pill.textContent = word;
    pill.className = `pill ${state.kind}`;
    pill.title = log.following ? "Pause (Space)" : "Go on live (Space)";
    this.#alert(state);
    this.#turned(state);
    if (state.expired && state.expired !== this.#expired) this.commands.expired();
    this.#expired = state.expired;
    const label = `↓ ${unseen(log)}`;
    this.back.hidden = log.following || log.bottom === "done";
    if (this.back.textContent !== label) this.back.textContent = label;
    this.#ends(filtered);
    return state.kind;
  }

  /** Say aloud when it goes on or rests; what is wrong is an alert. @param {import("./status.js").Status} state */
  #turned({ kind, word }) {
    if (kind === this.#state || kind === "busy") return;
    if (kind === "live" && this.#state) this.#speakAlso("Live again");
    if (kind === "paused" && this.#state) this.#speakAlso(word);
    this.#state = kind;
  }

  /** @param {import("./status.js").Status} state */
  #alert({ text = "", seconds, retry, anew }) {
    const { banner, countdown } = this;
    banner.hidden = text === "";
    // Seconds count down without the button being made anew, or the sentence read out again.
    const again = seconds === undefined ? "" : `Trying again${seconds ? ` in ${seconds} s` : ""}. `;
    if (countdown.textContent !== again) countdown.textContent = again;
    if (banner.dataset.text === text) return;
    banner.dataset.text = text;
    banner.replaceChildren(`${text} `, countdown);
    if (retry) banner.append(button("Try now", () => this.log.retry()));
    if (anew) banner.append(button("Go to the newest lines", this.commands.live));
  }

  /** @param {boolean} filtered */
  #ends(filtered) {
    const { log, list } = this;
    const [first] = list.view;
    let text = "";
    if (log.top === "loading" && !log.above && first < 20) text = "Loading older lines…";
    else if (log.top === "done" && first === 0 && log.lines.length) text = "The first line kept";
    else if (!log.lines.length && (log.connection.state === "live" || log.bottom === "done")) {
      text = filtered ? "No line passes the filter" : "No lines yet";
    }
    if (this.edge.textContent !== text) this.edge.textContent = text;
    this.edge.hidden = text === "";
  }

  // notices

  /** Say that lines may be missing. @param {readonly import("./line.js").Line[]} lines those that came */
  came(lines) {
    const said = lines.filter((line) => line.raw.startsWith('{"notice"') && !line.unsearched);
    const gaps = said.filter(({ raw }) => !this.#away.has(raw) && !this.#notices.some((each) => raw === each.raw));
    if (!gaps.length) return;
    this.#notices = [...this.#notices, ...gaps].slice(-NOTICES);
    const { length } = this.#notices;
    this.gaps.textContent = `⚠ ${counted(length)} ${length === 1 ? "notice" : "notices"}: lines may be missing. Show`;
    this.bar.hidden = false;
    this.speak(`Notice: ${gaps[gaps.length - 1].notice}`);
  }

  clear() {
    this.#notices = [];
    this.#away.clear();
    this.bar.hidden = true;
  }

  #seen() {
    for (const { raw } of this.#notices) this.#away.add(raw);
    this.#notices = [];
    this.bar.hidden = true;
    this.list.scroller.focus({ preventScroll: true });
  }

  #nextGap() {
    const next = this.#notices.shift();
    if (!next) return;
    this.#notices.push(next);
    this.commands.show(next);
  }

  /** Say something where matches are said, and aloud. @param {string} text */
  tell(text) {
    this.toolbar.found.textContent = text;
    this.speak(text);
  }

  // screen readers

  /** @param {string} text */
  speak(text) {
    this.spoken.textContent = text;
    this.#spokenAt = performance.now();
  }

  /** Say it behind what was said a moment ago: whoever unfolds a line pauses the pane by that. @param {string} text */
  #speakAlso(text) {
    const heard = performance.now() - this.#spokenAt > MOMENT;
    this.speak(heard ? text : `${this.spoken.textContent}. ${text}`);
  }

  /** Look at how fast lines come. */
  tick() {
    const { received } = this.log;
    const now = performance.now();
    if (now - this.#measuredAt >= MEASURED) {
      const rate = ((received - this.#measured) * 1000) / (now - this.#measuredAt);
      this.#rate = Math.round(rate / 100) * 100;
      this.#measuredAt = now;
      this.#measured = received;
      this.list.slow = rate > FLOOD;
    }
    if (received !== this.#spoken && now - this.#spokenAt > SPOKEN) {
      this.speak(`${counted(received - this.#spoken)} new lines`);
      this.#spoken = received;
    }
  }
}
