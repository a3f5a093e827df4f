/** Cases that the reader likes and dislikes: the next search goes towards the ones and away from the others. */

import { button, el, fill } from "./dom.js";
import { search } from "./searching.js";

/** Two buttons that put a case among the examples, and take it out again. `name`: what the page calls it. */
export function exampleButtons(desk, hit, name) {
  const make = (words, field, other, aim) =>
    button(
      words,
      () => {
        const [mine, theirs] = [new Map(desk[field]), new Map(desk[other])];
        if (!mine.delete(hit.id)) mine.set(hit.id, { name, image: hit.image });
        theirs.delete(hit.id);
        desk.change({ [field]: mine, [other]: theirs });
      },
      {
        "aria-pressed": String(desk[field].has(hit.id)),
        "aria-label": `${aim} like ${name}`,
        title: `Search for ${aim.toLowerCase()} like this`,
        data: { example: field, case: hit.id },
      },
    );
  return [make("Like", "likes", "dislikes", "More"), make("Unlike", "dislikes", "likes", "Less")];
}

/** Keep the pressed state of every such button right, wherever it stands. */
export function keepExampleButtons(desk, page) {
  desk.when(["likes", "dislikes"], () => {
    for (const made of page.querySelectorAll("button[data-example]")) {
      made.setAttribute("aria-pressed", String(desk[made.dataset.example].has(made.dataset.case)));
    }
  });
}

/** Show the examples of a desk in a section. */
export function showExamples(desk, section) {
  desk.when(["likes", "dislikes"], () => {
    section.hidden = !desk.likes.size && !desk.dislikes.size;
    if (section.hidden) return;
    fill(
      section,
      el("h2", { id: "examples-heading" }, "Examples"),
      el("ul", { class: "chips" }, chips(desk, "likes", "like"), chips(desk, "dislikes", "unlike")),
      button("Search with these", () => search(desk), { class: "main-action" }),
    );
  });
}

function chips(desk, field, words) {
  return [...desk[field]].map(([id, { name, image }]) =>
    el(
      "li",
      { class: "chip" },
      words,
      image ? el("img", { src: `v1/thumbnails/${image}`, alt: name }) : ` ${name}`,
      button(
        "×",
        () => {
          const left = new Map(desk[field]);
          left.delete(id);
          desk.change({ [field]: left });
        },
        { class: "remove", "aria-label": `Remove: ${words} ${name}` },
      ),
    ),
  );
}
