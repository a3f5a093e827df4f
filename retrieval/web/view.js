/** How films are looked at: place, magnification, window. One view for all panes, so that they move together. */

const MOST_ZOOM = 16;

export class View extends EventTarget {
  constructor() {
    super();
    this.reset();
    /** What a drag does: pan, window, box or spot. */
    this.tool = "pan";
    /** Of the saliency map, 0 to 1. */
    this.opacity = 0.5;
  }

  /** Show whole films in their full window. */
  reset() {
    /** The point of the film in the pane's middle, as shares of its width and height. */
    this.x = 0.5;
    this.y = 0.5;
    /** 1: the whole film fits the pane. */
    this.zoom = 1;
    /** Middle and width of the window, as shares of the film's grey range. */
    this.level = 0.5;
    this.width = 1;
    this.inverted = false;
    this.changed();
  }

  /** Move by shares of the film. */
  pan(dx, dy) {
    this.x = within(this.x + dx, 0, 1);
    this.y = within(this.y + dy, 0, 1);
    this.changed();
  }

  /** Magnify by a factor around a point, given as shares of the film. */
  magnify(factor, x = this.x, y = this.y) {
    const zoom = within(this.zoom * factor, 1, MOST_ZOOM);
    const kept = this.zoom / zoom;
    this.x = within(x + (this.x - x) * kept, 0, 1);
    this.y = within(y + (this.y - y) * kept, 0, 1);
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

  /** Tell the panes and toolbars. */
  changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** A table from 16-bit grey to what the screen shows, 0 to 255. */
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

/** A value, held between two others. */
export function within(value, least, most) {
  return Math.min(most, Math.max(least, value));
}
