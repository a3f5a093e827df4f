/** The view of images: position, magnification, window. All panes share one, so that they move together. */

const MOST_ZOOM = 16;

export class View extends EventTarget {
  constructor() {
    super();
    this.reset();
    /** What a drag does: pan, window, box or spot. */
    this.tool = "pan";
    /** Opacity of the saliency map, 0 to 1. */
    this.opacity = 0.5;
  }

  /** Show whole images in their full window. */
  reset() {
    /** The point of the image at the pane's centre, as fractions of its width and height. */
    this.x = 0.5;
    this.y = 0.5;
    /** 1: the whole image fits the pane. */
    this.zoom = 1;
    /** Level and width of the window, as fractions of the image's grey range. */
    this.level = 0.5;
    this.width = 1;
    this.inverted = false;
    this.changed();
  }

  /** Move by fractions of the image. */
  pan(dx, dy) {
    this.x = within(this.x + dx, 0, 1);
    this.y = within(this.y + dy, 0, 1);
    this.changed();
  }

  /** Magnify by a factor around a point, given as fractions of the image. */
  magnify(factor, x = this.x, y = this.y) {
    const zoom = within(this.zoom * factor, 1, MOST_ZOOM);
    const ratio = this.zoom / zoom;
    this.x = within(x + (this.x - x) * ratio, 0, 1);
    this.y = within(y + (this.y - y) * ratio, 0, 1);
    this.zoom = zoom;
    if (zoom === 1) this.x = this.y = 0.5;
    this.changed();
  }

  /** Set the window. */
  window(level, width) {
    this.level = within(level, 0, 1);
    this.width = within(width, 0.01, 1);
    this.changed();
  }

  /** Set other fields: tool, opacity, inverted. */
  set(fields) {
    Object.assign(this, fields);
    this.changed();
  }

  /** Notify the panes and toolbars. */
  changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** A table from 16-bit grey to the grey on the screen, 0 to 255. */
  table() {
    const shown = new Uint8Array(65536);
    const low = (this.level - this.width / 2) * 65535;
    const scale = 255 / (this.width * 65535);
    for (let grey = 0; grey < 65536; grey++) {
      const value = within((grey - low) * scale, 0, 255);
      shown[grey] = Math.round(this.inverted ? 255 - value : value);
    }
    return shown;
  }
}

/** A value, limited to a range. */
export function within(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
