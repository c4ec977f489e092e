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

function closeDetails(place) {
  for (const row of place.querySelectorAll("tr.details")) row.remove();
  for (const button of place.querySelectorAll("[aria-expanded=true]")) button.setAttribute("aria-expanded", "false");
}

function sort(table, heading) {
  closeDetails(table);
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

const filter = document.getElementById("runs-filter");
filter?.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  closeDetails(document.getElementById("runs-table"));
  const rows = [...document.querySelectorAll("#runs-table tbody tr")];
  let shown = 0;
  for (const row of rows) {
    row.hidden = !words.every((word) => row.dataset.text.includes(word));
    shown += !row.hidden;
  }
  document.getElementById("runs-count").textContent = words.length ? `${shown} of ${rows.length}` : "";
});

// The command of a run, below its row; the section on commands has them in the order of the runs.
document.getElementById("runs-table")?.addEventListener("click", (event) => {
  const button = event.target.closest("td.name button");
  if (!button) return;
  const row = button.closest("tr");
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  if (open) return row.nextElementSibling.remove();
  const command = document.getElementById("all-commands").textContent.split("\n")[row.dataset.command];
  const copy = document.createElement("button");
  copy.type = "button";
  copy.textContent = "Copy";
  copy.addEventListener("click", async () => {
    if (navigator.clipboard) {  // which a page over plain HTTP has not
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } else getSelection().selectAllChildren(code);
  });
  const code = document.createElement("code");
  code.textContent = command;
  const cell = document.createElement("td");
  cell.colSpan = row.cells.length;
  cell.append(code, " ", copy);
  const details = document.createElement("tr");
  details.className = "details";
  details.append(cell);
  row.after(details);
});

// A link to a run, from a dot or a table, shows its row whatever is filtered.
function showRun(id) {
  const row = document.getElementById(id);
  if (!row) return;
  if (row.hidden) {
    filter.value = "";
    filter.dispatchEvent(new Event("input"));
  }
  row.scrollIntoView({ block: "center" });
}
addEventListener("hashchange", () => showRun(decodeURIComponent(location.hash.slice(1))));

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
  for (const [id, entry] of figures) {
    const place = document.getElementById(id);
    const figure = entry.choices ? Object.values(entry.choices)[0] : entry;
    place.textContent = "";
    await Plotly.newPlot(place, figure.data, { ...figure.layout, dragmode }, config);
    document.getElementById(`${id}-choice`)?.addEventListener("change", (event) => {
      const { data, layout } = entry.choices[event.target.value];
      Plotly.react(place, data, { ...layout, dragmode }, config);
    });
    place.on("plotly_click", ({ points }) => {
      if (!points[0].customdata) return;
      location.hash = `run-${points[0].customdata}`;
      showRun(`run-${points[0].customdata}`);  // a second click on one dot changes no hash
    });
  }
}

draw().catch((error) => {
  for (const place of document.querySelectorAll(".plot")) place.textContent = `No plot: ${error.message}`;
  console.error(error);
});
