/** Requests to the service: JSON and forms out, JSON and images in, errors as sentences. */

/** An error of the service, from its problem document. `message`: a sentence for the reader. */
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

/** Set the function to call, with the problem, when the session has ended. */
export function onSignedOut(listener) {
  signedOut = listener;
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
  let document = {};
  try {
    document = await response.json();
  } catch {
    // A proxy may have answered in HTML: then only the status is known.
  }
  const sentence = document.detail || document.title || `The service answered ${response.status} and gave no reason.`;
  return new Problem(response.status, String(document.type || "").replace("urn:similarity:", ""), sentence, document.request_id);
}
