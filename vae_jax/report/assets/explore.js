// Lets one move through the latent space of each section that has no explorer yet. explorer.py says what it is given.
globalThis.vaeExplorer ??= (() => {
  "use strict";
  const { float32, decoder, largestDifference } = globalThis.vaeDecoder;
  const { make, button, canvas, paint, drawTile } = globalThis.vaePictures;
  const SHEET = 16; // draws that are shown at once
  const peers = new Set();

  // How far the images here are from JAX's: a line that says so, and a warning where that is too far.
  function proof(section, given, decode) {
    if (!decode) return make("p", { className: "note", textContent: given.note });
    const difference = largestDifference(decode, given.check, given.size), agrees = difference <= given.tolerance;
    section.dataset.difference = difference;
    const found = `at most ${difference.toExponential(1).replace("-", "\u2212")} from JAX's images at the codes checked here`;
    const doubt = `Do not trust these pictures: ${found}, where ${given.tolerance} is allowed.`;
    return make("p", { className: agrees ? "note" : "note bad", textContent: agrees ? `${given.note}: ${found}.` : doubt });
  }

  // Codes drawn from the run's own prior, one after the other, or a sheet of them.
  function draws(explorer, { draws }, reset) {
    const element = make("div", { className: "draw" }, reset);
    if (!draws) return { element, clear: () => {} };
    const codes = float32(draws), sheet = make("div", { className: "draws", hidden: true });
    let taken = 0;
    const next = () => {
      const start = (taken++ * explorer.size) % codes.length;
      return codes.slice(start, start + explorer.size);
    };
    const tile = () => {
      const code = next(), picture = canvas(explorer.shape, "");
      const take = button("", () => explorer.go(code), { ariaLabel: "take this draw from the prior" });
      picture.ariaHidden = "true";
      explorer.show(picture, code);
      take.append(picture);
      return take;
    };
    const show = () => {
      sheet.hidden = false;
      sheet.replaceChildren(...Array.from({ length: SHEET }, tile));
    };
    element.prepend(button("Draw from the prior", () => explorer.go(next())), button("Sixteen draws", show));
    element.append(sheet);
    return { element, clear: () => (sheet.hidden = true) };
  }

  function explorer(section) {
    const given = JSON.parse(section.querySelector("script").textContent);
    const { shape: [height, width, channels], size } = given, shape = [height, width];
    const all = float32(given.codes), count = all.length / size;
    const decode = given.decoder && decoder(given.decoder), tiles = given.grid && float32(given.grid.codes);
    const codeOf = (index) => all.slice(index * size, (index + 1) * size);
    let code = codeOf(0), chosen = 0;
    const room = section.closest(".vae-explorers"), held = new Image(), rendered = new Image();

    function tileOf(wanted) {
      const distance = (n) => wanted.reduce((sum, value, i) => sum + (value - tiles[n * size + i]) ** 2, 0);
      let best = 0, least = Infinity;
      for (let n = 0; n * size < tiles.length; n++) {
        const found = distance(n);
        if (found < least) [best, least] = [n, found];
      }
      return best;
    }
    const snap = (wanted) => (tiles ? tiles.slice(tileOf(wanted) * size, (tileOf(wanted) + 1) * size) : wanted);

    function go(wanted, index = null, keep = false) {
      if (!keep) self.line.stop();
      code = snap(wanted);
      chosen = index;
      draw();
    }
    const linked = (act) => peers.forEach((peer) => {
      if (peer === self || (peer.key === self.key && peer.room && peer.room === self.room)) act(peer);
    });
    const choose = (index) => linked((peer) => peer.go(peer.codeOf(index), index));
    // The explorers whose maps are seen together with this one.
    const beside = () => [...peers].filter((peer) => peer !== self && peer.room && peer.room === self.room);
    const show = (target, wanted) => (decode ? paint(target, decode(wanted), channels)
      : drawTile(target, rendered, given.grid.columns, tileOf(wanted)));

    // What a slider and the map move: of images rendered beforehand, all are near the first code.
    const base = () => (tiles ? codeOf(0) : code);
    const self = { key: given.key, room, shape, size, count, decode, codeOf, base, go, choose, linked, beside, show, draw,
      showHeldOut, code: () => code, chosen: () => chosen };
    self.line = vaeLine.line(self);
    self.colours = vaeColours.key(given.colourings, given.colour, (change) => linked((peer) => {
      change(peer.colours);
      peer.showHeldOut();
      peer.map?.draw();
    }));
    self.map = vaeMap.map(self, given);
    const reset = button("Reset", () => linked((peer) => peer.reset()));
    const strip = vaeStrip.strip(self, Boolean(tiles)), prior = draws(self, given, reset);
    const rows = vaeControls.rows(self, given, float32, chooseControl);
    function chooseControl(control) {
      strip.choose(control);
      rows.forEach((row) => row.mark(control));
    }

    const decoded = canvas(shape, "decoded image"), original = canvas(shape, "held-out image");
    const which = vaeLine.imageNumber(count, "held-out image", choose), caption = make("output", { className: "hovered" });
    const mean = button("Mean code", () => go(float32(given.mean)), { hidden: Boolean(given.codebook) });
    self.reset = () => {
      prior.clear();
      self.line.clear();
      go(codeOf(0), 0);
    };

    // The held-out image under the pointer, in the place of the chosen one.
    function showHeldOut() {
      const hover = self.map?.hover() ?? null;
      drawTile(original, held, given.columns, hover ?? chosen);
      const words = hover === null ? "" : self.colours.words(hover);
      caption.textContent = hover === null ? "" : `image ${hover}${words && `: ${words}`}`;
    }
    function draw() {
      show(decoded, code);
      showHeldOut();
      which.value = chosen ?? "";
      self.line.draw();
      rows.forEach((row) => row.draw());
      strip.draw();
      self.map.draw();
    }

    const figure = (picture, ...words) => make("figure", {}, picture, make("figcaption", {}, ...words));
    const parts = [
      make("div", { className: "pictures" },
        figure(decoded, "decoded ", mean), figure(original, "held-out image ", which, caption)),
      prior.element, strip.element,
      make("div", { className: "sliders" }, ...rows.map(({ element }) => element)),
      make("div", { className: "places" }, ...(given.codebook ? [] : [self.line.element]), self.map.element),
    ];
    const heading = make(room?.dataset.heading ?? "h3", { className: "run", textContent: given.name });
    section.append(heading, make("p", { textContent: given.about }), proof(section, given, decode),
      make("div", { className: "frame" }, make("div", { className: "body" }, ...parts)));
    peers.add(self);
    beside().forEach((peer) => peer.map.draw());
    if (rows.length) chooseControl(rows[0].control);
    draw();
    for (const [sheet, images] of [[held, given.images], [rendered, given.grid?.images]])
      if (images) Object.assign(sheet, { onload: () => { strip.ready(); draw(); }, src: images });
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
