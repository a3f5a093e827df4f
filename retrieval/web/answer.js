/** The answer: a grid of cases, or what is shown while there is none. */

import { card, earlierCard } from "./card.js";
import { button, byId, el, fill } from "./dom.js";
import { counted, SCORES, sentence } from "./labels.js";
import { more, search } from "./search.js";

const SKELETONS = 9;

/** Show the answer of a workspace in the column of the cases. */
export function showAnswer(workspace) {
  const container = byId("answer");
  const show = () => {
    container.setAttribute("aria-busy", String(workspace.search.state === "loading"));
    byId("cases-summary").textContent = workspace.answer?.hits.length ? summary(workspace) : "";
    fill(container, states[workspace.search.state](workspace));
    showEarlier(workspace, byId("earlier"));
  };
  workspace.when(["search", "answer", "studies"], show);
  workspace.when(["opened"], () => {
    for (const element of container.querySelectorAll("[data-case]")) {
      element.classList.toggle("opened", element.dataset.case === workspace.opened?.id);
    }
  });
  container.addEventListener("keydown", (event) => step(container, event));
  show();
}

const states = {
  none: ({ studies }) =>
    el(
      "div",
      { class: "blank" },
      el("h3", {}, "Start with an image or a phrase"),
      el("p", {}, "Drop a radiograph on the left, paste one, or describe a finding. The answer lists earlier cases by similarity."),
      studies === 0 && el("p", { class: "problem" }, "The index is empty: your administrator fills it with ", el("code", {}, "similarity index add"), "."),
      studies > 0 && el("p", { class: "quiet" }, `The index contains ${counted(studies, "study", "studies")}.`),
    ),
  loading: () => el("div", { class: "grid", "aria-label": "Searching" }, Array.from({ length: SKELETONS }, () => el("div", { class: "card skeleton" }))),
  failed: (workspace) =>
    el(
      "div",
      { class: "blank", role: "alert" },
      el("h3", {}, "This search was not answered"),
      el("p", {}, workspace.search.problem.message),
      button("Try again", () => search(workspace), { class: "main-action" }),
    ),
  done: (workspace) => {
    const { answer } = workspace;
    if (answer.abstained && !answer.hits.length) return abstention(answer);
    if (!answer.hits.length) return nothing(workspace);
    return [
      ...answer.notes.map((note) => el("p", { class: "remark", role: "note" }, sentence(note))),
      answer.reason && el("p", { class: answer.abstained ? "remark" : "promise", role: "note" }, answer.reason),
      el("div", { class: "grid" }, answer.hits.map((hit) => card(workspace, hit))),
      answer.next && moreButton(workspace),
      el("p", { class: "quiet note" }, SCORES),
    ];
  },
};

function abstention(answer) {
  return el(
    "div",
    { class: "blank", role: "note" },
    el("h3", {}, "No cases are shown"),
    el("p", {}, sentence(answer.reason || "") || "The search abstained: nothing in the index is similar enough."),
  );
}

function nothing(workspace) {
  return el(
    "div",
    { class: "blank" },
    el("h3", {}, "No case was found"),
    el("p", {}, sentence(workspace.answer.reason || "") || (workspace.filters.length ? "No case satisfies these filters." : "The index contains nothing of this kind.")),
    workspace.filters.length > 0 &&
      button("Remove all filters", () => {
        workspace.change({ filters: [] });
        search(workspace);
      }),
  );
}

function summary({ answer }) {
  const kinds = { cases: "of images and reports together", images: "of images", reports: "of reports" };
  return `${counted(answer.hits.length, "case")}${answer.next ? " so far" : ""}, by similarity ${kinds[answer.query.for] || ""}${unreadOf(answer)}`;
}

/** Text that counts the reports without extracted findings; empty where there is none. */
function unreadOf({ hits }) {
  const number = hits.filter((hit) => hit.findings_read === false).length;
  return number ? `; findings not extracted from ${counted(number, "report")}` : "";
}

function moreButton(workspace) {
  const element = button("More cases", async () => {
    element.disabled = true;
    try {
      await more(workspace);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      element.replaceWith(el("p", { class: "problem", role: "alert" }, problem.message));
    }
  });
  return element;
}

function showEarlier(workspace, section) {
  const studies = workspace.answer?.own_studies || [];
  section.hidden = !studies.length;
  fill(
    section,
    el("h3", { id: "earlier-heading" }, "Earlier studies of this patient"),
    el("p", { class: "quiet" }, "Newest first. They are not among the cases below."),
    el("div", { class: "earlier-row" }, studies.map((study) => earlierCard(workspace, study))),
  );
}

/** Move the focus from case to case by arrow keys, along rows and columns. */
function step(container, event) {
  const cards = [...container.querySelectorAll(".card .open")];
  const at = cards.indexOf(document.activeElement);
  if (at < 0) return;
  const top = cards[0].getBoundingClientRect().top;
  const columns = cards.findIndex((other) => other.getBoundingClientRect().top > top + 4);
  const across = columns < 1 ? cards.length : columns;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
  const next = cards[at + steps[event.key]];
  if (!next) return;
  event.preventDefault();
  next.focus();
}
