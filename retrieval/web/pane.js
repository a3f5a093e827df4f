/** A pane: one image on a canvas, with its overlays. Panes that share a view move together. */

import { el } from "./dom.js";
import { attachGestures } from "./gestures.js";

const BOX = "#7fd0e8";

export class Pane {
  #image = null;
  #pixels = null;
  #windowed = document.createElement("canvas");
  #windowedWith = "";
  #scheduled = false;

  /**
   * `label`: the name of the pane. `tools`: those of pan, window, box, spot that it offers. `onBox` receives a box,
   * `onSpot` a point {x, y}, both in pixels of the image as read.
   */
  constructor(view, label, { tools = ["pan", "window"], onBox = null, onSpot = null } = {}) {
    Object.assign(this, { view, label, tools, onBox, onSpot });
    /** Overlays by the name of their layer. */
    this.layers = new Map();
    /** The keyboard's cross, and the box being drawn, as fractions of the image; or null. */
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

  /** The size of the image as read, {width, height}, or null while there is none. */
  get size() {
    return this.#pixels && { width: this.#pixels.fullWidth, height: this.#pixels.fullHeight };
  }

  /** Show an image, or none. Throws the Problem of fetching it; an image that arrives late does not replace a later one. */
  async show(image) {
    if (image === this.#image && this.#pixels) return;
    this.#image = image;
    this.#pixels = null;
    this.layers.clear();
    this.#caption();
    this.#setStatus(image ? "Loading the image …" : "");
    this.redraw();
    if (!image) return;
    try {
      const pixels = await image.pixels();
      if (this.#image !== image) return;
      this.#pixels = pixels;
      this.#windowedWith = "";
      this.canvas.setAttribute("aria-label", image.name ? `${this.label}: ${image.name}` : this.label);
      this.#setStatus("");
      this.redraw();
    } catch (error) {
      if (this.#image !== image) return;
      this.#setStatus(error.message);
      throw error;
    }
  }

  /**
   * Set the overlay of a `layer`.
   *
   * `heat`: a canvas, shown with the opacity of the view. `outlines`: canvases. `boxes`: [{box, colour, words}], in
   * pixels of the image as read. `words`: its caption.
   */
  lay(layer, { heat = null, outlines = [], boxes = [], words = "" } = {}) {
    this.layers.set(layer, { heat, outlines, boxes, words });
    this.#caption();
    this.redraw();
  }

  /** Draw again, once, before the next frame. */
  redraw() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      this.#draw();
    });
  }

  /** The rectangle of the image in the pane, in CSS pixels. */
  imageRect() {
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

  #setStatus(words) {
    this.status.textContent = words;
  }

  #draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    if (!this.#pixels || !canvas.width) return;
    this.#applyWindow();
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingQuality = "high";
    const { left, top, width, height } = this.imageRect();
    context.drawImage(this.#windowed, left, top, width, height);
    for (const layer of this.layers.values()) this.#drawLayer(context, layer, { left, top, width, height });
    this.#drawCursor(context, left, top, width, height);
  }

  #drawLayer(context, { heat, outlines, boxes }, { left, top, width, height }) {
    if (heat) {
      context.globalAlpha = this.view.opacity;
      context.drawImage(heat, left, top, width, height);
      context.globalAlpha = 1;
    }
    for (const outline of outlines) context.drawImage(outline, left, top, width, height);
    const [across, down] = [width / this.size.width, height / this.size.height];
    for (const { box, colour = BOX, words = "" } of boxes) {
      const [x, y] = [left + box.left * across, top + box.top * down];
      frame(context, x, y, (box.right - box.left) * across, (box.bottom - box.top) * down, colour, words);
    }
  }

  #drawCursor(context, left, top, width, height) {
    if (this.rubber) {
      const { x0, y0, x1, y1 } = this.rubber;
      context.setLineDash([5, 4]);
      frame(context, left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height, BOX);
      context.setLineDash([]);
    }
    if (this.cross) {
      const [x, y] = [left + this.cross.x * width, top + this.cross.y * height];
      context.strokeStyle = BOX;
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(x - 12, y);
      context.lineTo(x + 12, y);
      context.moveTo(x, y - 12);
      context.lineTo(x, y + 12);
      context.stroke();
    }
  }

  #applyWindow() {
    const { level, width: windowWidth, inverted } = this.view;
    const wanted = `${level} ${windowWidth} ${inverted}`;
    if (wanted === this.#windowedWith) return;
    const { grey, width, height } = this.#pixels;
    if (this.#windowed.width !== width || this.#windowed.height !== height) {
      Object.assign(this.#windowed, { width, height });
    }
    const table = this.view.table();
    const frameData = new ImageData(width, height);
    const pixels = new Uint32Array(frameData.data.buffer);
    // 0x010101 repeats the grey in red, green and blue; the top byte is full opacity.
    for (let at = 0; at < pixels.length; at++) pixels[at] = 0xff000000 | (table[grey[at]] * 0x010101);
    this.#windowed.getContext("2d").putImageData(frameData, 0, 0);
    this.#windowedWith = wanted;
  }
}

function frame(context, x, y, width, height, colour, words = "") {
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.strokeRect(x, y, width, height);
  context.lineWidth = 1.75;
  context.strokeStyle = colour;
  context.strokeRect(x, y, width, height);
  if (!words) return;
  context.font = "600 13px system-ui, sans-serif";
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.8)";
  context.strokeText(words, x + 4, y + 15);
  context.fillStyle = colour;
  context.fillText(words, x + 4, y + 15);
}
