/** The drains of an app: where its lines are sent as well, how each of them does, and what one can do about it. */
import { button, counted, h } from "./dom.js";
import { filterForm } from "./drainfilter.js";
import { Refused } from "./source.js";

/** ms between two looks while the list is open. */
const AGAIN = 2000;

/**
 * @typedef {object} Drain as the API says it (docs/formats.md)
 * @property {string} id
 * @property {string} url
 * @property {import("./drainfilter.js").Filter} filter
 * @property {boolean} paused
 * @property {boolean} ordered
 * @property {{state: string, lag_lines: number, lag_seconds: number, lines_per_second: number, error: string | null}} status
 *
 * @typedef {object} Row
 * @property {HTMLElement} element
 * @property {HTMLElement} url
 * @property {HTMLElement} state
 * @property {HTMLButtonElement} pause
 * @property {HTMLButtonElement} edit
 * @property {HTMLFormElement | null} form in which the filter is being changed
 * @property {import("./drainfilter.js").Filter} filter
 */

export class Drains {
  #timer = 0;
  /** How often the list was asked for: what an older answer says doesn't count any more. */
  #looks = 0;
  /** Whether the last look failed. */
  #lost = false;
  /** By the drain's id. @type {Map<string, Row>} */
  #rows = new Map();

  /** @param {import("./source.js").Service} service @param {string} app @param {() => void} expired asks for a token */
  constructor(service, app, expired) {
    this.service = service;
    this.path = `apps/${encodeURIComponent(app)}/log-drains`;
    this.expired = expired;
    this.list = h("ul", { class: "drains" });
    this.none = h("p", { hidden: true }, "None yet. A drain gets every new line of the app.");
    this.said = h("p", { role: "status" });
    this.url = h("input", { "aria-label": "URL of a drain", placeholder: "https://… or syslog+tls://…", required: true });
    const form = h("form", {}, this.url, h("button", {}, "Add"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#do("", "POST", { url: this.url.value.trim() }, () => (this.url.value = ""));
    });
    const title = h("h2", { id: "drains-title" }, `Drains of ${app}`);
    const close = button("Close", () => this.dialog.close());
    this.dialog = h("dialog", { "aria-labelledby": "drains-title" }, title, this.list, this.none, form, this.said, close);
    this.dialog.addEventListener("close", () => clearTimeout(this.#timer));
    this.button = button("Drains", () => this.#open());
  }

  #open() {
    this.said.textContent = "";
    this.dialog.showModal();
    void this.#look();
  }

  async #look() {
    clearTimeout(this.#timer);
    const look = (this.#looks += 1);
    try {
      const drains = await this.service.ask("GET", `${this.path}?status=true`);
      if (look !== this.#looks) return;
      if (this.#lost) this.said.textContent = "";
      this.#lost = false;
      this.#show(drains);
    } catch (error) {
      if (look !== this.#looks) return;
      this.#lost = true;
      this.#failed(error);
    }
    if (this.dialog.open) this.#timer = window.setTimeout(() => void this.#look(), AGAIN);
  }

  /** @param {Drain[]} drains */
  #show(drains) {
    // Nothing moves away below a pointer or a focus: rows stay, and what they say changes.
    const gone = new Set(this.#rows.keys());
    for (const drain of drains) {
      gone.delete(drain.id);
      const row = this.#rows.get(drain.id) ?? this.#add(drain.id);
      row.url.textContent = drain.url;
      row.state.textContent = words(drain);
      row.state.classList.toggle("bad", ill(drain));
      row.pause.textContent = drain.paused ? "Resume" : "Pause";
      row.filter = drain.filter;
    }
    for (const id of gone) {
      if (this.#rows.get(id)?.element.contains(document.activeElement)) this.url.focus();
      this.#rows.get(id)?.element.remove();
      this.#rows.delete(id);
    }
    this.none.hidden = drains.length > 0;
  }

  /** A new row, in which nothing stands yet. @param {string} id */
  #add(id) {
    const path = `/${encodeURIComponent(id)}`;
    const url = h("strong", { id: `drain-${id}` });
    const state = h("span");
    const about = { "aria-describedby": url.id };
    const pause = button("", () => this.#pause(path, pause.textContent === "Pause" ? "pause" : "resume"), about);
    const edit = button("Filter", () => this.#edit(row, path), { ...about, "aria-expanded": "false" });
    const test = button("Test", () => this.#test(path), about);
    const remove = button("Remove", () => this.#remove(path, url.textContent ?? ""), { ...about, class: "remove" });
    const element = h("li", {}, url, state, pause, edit, test, remove);
    /** @type {Row} */
    const row = { element, url, state, pause, edit, form: null, filter: {} };
    this.#rows.set(id, row);
    this.list.append(row.element);
    return row;
  }

  /** Have the filter changed, or leave it as it is. @param {Row} row @param {string} path */
  #edit(row, path) {
    const close = () => {
      row.form?.remove();
      row.form = null;
      row.edit.setAttribute("aria-expanded", "false");
      row.edit.focus();
    };
    if (row.form) {
      close();
      return;
    }
    row.form = filterForm(row.filter, (filter) => void this.#do(path, "PUT", { filter }, close), close);
    row.edit.setAttribute("aria-expanded", "true");
    row.element.append(row.form);
    /** @type {HTMLElement | null} */
    const first = row.form.querySelector("select, button");
    first?.focus();
  }

  /** @param {string} path @param {"pause" | "resume"} what */
  #pause(path, what) {
    void this.#do(`${path}/actions/${what}`, "POST");
  }

  /** @param {string} path */
  #test(path) {
    void this.#do(`${path}/actions/test`, "POST", undefined, ({ taken, answer, seconds }) => {
      this.said.textContent = `The test line was ${taken ? "" : "not "}taken. ${answer} (${seconds} s)`;
    });
    this.said.textContent = "A test line is on its way…";
  }

  /** @param {string} path @param {string} url */
  #remove(path, url) {
    if (confirm(`Remove the drain to ${url}? What it has not got yet is not sent.`)) void this.#do(path, "DELETE");
  }

  /**
   * @param {string} path @param {string} method @param {object} [body]
   * @param {(answer: any) => void} [then] says what came of it
   */
  async #do(path, method, body, then) {
    this.said.textContent = "";
    try {
      const answer = await this.service.ask(method, this.path + path, body);
      then?.(answer);
    } catch (error) {
      this.#failed(error);
    }
    await this.#look();
  }

  /** @param {unknown} error */
  #failed(error) {
    if (error instanceof Refused && error.status === 401) {
      this.dialog.close();
      this.expired();
    } else {
      this.said.textContent = error instanceof Refused ? error.message : "The service can't be reached.";
    }
  }
}

/** Whether somebody should look after a drain. @param {Drain} drain */
function ill({ status }) {
  return ["retrying", "dropping", "unattended"].includes(status.state);
}

/** How a drain does. @param {Drain} drain */
function words(drain) {
  const { filter, ordered, status } = drain;
  const parts = [status.state];
  if (!ordered) parts.push("in any order");
  const only = Object.entries(filter).map(([name, value]) => (value === true ? name : `${name}=${String(value)}`));
  if (only.length) parts.push(`only ${only.join(", ")}`);
  if (status.lines_per_second) parts.push(`${counted(Math.round(status.lines_per_second))} lines/s`);
  if (status.lag_lines) parts.push(`${counted(status.lag_lines)} lines behind (${Math.round(status.lag_seconds)} s)`);
  // What was wrong before it went on is over.
  if (status.error && ill(drain)) parts.push(status.error);
  return parts.join(" · ");
}
