"use strict";
// The page. It computes nothing: `backend` is of server.js or of browser.js, and has
//   badge, privacy       texts: where predictions are computed, and where images go
//   open(token)          resolves to the models, as GET /models returns them; rejects with
//                        `needsToken` in the error
//   predict(model, file, explain)     resolves to a prediction of POST /predict
//   generate(model, seeds, label)     resolves to the `images` of POST /generate
const $ = (id) => document.getElementById(id);
const make = (tag, text, attributes = {}) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const percent = (x) => `${(100 * x).toFixed(1)} %`;
let models = [];
let stream = null;
let samples = [];
let request = 0;

async function start(token) {
  try {
    models = await backend.open(token);
  } catch (error) {
    $("about").textContent = error.message;
    $("access").hidden = !error.needsToken;
    if (error.needsToken) $("token").focus();
    return;
  }
  $("access").hidden = true;
  $("privacy").textContent = backend.privacy;
  $("model").replaceChildren(...models.map((model) => make("option", model.name)));
  $("models").hidden = models.length < 2;
  $("main").hidden = false;
  describe();
}

function chosen() {
  return models[$("model").selectedIndex];
}

function describe() {
  const model = chosen();
  const classes = model.classes.length ? `, ${model.classes.length} classes` : "";
  $("about").textContent = `${model.name}: ${model.kind}${classes}; ${model.preprocessing}`;
  $("badge").textContent = `${backend.badge}: ${model.runtime}`;
  $("badge").hidden = false;
  const generates = model.generates;
  $("images").hidden = generates;
  $("samples").hidden = !generates;
  $("camera").hidden = generates || !(navigator.mediaDevices && navigator.mediaDevices.getUserMedia);
  if (generates) {
    $("labels").hidden = !model.classes.length;
    $("label").replaceChildren(...model.classes.map((name) => make("option", name)));
    generate();
  }
}

async function predict(file) {
  const model = chosen();
  const article = make("article", undefined, {class: model.kind});
  const picture = make("img", undefined, {alt: file.name || "image"});
  const original = URL.createObjectURL(file);
  picture.src = original;
  const views = make("div", undefined, {class: "views", role: "group", "aria-label": "view"});
  const left = make("div");
  left.append(picture, views);
  const answer = make("div");
  answer.append(make("h2", file.name || "image"), make("p", "predicting", {class: "muted"}));
  article.append(left, answer);
  $("results").prepend(article);
  $("clear").hidden = false;
  const began = performance.now();
  try {
    const found = await backend.predict(model, file, false);
    answer.replaceChildren(answer.firstChild, ...shown(found));
    answer.append(make("p", `${Math.round(performance.now() - began)} ms`, {class: "muted"}));
    if (!found.error) addViews(views, picture, original, found, model, file);
  } catch (error) {
    answer.replaceChildren(answer.firstChild, make("p", error.message, {class: "error"}));
  }
}

// Buttons that choose what the picture shows: the image, what is drawn of the prediction, or its
// explanation, which is computed when it is asked for.
function addViews(views, picture, original, found, model, file) {
  const add = (name, source) => {
    const button = make("button", name, {type: "button", "aria-pressed": false});
    button.addEventListener("click", async () => {
      if (button.ariaBusy === "true") return;
      button.ariaBusy = "true";  // not `disabled`, which would take the focus away
      try {
        source = source || await explanation(model, file);
        picture.src = source;
        picture.alt = `${file.name || "image"}, ${name}`;
        for (const each of views.children) each.setAttribute("aria-pressed", each === button);
      } catch (error) {
        button.textContent = error.message;
        return;
      }
      button.ariaBusy = "false";
    });
    views.append(button);
    return button;
  };
  add("image", original);
  const drawn = drawings(found).map(([name, source]) => add(name, source));
  if (model.explains) add(model.explains);
  (drawn.find((button) => button.textContent !== "mask") || views.firstChild).click();
  views.hidden = views.childElementCount < 2;
}

async function explanation(model, file) {
  const found = await backend.predict(model, file, true);
  const drawn = found.explanation || found.picture;  // of captions, the attention to each word
  if (found.error || !drawn) throw Error(found.error || "no explanation");
  return drawn;
}

function shown(found) {
  const parts = [];
  if (found.error) parts.push(make("p", found.error, {class: "error"}));
  if (found.sentence !== undefined) {
    parts.push(make("p", found.sentence || "(nothing)", {class: "caption"}));
    parts.push(make("p", `probability ${found.probability.toPrecision(2)}`, {class: "muted"}));
  }
  for (const row of found.classes || []) parts.push(bar(row.name, row.probability ?? row.share));
  if (found.objects && !found.objects.length) parts.push(make("p", "no objects"));
  for (const row of found.objects || []) parts.push(bar(row.name, row.score));
  return parts;
}

function drawings(found) {
  return Object.entries(found).filter(
    ([name, value]) => name !== "explanation" && typeof value === "string" && value.startsWith("data:image/"));
}

function bar(name, share) {
  const row = make("div", undefined, {class: "bar"});
  const line = make("i");
  line.style.setProperty("--share", `${100 * share}%`);
  row.append(make("b", name), make("em", percent(share)), line);
  return row;
}

function take(list) {
  if ($("images").hidden) return;
  for (const file of list) if (file.type.startsWith("image/") || !file.type) predict(file);
}

async function generate() {
  const number = ++request;
  const seeds = [$("seed0"), $("seed1")].map((input) => Math.abs(Math.trunc(Number(input.value))) || 0);
  try {
    const found = await backend.generate(chosen(), seeds, $("label").selectedIndex);
    if (number !== request) return;  // the answer to a later request is what is shown
    samples = found;
    $("trouble").textContent = "";
    $("position").max = samples.length - 1;
    $("first").src = samples[0];
    $("last").src = samples[samples.length - 1];
    showSample();
  } catch (error) {
    $("trouble").textContent = error.message;
  }
}

function showSample() {
  $("sample").src = samples[$("position").value];
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  start($("token").value.trim());
});
$("model").addEventListener("change", describe);
$("files").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
$("clear").addEventListener("click", () => {
  $("results").replaceChildren();
  $("clear").hidden = true;
});
for (const id of ["seed0", "seed1", "label"]) $(id).addEventListener("change", generate);
$("position").addEventListener("input", showSample);
$("other").addEventListener("click", () => {
  for (const id of ["seed0", "seed1"]) $(id).value = Math.floor(Math.random() * 2 ** 32);
  generate();
});
for (const name of ["dragover", "dragenter"]) {
  addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
}
addEventListener("drop", (event) => take(event.dataTransfer.files));
addEventListener("paste", (event) => take(event.clipboardData.files));

async function openCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
  } catch (error) {
    $("about").textContent = `no camera: ${error.message}`;
    return;
  }
  $("video").srcObject = stream;
  await $("video").play();
  $("shot").hidden = false;
}
function closeCamera() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  $("shot").hidden = true;
}
$("camera").addEventListener("click", openCamera);
$("stop").addEventListener("click", closeCamera);
$("take").addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [$("video").videoWidth, $("video").videoHeight];
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  canvas.toBlob((blob) => predict(new File([blob], "camera.jpg", {type: "image/jpeg"})), "image/jpeg", 0.92);
});
start();
