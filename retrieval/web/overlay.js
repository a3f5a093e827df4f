/** Overlays of an image: saliency maps as heat, masks as outlines. */

/** Longer side of an outline's canvas: fine enough for a line on any monitor. */
const LONGEST = 1024;

/** Colour scale from dark to bright, readable without colour vision: (red, green, blue) of its steps. */
const HEAT = [
  [20, 11, 52],
  [101, 21, 110],
  [188, 55, 84],
  [237, 105, 37],
  [251, 180, 26],
  [252, 255, 164],
];

/** A canvas of a saliency map, given as base64 of an 8-bit grey PNG: hot is bright, cold is transparent. */
export async function heatOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const value = pixels.data[at] / 255;
    const position = value * (HEAT.length - 1);
    const step = Math.min(Math.floor(position), HEAT.length - 2);
    for (let colour = 0; colour < 3; colour++) {
      const [from, to] = [HEAT[step][colour], HEAT[step + 1][colour]];
      pixels.data[at + colour] = from + (to - from) * (position - step);
    }
    pixels.data[at + 3] = 255 * Math.min(1, value * 1.6);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** A canvas with the outline of a mask, given as COCO run lengths, in a colour [red, green, blue]. */
export function outlineOf({ size: [height, width], counts }, colour) {
  const scale = Math.min(1, LONGEST / Math.max(height, width));
  const [rows, columns] = [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
  const inside = sampled(counts, height, width, rows, columns);
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: columns, height: rows });
  const pixels = new ImageData(columns, rows);
  const reach = Math.max(1, Math.round(Math.max(rows, columns) / 400));
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const at = y * columns + x;
      if (!inside[at]) continue;
      pixels.data.set([...colour, atEdge(inside, x, y, rows, columns, reach) ? 255 : 34], 4 * at);
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** The mask at a smaller size, row by row, from runs that follow the columns. */
function sampled(counts, height, width, rows, columns) {
  const starts = new Float64Array(counts.length + 1);
  for (let run = 0; run < counts.length; run++) starts[run + 1] = starts[run] + counts[run];
  const inside = new Uint8Array(rows * columns);
  let run = 0;
  for (let x = 0; x < columns; x++) {
    const column = Math.floor(((x + 0.5) * width) / columns) * height;
    for (let y = 0; y < rows; y++) {
      const at = column + Math.floor(((y + 0.5) * height) / rows);
      while (starts[run + 1] <= at) run++;
      inside[y * columns + x] = run % 2;
    }
  }
  return inside;
}

function atEdge(inside, x, y, rows, columns, reach) {
  if (x < reach || y < reach || x >= columns - reach || y >= rows - reach) return true;
  const at = y * columns + x;
  return !(inside[at - reach] && inside[at + reach] && inside[at - reach * columns] && inside[at + reach * columns]);
}
