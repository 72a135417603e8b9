// Pictures with their light evened out: of each date by itself the darkest and the lightest hundredth become black and white.

const isLoaded = (image) => Boolean(image?.complete && image.naturalWidth);
const lit = new WeakMap();

function evened(image) {
  if (!isLoaded(image)) return image;
  if (!lit.has(image)) lit.set(image, stretched(image));
  return lit.get(image);
}

// the stripes where nothing was seen
function isStripe(data, at) {
  const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
  return Math.max(r, g, b) < 64 && Math.max(r, g, b) - Math.min(r, g, b) < 6;
}

function stretched(image) {
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  const counts = new Uint32Array(256);
  let all = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (isStripe(data, at)) continue;
    const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
    counts[(r + 2 * g + b) >> 2] += 1;
    all += 1;
  }
  const edge = (share) => {
    let sum = 0;
    for (let value = 0; value < 256; value += 1) if ((sum += counts[value]) > share * all) return value;
    return 255;
  };
  const [low, high] = [edge(0.01), edge(0.99)];
  const scale = 255 / Math.max(32, high - low);
  for (let at = 0; at < data.length; at += 4) {
    if (isStripe(data, at)) continue;
    for (let band = 0; band < 3; band += 1) data[at + band] = (data[at + band] - low) * scale; // clamped by the array
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
