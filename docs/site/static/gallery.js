// Filters and sorts the table of the gallery.
const table = document.getElementById("gallery-table");
const body = table.tBodies[0];
const rows = Array.from(body.rows);
const field = document.getElementById("gallery-filter");
const count = document.getElementById("gallery-count");

function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  count.textContent = `${shown} of ${rows.length}`;
}

function sort(head) {
  const column = head.cellIndex;
  const numeric = head.classList.contains("number");
  const order = head.getAttribute("aria-sort") === (numeric ? "descending" : "ascending") ? -1 : 1;
  const key = (row) => row.cells[column];
  const compare = numeric
    ? (a, b) => Number(key(b).dataset.value) - Number(key(a).dataset.value)
    : (a, b) => key(a).textContent.localeCompare(key(b).textContent, undefined, { numeric: true });
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", (order > 0) === numeric ? "descending" : "ascending");
  body.append(...rows.sort((a, b) => order * compare(a, b)));
}

for (const head of table.tHead.rows[0].cells) {
  head.querySelector("button").addEventListener("click", () => sort(head));
}
field.addEventListener("input", filter);
filter();
