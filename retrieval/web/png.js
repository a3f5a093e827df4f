/**
 * A decoder of grey PNG in 16 bits: a browser's own decoder reduces to eight, and a narrow window needs sixteen.
 *
 * It reads what the service writes: 8 or 16 bits of grey, not interlaced (PNG specification, 3rd edition: 5.2
 * signature, 9.2 filter types, 11.2 chunks).
 */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** Decode the bytes of a PNG into {grey: Uint16Array, 0 black to 65535 white, row by row; width; height}. */
export async function decodeGrey(buffer) {
  const bytes = new Uint8Array(buffer);
  if (!SIGNATURE.every((byte, at) => bytes[at] === byte)) throw new Error("This is not a PNG.");
  const { width, height, depth, packed } = chunksOf(buffer, bytes);
  const raw = await inflate(packed);
  const sample = depth / 8;
  const line = width * sample;
  if (raw.length < height * (line + 1)) throw new Error("The PNG is truncated.");
  const grey = new Uint16Array(width * height);
  let above = new Uint8Array(line);
  for (let row = 0; row < height; row++) {
    const start = row * (line + 1);
    const current = raw.subarray(start + 1, start + 1 + line);
    unfilter(raw[start], current, above, sample);
    const out = row * width;
    if (sample === 2) for (let x = 0; x < width; x++) grey[out + x] = (current[2 * x] << 8) | current[2 * x + 1];
    else for (let x = 0; x < width; x++) grey[out + x] = current[x] * 257;
    above = current;
  }
  return { grey, width, height };
}

function chunksOf(buffer, bytes) {
  const view = new DataView(buffer);
  const parts = [];
  let header = null;
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "IHDR") {
      header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), depth: data[8] };
      if (![8, 16].includes(data[8]) || data[9] !== 0 || data[12] !== 0) throw new Error("The PNG is not grey.");
    } else if (kind === "IDAT") parts.push(data);
    else if (kind === "IEND") break;
    at += 12 + length;
  }
  if (!header) throw new Error("The PNG has no header.");
  return { ...header, packed: new Blob(parts) };
}

async function inflate(packed) {
  const stream = packed.stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Undo the filter of a row in place: each byte is a difference from its neighbours. */
function unfilter(kind, current, above, sample) {
  const length = current.length;
  if (kind === 1) for (let x = sample; x < length; x++) current[x] += current[x - sample];
  else if (kind === 2) for (let x = 0; x < length; x++) current[x] += above[x];
  else if (kind === 3) {
    for (let x = 0; x < length; x++) current[x] += ((x >= sample ? current[x - sample] : 0) + above[x]) >> 1;
  } else if (kind === 4) {
    for (let x = 0; x < length; x++) {
      const left = x >= sample ? current[x - sample] : 0;
      current[x] += paeth(left, above[x], x >= sample ? above[x - sample] : 0);
    }
  }
}

function paeth(left, up, corner) {
  const estimate = left + up - corner;
  const [a, b, c] = [Math.abs(estimate - left), Math.abs(estimate - up), Math.abs(estimate - corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
