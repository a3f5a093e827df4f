/** The reader's session: a token pasted once, from then on a cookie that no script can see. */

import { getJson, onSignedOut, send } from "./api.js";
import { byId } from "./dom.js";

/** Find the reader, asking for a token where none is signed in; then call `enter` with {name, role, via}. */
export async function begin(enter) {
  byId("sign-out").addEventListener("click", leave);
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(enter);
  });
  // The session ended elsewhere: clear the screen and say why.
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
    // Nothing of an earlier reader may stay on the page.
    if (byId("workspace").dataset.used) return location.reload();
    greet(reader, enter);
  } catch (problem) {
    byId("sign-in-problem").textContent = problem.message;
  } finally {
    token.value = "";
  }
}

function greet(reader, enter) {
  // All listeners are attached before a control can be used.
  enter(reader);
  byId("sign-in").hidden = true;
  byId("workspace").hidden = byId("top-actions").hidden = false;
  byId("workspace").dataset.used = "yes";
  byId("user").textContent = reader.name;
  byId("sign-out").hidden = reader.via !== "session";
  byId("phrase").focus();
}

function askForToken(why) {
  byId("workspace").hidden = byId("top-actions").hidden = true;
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
