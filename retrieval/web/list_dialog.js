/** The dialog of the reader's lists: their cases, and their export as a table. */

import { getJson, send } from "./api.js";
import { announce, button, byId, el, fill } from "./dom.js";
import { save } from "./exports.js";
import { counted, demographics, mostSpecific, spoken } from "./labels.js";
import { FIRST, lists } from "./lists.js";

/** Connect the header's button and the dialog to a workspace, which opens cases of a list. */
export function showLists(workspace) {
  const opener = byId("open-lists");
  const dialog = byId("lists");
  lists.addEventListener("change", () => {
    opener.textContent = `Lists (${lists.cases.length})`;
    for (const element of document.querySelectorAll("button[data-list]")) {
      element.setAttribute("aria-pressed", String(lists.cases.includes(element.dataset.list)));
    }
    if (dialog.open) showDialog(dialog, workspace);
  });
  opener.addEventListener("click", () => {
    dialog.showModal();
    showDialog(dialog, workspace);
  });
}

function showDialog(dialog, workspace) {
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
    newListForm(),
    lists.cases.length
      ? el("ul", { class: "list-rows", "aria-label": `Cases of ${lists.current}` }, lists.cases.map((id) => row(id, dialog, workspace)))
      : el("p", { class: "quiet" }, "This list is empty. “List” beside a case adds it."),
    problem,
    el(
      "p",
      { class: "row end" },
      button("Export as CSV", saving, { class: "main-action", disabled: !lists.cases.length }),
      button("Close", () => dialog.close()),
    ),
    el("p", { class: "quiet note" }, "This browser stores the names of lists and opaque ids of cases, nothing else."),
  );
}

function newListForm() {
  const name = el("input", { id: "new-list", required: true, maxlength: 80, autocomplete: "off" });
  const create = (event) => {
    event.preventDefault();
    lists.choose(name.value.trim() || FIRST);
  };
  return el(
    "form",
    { class: "row", on: { submit: create } },
    el("label", { for: "new-list" }, "New list"),
    name,
    el("button", { type: "submit" }, "Create"),
  );
}

function row(id, dialog, workspace) {
  const words = el("span", { class: "quiet" }, "Loading …");
  getJson(`v1/cases/${id}`).then(
    (found) => {
      const findings = mostSpecific(found.findings.present, workspace.parents).map(spoken).join(", ") || "no finding stated";
      const open = () => {
        dialog.close();
        workspace.change({ opened: { ...found, image: found.images[0]?.id ?? null, evidence: [] } });
      };
      words.replaceWith(button(`${demographics(found) || "Case"}: ${findings}`, open, { class: "link" }));
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
