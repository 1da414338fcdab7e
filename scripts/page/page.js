// Classifies pictures by ONNX Runtime Web, scaled as scripts/predict.py does it. No picture leaves the browser.
import * as ort from "./runtime.js";

const RUNS = 10; // timed together, because the clocks of browsers are too coarse for one
const classes = [...document.querySelectorAll("#classes b")].map((name) => name.textContent);
const results = document.querySelector("#results");
const loaded = load();
let queue = loaded.then(() => results.replaceChildren()); // one picture after the other

async function load() {
  const packed = await fetch("runtime.wasm.gzip");
  ort.env.wasm.wasmBinary = await new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  ort.env.wasm.numThreads = 1; // more would need headers that few static servers send
  return ort.InferenceSession.create("flagship.onnx");
}

// Where each of `side` boxes over `length` pixels from `start` begins and ends, at least one pixel later, as in Pillow
function boxes(start, length, side) {
  const reach = Math.max(length / side, 1) / 2;
  const centers = Array.from({ length: side }, (_, index) => start + ((index + 0.5) * length) / side);
  return centers.map((center) => [Math.floor(center - reach + 0.5), Math.floor(center + reach + 0.5)]);
}

// The mean of `value(index)` as a whole number. Pillow's weights have 22 bits, which decides how a half is rounded.
function mean(begin, end, value) {
  let sum = 0;
  for (let index = begin; index < end; index++) sum += value(index);
  return Math.floor((sum * Math.round(2 ** 22 / (end - begin))) / 2 ** 22 + 0.5);
}

// The central square of a picture, upright and on white, as an ImageData. Fails if `blob` is no picture.
// Like Pillow it rounds twice: the means of rows, and the means of these.
async function scaled(blob, side) {
  const picture = await createImageBitmap(await blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  const { width, height } = picture;
  const length = Math.min(width, height);
  const columns = boxes((width - length) / 2, length, side);
  const rows = boxes((height - length) / 2, length, side);
  const canvas = new OffscreenCanvas(width, Math.ceil(length / side) + 1); // phones have none for a whole photo
  const brush = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  brush.fillStyle = "white";
  const small = new ImageData(new Uint8ClampedArray(4 * side * side).fill(255), side);
  rows.forEach(([top, bottom], row) => {
    brush.fillRect(0, 0, width, canvas.height);
    brush.drawImage(picture, 0, -top);
    const { data } = brush.getImageData(0, 0, width, bottom - top);
    columns.forEach(([begin, end], column) => {
      for (let channel = 0; channel < 3; channel++) {
        const across = (y) => mean(begin, end, (x) => data[4 * (y * width + x) + channel]);
        small.data[4 * (row * side + column) + channel] = mean(0, bottom - top, across);
      }
    });
  });
  picture.close();
  return small;
}

// The probabilities of the classes, and the milliseconds of one run
async function classified(session, image) {
  const feed = { [session.inputNames[0]]: await ort.Tensor.fromImage(image) }; // in 0..1
  const logits = [...(await session.run(feed))[session.outputNames[0]].data];
  const start = performance.now();
  for (let run = 0; run < RUNS; run++) await session.run(feed);
  const time = (performance.now() - start) / RUNS;
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const sum = powers.reduce((total, power) => total + power);
  return [powers.map((power) => power / sum), time];
}

async function answer(blob, name) {
  const session = await loaded;
  const small = await scaled(blob, session.inputMetadata[0].shape.at(-1));
  const [probabilities, time] = await classified(session, small);
  const shown = document.querySelector("template").content.cloneNode(true);
  const canvas = shown.querySelector("canvas");
  canvas.width = canvas.height = small.width;
  canvas.getContext("2d").putImageData(small, 0, 0);
  shown.querySelector("b").textContent = name;
  shown.querySelector("small").textContent = `${time.toFixed(1)} ms`;
  const order = [...classes.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  shown.querySelectorAll("li").forEach((line, rank) => {
    const percent = `${(100 * probabilities[order[rank]]).toFixed(1)}%`;
    line.lastChild.style.width = percent;
    [line.children[0].textContent, line.children[1].textContent] = [classes[order[rank]], percent];
  });
  show(shown);
}

function show(content) {
  const item = document.createElement("li");
  item.append(content);
  results.prepend(item);
  if (results.children.length > 1) item.scrollIntoView({ block: "nearest" }); // not the first, which comes by itself
}

function enqueue(blob, name) {
  queue = queue.then(() => answer(blob, name)).catch((error) => show(`${name} cannot be classified: ${error.message}`));
}

function take(files) {
  if (!files.length) show("No picture in what was dropped or pasted");
  for (const file of files) enqueue(file, file.name);
}

for (const button of document.querySelectorAll("#images button")) {
  const { src, alt } = button.firstChild;
  button.addEventListener("click", () => enqueue(fetch(src).then((reply) => reply.blob()), alt));
}
document.querySelector("input").addEventListener("change", ({ target }) => take(target.files));
addEventListener("paste", ({ clipboardData }) => take(clipboardData.files));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => (event.preventDefault(), take(event.dataTransfer.files)));
document.querySelector("#images button")?.click();
