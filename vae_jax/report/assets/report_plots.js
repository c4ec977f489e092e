// The plots, and the dots of each run in them by its name.
const dots = new Map();

// A finger that moves the page shall not zoom a plot.
const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";

async function draw() {
  const figures = Object.entries(JSON.parse(document.getElementById("figures").textContent));
  document.head.append(make("script", { textContent: await unpack("plotly") }));
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
    collectDots(place);
    place.on("plotly_hover", ({ points }) => lightRow(points[0].customdata));
    place.on("plotly_unhover", () => lightRow(null));
    place.on("plotly_click", ({ points }) => {
      if (!points[0].customdata) return;
      location.hash = encodeURIComponent(`run-${points[0].customdata}`);
      showRun(`run-${points[0].customdata}`);  // a second click on one dot changes no hash
    });
  }
}

function collectDots(place) {
  place.data.forEach(({ customdata }, curveNumber) => customdata?.forEach((name, pointNumber) => {
    if (!dots.has(name)) dots.set(name, []);
    dots.get(name).push({ place, curveNumber, pointNumber });
  }));
}

// The label at a run's dots, as if the pointer were there; of no run none.
function lightDots(name) {
  for (const place of new Set([...dots.values()].flat().map((dot) => dot.place))) Plotly.Fx.unhover(place);
  for (const { place, curveNumber, pointNumber } of dots.get(name) ?? []) {
    const subplot = place.data[curveNumber].xaxis === "x2" ? "x2y" : "xy";
    Plotly.Fx.hover(place, [{ curveNumber, pointNumber }], subplot);
  }
}

// A run's dots larger than all others, as long as it is open.
function enlargeDots(name, enlarged) {
  for (const { place, curveNumber, pointNumber } of dots.get(name) ?? []) {
    const trace = place.data[curveNumber], count = trace.customdata.length;
    const sizes = Array.isArray(trace.marker.size) ? [...trace.marker.size] : Array(count).fill(trace.marker.size);
    sizes[pointNumber] = enlarged ? 16 : Math.min(...sizes.filter((_, i) => i !== pointNumber), 8);
    Plotly.restyle(place, { "marker.size": [sizes] }, [curveNumber]);
  }
}

const plotted = draw();
plotted.catch((error) => {
  for (const place of document.querySelectorAll(".plot")) place.textContent = `No plot: ${error.message}`;
  console.error(error);
});
