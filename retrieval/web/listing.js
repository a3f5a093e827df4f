/** The dialog of the reader's lists: what is on them, and their export as a table. */

import { getJson, send } from "./api.js";
import { announce, button, byId, el, fill } from "./dom.js";
import { counted, exact, person, spoken } from "./labels.js";
import { FIRST, lists } from "./lists.js";
import { save } from "./saving.js";

/** Wire the header's button and the dialog to a desk, on which a case of a list can be opened. */
export function showLists(desk) {
  const opener = byId("open-lists");
  const dialog = byId("lists");
  lists.addEventListener("change", () => {
    opener.textContent = `Lists (${lists.cases.length})`;
    for (const made of document.querySelectorAll("button[data-list]")) {
      made.setAttribute("aria-pressed", String(lists.cases.includes(made.dataset.list)));
    }
    if (dialog.open) showDialog(dialog, desk);
  });
  opener.addEventListener("click", () => {
    dialog.showModal();
    showDialog(dialog, desk);
  });
}

function showDialog(dialog, desk) {
  const choose = el(
    "select",
    { id: "list-name" },
    lists.names.map((name) => el("option", { value: name, selected: name === lists.current }, name)),
  );
  choose.addEventListener("change", () => lists.choose(choose.value));
  const problem = el("p", { class: "problem", role: "alert" });
  const saving = () => exportTable().catch((error) => (problem.textContent = error.message));
  fill(
    dialog,
    el("h2", { id: "lists-heading" }, "Lists"),
    el("p", { class: "row" }, el("label", { for: "list-name" }, "List"), choose, button("Delete this list", () => lists.remove())),
    beginning(),
    lists.cases.length
      ? el("ul", { class: "list-rows", "aria-label": `Cases of ${lists.current}` }, lists.cases.map((id) => row(id, dialog, desk)))
      : el("p", { class: "quiet" }, "Nothing is on this list. “List” beside a case puts it here."),
    problem,
    el(
      "p",
      { class: "row end" },
      button("Export as CSV", saving, { class: "main-action", disabled: !lists.cases.length }),
      button("Close", () => dialog.close()),
    ),
    el("p", { class: "quiet note" }, "This browser keeps names of lists and opaque numbers of cases, nothing else of them."),
  );
}

function beginning() {
  const name = el("input", { id: "new-list", required: true, maxlength: 80, autocomplete: "off" });
  const begin = (event) => {
    event.preventDefault();
    lists.choose(name.value.trim() || FIRST);
  };
  return el(
    "form",
    { class: "row", on: { submit: begin } },
    el("label", { for: "new-list" }, "New list"),
    name,
    el("button", { type: "submit" }, "Begin"),
  );
}

function row(id, dialog, desk) {
  const words = el("span", { class: "quiet" }, "Loading …");
  getJson(`v1/cases/${id}`).then(
    (found) => {
      const findings = exact(found.findings.present, desk.parents).map(spoken).join(", ") || "no finding stated";
      const open = () => {
        dialog.close();
        desk.change({ opened: { ...found, image: found.images[0]?.id ?? null, evidence: [] } });
      };
      words.replaceWith(button(`${person(found) || "Case"}: ${findings}`, open, { class: "link" }));
    },
    (problem) => (words.textContent = problem.message),
  );
  return el("li", {}, words, button("Remove", () => lists.toggle(id)));
}

async function exportTable() {
  const table = await send("POST", "v1/exports/list", { cases: lists.cases.map((id) => ({ id })) });
  save(await table.blob(), `${lists.current.replace(/[^\p{L}\p{N} _-]/gu, "_")}.csv`);
  announce(`${counted(lists.cases.length, "case")} exported.`);
}
