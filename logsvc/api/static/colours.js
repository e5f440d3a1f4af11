/** Which process has which colour: the same as in `paas logs` (logsvc/client/colours.py). */

const FIRST = ["run", "router", "web", "postgres", "heroku-postgres"];
const COUNT = 10;

export class Palette {
  /** @type {Map<string, number>} */
  #numbers = new Map(FIRST.map((name, number) => [name, number]));

  /** @param {string} identifier a process or a dyno; what follows its first dot does not count @returns {number} 0 to 9 */
  number(identifier) {
    const name = identifier.split(".", 1)[0];
    let number = this.#numbers.get(name);
    if (number === undefined) {
      number = this.#numbers.size % COUNT;
      this.#numbers.set(name, number);
    }
    return number;
  }
}
