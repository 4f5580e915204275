"use strict";
// The backend of the page that runs the exported model in the browser, by ONNX Runtime Web. The
// scripts before this one hold `zooModel`, which describes the model, and `zooFiles`, files in
// base64: pages that are opened from a disk cannot fetch the files beside them.
const TOP = 5, STEPS = 16, CELLS = 7, MULTI_LABEL_THRESHOLD = 0.5;
const HEAT = [[0, 0, 90], [0, 140, 190], [90, 200, 90], [250, 220, 40], [220, 20, 20]];  // low to high
const OPACITY = 0.55;
const about = zooModel.metadata;
let session = null;

const bytes = (name) => Uint8Array.from(atob(zooFiles[name]), (letter) => letter.charCodeAt(0));

const backend = {
  badge: "computed in this browser",
  privacy: "Images stay on this device: nothing is uploaded.",

  async open() {
    ort.env.wasm.numThreads = 1;  // more need headers that static hosts rarely send
    ort.env.wasm.wasmBinary = bytes("ort-wasm-simd-threaded.wasm").buffer;
    const glue = new Blob([bytes("ort-wasm-simd-threaded.mjs")], {type: "text/javascript"});
    ort.env.wasm.wasmPaths = {mjs: URL.createObjectURL(glue)};
    session = await ort.InferenceSession.create(bytes("model.onnx"));
    return [{
      name: zooModel.name, kind: about.task, classes: about.classes || [],
      preprocessing: zooModel.preprocessing, runtime: `ONNX Runtime Web ${ort.env.versions.web}`,
      explains: about.task === "classification" ? "heat map" : "", generates: about.task === "gan",
    }];
  },

  async predict(model, file, explain) {
    let image;
    try {
      image = await decode(file);
    } catch (error) {
      return {error: "not an image, or damaged"};
    }
    await new Promise((resolve) => setTimeout(resolve));  // shows the page before the thread computes
    return explain ? occlusion(image) : TASKS[about.task](image);
  },

  async generate(model, seeds, label) {
    const shape = zooModel.inputs.latent.slice(1);
    const rows = slerp(...seeds.map((seed) => normal(seed, shape[1])), STEPS);
    const inputs = {latent: new ort.Tensor("float32", rows.flat(), [STEPS, shape[1]])};
    if (zooModel.inputs.label) {
      inputs.label = new ort.Tensor("int32", new Int32Array(STEPS).fill(Math.max(0, label)), [STEPS]);
    }
    const {dims: [, height, width, channels], data} = (await session.run(inputs)).generated;
    const size = height * width * channels;
    return Array.from({length: STEPS}, (_, n) =>
      draw({height, width, channels, data: data.subarray(n * size, (n + 1) * size)}));
  },
};

const TASKS = {
  async classification(image) {
    const {probabilities} = await run([fit(image)]);
    return {classes: best([...probabilities.data], about.multi_label)};
  },

  async segmentation(image) {
    const {mask: {dims: [, height, width], data}} = await run([fit(image)]);
    const counts = new Float64Array(about.classes.length);
    for (const label of data) counts[label] += 1 / data.length;
    const classes = best([...counts], false).filter((row) => row.share = row.probability);
    for (const row of classes) delete row.probability;
    const alpha = (label) => zooModel.background.includes(label) ? 0 : OPACITY;
    const colored = new Uint8ClampedArray(4 * data.length);
    data.forEach((label, n) => colored.set([...zooModel.colors[label], 255 * alpha(label)], 4 * n));
    const canvas = toCanvas(image);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const window_ = boxOf(image, width, height);
    context.drawImage(rgbaCanvas(colored, width, height), ...window_, 0, 0, image.width, image.height);
    return {classes, overlay: canvas.toDataURL()};
  },

  async detection(image) {
    const fitted = fit(image);
    const {boxes, scores, classes} = await run([fitted]);
    const [left, top, width, height] = boxOf(image, fitted.width, fitted.height);
    const objects = [];
    const canvas = toCanvas(image);
    const context = canvas.getContext("2d");
    context.lineWidth = Math.max(2, Math.round(Math.max(image.width, image.height) / 250));
    context.font = `${6 * context.lineWidth}px system-ui, sans-serif`;
    scores.data.forEach((score, n) => {
      const label = Number(classes.data[n]);
      if (label < 0 || score < about.score_threshold) return;
      const clip = (value, offset, size, side) => Math.min(side, Math.max(0, (value - offset) * side / size));
      const [x0, y0, x1, y1] = boxes.data.subarray(4 * n, 4 * n + 4);
      const box = [clip(x0, left, width, image.width), clip(y0, top, height, image.height),
        clip(x1, left, width, image.width), clip(y1, top, height, image.height)];
      const name = about.classes[label];
      objects.push({name, score, box});
      context.strokeStyle = context.fillStyle = `rgb(${zooModel.colors[label]})`;
      context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
      context.fillText(name, box[0] + 2 * context.lineWidth, box[1] + 7 * context.lineWidth);
    });
    return {objects, picture: canvas.toDataURL()};
  },

  async captioning(image) {
    const {tokens, log_probability} = await run([fit(image)]);
    const words = [...tokens.data].map((token) => about.vocabulary[Number(token)]);
    const end = words.indexOf("<end>");
    const kept = (end < 0 ? words : words.slice(0, end)).filter(
      (word) => !["<pad>", "<start>", "<end>"].includes(word));
    return {sentence: kept.join(" "), probability: Math.exp(log_probability.data[0])};
  },
};

// The outputs of the model, by name, for images of one size.
function run(images) {
  const [[name, [dtype]]] = Object.entries(zooModel.inputs);
  const {height, width, channels} = images[0];
  const data = new (dtype === "uint8" ? Uint8Array : Float32Array)(images.length * height * width * channels);
  images.forEach((image, n) => data.set(image.data, n * height * width * channels));
  return session.run({[name]: new ort.Tensor(dtype, data, [images.length, height, width, channels])});
}

function best(shares, multiLabel) {
  const rows = shares.map((probability, n) => ({name: about.classes[n], probability}));
  rows.sort((a, b) => b.probability - a.probability);
  const confident = rows.filter((row) => row.probability >= MULTI_LABEL_THRESHOLD).length;
  return rows.slice(0, multiLabel ? Math.max(1, confident) : TOP);
}

// How much the logit of the predicted class falls where a cell of the image is covered by the mean
// color (Zeiler & Fergus, 2014), as a heat map over what the model sees.
async function occlusion(image) {
  const fitted = fit(image);
  const {height, width, channels, data} = fitted;
  const probabilities = (await run([fitted])).probabilities.data;
  const label = probabilities.indexOf(Math.max(...probabilities));
  const logit = (p) => Math.log(Math.max(p, 1e-30)) - (about.multi_label ? Math.log(Math.max(1 - p, 1e-16)) : 0);
  const mean = Array.from({length: channels}, (_, c) => {
    let sum = 0;
    for (let n = c; n < data.length; n += channels) sum += data[n];
    return Math.round(sum / (height * width));
  });
  const heat = new Float32Array(CELLS * CELLS);
  for (let row = 0; row < CELLS; row += 1) {
    const covered = Array.from({length: CELLS}, (_, column) => cover(fitted, row, column, mean));
    const found = (await run(covered)).probabilities.data;
    for (let column = 0; column < CELLS; column += 1) {
      const fall = logit(probabilities[label]) - logit(found[column * probabilities.length + label]);
      heat[row * CELLS + column] = Math.max(0, fall);
    }
    await new Promise((resolve) => setTimeout(resolve));  // the page stays alive in between
  }
  return {explanation: heatMap(fitted, heat)};
}

function cover(image, row, column, color) {
  const {height, width, channels} = image;
  const data = image.data.slice();
  const edge = (cell, side) => Math.floor(cell * side / CELLS);
  for (let y = edge(row, height); y < edge(row + 1, height); y += 1) {
    for (let x = edge(column, width); x < edge(column + 1, width); x += 1) {
      data.set(color, channels * (y * width + x));
    }
  }
  return {...image, data};
}

function heatMap(image, heat) {
  const most = Math.max(...heat, 1e-12);
  const cells = new Uint8ClampedArray(4 * heat.length);
  heat.forEach((value, n) => {
    const at = value / most * (HEAT.length - 1);
    const low = Math.min(Math.floor(at), HEAT.length - 2);
    const color = HEAT[low].map((from, c) => from + (at - low) * (HEAT[low + 1][c] - from));
    cells.set([...color, 255 * OPACITY], 4 * n);
  });
  const canvas = toCanvas(image, Math.ceil(224 / Math.min(image.width, image.height)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(rgbaCanvas(cells, CELLS, CELLS), 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL();
}

// The pixels of a file, RGBA and upright.
async function decode(file) {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none",
  });
  const canvas = Object.assign(document.createElement("canvas"), {width: bitmap.width, height: bitmap.height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  const {width, height, data} = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return {width, height, channels: 4, data};
}

// An image with the channels and of the size that the model takes.
function fit(image) {
  const [, , height, width, channels] = Object.values(zooModel.inputs)[0];
  const target = {height, width};
  if (!height || !width) {
    if (about.own_size) Object.assign(target, {height: image.height, width: image.width});
    else if (about.resize === "stretch") [target.height, target.width] = about.size;
    else {
      const ratios = [about.size[0] / image.height, about.size[1] / image.width];
      const ratio = Math[about.resize === "pad" ? "min" : "max"](...ratios);
      for (const side of ["height", "width"]) target[side] = Math.max(1, Math.round(image[side] * ratio));
    }
  }
  const converted = convert(image, channels);
  const [inner, box] = window_(image, target.width, target.height);
  const resized = resize(converted, ...inner, box);
  if (inner[0] === target.width && inner[1] === target.height) return resized;
  const padded = {...target, channels, data: new Uint8ClampedArray(target.height * target.width * channels)};
  const [left, top] = [(target.width - inner[0]) >> 1, (target.height - inner[1]) >> 1];
  for (let y = 0; y < inner[1]; y += 1) {
    const row = resized.data.subarray(y * inner[0] * channels, (y + 1) * inner[0] * channels);
    padded.data.set(row, ((y + top) * target.width + left) * channels);
  }
  return padded;
}

// The size that an image is resized to for a target, and the box of the image that is resized.
function window_(image, width, height) {
  const ratios = [width / image.width, height / image.height];
  if (about.resize === "crop") {
    const scale = Math.max(...ratios);
    const [w, h] = [Math.min(width / scale, image.width), Math.min(height / scale, image.height)];
    return [[width, height], [(image.width - w) / 2, (image.height - h) / 2, w, h]];
  }
  const scale = Math.min(...ratios);
  const inner = about.resize === "pad"
    ? [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale))) : [width, height];
  return [inner, [0, 0, image.width, image.height]];
}

// The box that the whole image has in the coordinates of a target: left, top, width, height.
function boxOf(image, width, height) {
  const [inner, [left, top, w, h]] = window_(image, width, height);
  const [x, y] = [inner[0] / w, inner[1] / h];
  return [((width - inner[0]) >> 1) - left * x, ((height - inner[1]) >> 1) - top * y, image.width * x, image.height * y];
}

// RGBA as grey or RGB: transparency is blended with white.
function convert({width, height, data}, channels) {
  const count = width * height;
  const found = new Uint8ClampedArray(count * channels);
  for (let n = 0; n < count; n += 1) {
    const alpha = data[4 * n + 3] / 255;
    const [r, g, b] = [0, 1, 2].map((c) => Math.round(alpha * data[4 * n + c] + (1 - alpha) * 255));
    if (channels === 3) found.set([r, g, b], 3 * n);
    else found[n] = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
  }
  return {width, height, channels, data: found};
}

// Bilinear with antialiasing, as Pillow resizes: columns first, rounded to 8 bits in between.
function resize(image, width, height, [left, top, boxWidth, boxHeight]) {
  const columns = weights(image.width, width, left, boxWidth);
  const rows = weights(image.height, height, top, boxHeight);
  return along(along(image, columns, 1), rows, 0);
}

function weights(side, target, offset, length) {
  const scale = length / target, support = Math.max(1, scale);
  return Array.from({length: target}, (_, n) => {
    const centre = offset + (n + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const end = Math.min(side, Math.floor(centre + support + 0.5));
    const found = [];
    for (let at = first; at < end; at += 1) {
      found.push(Math.max(0, 1 - Math.abs((at + 0.5 - centre) / support)));
    }
    const sum = found.reduce((a, b) => a + b, 0);
    return [first, found.map((weight) => weight / sum)];
  });
}

function along({width, height, channels, data}, lines, isColumn) {
  const [newWidth, newHeight] = isColumn ? [lines.length, height] : [width, lines.length];
  const found = new Uint8ClampedArray(newWidth * newHeight * channels);  // rounds to the nearest
  const step = isColumn ? channels : width * channels;
  for (let y = 0, at = 0; y < newHeight; y += 1) {
    for (let x = 0; x < newWidth; x += 1) {
      const [first, line] = lines[isColumn ? x : y];
      const start = isColumn ? (y * width + first) * channels : (first * width + x) * channels;
      for (let c = 0; c < channels; c += 1, at += 1) {
        let sum = 0;
        for (let n = 0; n < line.length; n += 1) sum += line[n] * data[start + n * step + c];
        found[at] = sum;
      }
    }
  }
  return {width: newWidth, height: newHeight, channels, data: found};
}

function rgbaCanvas(data, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

function toCanvas({width, height, channels, data}, factor = 1) {
  const rgba = new Uint8ClampedArray(4 * width * height);
  for (let n = 0; n < width * height; n += 1) {
    const color = channels === 1 ? Array(3).fill(data[n]) : data.subarray(n * channels, n * channels + 3);
    rgba.set([...color, 255], 4 * n);
  }
  const canvas = Object.assign(document.createElement("canvas"), {width: factor * width, height: factor * height});
  canvas.getContext("2d").drawImage(rgbaCanvas(rgba, width, height), 0, 0, canvas.width, canvas.height);
  return canvas;
}

const draw = (image) => toCanvas(image).toDataURL();

// Standard normal numbers of a seed: the generator mulberry32 and the Box-Muller transform.
function normal(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = state + 0x6D2B79F5 | 0;
    let mixed = Math.imul(state ^ state >>> 15, 1 | state);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
  return Array.from({length: count}, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// Vectors on the arc between two, both ends included (White, 2016).
function slerp(first, last, steps) {
  const dot = (a, b) => a.reduce((sum, value, n) => sum + value * b[n], 0);
  const angle = Math.acos(Math.min(1, Math.max(-1, dot(first, last) / Math.sqrt(dot(first, first) * dot(last, last)))));
  return Array.from({length: steps}, (_, n) => {
    const t = n / (steps - 1);
    const [a, b] = Math.sin(angle) < 1e-6 ? [1 - t, t]
      : [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
    return first.map((value, at) => a * value + b * last[at]);
  });
}
