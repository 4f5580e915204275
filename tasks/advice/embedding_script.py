"""The script and the style of the map of an embedding, which draws on a canvas."""

from __future__ import annotations

STYLE = """<style>
.map canvas { display: block; width: 100%; height: min(70vh, 46rem); border: 1px solid var(--hair);
  border-radius: 6px; background: var(--tint); touch-action: none; cursor: grab }
.map canvas:focus-visible { outline: 2px solid var(--first) }
.map .tools { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  max-width: none }
.map .zoom { margin-left: auto }
.map input, .map button { font: inherit; color: inherit; background: var(--page);
  border: 1px solid var(--hair); border-radius: 4px; padding: .2rem .6rem }
.map input { width: 11rem; max-width: 60vw }
#legend { display: flex; flex-wrap: wrap; gap: .3rem; max-width: none; max-height: 8rem;
  overflow: auto; font-size: .85rem }
#legend button[aria-pressed="true"] { border-color: currentColor; font-weight: 600 }
#legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .4em }
#selected { margin-top: 1rem; min-height: 8rem; font-size: .85rem; color: var(--muted) }
#selected .row { display: flex; flex-wrap: wrap; gap: .8rem; margin-top: .5rem }
#selected figure { width: 6rem; overflow-wrap: anywhere }
#selected canvas { width: 6rem; height: 6rem; border: 3px solid; cursor: pointer }
</style>"""

SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("canvas"), pen = canvas.getContext("2d");
const search = document.getElementById("search"), count = document.getElementById("count");
const points = data.points.map(([x, y, group, title, label, near], index) =>
  ({x, y: -y, group, title, label, near, index, text: (title + " " + label).toLowerCase()}));
const sprite = new Image();
let view = {zoom: 1, x: 0, y: 0}, bounds, chosen = null, only = null, moved = false;
const pointers = new Map();

function fit() {
  const xs = points.map(p => p.x), ys = points.map(p => p.y);
  const low = v => v.reduce((a, b) => Math.min(a, b));
  const high = v => v.reduce((a, b) => Math.max(a, b));
  const width = high(xs) - low(xs) || 1, height = high(ys) - low(ys) || 1;
  bounds = {x: low(xs), y: low(ys), width, height};
}
function place(p) {
  const w = canvas.clientWidth, h = canvas.clientHeight, edge = 30;
  const x = edge + (p.x - bounds.x) / bounds.width * (w - 2 * edge);
  const y = edge + (p.y - bounds.y) / bounds.height * (h - 2 * edge);
  return [x * view.zoom + view.x, y * view.zoom + view.y];
}
function side() { return Math.min(96, (points.length > 500 ? 16 : 24) * Math.sqrt(view.zoom)); }
function matches(p) {
  return (only === null || p.group === only) && p.text.includes(search.value.toLowerCase());
}
function tile(target, index, x, y, size) {
  const t = data.tile;
  target.drawImage(sprite, index % data.columns * t, Math.floor(index / data.columns) * t, t, t,
    x, y, size, size);
}
function draw() {
  const ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  const size = side(), shown = points.filter(matches), hits = new Set(shown);
  const last = chosen === null ? [] : [...points[chosen].near.map(n => points[n]), points[chosen]];
  const order = [...points.filter(p => !hits.has(p)), ...shown, ...last];
  order.forEach((p, rank) => {
    const [x, y] = place(p);
    if (x < -size || y < -size || x > w + size || y > h + size) return;
    const front = rank >= order.length - last.length;
    pen.globalAlpha = hits.has(p) || front ? 1 : 0.07;
    const s = front ? Math.max(size, 32) : size, edge = front ? 4 : Math.max(1.5, size / 12);
    pen.fillStyle = data.colours[p.group];
    pen.fillRect(x - s / 2 - edge, y - s / 2 - edge, s + 2 * edge, s + 2 * edge);
    tile(pen, p.index, x - s / 2, y - s / 2, s);
  });
  pen.globalAlpha = 1;
  count.textContent = shown.length === points.length ? "" : `${shown.length} of ${points.length}`;
}
function zoom(factor, x, y) {
  const next = Math.min(60, Math.max(1, view.zoom * factor)), step = next / view.zoom;
  view = {zoom: next, x: x - (x - view.x) * step, y: y - (y - view.y) * step};
  if (next === 1) view.x = view.y = 0;
  draw();
}
function middle(factor) { zoom(factor, canvas.clientWidth / 2, canvas.clientHeight / 2); }
function reset() {
  view = {zoom: 1, x: 0, y: 0}; only = null; search.value = ""; select(null); legend();
}
function figure(p) {
  const shown = document.createElement("figure"), picture = document.createElement("canvas");
  const caption = document.createElement("figcaption");
  picture.width = picture.height = data.tile;
  picture.style.borderColor = data.colours[p.group];
  tile(picture.getContext("2d"), p.index, 0, 0, data.tile);
  picture.addEventListener("click", () => select(p.index));
  caption.textContent = (p.label || "no label") + "\\n" + p.title;
  caption.style.whiteSpace = "pre-line";
  shown.append(picture, caption);
  return shown;
}
function select(index) {
  chosen = index;
  const box = document.getElementById("selected"), row = document.createElement("div");
  if (index === null) {
    box.textContent = "Select an image to see its nearest neighbours.";
  } else {
    row.className = "row";
    row.append(...[points[index], ...points[index].near.map(n => points[n])].map(figure));
    box.textContent = "The image, and its nearest neighbours on the map:";
    box.append(row);
  }
  draw();
}
function legend() {
  document.getElementById("legend").replaceChildren(...data.classes.map((name, group) => {
    const button = document.createElement("button"), colour = document.createElement("i");
    button.type = "button";
    button.setAttribute("aria-pressed", String(only === group));
    colour.style.background = data.colours[group];
    button.append(colour, name);
    button.addEventListener("click", () => {
      only = only === group ? null : group;
      legend();
      draw();
    });
    return button;
  }));
}
function at(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), ...at(event));
}, {passive: false});
canvas.addEventListener("pointerdown", event => {
  if (!pointers.size) moved = false;
  pointers.set(event.pointerId, at(event));
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", event => {
  const before = pointers.get(event.pointerId), now = at(event);
  if (!before) return;
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
  if (Math.hypot(now[0] - before[0], now[1] - before[1]) > 2) moved = true;
  if (!moved) return;
  pointers.set(event.pointerId, now);
  if (others.length) {
    const far = where => Math.hypot(where[0] - others[0][0], where[1] - others[0][1]) || 1;
    zoom(far(now) / far(before), (now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2);
  } else {
    view.x += now[0] - before[0]; view.y += now[1] - before[1];
    draw();
  }
});
function release(event) {
  const single = pointers.size === 1;
  if (!pointers.delete(event.pointerId) || moved || !single || event.type !== "pointerup") return;
  const [x, y] = at(event), size = side();
  const under = points.filter(matches).filter(p => {
    const [left, top] = place(p);
    return Math.max(Math.abs(left - x), Math.abs(top - y)) <= size / 2 + 3;
  });
  select(under.length ? under[under.length - 1].index : null);
}
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("keydown", event => {
  const steps = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]};
  if (steps[event.key]) {
    view.x += steps[event.key][0]; view.y += steps[event.key][1];
    draw();
  } else if ("+=".includes(event.key)) middle(1.4);
  else if (event.key === "-") middle(1 / 1.4);
  else if (event.key === "0") reset();
  else return;
  event.preventDefault();
});
document.getElementById("in").addEventListener("click", () => middle(1.6));
document.getElementById("out").addEventListener("click", () => middle(1 / 1.6));
document.getElementById("reset").addEventListener("click", reset);
search.addEventListener("input", draw);
window.addEventListener("resize", draw);
sprite.addEventListener("load", draw);
sprite.src = data.sprite;
fit();
legend();
draw();
"""
