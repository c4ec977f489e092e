// Images along the control of choice, with the current value marked; a click takes that code.
globalThis.vaeStrip ??= (() => {
  "use strict";
  const { make } = globalThis.vaeElements;
  const { button, canvas } = globalThis.vaePictures;
  const SLOW = 25, PAUSE = 150; // milliseconds: images that take longer wait for a pause in what moves

  function strip(explorer, rendered) {
    const title = make("p", { className: "note" }), tiles = make("div", { className: "tiles" });
    const mark = make("i", { className: "mark", textContent: "\u25b2" });
    const track = make("div", { className: "track" }, tiles, make("div", { className: "marks" }, mark));
    const element = make("div", { className: "strip" }, title, track);
    let control = null, stops = [], tilesKey = "", cost = 0, frame = 0, timer = 0;

    function tile(value) {
      const picture = canvas(explorer.shape, ""), text = control.text(value);
      picture.ariaHidden = "true";
      explorer.show(picture, control.write(explorer.base(), value));
      const take = () => explorer.go(control.write(explorer.base(), value));
      const label = `decoded at ${control.name} = ${text}`;
      const element = button("", take, { ariaLabel: label, title: label });
      element.append(picture, make("small", { textContent: text }));
      return element;
    }

    // Anew where what stands still has changed; along the control itself only the mark moves.
    function paint(paused = false) {
      const base = explorer.base(), code = explorer.code(), current = control.read(code);
      stops = control.stops(current);
      const key = JSON.stringify([control.name, stops, Array.from(control.write(base, stops[0]))]);
      if (key !== tilesKey && cost > SLOW && !paused) {
        timer = setTimeout(() => paint(true), PAUSE);
        return;
      }
      const startTime = performance.now();
      if (key !== tilesKey) {
        tiles.replaceChildren(...stops.map(tile));
        cost = performance.now() - startTime;
      }
      tilesKey = key;
      // Of images rendered beforehand, the one shown may lie elsewhere.
      const onStrip = control.write(base, current).every((value, i) => value === code[i]);
      const place = onStrip ? control.place(current, stops) : -1;
      mark.hidden = place < 0;
      track.style.setProperty("--stops", stops.length);
      mark.style.left = `${(100 * (place + 0.5)) / stops.length}%`;
      [...tiles.children].forEach((each, i) => each.setAttribute("aria-pressed", String(i === Math.round(place))));
    }

    function draw() {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      if (control) frame = requestAnimationFrame(() => paint());
    }

    function choose(choice) {
      if (choice === control) return;
      control = choice;
      cost = 0;
      const start = rendered ? "held-out image 0, rendered beforehand, " : "";
      title.textContent = `${start}${control.about}`;
      draw();
    }

    return { element, draw, choose, ready: () => draw((tilesKey = "")) };
  }

  return { strip };
})();
