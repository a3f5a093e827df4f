/** Relevance feedback: cases marked relevant or irrelevant, which the next search moves towards or away from. */

import { button, el, fill } from "./dom.js";
import { search } from "./search.js";

/** Two buttons that mark a case as relevant or irrelevant and unmark it. `name`: what the page calls the case. */
export function feedbackButtons(workspace, hit, name) {
  const make = (words, field, other, title) =>
    button(
      words,
      () => {
        const [marked, opposite] = [new Map(workspace[field]), new Map(workspace[other])];
        if (!marked.delete(hit.id)) marked.set(hit.id, { name, image: hit.image });
        opposite.delete(hit.id);
        workspace.change({ [field]: marked, [other]: opposite });
      },
      {
        "aria-pressed": String(workspace[field].has(hit.id)),
        "aria-label": `${words}: ${name}`,
        title,
        data: { feedback: field, case: hit.id },
      },
    );
  return [
    make("Relevant", "relevant", "irrelevant", "Search for more like this"),
    make("Irrelevant", "irrelevant", "relevant", "Search for less like this"),
  ];
}

/** Update the pressed state of every such button of the page. */
export function updateFeedbackButtons(workspace, page) {
  workspace.when(["relevant", "irrelevant"], () => {
    for (const element of page.querySelectorAll("button[data-feedback]")) {
      element.setAttribute("aria-pressed", String(workspace[element.dataset.feedback].has(element.dataset.case)));
    }
  });
}

/** Show the relevance feedback of a workspace in a section. */
export function showFeedback(workspace, section) {
  workspace.when(["relevant", "irrelevant"], () => {
    section.hidden = !workspace.relevant.size && !workspace.irrelevant.size;
    if (section.hidden) return;
    fill(
      section,
      el("h2", { id: "feedback-heading" }, "Relevance feedback"),
      el("ul", { class: "chips" }, chips(workspace, "relevant", "relevant"), chips(workspace, "irrelevant", "irrelevant")),
      button("Search with these", () => search(workspace), { class: "main-action" }),
    );
  });
}

function chips(workspace, field, words) {
  return [...workspace[field]].map(([id, { name, image }]) =>
    el(
      "li",
      { class: "chip" },
      words,
      image ? el("img", { src: `v1/thumbnails/${image}`, alt: name }) : ` ${name}`,
      button(
        "×",
        () => {
          const left = new Map(workspace[field]);
          left.delete(id);
          workspace.change({ [field]: left });
        },
        { class: "remove", "aria-label": `Remove: ${words} ${name}` },
      ),
    ),
  );
}
