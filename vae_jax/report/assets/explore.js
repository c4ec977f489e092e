// Lets one move through the latent space of each section that has no explorer yet. explorer.py says what it is given.
globalThis.vaeExplorer ??= (() => {
  "use strict";
  const { float32, decoder, largestDifference } = globalThis.vaeDecoder;

  // Texts from outside are set as text, never as markup.

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // What rounds to zero has no sign.
  const fixed = (value, digits) => {
    const text = value.toFixed(digits);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "\u2212");
  };
  // The least of 1, 2, 5, 10, 20 ... times a power of ten that cuts a length in at most `parts`.
  const roundStep = (length, parts) => {
    const power = 10 ** Math.floor(Math.log10(length / parts));
    return [1, 2, 5, 10].map((times) => times * power).find((step) => length / step <= parts);
  };
  const blend = (a, b, t) => a.map((value, i) => (1 - t) * value + t * b[i]);
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const peers = new Set();

  function explorer(section) {
    const given = JSON.parse(section.querySelector("script").textContent);
    const { shape: [height, width, channels], size, sliders, planes, labels, classes, colours } = given;
    const all = float32(given.codes), count = all.length / size;
    const codeOf = (index) => all.slice(index * size, (index + 1) * size);
    const decode = given.decoder && decoder(given.decoder);
    const tiles = given.grid && float32(given.grid.codes);
    let code = codeOf(0), chosen = 0, plane = planes[0], ends = null, playing = 0;
    let dots = [], press = null, hover = null, drawn = 0, tilesShown = false;
    const draws = given.draws && decode && float32(given.draws), hidden = new Set();

    // What a slider and the map move: of images rendered beforehand, all are near the first code.
    const base = () => (tiles ? codeOf(0) : code);

    // What is on the page.

    const canvas = (label) => make("canvas", { width, height, ariaLabel: label, role: "img" });
    const decoded = canvas("decoded image"), original = canvas("held-out image");
    const number = (label, change) =>
      make("input", { type: "number", min: 0, max: count - 1, ariaLabel: label, onchange: ({ target }) => {
        const index = Math.min(Math.max(Math.round(target.valueAsNumber), 0), count - 1);
        if (Number.isFinite(index)) change(index);
      } });
    const which = number("held-out image", (index) => choose(index));
    const from = number("line from held-out image", (index) => playAll({ index }, ends?.[1] ?? { index: chosen ?? 0 }));
    const to = number("line to held-out image", (index) => playAll(ends?.[0] ?? { index: chosen ?? 0 }, { index }));
    const along = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, disabled: true,
      ariaLabel: "place on the line", oninput: () => linked((peer) => peer.onLine(Number(along.value))) });
    const button = (textContent, onclick) => make("button", { type: "button", textContent, onclick });
    const drawnCode = () => {
      const n = drawn++ % (draws.length / size);
      return draws.slice(n * size, (n + 1) * size);
    };
    const draw1 = button("Draw from the prior", () => go(drawnCode()));
    const sheet = make("div", { className: "draws", hidden: true });
    const draw16 = button("Sixteen draws", () => {
      sheet.hidden = false;
      sheet.replaceChildren(...Array.from({ length: 16 }, () => {
        const wanted = drawnCode(), small = canvas("draw from the prior; a click takes it");
        paint(small, decode(wanted));
        small.onclick = () => go(wanted);
        return small;
      }));
    });
    const reset = button("Reset", () => {
      sheet.hidden = true;
      ends = null;
      along.disabled = again.disabled = true;
      linked((peer) => peer.go(peer.codeOf(0), 0));
    });
    const under = make("input", { type: "checkbox", onchange: () => {
      tilesShown = under.checked;
      drawMap();
    } });
    const again = button("Play", () => playAll(...ends)), mean = button("Mean code", () => go(float32(given.mean)));
    again.disabled = true;
    const map = make("canvas", { className: "map", tabIndex: 0, role: "application",
      ariaLabel: "map of held-out codes; arrow keys move, Enter takes the nearest held-out image" });
    const axes = make("select", { ariaLabel: "axes of the map",
      onchange: () => {
        plane = planes[axes.selectedIndex];
        ends = null;
        draw();
        beside().forEach((peer) => peer.drawMap());
      } });
    axes.append(...planes.map(({ name }) => make("option", { textContent: name })));
    const rows = sliders.map(({ dimension, name, detail, low, high, steps }) => {
      const output = make("output");
      const input = make("input", { type: "range", min: low, max: high, step: (high - low) / steps, ariaLabel: name,
        oninput: () => {
          const moved = base().slice();
          moved[dimension] = Number(input.value);
          go(moved);
        } });
      const title = make("span", {}, name, make("small", { textContent: ` ${detail}` }));
      const label = make("label", {}, title, input, output);
      return { dimension, input, output, label };
    });
    const legend = make("p", { className: "legend" }), ramp = make("i", { className: "ramp" });
    const markOf = (label) => {
      const mark = make("i");
      mark.style.background = colours[label];
      return make("span", {}, mark, ` ${classes[label]}`);
    };
    // A click on a class hides its dots, or shows them again.
    const filterOf = (label) => {
      const toggle = make("button", { type: "button", onclick: () => {
        if (!hidden.delete(label)) hidden.add(label);
        toggle.setAttribute("aria-pressed", String(!hidden.has(label)));
        drawMap();
      } }, ...markOf(label).childNodes);
      toggle.setAttribute("aria-pressed", "true");
      return toggle;
    };
    if (classes.length <= 20) legend.append(...classes.map((_, label) => filterOf(label)));
    else {
      ramp.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
      legend.append(`${classes.length} labels `, classes[0], ramp, classes.at(-1));
      const between = [0.25, 0.5, 0.75].map((share) => markOf(Math.round(share * (classes.length - 1))));
      legend.append(...between);
    }
    const caption = make("output", { className: "hovered" });
    const figure = (picture, ...caption) => make("figure", {}, picture, make("figcaption", {}, ...caption));
    section.append(
      make("h3", { textContent: given.name }), make("p", { textContent: given.about }), proof(),
      make("div", { className: "body" },
        make("div", { className: "pictures" },
          figure(decoded, "decoded ", mean), figure(original, "held-out image ", which, caption)),
        make("div", { className: "draw" }, ...(draws ? [draw1, draw16] : []), reset, sheet),
        make("div", { className: "sliders" }, ...rows.map(({ label }) => label)),
        make("div", { className: "places" },
          make("div", { className: "line" }, "Line from ", from, " to ", to, again, along),
          make("div", {}, "Map: ", axes),
          ...(decode ? [make("label", { className: "under" }, under, " decoded images under the map")] : []), map, legend,
          make("p", { className: "hint", textContent: "Click to decode that point, or on a dot to take its whole code; "
            + "drag from one dot to another for the line between them. What the map does not show stays as it is. "
            + "Maps side by side are to one scale; dashed: two standard deviations of N(0, I)." }))),
    );
    const held = make("img", { onload: draw, src: given.images });
    const rendered = given.grid && make("img", { onload: draw, src: given.grid.images });

    function proof() {
      if (!decode) return make("p", { className: "note", textContent: given.note });
      const difference = largestDifference(decode, given.check, size), agrees = difference <= given.tolerance;
      section.dataset.difference = difference;
      const shown = difference.toExponential(1).replace("-", "\u2212");
      const found = `at most ${shown} from JAX's images at the codes checked here`;
      const doubt = `Do not trust these pictures: ${found}, where ${given.tolerance} is allowed.`;
      const text = agrees ? `${given.note}: ${found}.` : doubt;
      return make("p", { className: agrees ? "note" : "note bad", textContent: text });
    }

    // What it does.

    function tileOf(wanted) {
      const distance = (n) => wanted.reduce((sum, value, i) => sum + (value - tiles[n * size + i]) ** 2, 0);
      let best = 0, least = Infinity;
      for (let n = 0; n * size < tiles.length; n++) {
        const found = distance(n);
        if (found < least) [best, least] = [n, found];
      }
      return best;
    }

    function go(wanted, index = null, keep = false) {
      if (!keep) cancelAnimationFrame(playing);
      code = tiles ? tiles.slice(tileOf(wanted) * size, (tileOf(wanted) + 1) * size) : wanted;
      chosen = index;
      draw();
    }

    const linked = (act) => peers.forEach((peer) => {
      if (peer === self || (peer.key === self.key && peer.room && peer.room === self.room)) act(peer);
    });
    const choose = (index) => linked((peer) => peer.go(peer.codeOf(index), index));
    const codeAt = (end) => (end.code ? end.code : codeOf(end.index));
    const playAll = (a, b) => (a.code || b.code ? play(a, b) : linked((peer) => peer.play(a, b)));

    function play(a, b) {
      cancelAnimationFrame(playing);
      ends = [a, b];
      along.disabled = again.disabled = false;
      const began = performance.now(), still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const frame = (now) => {
        const t = Math.min(Math.max((now - began) / 2500, 0), 1);
        if (!still && t < 1) playing = requestAnimationFrame(frame);
        onLine(still ? 0.5 : t, true);
      };
      frame(began);
    }

    function onLine(t, keep = false) {
      if (!ends) return;
      along.value = t;
      const end = t === 0 ? ends[0] : t === 1 ? ends[1] : {};
      go(blend(codeAt(ends[0]), codeAt(ends[1]), t), end.index ?? null, keep);
    }

    // The map: p(z) = D z - offsets for orthonormal rows D; its point p stands for the code z + D' (p - p(z)).

    const project = (z) => plane.directions.map((direction, k) => dot(direction, z) - plane.offsets[k]);
    const at = (point) => {
      const here = project(base());
      return base().map((value, i) =>
        value + plane.directions.reduce((sum, direction, k) => sum + direction[i] * (point[k] - here[k]), 0));
    };
    // The explorers whose maps are seen together with this one.
    function beside() {
      return [...peers].filter((peer) => peer !== self && peer.room && peer.room === self.room);
    }

    // To scale: as many pixels for a unit on both axes, and in the maps beside this one.
    const before = 34, after = 10;
    const half = () => (plane.extent[0][1] - plane.extent[0][0]) / 2;
    const frame = () => {
      const reach = Math.max(half(), ...beside().map((peer) => peer.half()));
      const centre = plane.extent.map(([low, high]) => (low + high) / 2);
      return { reach, centre, unit: (Math.min(map.clientWidth, map.clientHeight) - before - after) / (2 * reach) };
    };
    const toMap = ([x, y], { reach, centre, unit } = frame()) =>
      [before + (x - centre[0] + reach) * unit, after + (centre[1] + reach - y) * unit];
    const fromMap = ([x, y], { reach, centre, unit } = frame()) =>
      [centre[0] - reach + (x - before) / unit, centre[1] + reach - (y - after) / unit];
    function nearest([x, y], reach) {
      let best = null, least = reach ** 2;
      dots.forEach(([a, b], index) => {
        if (labels && hidden.has(labels[index])) return;
        const found = (a - x) ** 2 + (b - y) ** 2;
        if (found <= least) [best, least] = [index, found];
      });
      return best;
    }
    const endAt = (place) => {
      const index = nearest(place, 14);
      return index === null ? { code: at(fromMap(place)) } : { index };
    };
    const place = ({ clientX, clientY }) => {
      const box = map.getBoundingClientRect();
      return [clientX - box.left - map.clientLeft, clientY - box.top - map.clientTop];
    };
    const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) > 6;
    const reach = (event) => (event.pointerType === "touch" ? 9 : 5);

    map.onpointerdown = (event) => {
      map.setPointerCapture(event.pointerId);
      press = { start: place(event), end: place(event) };
    };
    map.onpointermove = (event) => {
      if (press) press.end = place(event);
      hover = nearest(place(event), press ? 14 : reach(event));
      showHovered();
      drawMap();
    };
    map.onpointerup = (event) => {
      if (!press) return;
      const { start, end } = press, index = nearest(end, reach(event));
      press = null;
      if (far(start, end)) playAll(endAt(start), endAt(end));
      else if (index === null) go(at(fromMap(end)));
      else choose(index);
    };
    map.onpointercancel = map.onpointerleave = () => {
      press = hover = null;
      showHovered();
      drawMap();
    };
    map.onkeydown = (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!move && event.key !== "Enter") return;
      event.preventDefault();
      const here = project(code), step = plane.extent.map(() => (2 * frame().reach) / given.steps);
      if (move) go(at(here.map((value, k) => value + move[k] * step[k])));
      else choose(nearest(toMap(here), Infinity));
    };

    // What is drawn.

    // What the decoder makes of the points of the map, side by side under the dots: anew where the map or the code is.
    const parts = 13, sheetUnder = make("canvas");
    let keyUnder = "";
    function drawTilesUnder(context, seen) {
      const side = (2 * seen.reach * seen.unit) / parts, key = JSON.stringify([plane.name, seen, Array.from(base())]);
      if (key !== keyUnder) {
        keyUnder = key;
        [sheetUnder.width, sheetUnder.height] = [parts * width, parts * height];
        const small = canvas("decoded image"), whole = sheetUnder.getContext("2d");
        for (let i = 0; i < parts * parts; i++) {
          const [column, row] = [i % parts, Math.floor(i / parts)];
          const middle = [before + (column + 0.5) * side, after + (row + 0.5) * side];
          paint(small, decode(at(fromMap(middle, seen))));
          whole.drawImage(small, column * width, row * height);
        }
      }
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 0.55;
      context.drawImage(sheetUnder, before, after, parts * side, parts * side);
    }

    // The held-out image under the pointer, in the place of the chosen one.
    function showHovered() {
      if (held) drawTile(original, held, given.columns, hover ?? chosen);
      caption.textContent = hover === null ? "" : `image ${hover}${labels ? `, ${classes[labels[hover]]}` : ""}`;
    }

    const drawImage = (values) => paint(decoded, values);
    function paint(target, values) {
      const context = target.getContext("2d"), pixels = context.createImageData(width, height);
      for (let i = 0; i < width * height; i++) {
        for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * values[i * channels + Math.min(c, channels - 1)];
        pixels.data[4 * i + 3] = 255;
      }
      context.putImageData(pixels, 0, 0);
    }

    function drawTile(target, sheet, columns, n) {
      const context = target.getContext("2d");
      context.clearRect(0, 0, width, height);
      if (n === null || !sheet.complete) return;
      const [x, y] = [(n % columns) * width, Math.floor(n / columns) * height];
      context.drawImage(sheet, x, y, width, height, 0, 0, width, height);
    }

    // Ticks with their numbers at the left and below, and the circle of N(0, I).
    function drawScale(context, seen) {
      const { reach, centre, unit } = seen, step = roundStep(2 * reach, 8);
      const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), bottom = after + 2 * reach * unit;
      const ticks = centre.map((middle) => {
        const first = Math.ceil((middle - reach) / step), last = Math.floor((middle + reach) / step);
        return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
      });
      context.lineWidth = 1;
      context.beginPath();
      context.textAlign = "center";
      for (const value of ticks[0]) {
        const [x] = toMap([value, centre[1]], seen);
        context.moveTo(x, bottom);
        context.lineTo(x, bottom + 4);
        context.fillText(fixed(value, digits), x, bottom + 14);
      }
      context.textAlign = "right";
      for (const value of plane.axes[1] ? ticks[1] : []) {
        const [, y] = toMap([centre[0], value], seen);
        context.moveTo(before - 4, y);
        context.lineTo(before, y);
        context.fillText(fixed(value, digits), before - 6, y + 4);
      }
      context.stroke();
      context.setLineDash([4, 4]);
      context.beginPath();
      context.arc(...toMap(plane.offsets.map((offset) => -offset), seen), plane.radius * unit, 0, 2 * Math.PI);
      context.stroke();
      context.setLineDash([]);
    }

    function drawMap() {
      const sharp = globalThis.devicePixelRatio || 1, context = map.getContext("2d"), ink = getComputedStyle(map).color;
      [map.width, map.height] = [map.clientWidth * sharp, map.clientHeight * sharp];
      context.scale(sharp, sharp);
      plane.points ??= Array.from({ length: count }, (_, n) => project(codeOf(n)));
      const seen = frame();
      dots = plane.points.map((point) => toMap(point, seen));
      const ring = ([x, y], radius) => {
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.stroke();
      };
      if (tilesShown) drawTilesUnder(context, seen);
      context.globalAlpha = 0.75;
      dots.forEach(([x, y], n) => {
        if (labels && hidden.has(labels[n])) return;
        context.fillStyle = colours[labels ? labels[n] : 0];
        context.fillRect(x - 2, y - 2, 4, 4);
      });
      context.globalAlpha = 1;
      context.fillStyle = context.strokeStyle = ink;
      context.font = "11px sans-serif";
      context.textAlign = "right";
      context.fillText(`${plane.axes[0]} →`, map.clientWidth - 6, map.clientHeight - 6);
      context.textAlign = "left";
      if (plane.axes[1]) context.fillText(`↑ ${plane.axes[1]}`, before + 6, after + 10);
      drawScale(context, seen);
      context.lineWidth = 2;
      const line = press && far(press.start, press.end) ? [press.start, press.end]
        : ends && ends.map((end) => toMap(project(codeAt(end))));
      if (line) {
        context.beginPath();
        line.forEach((point) => context.lineTo(...point));
        context.stroke();
      }
      if (hover !== null) ring(dots[hover], 5);
      ring(toMap(project(code)), 7);
      ring(toMap(project(code)), 1);
    }

    function draw() {
      if (decode) drawImage(decode(code));
      else if (rendered) drawTile(decoded, rendered, given.grid.columns, tileOf(code));
      showHovered();
      which.value = chosen ?? "";
      [from.value, to.value] = ends ? ends.map(({ index }) => index ?? "") : ["", ""];
      for (const { dimension, input, output } of rows) {
        input.value = code[dimension];
        output.textContent = fixed(code[dimension], 2);
      }
      drawMap();
    }

    const self = { section, key: given.key, room: section.closest(".vae-explorers"), decode, codeOf, go, play, onLine,
      code: () => code, half, drawMap, frame };
    peers.add(self);
    beside().forEach((peer) => peer.drawMap());
    new ResizeObserver(drawMap).observe(map);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
    draw();
    return self;
  }

  function start() {
    for (const section of document.querySelectorAll(".vae-explorer:not([data-ready])")) {
      section.dataset.ready = "";
      section.explorer = explorer(section);
    }
  }

  return { start };
})();
if (globalThis.document) vaeExplorer.start();
