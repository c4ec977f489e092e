"use strict";

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

for (const button of document.querySelectorAll(".picture button")) {
  button.addEventListener("click", () => button.closest(".picture").classList.toggle("wide"));
}

async function draw() {
  const figures = Object.entries(JSON.parse(document.getElementById("figures").textContent));
  if (!figures.length) return;
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const library = document.createElement("script");
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  library.textContent = await new Response(unpacked).text();
  document.head.append(library);
  // A finger that moves the page shall not zoom a plot.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  for (const [id, figure] of figures) {
    const place = document.getElementById(id);
    place.textContent = "";
    await Plotly.newPlot(place, figure.data, { ...figure.layout, dragmode }, config);
    place.on("plotly_click", ({ points }) => {
      if (points[0].customdata) location.hash = `run-${points[0].customdata}`;
    });
  }
}

draw().catch((error) => {
  for (const place of document.querySelectorAll(".plot")) place.textContent = `No plot: ${error.message}`;
  console.error(error);
});
