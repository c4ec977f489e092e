// The table of runs: words and fields filter it, columns are chosen, a click opens a run, its dots light up with it.
const runsTable = document.querySelector("#runs-table table"), runsRows = [...runsTable.tBodies[0].rows];
let unpackedRecords = null;
const runsRecords = () => (unpackedRecords ??= unpack("runs-records").then(JSON.parse));
const byId = (id) => document.getElementById(id);
const rowOf = (name) => byId(`run-${name}`);

// Filters.

const fieldFilters = [...document.querySelectorAll(".controls select[data-field]")];
const valueOf = (run, field) => (field === "status" || field === "seed" ? run[field] : run.config[field]);

async function filterRuns() {
  const records = fieldFilters.some((filter) => filter.value) ? (await runsRecords()).runs : [];
  // What is asked for is read after the wait, in which it may have changed.
  const words = byId("runs-words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = fieldFilters.filter((filter) => filter.value).map((filter) => [filter.dataset.field, filter.value]);
  closeRuns(runsTable);
  for (const row of runsRows) {
    const hasWords = words.every((word) => row.dataset.text.includes(word));
    row.hidden = !hasWords || !chosen.every(([field, value]) => valueOf(records[row.dataset.run], field) === value);
  }
  const shown = runsRows.filter((row) => !row.hidden).length, filtered = words.length || chosen.length;
  byId("runs-count").textContent = filtered ? `${shown} of ${runsRows.length} runs` : "";
}

function showAllRuns() {
  byId("runs-words").value = "";
  for (const filter of fieldFilters) filter.value = "";
  return filterRuns();
}

byId("runs-words").addEventListener("input", filterRuns);
byId("runs-reset").addEventListener("click", showAllRuns);
for (const filter of fieldFilters) filter.addEventListener("change", filterRuns);

// Columns.

const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));
// Fields whose values are numbers, or missing, are columns of numbers.
const isNumeric = (runs, name) => !(name in runs[0].config)
  || runs.every(({ config }) => isNumber(config[name]) || config[name] === "none");

function cellOf(run, name, numeric) {
  if (name in run.config) {
    const cell = make("td", { textContent: run.config[name], className: numeric ? "number" : "" });
    if (isNumber(run.config[name])) cell.dataset.value = run.config[name];
    else if (run.config[name] === "none") cell.classList.add("missing");
    return cell;
  }
  const [text, order] = run.metrics[name] ?? ["none"];
  const cell = make("td", { className: "number", textContent: text });
  if (order === undefined || order === "NaN") cell.classList.add("missing");
  else cell.dataset.value = order;
  return cell;
}

async function toggleColumn({ target: { value: name, checked } }) {
  const { runs } = await runsRecords(), heads = runsTable.tHead.rows[0], numeric = isNumeric(runs, name);
  closeRuns(runsTable);
  if (!checked) {
    const index = [...heads.cells].findIndex((cell) => cell.dataset.column === name);
    if (index < 0) return;
    for (const row of [heads, ...runsRows]) row.deleteCell(index);
    return;
  }
  const head = make("th", { scope: "col" }, make("span", { role: "button", tabIndex: 0, textContent: name }));
  head.dataset.column = name;
  if (numeric) head.className = "number";
  heads.append(head);
  for (const row of runsRows) row.append(cellOf(runs[row.dataset.run], name, numeric));
}

document.querySelector(".columns").addEventListener("change", toggleColumn);

// A run that is open.

function closeRuns(place) {
  for (const button of place.querySelectorAll("[aria-expanded=true]")) closeRun(button);
}

function closeRun(button) {
  button.setAttribute("aria-expanded", "false");
  const row = button.closest("tr");
  if (row.nextElementSibling?.className === "details") row.nextElementSibling.remove();
  enlargeDots(row.id.slice("run-".length), false);
}

async function openRun(button) {
  button.setAttribute("aria-expanded", "true");
  const row = button.closest("tr"), records = await runsRecords(), run = records.runs[row.dataset.run];
  const isOpen = () => button.getAttribute("aria-expanded") === "true";
  if (!isOpen() || row.nextElementSibling?.className === "details") return;  // clicked again in the meantime
  const label = "validation split over the steps; grey: the other seeds of its group";
  const curves = make("div", { className: "curves", role: "group", ariaLabel: `Curves of ${run.name}: ${label}` });
  const panel = make("div", { className: "run-panel" },
    ...(run.error ? [make("p", { className: "error", textContent: run.error })] : []),
    pairs(records.by.map((field) => [field, run.config[field]]).concat([["seed", run.seed]])),
    curves, make("p", { className: "quiet", textContent: `Curves: ${label}.` }), ...pictures(run), commandLine(byId("all-commands").textContent.split("\n")[run.command]),
    make("details", {}, make("summary", { textContent: "Config" }),
      pairs(Object.entries({ ...records.common, ...run.config }).sort(([a], [b]) => (a < b ? -1 : 1)))));
  row.after(make("tr", { className: "details" }, make("td", { colSpan: row.cells.length }, panel)));
  await plotted;
  if (!isOpen()) return;
  enlargeDots(run.name, true);
  drawCurves(curves, run, records);
}

const pairs = (fields) => make("dl", {}, ...fields.map(([field, value]) =>
  make("div", {}, make("dt", { textContent: field }), make("dd", { textContent: value }))));

// Those of the run that the page holds.
function pictures(run) {
  const figures = [...document.querySelectorAll(".picture[data-run]")].filter(({ dataset }) => dataset.run === run.name);
  const copies = figures.map((figure) => figure.cloneNode(true));
  if (copies.length) return [make("div", { className: "pictures" }, ...copies)];
  if (!run.pictures) return [];
  return [make("p", { className: "quiet", textContent: `Its pictures: ${run.folder}/pictures` })];
}

function commandLine(command) {
  const code = make("code", { textContent: command }), status = make("span", { role: "status" });
  const copy = make("button", { type: "button", textContent: "Copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(command);
      status.textContent = "copied";
    } catch {  // a page over plain HTTP has no clipboard, and a browser may refuse it
      getSelection().selectAllChildren(code);
      status.textContent = "selected: copy it with the keyboard";
    }
    setTimeout(() => { status.textContent = ""; }, 4000);
  } });
  return make("p", { className: "command" }, code, " ", copy, " ", status);
}

// A plot for each metric: this run, and behind it the other seeds of its group.
function drawCurves(place, run, { runs, curves }) {
  const names = Object.keys(curves).filter((name) => name in run.curves);
  if (!names.length) {
    place.nextElementSibling.remove();
    place.remove();
    return;
  }
  const wide = place.clientWidth > 640, others = runs.filter((other) => other.group === run.group && other !== run);
  const style = getComputedStyle(place), count = names.length;
  const axis = { zeroline: false, automargin: true, gridcolor: "#d9dee4" };
  const layout = { height: wide ? 240 : 200 * count, margin: { l: 48, r: 12, t: 8, b: 40 }, showlegend: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
    font: { family: style.fontFamily, size: 11, color: style.color },
    grid: { rows: wide ? 1 : count, columns: wide ? count : 1, pattern: "independent" } };
  const traces = names.flatMap((name, i) => {
    const number = i ? i + 1 : "", trace = (other, line) => ({ x: other.curves[name][0], y: other.curves[name][1],
      type: "scatter", mode: "lines", line, name: `seed ${other.seed}`, xaxis: `x${number}`, yaxis: `y${number}` });
    layout[`xaxis${number}`] = { ...axis, title: { text: "step" } };
    layout[`yaxis${number}`] = { ...axis, title: { text: curves[name] } };
    const pale = { color: "#858d97", width: 1 }, strong = { color: style.getPropertyValue("--link"), width: 2.5 };
    return [...others.filter((other) => name in other.curves).map((other) => trace(other, pale)), trace(run, strong)];
  });
  Plotly.newPlot(place, traces, layout, { responsive: true, displayModeBar: false });
}

runsTable.addEventListener("click", ({ target }) => {
  const button = target.closest("td.name button");
  if (button) button.getAttribute("aria-expanded") === "true" ? closeRun(button) : openRun(button);
});

// A row and its dots light up together.

function lightRow(name) {
  for (const row of runsTable.querySelectorAll("tr.lit")) row.classList.remove("lit");
  if (name) rowOf(name)?.classList.add("lit");
}

let lit = null;
async function lightRun(id) {
  if (id === lit) return;
  lit = id;
  const name = id?.slice("run-".length) ?? null;
  await plotted;
  lightDots(name);
  lightRow(name);
}
for (const event of ["pointerover", "focusin"]) {
  runsTable.addEventListener(event, ({ target }) => lightRun(target.closest("tbody tr[id]")?.id ?? null));
}
for (const event of ["pointerleave", "focusout"]) runsTable.addEventListener(event, () => lightRun(null));

// A link to a run, from a dot or a table, shows its row whatever is filtered.
async function showRun(id) {
  const row = byId(id);
  if (!row || !runsRows.includes(row)) return;
  if (row.hidden) await showAllRuns();
  row.scrollIntoView({ block: "center" });
}
addEventListener("hashchange", () => {
  const hash = location.hash.slice(1);
  try {
    showRun(decodeURIComponent(hash));
  } catch {  // a name with a percent sign
    showRun(hash);
  }
});
