/** A pane: one film on a canvas, with what is laid over it. Panes that share a view move together. */

import { el } from "./dom.js";
import { attachGestures } from "./gestures.js";

const BOX = "#7fd0e8";

export class Pane {
  #film = null;
  #pixels = null;
  #windowed = document.createElement("canvas");
  #shownWith = "";
  #wanted = false;

  /**
   * `label`: what the pane is called. `tools`: those of pan, window, box, spot that work on it. `onBox` is given
   * a box, `onSpot` a point {x, y}, both in pixels of the film as read.
   */
  constructor(view, label, { tools = ["pan", "window"], onBox = null, onSpot = null } = {}) {
    Object.assign(this, { view, label, tools, onBox, onSpot });
    /** What is laid over the film, by who laid it. */
    this.layers = new Map();
    /** Where the keyboard's cross stands, and the box being drawn, as shares of the film; or null. */
    this.cross = null;
    this.rubber = null;
    this.canvas = el("canvas", { tabindex: 0, role: "application", "aria-label": label });
    this.caption = el("p", { class: "caption" });
    this.status = el("p", { class: "pane-status" });
    this.element = el("div", { class: "pane" }, this.canvas, this.caption, this.status);
    attachGestures(this);
    view.addEventListener("change", () => this.redraw());
    new ResizeObserver(() => this.redraw()).observe(this.element);
  }

  /** The size of the film as read, {width, height}, or null while there is none. */
  get size() {
    return this.#pixels && { width: this.#pixels.fullWidth, height: this.#pixels.fullHeight };
  }

  /** Show a film, or nothing. Throws the Problem of fetching it; a film shown later wins over one that is late. */
  async show(film) {
    if (film === this.#film && this.#pixels) return;
    this.#film = film;
    this.#pixels = null;
    this.layers.clear();
    this.#caption();
    this.#tell(film ? "Loading the film …" : "");
    this.redraw();
    if (!film) return;
    try {
      const pixels = await film.pixels();
      if (this.#film !== film) return;
      this.#pixels = pixels;
      this.#shownWith = "";
      this.canvas.setAttribute("aria-label", film.name ? `${this.label}: ${film.name}` : this.label);
      this.#tell("");
      this.redraw();
    } catch (error) {
      if (this.#film !== film) return;
      this.#tell(error.message);
      throw error;
    }
  }

  /**
   * Lay something over the film, in the place of what the same `layer` was before.
   *
   * `heat`: a canvas, shown as opaque as the view says. `outlines`: canvases. `boxes`: [{box, colour, words}], in
   * pixels of the film as read. `words`: a caption that says what it is.
   */
  lay(layer, { heat = null, outlines = [], boxes = [], words = "" } = {}) {
    this.layers.set(layer, { heat, outlines, boxes, words });
    this.#caption();
    this.redraw();
  }

  /** Draw again, once, before the next frame. */
  redraw() {
    if (this.#wanted) return;
    this.#wanted = true;
    requestAnimationFrame(() => {
      this.#wanted = false;
      this.#draw();
    });
  }

  /** The place of the film in the pane, in CSS pixels. */
  place() {
    const { clientWidth, clientHeight } = this.canvas;
    const { width, height } = this.#pixels;
    const scale = Math.min(clientWidth / width, clientHeight / height) * this.view.zoom;
    return {
      left: clientWidth / 2 - this.view.x * width * scale,
      top: clientHeight / 2 - this.view.y * height * scale,
      width: width * scale,
      height: height * scale,
    };
  }

  #caption() {
    this.caption.textContent = [...this.layers.values()].map(({ words }) => words).filter(Boolean).join(" · ");
  }

  #tell(words) {
    this.status.textContent = words;
  }

  #draw() {
    const { canvas } = this;
    const dots = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * dots);
    canvas.height = Math.round(canvas.clientHeight * dots);
    if (!this.#pixels || !canvas.width) return;
    this.#applyWindow();
    const ink = canvas.getContext("2d");
    ink.setTransform(dots, 0, 0, dots, 0, 0);
    ink.imageSmoothingQuality = "high";
    const { left, top, width, height } = this.place();
    ink.drawImage(this.#windowed, left, top, width, height);
    for (const layer of this.layers.values()) this.#drawLayer(ink, layer, { left, top, width, height });
    this.#drawHand(ink, left, top, width, height);
  }

  #drawLayer(ink, { heat, outlines, boxes }, { left, top, width, height }) {
    if (heat) {
      ink.globalAlpha = this.view.opacity;
      ink.drawImage(heat, left, top, width, height);
      ink.globalAlpha = 1;
    }
    for (const outline of outlines) ink.drawImage(outline, left, top, width, height);
    const [across, down] = [width / this.size.width, height / this.size.height];
    for (const { box, colour = BOX, words = "" } of boxes) {
      const [x, y] = [left + box.left * across, top + box.top * down];
      frame(ink, x, y, (box.right - box.left) * across, (box.bottom - box.top) * down, colour, words);
    }
  }

  #drawHand(ink, left, top, width, height) {
    if (this.rubber) {
      const { x0, y0, x1, y1 } = this.rubber;
      ink.setLineDash([5, 4]);
      frame(ink, left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height, BOX);
      ink.setLineDash([]);
    }
    if (this.cross) {
      const [x, y] = [left + this.cross.x * width, top + this.cross.y * height];
      ink.strokeStyle = BOX;
      ink.lineWidth = 1.5;
      ink.beginPath();
      ink.moveTo(x - 12, y);
      ink.lineTo(x + 12, y);
      ink.moveTo(x, y - 12);
      ink.lineTo(x, y + 12);
      ink.stroke();
    }
  }

  #applyWindow() {
    const { level, width: windowWidth, inverted } = this.view;
    const wanted = `${level} ${windowWidth} ${inverted}`;
    if (wanted === this.#shownWith) return;
    const { grey, width, height } = this.#pixels;
    if (this.#windowed.width !== width || this.#windowed.height !== height) {
      Object.assign(this.#windowed, { width, height });
    }
    const table = this.view.table();
    const picture = new ImageData(width, height);
    const dots = new Uint32Array(picture.data.buffer);
    // 0x010101 repeats the grey in red, green and blue; the top byte is full opacity.
    for (let at = 0; at < dots.length; at++) dots[at] = 0xff000000 | (table[grey[at]] * 0x010101);
    this.#windowed.getContext("2d").putImageData(picture, 0, 0);
    this.#shownWith = wanted;
  }
}

function frame(ink, x, y, width, height, colour, words = "") {
  ink.lineWidth = 3.5;
  ink.strokeStyle = "rgba(0, 0, 0, 0.55)";
  ink.strokeRect(x, y, width, height);
  ink.lineWidth = 1.75;
  ink.strokeStyle = colour;
  ink.strokeRect(x, y, width, height);
  if (!words) return;
  ink.font = "600 13px system-ui, sans-serif";
  ink.lineWidth = 3;
  ink.strokeStyle = "rgba(0, 0, 0, 0.8)";
  ink.strokeText(words, x + 4, y + 15);
  ink.fillStyle = colour;
  ink.fillText(words, x + 4, y + 15);
}
