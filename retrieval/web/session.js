/** Who reads: a token pasted once, a cookie from then on that no script can see. */

import { getJson, onSignedOut, send } from "./api.js";
import { byId } from "./dom.js";

/** Find out who reads, asking for a token where nobody does; `enter` is then given {name, role, via}, once. */
export async function begin(enter) {
  byId("sign-out").addEventListener("click", leave);
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(enter);
  });
  // The session ended elsewhere: what is on the screen goes, and why is said.
  onSignedOut((problem) => askForToken(problem.message));
  try {
    greet(await getJson("v1/session"), enter);
  } catch (problem) {
    askForToken(problem.status === 401 ? "" : problem.message);
  }
}

async function signIn(enter) {
  const token = byId("token");
  try {
    const reader = await (await send("POST", "v1/session", { token: token.value })).json();
    // Nothing of the reader before may stay on the page.
    if (byId("desk").dataset.used) return location.reload();
    greet(reader, enter);
  } catch (problem) {
    byId("sign-in-problem").textContent = problem.message;
  } finally {
    token.value = "";
  }
}

function greet(reader, enter) {
  // Everything listens before anything can be pressed.
  enter(reader);
  byId("sign-in").hidden = true;
  byId("desk").hidden = byId("top-actions").hidden = false;
  byId("desk").dataset.used = "yes";
  byId("who").textContent = reader.name;
  byId("sign-out").hidden = reader.via !== "session";
  byId("phrase").focus();
}

function askForToken(why) {
  byId("desk").hidden = byId("top-actions").hidden = true;
  byId("sign-in").hidden = false;
  byId("sign-in-problem").textContent = why;
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  byId("token").focus();
}

async function leave() {
  try {
    await send("DELETE", "v1/session");
  } finally {
    location.reload();
  }
}
