/** The page: a desk, one view of films, and the columns around them. */

import { getJson } from "./api.js";
import { showAnswer } from "./answer.js";
import { showQuery } from "./asking.js";
import { showCompare } from "./compare.js";
import { Desk } from "./desk.js";
import { byId, el, fill } from "./dom.js";
import { showDraft } from "./drafting.js";
import { keepExampleButtons, showExamples } from "./examples.js";
import { showFilters } from "./filters.js";
import { showFindings } from "./findings.js";
import { counted } from "./labels.js";
import { showKeys } from "./keys.js";
import { matching } from "./likeness.js";
import { showLists } from "./listing.js";
import { lists } from "./lists.js";
import { showLocating } from "./locating.js";
import { begin } from "./session.js";
import { View } from "./view.js";

/** Say in the header, and to the desk, what the index holds. */
async function tellIndex(desk) {
  const words = byId("index-words");
  try {
    const { studies, versions } = await getJson("v1/index");
    const number = Object.values(studies).reduce((sum, of) => sum + of, 0);
    const active = versions.find(({ state }) => state === "active");
    words.textContent = [counted(number, "study", "studies"), active && `encoder ${active.name}`].filter(Boolean).join(" · ");
    desk.change({ studies: number });
  } catch (problem) {
    words.textContent = problem.message;
  }
}

/** Say in a bar what concerns no panel alone; nothing takes the bar away. */
function warn(words) {
  fill(byId("alerts"), words && el("p", { class: "problem" }, words));
}

function enter(reader) {
  lists.open(reader.name);
  const desk = new Desk();
  const view = new View();
  const panes = {
    query: showQuery(desk, view, (point) => likeness.spot(point)),
    opened: showCompare(desk, view, () => likeness.pairs()),
  };
  const likeness = matching(desk, panes, warn);
  const locate = showLocating(desk, view, byId("where"), panes);
  showExamples(desk, byId("examples"));
  keepExampleButtons(desk, byId("desk"));
  showAnswer(desk);
  showFindings(desk, byId("findings"), locate);
  showDraft(desk, byId("draft"));
  showLists(desk);
  showFilters(desk, byId("filters")).catch((problem) => warn(problem.message));
  tellIndex(desk);
}

showKeys();
begin(enter);
