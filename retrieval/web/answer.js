/** The answer: a grid of cases, and what stands in its place while there is none. */

import { card, ownCard } from "./card.js";
import { button, byId, el, fill } from "./dom.js";
import { COSINES, counted, sentence } from "./labels.js";
import { more, search } from "./searching.js";

const SKELETONS = 9;

/** Show the desk's answer in the column of the cases. */
export function showAnswer(desk) {
  const place = byId("answer");
  const show = () => {
    place.setAttribute("aria-busy", String(desk.search.state === "loading"));
    byId("cases-words").textContent = desk.answer?.hits.length ? summary(desk) : "";
    fill(place, states[desk.search.state](desk));
    showOwn(desk, byId("own"));
  };
  desk.when(["search", "answer", "studies"], show);
  desk.when(["opened"], () => {
    for (const made of place.querySelectorAll("[data-case]")) {
      made.classList.toggle("opened", made.dataset.case === desk.opened?.id);
    }
  });
  place.addEventListener("keydown", (event) => step(place, event));
  show();
}

const states = {
  none: ({ studies }) =>
    el(
      "div",
      { class: "blank" },
      el("h3", {}, "Start with a film or a phrase"),
      el("p", {}, "Drop a radiograph on the left, paste one, or describe a finding. What comes back are earlier cases, most alike first."),
      studies === 0 && el("p", { class: "problem" }, "The index is empty: whoever runs the service fills it with ", el("code", {}, "similarity index add"), "."),
      studies > 0 && el("p", { class: "quiet" }, `The index holds ${counted(studies, "study", "studies")}.`),
    ),
  loading: () => el("div", { class: "grid", "aria-label": "Searching" }, Array.from({ length: SKELETONS }, () => el("div", { class: "card skeleton" }))),
  failed: (desk) =>
    el(
      "div",
      { class: "blank", role: "alert" },
      el("h3", {}, "This search was not answered"),
      el("p", {}, desk.search.problem.message),
      button("Try again", () => search(desk), { class: "main-action" }),
    ),
  done: (desk) => {
    const { answer } = desk;
    if (answer.abstained && !answer.hits.length) return withheld(answer);
    if (!answer.hits.length) return nothing(desk);
    return [
      ...answer.notes.map((note) => el("p", { class: "remark", role: "note" }, sentence(note))),
      answer.reason && el("p", { class: answer.abstained ? "remark" : "promise", role: "note" }, answer.reason),
      el("div", { class: "grid" }, answer.hits.map((hit) => card(desk, hit))),
      answer.next && moreButton(desk),
      el("p", { class: "quiet note" }, COSINES),
    ];
  },
};

function withheld(answer) {
  return el(
    "div",
    { class: "blank", role: "note" },
    el("h3", {}, "No cases are shown"),
    el("p", {}, sentence(answer.reason || "") || "Nothing in the index is near enough to say that it is alike."),
  );
}

function nothing(desk) {
  return el(
    "div",
    { class: "blank" },
    el("h3", {}, "No case was found"),
    el("p", {}, sentence(desk.answer.reason || "") || (desk.filters.length ? "None passes these filters." : "The index holds nothing of this kind.")),
    desk.filters.length > 0 &&
      button("Remove all filters", () => {
        desk.change({ filters: [] });
        search(desk);
      }),
  );
}

function summary({ answer }) {
  const kinds = { cases: "films and reports together", images: "by their films", reports: "by their reports" };
  return `${counted(answer.hits.length, "case")}${answer.next ? " so far" : ""}, most alike first, ${kinds[answer.query.for] || ""}${unreadOf(answer)}`;
}

/** How many of the cases have a report that no findings could be read from. */
function unreadOf({ hits }) {
  const number = hits.filter((hit) => hit.findings_read === false).length;
  return number ? `; findings not read in ${counted(number, "report")}` : "";
}

function moreButton(desk) {
  const made = button("More cases", async () => {
    made.disabled = true;
    try {
      await more(desk);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      made.replaceWith(el("p", { class: "problem", role: "alert" }, problem.message));
    }
  });
  return made;
}

function showOwn(desk, section) {
  const own = desk.answer?.own_studies || [];
  section.hidden = !own.length;
  fill(
    section,
    el("h3", { id: "own-heading" }, "Earlier studies of this patient"),
    el("p", { class: "quiet" }, "Newest first. They are never among the cases below."),
    el("div", { class: "own-row" }, own.map((study) => ownCard(desk, study))),
  );
}

/** Arrow keys go from case to case, by row and column. */
function step(place, event) {
  const cards = [...place.querySelectorAll(".card .open")];
  const at = cards.indexOf(document.activeElement);
  if (at < 0) return;
  const top = cards[0].getBoundingClientRect().top;
  const columns = cards.findIndex((other) => other.getBoundingClientRect().top > top + 4);
  const across = columns < 1 ? cards.length : columns;
  const ways = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across };
  const next = cards[at + ways[event.key]];
  if (!next) return;
  event.preventDefault();
  next.focus();
}
