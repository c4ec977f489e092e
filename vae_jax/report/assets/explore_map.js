// The map of held-out codes: a click or an arrow key moves the code on it, a drag plays a line.
// p(z) = D z - offsets for orthonormal rows D; its point p stands for the code z + D' (p - p(z)).
globalThis.vaeMap ??= (() => {
  "use strict";
  const { make } = globalThis.vaeElements;
  const { canvas, fixed } = globalThis.vaePictures;
  const SCALE = 34, MARGIN = 10; // pixels of the scale at the left and below, and of the margin above
  const PARTS = 13; // images under the map, along a side
  const PAUSE = 150; // milliseconds without a move after which these are drawn anew
  const SNAP = 14; // pixels from which a drag takes a dot
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  // What stands on either side of the words on the scale of maps side by side.
  const HINTS = {
    plane: ["Click to decode that point, or on a dot to take its whole code; drag from one dot to another for the line "
      + "between them. What the map does not show stays as it is. ", "Dashed: two standard deviations of N(0, I)."],
    dots: ["A click, a drag or an arrow key takes the held-out code that is nearest: between codes of a codebook lies "
      + "nothing that the decoder knows. "],
  };

  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) > 6;
  // The least of 1, 2, 5, 10, 20 ... times a power of ten that cuts a length in at most `parts`.
  const roundStep = (length, parts) => {
    const power = 10 ** Math.floor(Math.log10(length / parts));
    return [1, 2, 5, 10].map((times) => times * power).find((step) => length / step <= parts);
  };

  function map(explorer, { planes, steps, codebook }) {
    const { count, codeOf, base, colours, line } = explorer, snaps = Boolean(codebook);
    let plane = planes[0], dots = [], press = null, hover = null;
    const area = make("canvas", { className: "map", tabIndex: 0, role: "application",
      ariaLabel: "map of held-out codes; arrow keys move, Enter takes the nearest held-out image" });
    const axes = make("select", { ariaLabel: "axes of the map", onchange: () => {
      plane = planes[axes.selectedIndex];
      line.clear();
      explorer.draw();
      explorer.neighbours().forEach((peer) => peer.map.draw());
    } });
    axes.append(...planes.map(({ name }) => make("option", { textContent: name })));
    const tilesBox = make("input", { type: "checkbox", onchange: () => draw() });
    const tilesLabel = make("label", { className: "under", hidden: !explorer.decode },
      tilesBox, " decoded images under the map");
    const scaleWords = make("span", { textContent: "Maps side by side are to one scale. " });
    const [use, ...rest] = snaps ? HINTS.dots : HINTS.plane;
    const hint = make("p", { className: "hint" }, use, scaleWords, ...rest);
    const element = make("div", {}, make("div", { className: "choices" }, make("label", {}, "Map: ", axes), tilesLabel),
      area, colours.element, hint);

    const project = (z) => plane.directions.map((direction, k) => dot(direction, z) - plane.offsets[k]);
    const unproject = (point) => {
      const origin = project(base());
      return base().map((value, i) =>
        value + plane.directions.reduce((sum, direction, k) => sum + direction[i] * (point[k] - origin[k]), 0));
    };

    // To scale: as many pixels for a unit on both axes, and in the maps beside this one.
    const half = () => (plane.extent[0][1] - plane.extent[0][0]) / 2;
    const frame = () => {
      const reach = Math.max(half(), ...explorer.neighbours().map((peer) => peer.map.half()));
      const centre = plane.extent.map(([low, high]) => (low + high) / 2);
      const side = Math.min(area.clientWidth, area.clientHeight) - SCALE - MARGIN;
      return { reach, centre, unit: side / (2 * reach) };
    };
    const toMap = ([x, y], { reach, centre, unit } = frame()) =>
      [SCALE + (x - centre[0] + reach) * unit, MARGIN + (centre[1] + reach - y) * unit];
    const fromMap = ([x, y], { reach, centre, unit } = frame()) =>
      [centre[0] - reach + (x - SCALE) / unit, centre[1] + reach - (y - MARGIN) / unit];

    // The dot that is visible, fits and is the nearest within reach; null where none is.
    function nearest([x, y], reach, fits = () => true) {
      let best = null, least = reach ** 2;
      dots.forEach(([a, b], index) => {
        const distance = (a - x) ** 2 + (b - y) ** 2;
        if (distance <= least && colours.visible(index) && fits(a - x, b - y)) [best, least] = [index, distance];
      });
      return best;
    }
    const take = (index) => index !== null && explorer.choose(index);
    const endAt = (place) => {
      const index = nearest(place, SNAP);
      return index === null ? { code: unproject(fromMap(place)) } : { index };
    };
    const placeOf = ({ clientX, clientY }) => {
      const box = area.getBoundingClientRect();
      return [clientX - box.left - area.clientLeft, clientY - box.top - area.clientTop];
    };
    const reachOf = (event) => (event.pointerType === "touch" ? 9 : 5);

    area.onpointerdown = (event) => {
      area.setPointerCapture(event.pointerId);
      press = { start: placeOf(event), end: placeOf(event) };
    };
    area.onpointermove = (event) => {
      if (press) press.end = placeOf(event);
      hover = nearest(placeOf(event), press ? SNAP : reachOf(event));
      if (press && snaps) take(nearest(press.end, Infinity));
      explorer.showHeldOut();
      draw();
    };
    area.onpointerup = (event) => {
      if (!press) return;
      const { start, end } = press, index = nearest(end, snaps ? Infinity : reachOf(event));
      press = null;
      if (!snaps && far(start, end)) line.playAll(endAt(start), endAt(end));
      else if (index !== null) take(index);
      else if (!snaps) explorer.go(unproject(fromMap(end)));
    };
    area.onpointercancel = area.onpointerleave = () => {
      press = hover = null;
      explorer.showHeldOut();
      draw();
    };
    area.onkeydown = (event) => {
      const move = ARROWS[event.key];
      if (!move && event.key !== "Enter") return;
      event.preventDefault();
      const point = project(explorer.code()), step = (2 * frame().reach) / steps;
      if (!move) take(nearest(toMap(point), Infinity));
      else if (snaps) take(nearest(toMap(point), Infinity, (right, down) => {
        const forward = right * move[0] - down * move[1], aside = right * move[1] + down * move[0];
        return forward > 0.5 && 2 * forward >= Math.abs(aside);
      }));
      else explorer.go(unproject(point.map((value, k) => value + move[k] * step)));
    };

    // What the decoder makes of the points of the map, side by side under the dots: anew where the map or the code is.
    // Of a codebook it is what it makes of a code that lies there.
    const sheet = make("canvas"), [height, width] = explorer.shape;
    let sheetView = "", sheetCode = "", timer = 0;
    function drawTiles(context, view, paused) {
      const side = (2 * view.reach * view.unit) / PARTS, viewText = JSON.stringify([plane.name, view]);
      const codeText = JSON.stringify(snaps ? colours.state() : Array.from(base()));
      clearTimeout(timer);
      if (viewText === sheetView && codeText !== sheetCode && !paused) timer = setTimeout(() => draw(true), PAUSE);
      else if (viewText !== sheetView || codeText !== sheetCode) {
        [sheetView, sheetCode] = [viewText, codeText];
        [sheet.width, sheet.height] = [PARTS * width, PARTS * height];
        const small = canvas(explorer.shape, ""), whole = sheet.getContext("2d");
        for (let i = 0; i < PARTS * PARTS; i++) {
          const [column, row] = [i % PARTS, Math.floor(i / PARTS)];
          const middle = [SCALE + (column + 0.5) * side, MARGIN + (row + 0.5) * side];
          const inside = (right, down) => Math.max(Math.abs(right), Math.abs(down)) <= side / 2;
          const index = snaps ? nearest(middle, side, inside) : null;
          if (snaps && index === null) continue;
          explorer.show(small, snaps ? codeOf(index) : unproject(fromMap(middle, view)));
          whole.drawImage(small, column * width, row * height);
        }
      }
      context.imageSmoothingEnabled = false;
      context.globalAlpha = 0.55;
      context.drawImage(sheet, SCALE, MARGIN, PARTS * side, PARTS * side);
      context.globalAlpha = 1;
    }

    function drawDots(context) {
      context.globalAlpha = 0.75;
      dots.forEach(([x, y], n) => {
        if (!colours.visible(n)) return;
        context.fillStyle = colours.colour(n);
        context.fillRect(x - 2, y - 2, 4, 4);
      });
      context.globalAlpha = 1;
    }

    // Ticks with their numbers at the left and below, and the circle of N(0, I).
    function drawScale(context, view) {
      const { reach, centre, unit } = view, step = roundStep(2 * reach, 8);
      const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), bottom = MARGIN + 2 * reach * unit;
      const ticks = centre.map((middle) => {
        const first = Math.ceil((middle - reach) / step), last = Math.floor((middle + reach) / step);
        return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
      });
      context.lineWidth = 1;
      context.beginPath();
      context.textAlign = "center";
      for (const value of ticks[0]) {
        const [x] = toMap([value, centre[1]], view);
        context.moveTo(x, bottom);
        context.lineTo(x, bottom + 4);
        context.fillText(fixed(value, digits), x, bottom + 14);
      }
      context.textAlign = "right";
      for (const value of plane.axes[1] ? ticks[1] : []) {
        const [, y] = toMap([centre[0], value], view);
        context.moveTo(SCALE - 4, y);
        context.lineTo(SCALE, y);
        context.fillText(fixed(value, digits), SCALE - 6, y + 4);
      }
      context.stroke();
      if (!plane.radius) return;
      context.setLineDash([4, 4]);
      context.beginPath();
      context.arc(...toMap(plane.offsets.map((offset) => -offset), view), plane.radius * unit, 0, 2 * Math.PI);
      context.stroke();
      context.setLineDash([]);
    }

    // The line that is dragged or played, the dot under the pointer and the place of the code.
    function drawMarks(context) {
      const ring = ([x, y], radius) => {
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.stroke();
      };
      context.lineWidth = 2;
      const drag = press && !snaps && far(press.start, press.end) && [press.start, press.end];
      const ends = drag || line.codes()?.map((code) => toMap(project(code)));
      if (ends) {
        context.beginPath();
        ends.forEach((point) => context.lineTo(...point));
        context.stroke();
      }
      if (hover !== null) ring(dots[hover], 5);
      const place = toMap(project(explorer.code()));
      ring(place, 7);
      ring(place, 1);
    }

    function draw(paused = false) {
      const sharp = globalThis.devicePixelRatio || 1, context = area.getContext("2d");
      const ink = getComputedStyle(area).color;
      [area.width, area.height] = [area.clientWidth * sharp, area.clientHeight * sharp];
      context.scale(sharp, sharp);
      plane.points ??= Array.from({ length: count }, (_, n) => project(codeOf(n)));
      const view = frame();
      scaleWords.hidden = !explorer.neighbours().length;
      dots = plane.points.map((point) => toMap(point, view));
      if (tilesBox.checked) drawTiles(context, view, paused);
      drawDots(context);
      context.fillStyle = context.strokeStyle = ink;
      context.font = "11px sans-serif";
      context.textAlign = "right";
      context.fillText(`${plane.axes[0]} →`, area.clientWidth - 6, area.clientHeight - 6);
      context.textAlign = "left";
      if (plane.axes[1]) context.fillText(`↑ ${plane.axes[1]}`, SCALE + 6, MARGIN + 10);
      drawScale(context, view);
      drawMarks(context);
    }

    new ResizeObserver(() => draw()).observe(area);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
    return { element, draw, half, frame, hover: () => hover };
  }

  return { map };
})();
