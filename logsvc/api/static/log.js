/**
 * The stretch of an app's log that the pane holds: loads older and newer lines by cursor at its ends, follows live,
 * and forgets at the far end what would be too much.
 */
import { asked, FIRST } from "./asking.js";
import { behind, inFront, Line } from "./line.js";
import { Pauses } from "./pauses.js";
import { Cut, Refused } from "./source.js";

/** Most lines held, and characters. What is forgotten is loaded again when somebody scrolls there. */
export const MOST_LINES = 20_000;
export const MOST_TEXT = 16_000_000;

/** Lines of one request; more where one follows the other at once. Characters of one, and of what is loaded ahead. */
const PAGE = 1000;
const LARGE_PAGE = 4000;
const AT_ONCE = 2000;
const PAGE_TEXT = 0.2 * MOST_TEXT;
/** Lines in front of and behind the view that are loaded ahead, unless they have too many characters. */
const AHEAD = 150;
/** Lines that whoever follows holds, however long they are. */
const FEWEST = 100;

/**
 * @typedef {"append" | "prepend" | "dropFirst" | "dropLast" | "clear"} Change
 * @typedef {"more" | "loading" | "done"} End at the top `done` is the first line kept, at the bottom the
 *   end of the range
 * @typedef {import("./pauses.js").Trouble} Trouble
 * @typedef {{state: "connecting" | "live" | "paused" | "ended"} | {state: "away", trouble: Trouble}} Connection of the
 *   newest lines; `paused`: not reading live now
 */

export class Log {
  /** @type {Line[]} */
  lines = [];
  /** @type {End} */
  top = "more";
  /** @type {End | "live"} */
  bottom = "more";
  /** @type {Connection} */
  connection = { state: "connecting" };
  /** Why older lines can't be had. @type {Trouble | null} */
  above = null;
  /** Lines that came while nobody followed. */
  unseen = 0;
  /** Whether there are more than those. */
  unseenMore = false;
  following = true;
  /** Lines that came live since the pane was opened. */
  received = 0;

  #text = 0;
  /** The place behind the newest line held. */
  #newest = "";
  /** @type {AbortController} */
  #life = new AbortController();
  /** @type {AbortController | null} */
  #tail = null;
  /** Ends the pauses between tries. @type {Set<() => void>} */
  #wakes = new Set();
  /** When a page was asked for last. */
  #asked = -Infinity;

  /**
   * @param {import("./source.js").Service} service @param {string} app
   * @param {() => [number, number]} seen the first line in view, and behind the last
   * @param {(change: Change, count: number) => void} changed lines were added or dropped
   * @param {() => void} told the state is another
   */
  constructor(service, app, seen, changed, told) {
    this.service = service;
    this.app = app;
    this.seen = seen;
    this.changed = changed;
    this.told = told;
    this.filter = new URLSearchParams();
  }

  /** Whether the range ends, so that there is no live. */
  get bounded() {
    return this.filter.has("until");
  }

  /**
   * Begin anew with another filter: at the newest lines, or around one.
   * @param {URLSearchParams} filter parameters of the API @param {string} [at] cursor of a line
   */
  async open(filter, at) {
    this.filter = filter;
    this.#restart();
    if (at) await this.around(at);
    else await this.toLive();
  }

  close() {
    this.#life.abort();
    this.#stopTail();
  }

  /** Go to the newest lines and on with what comes. */
  async toLive() {
    this.following = true;
    this.unseen = 0;
    this.unseenMore = false;
    const { connection } = this;
    const { error } = connection.state === "away" ? connection.trouble : {};
    const lost = error instanceof Refused && error.unplaced;
    if (!lost && (this.bottom === "live" || (this.bottom === "done" && this.lines.length))) {
      this.retry();
      return this.told();
    }
    this.#restart();
    if (this.bounded) await this.#lastPage();
    else this.#startTail({ num: String(FIRST) });
  }

  /** Go to the first line kept. */
  async toStart() {
    this.following = false;
    if (this.top === "done") return this.told();
    let start = "";
    await this.#tried("top", async (signal) => {
      start = await this.service.start(this.app, signal);
    });
    // Somebody may have gone elsewhere in the meantime.
    if (!start || this.following) return;
    this.#restart();
    this.#newest = start;
    this.top = "done";
    await this.newer();
  }

  /** @param {string} cursor of the line to stand in the middle */
  async around(cursor) {
    this.following = false;
    this.#restart();
    this.#newest = inFront(cursor);
    const { signal } = this.#life;
    await this.newer();
    // Somebody may have gone elsewhere in the meantime.
    if (signal.aborted) return;
    // Where no line is behind the place, those in front of it are all that there is to see.
    await this.older(this.lines[0]?.cursor ?? behind(cursor));
  }

  /** Load what may come into view next. */
  ahead() {
    const [first, last] = this.seen();
    // Who follows long lines gives up the first ones for the newest, and would load them again and again.
    const wanted = !this.following || first === 0 || this.#text < PAGE_TEXT;
    if (wanted && this.#margin(first, -1) === Infinity) void this.older();
    if (this.#margin(last, 1) === Infinity) void this.newer();
  }

  /** Load what is in front of the first line held. @param {string} [before] its cursor, or a place where none is */
  async older(before = this.lines[0]?.cursor) {
    if (!before || this.top !== "more") return;
    await this.#tried("top", async (signal) => {
      const { lines, all } = await this.#last({ before }, this.#size(), signal);
      // What was forgotten in the meantime would leave a gap.
      if ((this.lines[0]?.cursor ?? before) !== before) return;
      if (this.lines[0]?.unsearched) this.#dropFirst(1);
      this.#prepend(lines);
      this.top = all ? "done" : "more";
    });
  }

  /** Lines to ask for, by how long those are that are held. */
  #size() {
    const now = performance.now();
    const size = now - this.#asked < AT_ONCE ? LARGE_PAGE : PAGE;
    this.#asked = now;
    return Math.max(1, Math.min(size, Math.floor((PAGE_TEXT * this.lines.length) / this.#text) || size));
  }

  /** Load what is behind the last line held; at the end of it, follow. */
  async newer() {
    if (!this.#newest || this.bottom !== "more") return;
    await this.#tried("bottom", async (signal) => {
      const num = this.#size();
      const after = this.#newest;
      const { lines, last, whole } = await this.#page({ after, num: String(num) }, signal);
      this.bottom = "more";
      if (this.#newest !== after) return;
      this.#newest = last || after;
      this.#append(lines);
      this.#forgetFirst();
      if (whole && lines.length < num) this.#atEnd();
    });
  }

  /**
   * The cursor of the first line behind a place that passes a filter, or of the last in front of it; none: empty.
   * @param {URLSearchParams} filter @param {Record<string, string>} place
   */
  async one(filter, place) {
    const { signal } = this.#life;
    for (let from = place; ; ) {
      const { lines } = await this.#page({ num: "1", ...from }, signal, filter);
      const found = lines.findLast((line) => line.notice === undefined);
      const before = lines[0]?.fields.before;
      if (found || !before) return found?.cursor ?? "";
      from = { before };
    }
  }

  /** Try again now what waits. */
  retry() {
    for (const wake of this.#wakes) wake();
  }

  #atEnd() {
    if (this.bounded) {
      this.bottom = "done";
      this.#connect({ state: "ended" });
    } else {
      this.#startTail({});
    }
  }

  async #lastPage() {
    await this.#tried("bottom", async (signal) => {
      const { lines, last, start, all } = await this.#last({}, FIRST, signal);
      this.#newest = last || start;
      this.#append(lines);
      this.top = all ? "done" : "more";
      this.#atEnd();
    });
  }

  /**
   * Do a request that belongs to one of the ends, until it is done or nobody wants it any more.
   * @param {"top" | "bottom"} end @param {(signal: AbortSignal) => Promise<void>} work
   */
  async #tried(end, work) {
    const { signal } = this.#life;
    const pauses = new Pauses();
    this[end] = "loading";
    this.told();
    while (!signal.aborted) {
      try {
        await work(signal);
        if (end === "top") this.#got();
        else if (this.bottom !== "live" && this.bottom !== "done") this.#connect({ state: "paused" });
        return;
      } catch (error) {
        if (signal.aborted) return;
        const trouble = pauses.behind(error);
        if (end === "top") this.above = trouble;
        else this.connection = { state: "away", trouble };
        await this.#sleep(trouble.until, signal);
      }
    }
  }

  #got() {
    if (this.top === "loading") this.top = "more";
    this.above = null;
    this.told();
  }

  /**
   * The last lines of a place, and whether nothing is in front of them; fewer than asked for where they are long.
   * @param {Record<string, string>} place @param {number} num @param {AbortSignal} signal
   */
  async #last(place, num, signal) {
    for (let most = num; ; ) {
      const page = await this.#page({ ...place, num: String(most) }, signal);
      if (page.whole) return { ...page, all: page.lines.length < most && !page.lines[0]?.unsearched };
      // An answer begins with the oldest, and what was not read is what stands next to the place.
      most = Math.max(1, page.lines.length >> 1);
    }
  }

  /**
   * Read an answer: the whole of it, or as much as a page may have.
   * @param {Record<string, string>} place @param {AbortSignal} signal @param {URLSearchParams} [filter]
   */
  async #page(place, signal, filter = this.filter) {
    const answer = await this.service.lines(this.app, asked(filter, place), signal);
    /** @type {Line[]} */
    const lines = [];
    let last = "";
    let text = 0;
    for await (const batch of answer.each) {
      for (const raw of batch.lines) {
        lines.push(new Line(raw));
        text += raw.length;
      }
      last = batch.id;
      if (text > PAGE_TEXT && lines.length > 1) break;
    }
    signal.throwIfAborted();
    return { lines, last, start: answer.start, whole: text <= PAGE_TEXT || lines.length === 1 };
  }

  // live

  /** @param {Record<string, string>} first where to begin, where no line is known */
  #startTail(first) {
    this.#stopTail();
    this.bottom = "live";
    this.#tail = new AbortController();
    const signal = AbortSignal.any([this.#tail.signal, this.#life.signal]);
    void this.#follow(first, signal);
  }

  #stopTail() {
    this.#tail?.abort();
    this.#tail = null;
  }

  /** @param {Record<string, string>} first @param {AbortSignal} signal */
  async #follow(first, signal) {
    const pauses = new Pauses();
    let came = this.received;
    this.#connect({ state: "connecting" });
    while (!signal.aborted) {
      try {
        await this.#tailOnce(this.#newest ? { after: this.#newest } : first, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (this.received !== came) pauses.reset();
        came = this.received;
        const trouble = pauses.behind(error);
        // Who was told to come back is expected elsewhere: no reason for alarm.
        const expected = error instanceof Cut && error.retry !== undefined;
        this.#connect(expected ? { state: "connecting" } : { state: "away", trouble });
        await this.#sleep(trouble.until, signal);
      }
    }
  }

  /** @param {Record<string, string>} place @param {AbortSignal} signal */
  async #tailOnce(place, signal) {
    const answer = await this.service.lines(this.app, asked(this.filter, { ...place, tail: "true" }), signal);
    if (signal.aborted) return;
    this.#newest ||= answer.start;
    this.#connect({ state: "live" });
    for await (const batch of answer.each) {
      if (signal.aborted) return;
      this.#newest = batch.id || this.#newest;
      this.#took(batch.lines);
      if (this.bottom !== "live") return;
    }
  }

  /** @param {string[]} raw */
  #took(raw) {
    if (!raw.length) return;
    this.#append(raw.map((text) => new Line(text)));
    this.received += raw.length;
    if (this.following) {
      this.#forgetFirst();
      return;
    }
    this.unseen += raw.length;
    if (this.#excess() > 0) {
      // Whoever reads elsewhere gets the rest by cursor, when they come here.
      this.unseenMore = true;
      this.bottom = "more";
      this.#stopTail();
      this.#connect({ state: "paused" });
    }
    this.told();
  }

  /** @param {Connection} connection */
  #connect(connection) {
    this.connection = connection;
    this.told();
  }

  /** Wait for the next try. @param {number} until as performance.now() @param {AbortSignal} signal */
  async #sleep(until, signal) {
    this.told();
    await new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#wakes.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve(undefined);
      };
      const timer = until < Infinity ? setTimeout(wake, until - performance.now()) : 0;
      this.#wakes.add(wake);
      signal.addEventListener("abort", wake);
    });
  }

  // the lines held

  #restart() {
    this.close();
    this.#life = new AbortController();
    this.#clear();
  }

  #clear() {
    const count = this.lines.length;
    this.lines = [];
    this.#text = 0;
    this.#newest = "";
    this.top = this.bottom = "more";
    this.connection = { state: "connecting" };
    this.above = null;
    this.unseen = 0;
    this.unseenMore = false;
    this.changed("clear", count);
  }

  /** @param {Line[]} lines */
  #append(lines) {
    for (const line of lines) {
      this.lines.push(line);
      this.#text += line.raw.length;
    }
    this.changed("append", lines.length);
  }

  /** @param {Line[]} lines */
  #prepend(lines) {
    for (const line of lines) this.#text += line.raw.length;
    this.lines = lines.concat(this.lines);
    this.changed("prepend", lines.length);
    this.#forgetLast();
  }

  #forgetFirst() {
    const [first] = this.seen();
    const { length } = this.lines;
    // Who follows may see lines later than they come; those are the last ones, and these go.
    const most = this.following ? length - FEWEST : first - this.#margin(first, -1);
    const excess = Math.min(this.#excess(), most);
    if (excess <= 0) return;
    this.#dropFirst(excess);
    this.top = "more";
  }

  /** @param {number} count */
  #dropFirst(count) {
    for (const line of this.lines.splice(0, count)) this.#text -= line.raw.length;
    this.changed("dropFirst", count);
  }

  #forgetLast() {
    if (this.following) return;
    const [, last] = this.seen();
    const { length } = this.lines;
    const excess = Math.min(this.#excess(false), length - last - this.#margin(last, 1));
    if (excess <= 0) return;
    for (const line of this.lines.splice(length - excess)) this.#text -= line.raw.length;
    this.#newest = this.lines[length - excess - 1].cursor;
    this.bottom = "more";
    this.#stopTail();
    this.#connect({ state: "paused" });
    this.changed("dropLast", excess);
  }

  /** How many lines are too many, a good many at once. @param {boolean} [first] counted from the first */
  #excess(first = true) {
    const { lines } = this;
    if (lines.length <= MOST_LINES && this.#text <= MOST_TEXT) return 0;
    const most = lines.length - MOST_LINES * 0.8;
    let text = this.#text;
    let count = 0;
    for (; count < lines.length && (count < most || text > MOST_TEXT * 0.8); count++) {
      text -= lines[first ? count : lines.length - 1 - count].raw.length;
    }
    return count;
  }

  /**
   * How many lines in front of a row, or from it on, are as much as is loaded ahead; Infinity where there are fewer.
   * @param {number} row @param {1 | -1} way
   */
  #margin(row, way) {
    let text = 0;
    let count = 0;
    for (; count < AHEAD && text < PAGE_TEXT; count++) {
      const line = this.lines[way > 0 ? row + count : row - 1 - count];
      if (!line) return Infinity;
      text += line.raw.length;
    }
    return count;
  }
}
