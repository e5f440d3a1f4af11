/** Next and previous match: in the lines held, else where the service finds it. */
import { behind, inFront } from "./line.js";
import { searcher } from "./marks.js";

export class Finder {
  /** @type {import("./line.js").Line | null} */
  current = null;

  /** @param {import("./log.js").Log} log @param {(word: string) => void} say */
  constructor(log, say) {
    this.log = log;
    this.say = say;
  }

  clear() {
    this.current = null;
    this.say("");
  }

  /**
   * @param {import("./view.js").View} view @param {1 | -1} way @param {number} from index of the row to begin at
   * @returns {Promise<number>} index of the match; -1 where there is none
   */
  async find(view, way, from) {
    const { lines } = this.log;
    if (!view.q || !lines.length) return -1;
    const held = this.current ? lines.indexOf(this.current) : -1;
    const begin = held < 0 ? from : held + way;
    const matches = searcher(view);
    if (!matches) return this.#ask(view, way, begin);
    for (let at = begin; at >= 0 && at < lines.length; at += way) {
      if (lines[at].notice === undefined && matches(lines[at].fields.message)) return this.#found(at);
    }
    return this.#ask(view, way, way > 0 ? lines.length : -1);
  }

  /** @param {import("./view.js").View} view @param {1 | -1} way @param {number} begin index of the first that may match */
  async #ask(view, way, begin) {
    const { lines } = this.log;
    this.say("searching…");
    const cursor = await this.log.one(view.matches(), this.#place(way, begin));
    if (!cursor) {
      this.say(way > 0 ? "no later match" : "no earlier match");
      return -1;
    }
    const index = lines.findIndex((line) => line.cursor === cursor);
    if (index >= 0) return this.#found(index);
    await this.log.around(cursor);
    return this.#found(this.log.lines.findIndex((line) => line.cursor === cursor));
  }

  /** @param {1 | -1} way @param {number} begin @returns {Record<string, string>} */
  #place(way, begin) {
    const { lines } = this.log;
    if (way > 0) return { after: begin < lines.length ? inFront(lines[begin].cursor) : lines[lines.length - 1].cursor };
    return { before: begin < 0 ? lines[0].cursor : behind(lines[begin].cursor) };
  }

  /** @param {number} index */
  #found(index) {
    this.current = this.log.lines[index] ?? null;
    this.say("");
    return index;
  }
}
