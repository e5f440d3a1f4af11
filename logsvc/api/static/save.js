/** Download of all lines that pass the filter, in pieces that the browser may keep on disk, resumed by cursor. */
import { Line } from "./line.js";
import { Refused } from "./source.js";

/** Characters after which a piece is handed to the browser. */
const PIECE = 4_000_000;
const TRIES = 5;

/**
 * @param {import("./source.js").Service} service @param {string} app @param {URLSearchParams} filter
 * @param {"text" | "json"} form @param {AbortSignal} signal @param {(lines: number) => void} progress
 * @returns {Promise<Blob>}
 */
export async function download(service, app, filter, form, signal, progress) {
  /** @type {Blob[]} */
  const pieces = [];
  let text = "";
  let lines = 0;
  let after = "";
  for (let tries = 0; ; tries++) {
    try {
      after ||= await service.start(app, signal);
      const query = new URLSearchParams([...filter, ["cursor", "true"], ["after", after]]);
      const answer = await service.lines(app, query, signal);
      for await (const batch of answer.each) {
        for (const raw of batch.lines) text += `${form === "json" ? raw : new Line(raw).text}\n`;
        lines += batch.lines.length;
        after = batch.id || after;
        tries = 0;
        progress(lines);
        if (text.length > PIECE) {
          pieces.push(new Blob([text]));
          text = "";
        }
      }
      return new Blob([...pieces, text], { type: form === "json" ? "application/x-ndjson" : "text/plain" });
    } catch (error) {
      if (signal.aborted || tries === TRIES || (error instanceof Refused && error.status < 500 && error.status !== 429)) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** tries));
    }
  }
}

/** @param {Blob} blob @param {string} name */
export function offer(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
