/**
 * Lines as the service sends them, parsed when somebody looks, and the cursors that name them.
 *
 * @typedef {object} Fields A JSON line (docs/formats.md), or a notice.
 * @property {string} time RFC 3339 with nine digits, UTC
 * @property {string} source
 * @property {string} process
 * @property {string} dyno
 * @property {string} stream
 * @property {string} message
 * @property {string} cursor
 * @property {boolean} [partial]
 * @property {string} [notice]
 * @property {string} [before] of a notice: where an answer that ended early is gone on with
 */

/** @type {Fields} */
const NOTHING = { time: "", source: "platform", process: "logsvc", dyno: "logsvc", stream: "", message: "", cursor: "" };

export class Line {
  /** @type {Fields | null} */
  #fields = null;
  /** Whether it is unfolded on the pane. */
  open = false;

  /** @param {string} raw a JSON object */
  constructor(raw) {
    this.raw = raw;
  }

  get fields() {
    return (this.#fields ??= parse(this.raw));
  }

  get cursor() {
    return this.fields.cursor;
  }

  /** What can't be delivered at this place, where that is what it says. */
  get notice() {
    return this.fields.notice;
  }

  /** Whether it only says that the service has not looked in front of it, until somebody goes on there. */
  get unsearched() {
    return this.fields.before !== undefined;
  }

  get platform() {
    return this.fields.source === "platform";
  }

  /** As `paas logs` prints it. */
  get text() {
    const { time, source, dyno, message, notice } = this.fields;
    return notice === undefined ? `${heroku(time)} ${source}[${dyno}]: ${message}` : `platform[logsvc]: ${notice}`;
  }
}

/** @param {string} raw @returns {Fields} */
function parse(raw) {
  /** @type {Partial<Fields>} */
  const found = JSON.parse(raw);
  return { ...NOTHING, ...found };
}

/** @param {string} time nine digits and Z @returns {string} six digits and an offset, as Heroku writes it */
function heroku(time) {
  return `${time.slice(0, 26)}+00:00`;
}

/**
 * The cursor that, as `before`, means: up to and including the place of `cursor`.
 * @param {string} cursor `epoch.partition.offset.line`
 */
export function behind(cursor) {
  return moved(cursor, 1);
}

/**
 * The cursor that, as `after`, means: from the line of `cursor` on.
 * @param {string} cursor
 */
export function inFront(cursor) {
  return moved(cursor, -1);
}

/** @param {string} cursor @param {number} by */
function moved(cursor, by) {
  const dot = cursor.lastIndexOf(".");
  return `${cursor.slice(0, dot)}.${Math.max(-1, Number(cursor.slice(dot + 1)) + by)}`;
}

/** Whether text of a URL is a cursor. @param {string} text */
export function isCursor(text) {
  return /^\d{1,9}\.\d{1,5}\.\d{1,18}\.(-1|\d{1,9})$/.test(text);
}
