/** Input on a pane by mouse, pen and keyboard: changes of the view, boxes and spots. */

import { within } from "./view.js";

const STEP = 0.02;
const MIN_BOX = 0.015;
const KEYS = { p: "pan", w: "window", b: "box", s: "spot" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Listen to a pane's canvas. */
export function attachGestures(pane) {
  const { canvas, view } = pane;
  let drag = null;

  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    if (!pane.size) return;
    canvas.setPointerCapture(event.pointerId);
    pane.cross = null;
    const tool = { 1: "pan", 2: "window" }[event.button] || toolOf(pane);
    drag = { tool, x: event.clientX, y: event.clientY, from: shareAt(pane, event) };
    if (tool === "spot") reportSpot(pane, drag.from);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (drag.tool === "box") {
      pane.rubber = boxBetween(drag.from, shareAt(pane, event));
      pane.redraw();
      return;
    }
    Object.assign(drag, { x: event.clientX, y: event.clientY });
    const rect = pane.imageRect();
    if (drag.tool === "pan") view.pan(-dx / rect.width, -dy / rect.height);
    if (drag.tool === "window") view.window(view.level - dy / canvas.clientHeight, view.width + dx / canvas.clientWidth);
  });
  canvas.addEventListener("pointerup", () => {
    if (drag?.tool === "box") endBox(pane);
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
    pane.rubber = null;
    pane.redraw();
  });
  canvas.addEventListener("dblclick", () => view.reset());
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!pane.size) return;
      event.preventDefault();
      const at = shareAt(pane, event);
      view.magnify(Math.exp(-event.deltaY / 400), at.x, at.y);
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !pane.size) return;
    if (handleKey(pane, event.key, event.shiftKey)) event.preventDefault();
  });
  canvas.addEventListener("blur", () => {
    pane.cross = null;
    pane.redraw();
  });
}

/** Handle a key; return whether it has a function here. */
function handleKey(pane, key, fast) {
  const { view } = pane;
  const tool = toolOf(pane);
  if (key in ARROWS) {
    const [right, down] = ARROWS[key].map((step) => step * (fast ? 4 : 1));
    if (tool === "pan") view.pan((right * 0.08) / view.zoom, (down * 0.08) / view.zoom);
    else if (tool === "window") view.window(view.level - down * STEP, view.width + right * STEP);
    else moveCross(pane, (right * STEP) / view.zoom, (down * STEP) / view.zoom);
  } else if ((key === "Enter" || key === " ") && tool === "spot") reportSpot(pane, crossOf(pane));
  else if ((key === "Enter" || key === " ") && tool === "box") {
    if (pane.rubber) endBox(pane);
    else pane.rubber = boxBetween(crossOf(pane), crossOf(pane));
  } else if (key === "+" || key === "=") view.magnify(1.25);
  else if (key === "-") view.magnify(0.8);
  else if (key === "0") view.reset();
  else if (key === "i") view.set({ inverted: !view.inverted });
  else if (key in KEYS && pane.tools.includes(KEYS[key])) view.set({ tool: KEYS[key] });
  else if (key === "Escape" && (pane.rubber || pane.cross)) pane.rubber = pane.cross = null;
  else return false;
  pane.redraw();
  return true;
}

/** The view's tool, or pan where this pane does not offer it. */
function toolOf(pane) {
  return pane.tools.includes(pane.view.tool) ? pane.view.tool : "pan";
}

function shareAt(pane, event) {
  const rect = pane.imageRect();
  const edge = pane.canvas.getBoundingClientRect();
  return {
    x: within((event.clientX - edge.left - rect.left) / rect.width, 0, 1),
    y: within((event.clientY - edge.top - rect.top) / rect.height, 0, 1),
  };
}

function crossOf(pane) {
  pane.cross ??= { x: pane.view.x, y: pane.view.y };
  return pane.cross;
}

function moveCross(pane, dx, dy) {
  const cross = crossOf(pane);
  cross.x = within(cross.x + dx, 0, 1);
  cross.y = within(cross.y + dy, 0, 1);
  if (pane.rubber) pane.rubber = boxBetween(pane.rubber.anchor, cross);
}

function boxBetween(anchor, { x, y }) {
  return {
    anchor: { ...anchor },
    x0: Math.min(anchor.x, x),
    y0: Math.min(anchor.y, y),
    x1: Math.max(anchor.x, x),
    y1: Math.max(anchor.y, y),
  };
}

/** Report a drawn box, unless it is too small to be intended. */
function endBox(pane) {
  const { rubber, size } = pane;
  pane.rubber = pane.cross = null;
  pane.redraw();
  if (!rubber || rubber.x1 - rubber.x0 < MIN_BOX || rubber.y1 - rubber.y0 < MIN_BOX) return;
  pane.onBox?.({
    left: Math.floor(rubber.x0 * size.width),
    top: Math.floor(rubber.y0 * size.height),
    right: Math.ceil(rubber.x1 * size.width),
    bottom: Math.ceil(rubber.y1 * size.height),
  });
}

function reportSpot(pane, { x, y }) {
  pane.onSpot?.({
    x: Math.min(Math.floor(x * pane.size.width), pane.size.width - 1),
    y: Math.min(Math.floor(y * pane.size.height), pane.size.height - 1),
  });
}
