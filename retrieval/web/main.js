/** The page: a workspace, one view of all images, and the columns around them. */

import { showAnswer } from "./answer.js";
import { getJson } from "./api.js";
import { showComparison } from "./comparison.js";
import { showCorrespondence } from "./correspondence.js";
import { button, byId, el, fill } from "./dom.js";
import { showDraft } from "./draft.js";
import { showFeedback, updateFeedbackButtons } from "./feedback.js";
import { showFilters } from "./filters.js";
import { showFindings } from "./findings.js";
import { counted } from "./labels.js";
import { showLists } from "./list_dialog.js";
import { lists } from "./lists.js";
import { showLocalization } from "./localization.js";
import { showQuery } from "./query.js";
import { begin } from "./session.js";
import { View } from "./view.js";
import { Workspace } from "./workspace.js";

const KEYS = [
  ["Tab, Shift Tab", "move through the page: query, cases, open case, findings, draft"],
  ["Arrow keys, on a case", "move to the next case; Enter opens it beside your image"],
  ["Escape", "close the open case and return to it in the grid"],
  ["P, W, B, S, on an image", "choose the tool pan, window, box or spot"],
  ["Arrow keys, on an image", "move the image, its window, or the cross of box and spot; with Shift further"],
  ["Enter, on an image", "box: start the box, then search with it; spot: show its best match in the open case"],
  ["+, −, 0, I, on an image", "zoom in, zoom out, whole image in full window, invert"],
];

/** Connect the header's button to the dialog of keyboard shortcuts. */
function showKeyboard() {
  const dialog = byId("keyboard");
  fill(
    dialog,
    el("h2", { id: "keyboard-heading" }, "Keyboard"),
    el("dl", { class: "keys" }, KEYS.map(([keys, words]) => [el("dt", {}, keys), el("dd", {}, words)])),
    el("p", { class: "row end" }, button("Close", () => dialog.close())),
  );
  byId("open-keyboard").addEventListener("click", () => dialog.showModal());
}

/** Show the content of the index in the header and store it in the workspace. */
async function loadIndexStatus(workspace) {
  const summary = byId("index-summary");
  try {
    const { studies, versions } = await getJson("v1/index");
    const number = Object.values(studies).reduce((sum, of) => sum + of, 0);
    const active = versions.find(({ state }) => state === "active");
    summary.textContent = [counted(number, "study", "studies"), active && `encoder ${active.name}`].filter(Boolean).join(" · ");
    workspace.change({ studies: number });
  } catch (problem) {
    summary.textContent = problem.message;
  }
}

/** Show a problem that concerns the whole page, in a bar. */
function warn(words) {
  fill(byId("alerts"), words && el("p", { class: "problem" }, words));
}

function enter(reader) {
  lists.open(reader.name);
  const workspace = new Workspace();
  const view = new View();
  const panes = {
    query: showQuery(workspace, view, (point) => correspondence.spot(point)),
    opened: showComparison(workspace, view, () => correspondence.pairs()),
  };
  const correspondence = showCorrespondence(workspace, panes, warn);
  const localize = showLocalization(workspace, view, byId("localization"), panes);
  showFeedback(workspace, byId("feedback"));
  updateFeedbackButtons(workspace, byId("workspace"));
  showAnswer(workspace);
  showFindings(workspace, byId("findings"), localize);
  showDraft(workspace, byId("draft"));
  showLists(workspace);
  showFilters(workspace, byId("filters")).catch((problem) => warn(problem.message));
  loadIndexStatus(workspace);
}

showKeyboard();
begin(enter);
