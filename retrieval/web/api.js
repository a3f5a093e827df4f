/** Talking to the service: JSON and forms out, JSON and pictures in, problems as sentences. */

/** What the service says of a request that it did not answer. `message`: a sentence for the reader. */
export class Problem extends Error {
  constructor(status, slug, sentence, requestId = null) {
    super(sentence);
    this.name = "Problem";
    this.status = status;
    this.slug = slug;
    this.requestId = requestId;
  }
}

let signedOut = () => {};

/** Set who is told, with the problem, that the session is over. */
export function onSignedOut(tell) {
  signedOut = tell;
}

/**
 * Send a request and return the response.
 *
 * `path`: relative to the page, which a proxy may serve below any other. `body`: an object becomes JSON, a
 * FormData is sent as it is. `signal` ends it early (AbortError). Throws a Problem for everything else that
 * goes wrong, the network included.
 */
export async function send(method, path, body = undefined, signal = undefined) {
  const form = body instanceof FormData;
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      headers: body === undefined || form ? {} : { "Content-Type": "application/json" },
      body: body === undefined || form ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The service does not answer. It may be starting, or the network is down.");
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.slug === "not-signed-in" && path !== "v1/session") signedOut(problem);
  throw problem;
}

/** Fetch JSON. */
export async function getJson(path, signal = undefined) {
  return (await send("GET", path, undefined, signal)).json();
}

/** Post JSON or a form, and return the JSON that comes back. */
export async function postJson(path, body, signal = undefined) {
  return (await send("POST", path, body, signal)).json();
}

async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // A proxy in between may answer in HTML: then the status is all there is to say.
  }
  const sentence = told.detail || told.title || `The service answered ${response.status} and gave no reason.`;
  return new Problem(response.status, String(told.type || "").replace("urn:similarity:", ""), sentence, told.request_id);
}
