
const { make } = globalThis.vaeElements;

// The text that the page holds compressed under an id.
async function unpack(id) {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

for (const table of document.querySelectorAll("table.sortable")) {
  const chosen = (event) => {
    const heading = event.target.closest("th");
    if (heading) sort(table, heading);
  };
  table.tHead.addEventListener("click", chosen);
  table.tHead.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    chosen(event);
  });
}

function sort(table, heading) {
  closeRuns(table);
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const column = heading.cellIndex;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => order(a.cells[column], b.cells[column], descending));
  table.tBodies[0].append(...rows);
}

// What is missing or not a number comes last, whichever way the rest is sorted.
function order(a, b, descending) {
  const missing = [a, b].map((cell) => cell.classList.contains("missing"));
  if (missing[0] || missing[1]) return missing[0] - missing[1];
  const both = "value" in a.dataset && "value" in b.dataset;
  const words = () => a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  const rise = both ? Math.sign(a.dataset.value - b.dataset.value) || 0 : words();
  return descending ? -rise : rise;
}

addEventListener("click", ({ target }) => {
  target.closest(".picture button")?.closest(".picture").classList.toggle("wide");
});
