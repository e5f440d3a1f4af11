/** What is asked of the service, word for word: so that a request that was begun early is known again. */

/** Lines that a pane asks for when it opens. */
export const FIRST = 300;

/** @param {string} app @param {URLSearchParams} query */
export function linesPath(app, query) {
  return `v1/apps/${encodeURIComponent(app)}/logs?${query}`;
}

/** Parameters of the API. @param {URLSearchParams} filter @param {Record<string, string>} place */
export function asked(filter, place) {
  const query = new URLSearchParams(filter);
  for (const [name, value] of Object.entries({ cursor: "true", ...place })) query.set(name, value);
  return query;
}

/** @param {string} accept @param {string} token empty for none */
export function headersFor(accept, token) {
  const headers = new Headers({ Accept: accept });
  if (token) headers.set("Authorization", `Bearer ${token}`);
  return headers;
}
