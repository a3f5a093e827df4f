/** The tools of a pane as buttons and sliders: an alternative to mouse and keys. */

import { button, el } from "./dom.js";

const TOOLS = {
  pan: ["Pan", "Drag to move the images (P)"],
  window: ["Window", "Drag up and down for level, sideways for width (W; right button with any tool)"],
  box: ["Box", "Draw a box on your image to search for similar regions (B)"],
  spot: ["Spot", "Click a spot of your image to see its best match in the open case (S)"],
};

/** A toolbar for a view with the tools that its pane offers: of pan, window, box and spot. */
export function toolbar(view, label, tools) {
  const chosen = tools.map((tool) =>
    button(TOOLS[tool][0], () => view.set({ tool }), { title: TOOLS[tool][1], data: { tool }, "aria-pressed": "false" }),
  );
  const inverted = button("Invert", () => view.set({ inverted: !view.inverted }), {
    title: "Invert black and white (I)",
    "aria-pressed": "false",
  });
  const fit = button("Reset", () => view.reset(), { title: "Whole image, full window (0, or a double click)" });
  const closer = button("+", () => view.magnify(1.25), { "aria-label": "Zoom in", title: "Zoom in (+, or the wheel)" });
  const further = button("−", () => view.magnify(0.8), { "aria-label": "Zoom out", title: "Zoom out (−)" });
  const level = slider("Level", 0, (value) => view.window(value, view.width));
  const width = slider("Width", 0.01, (value) => view.window(view.level, value));
  const show = () => {
    for (const element of chosen) element.setAttribute("aria-pressed", String(element.dataset.tool === view.tool));
    inverted.setAttribute("aria-pressed", String(view.inverted));
    level.set(view.level);
    width.set(view.width);
  };
  view.addEventListener("change", show);
  show();
  return el(
    "div",
    { class: "toolbar", role: "group", "aria-label": label },
    el("div", { class: "tools" }, chosen, el("span", { class: "gap" }), further, closer),
    el("div", { class: "tools sliders" }, level.element, width.element, inverted, fit),
  );
}

function slider(words, min, change) {
  const input = el("input", { type: "range", min, max: 1, step: 0.01 });
  input.addEventListener("input", () => change(Number(input.value)));
  const set = (value) => {
    input.value = value;
    input.setAttribute("aria-valuetext", `${value.toFixed(2)} of the image's grey range`);
  };
  return { element: el("label", { title: "A fraction of the image's grey range" }, words, input), set };
}
