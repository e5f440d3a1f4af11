/** Next and previous match: in the lines held, else where the service finds it. */
import { behind, inFront } from "./line.js";
import { searcher } from "./marks.js";
import { TURN, turn } from "./source.js";

export class Finder {
  #searches = 0;
  /** @type {import("./line.js").Line | null} */
  current = null;

  /** @param {import("./log.js").Log} log @param {(word: string) => void} say */
  constructor(log, say) {
    this.log = log;
    this.say = say;
  }

  clear() {
    this.#searches += 1;
    this.current = null;
    this.say("");
  }

  /**
   * @param {import("./view.js").View} view @param {1 | -1} way @param {number} from index of the row to begin at
   * @returns {Promise<number>} index of the match; -1 where there is none, or somebody looks for another one since
   */
  async find(view, way, from) {
    const lines = [...this.log.lines];
    if (!view.q || !lines.length) return -1;
    const search = (this.#searches += 1);
    const held = this.current ? lines.indexOf(this.current) : -1;
    const begin = held < 0 ? from : held + way;
    const matches = searcher(view);
    if (!matches) return this.#ask(view, way, place(lines, way, begin));
    let begun = performance.now();
    for (let at = begin; lines[at]; at += way) {
      const { notice, fields } = lines[at];
      const matched = notice === undefined ? matches(fields.message) : false;
      if (matched) return this.#found(fields.cursor);
      if (matched === undefined) return this.#ask(view, way, place(lines, way, at));
      if (performance.now() - begun > TURN) {
        await turn();
        if (search !== this.#searches) return -1;
        begun = performance.now();
      }
    }
    return this.#ask(view, way, place(lines, way, way > 0 ? lines.length : -1));
  }

  /** @param {import("./view.js").View} view @param {1 | -1} way @param {Record<string, string>} from */
  async #ask(view, way, from) {
    this.say("searching…");
    const cursor = await this.log.one(view.matches(), from);
    if (cursor) return this.#found(cursor);
    this.say(way > 0 ? "no later match" : "no earlier match");
    return -1;
  }

  /** Have a line among those held. @param {string} cursor @returns {Promise<number>} its index */
  async #found(cursor) {
    const index = () => this.log.lines.findIndex((line) => line.cursor === cursor);
    if (index() < 0) await this.log.around(cursor);
    this.current = this.log.lines[index()] ?? null;
    this.say("");
    return index();
  }
}

/**
 * Where the service looks from.
 * @param {readonly import("./line.js").Line[]} lines @param {1 | -1} way
 * @param {number} begin index of the first that may match @returns {Record<string, string>}
 */
function place(lines, way, begin) {
  if (way > 0) return { after: begin < lines.length ? inFront(lines[begin].cursor) : lines[lines.length - 1].cursor };
  return { before: begin < 0 ? lines[0].cursor : behind(lines[begin].cursor) };
}
