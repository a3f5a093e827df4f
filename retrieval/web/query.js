/** The query: a phrase; an image that is dropped, pasted or chosen; a region of it. */

import { announce, button, byId, el, fill } from "./dom.js";
import { Pane } from "./pane.js";
import { Radiograph } from "./radiograph.js";
import { search } from "./search.js";
import { toolbar } from "./toolbar.js";

/** Connect the query's column to a workspace and return the pane of its image. */
export function showQuery(workspace, view, onSpot) {
  const pane = new Pane(view, "Your image", {
    tools: ["pan", "window", "box", "spot"],
    onBox: (region) => {
      workspace.change({ region });
      view.set({ tool: "pan" });
      search(workspace);
    },
    onSpot,
  });
  listenToForm(workspace);
  listenToFiles(workspace);
  const area = byId("query-image");
  const drop = byId("drop");
  const bar = toolbar(view, "Tools for your image", ["pan", "window", "box", "spot"]);
  const line = el("div", { class: "image-line" });
  workspace.when(["image"], () => {
    fill(area, workspace.image ? [line, pane.element, bar] : drop);
    pane.show(workspace.image).catch(() => {});
  });
  workspace.when(["image", "region"], () => {
    showLine(workspace, line);
    pane.lay("region", workspace.region ? { boxes: [{ box: workspace.region, words: "query region" }] } : {});
  });
  return pane;
}

/** Search with an image; it replaces the query image. */
export function searchWith(workspace, image) {
  workspace.change({ image, region: null });
  search(workspace);
}

function listenToForm(workspace) {
  const phrase = byId("phrase");
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    workspace.change({ phrase: phrase.value });
    if (workspace.hasQuery) search(workspace);
    else announce("Enter a phrase or choose an image first.");
  });
  byId("target").addEventListener("change", (event) => {
    workspace.change({ target: event.target.value });
    if (workspace.hasQuery) search(workspace);
  });
}

function listenToFiles(workspace) {
  const searchWithFile = (file) => file && searchWith(workspace, new Radiograph({ file }));
  const input = byId("file");
  input.addEventListener("change", () => {
    searchWithFile(input.files[0]);
    input.value = "";
  });
  const column = byId("query");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    column.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) column.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    column.classList.remove("dropping");
    searchWithFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => searchWithFile(event.clipboardData.files[0]));
}

function showLine(workspace, line) {
  if (!workspace.image) return;
  const whole = workspace.region && button("Whole image", () => {
    workspace.change({ region: null });
    search(workspace);
  }, { title: "Search with the whole image again, not with the box" });
  fill(
    line,
    el("span", { class: "image-name" }, workspace.image.name ? `Your image: ${workspace.image.name}` : "Your image"),
    whole,
    button("Remove image", () => {
      workspace.change({ image: null, region: null });
      search(workspace);
      byId("phrase").focus();
    }),
  );
}
