// Lets one move through the latent space of each section that has no explorer yet. explorer.py says of what.
globalThis.vaeExplorer ??= (() => {
  "use strict";
  const { float32, decoder, largestDifference } = globalThis.vaeDecoder;
  const { make } = globalThis.vaeElements;
  const { button, canvas, paint, drawTile } = globalThis.vaePictures;
  const SHEET = 16; // draws that are shown at once
  const peers = new Set();

  // How far the images here are from JAX's: a line that says so, and a warning where that is too far.
  function proof(section, content, decode) {
    if (!decode) return make("p", { className: "note", textContent: content.note });
    const difference = largestDifference(decode, content.check, content.size), agrees = difference <= content.tolerance;
    section.dataset.difference = difference;
    const number = difference.toExponential(1).replace("-", "\u2212");
    const words = `at most ${number} from JAX's images at the codes checked here`;
    const doubt = `Do not trust these pictures: ${words}, where ${content.tolerance} is allowed.`;
    if (!agrees) return make("p", { className: "note bad", textContent: doubt });
    return make("p", { className: "note", textContent: `${content.note}: ${words}.` });
  }

  // Codes drawn from the run's own prior, one after the other, or a sheet of them.
  function draws(explorer, { draws }, reset) {
    const element = make("div", { className: "draw" }, reset);
    if (!draws) return { element, clear: () => {} };
    const codes = float32(draws), sheet = make("div", { className: "draws", hidden: true });
    let count = 0;
    const next = () => {
      const start = (count++ * explorer.size) % codes.length;
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
    const content = JSON.parse(section.querySelector("script").textContent);
    const { shape: [height, width, channels], size } = content, shape = [height, width];
    const codes = float32(content.codes), count = codes.length / size;
    const decode = content.decoder && decoder(content.decoder), tiles = content.grid && float32(content.grid.codes);
    const codeOf = (index) => codes.slice(index * size, (index + 1) * size);
    let code = codeOf(0), image = 0;
    const room = section.closest(".vae-explorers"), imageSheet = new Image(), gridSheet = new Image();

    function tileOf(z) {
      const distanceTo = (n) => z.reduce((sum, value, i) => sum + (value - tiles[n * size + i]) ** 2, 0);
      let best = 0, least = Infinity;
      for (let n = 0; n * size < tiles.length; n++) {
        const distance = distanceTo(n);
        if (distance < least) [best, least] = [n, distance];
      }
      return best;
    }
    const snap = (z) => (tiles ? tiles.slice(tileOf(z) * size, (tileOf(z) + 1) * size) : z);

    function go(z, index = null, keep = false) {
      if (!keep) self.line.stop();
      code = snap(z);
      image = index;
      draw();
    }
    const linked = (act) => peers.forEach((peer) => {
      if (peer === self || (peer.key === self.key && peer.room && peer.room === self.room)) act(peer);
    });
    const choose = (index) => linked((peer) => peer.go(peer.codeOf(index), index));
    // The explorers whose maps are seen together with this one.
    const neighbours = () => [...peers].filter((peer) => peer !== self && peer.room && peer.room === self.room);
    const show = (picture, z) => (decode ? paint(picture, decode(z), channels)
      : drawTile(picture, gridSheet, content.grid.columns, tileOf(z)));

    // What a slider and the map move: of images rendered beforehand, all are near the first code.
    const base = () => (tiles ? codeOf(0) : code);
    const self = { key: content.key, room, shape, size, count, decode, codeOf, base, go, choose, linked, neighbours,
      show, draw, showHeldOut, code: () => code, image: () => image };
    self.line = vaeLine.line(self);
    self.colours = vaeColours.key(content.colourings, content.colour, (change) => linked((peer) => {
      change(peer.colours);
      peer.showHeldOut();
      peer.map?.draw();
    }));
    self.map = vaeMap.map(self, content);
    const reset = button("Reset", () => linked((peer) => peer.reset()));
    const strip = vaeStrip.strip(self, Boolean(tiles)), prior = draws(self, content, reset);
    const rows = vaeControls.rows(self, content, float32, chooseControl);
    function chooseControl(control) {
      strip.choose(control);
      rows.forEach((row) => row.mark(control));
    }

    const decoded = canvas(shape, "decoded image"), original = canvas(shape, "held-out image");
    const numberBox = vaeLine.imageNumber(count, "held-out image", choose);
    const caption = make("output", { className: "hovered" });
    const mean = button("Mean code", () => go(float32(content.mean)), { hidden: Boolean(content.codebook) });
    self.reset = () => {
      prior.clear();
      self.line.clear();
      go(codeOf(0), 0);
    };

    // The held-out image under the pointer, in the place of the one of choice.
    function showHeldOut() {
      const hover = self.map?.hover() ?? null;
      drawTile(original, imageSheet, content.columns, hover ?? image);
      const words = hover === null ? "" : self.colours.words(hover);
      caption.textContent = hover === null ? "" : `image ${hover}${words && `: ${words}`}`;
    }
    function draw() {
      show(decoded, code);
      showHeldOut();
      numberBox.value = image ?? "";
      self.line.draw();
      rows.forEach((row) => row.draw());
      strip.draw();
      self.map.draw();
    }

    const figure = (picture, ...words) => make("figure", {}, picture, make("figcaption", {}, ...words));
    const parts = [
      make("div", { className: "pictures" },
        figure(decoded, "decoded ", mean), figure(original, "held-out image ", numberBox, caption)),
      prior.element, strip.element,
      make("div", { className: "sliders" }, ...rows.map(({ element }) => element)),
      make("div", { className: "places" }, ...(content.codebook ? [] : [self.line.element]), self.map.element),
    ];
    const heading = make(room?.dataset.heading ?? "h3", { className: "run", textContent: content.name });
    section.append(heading, make("p", { textContent: content.about }), proof(section, content, decode),
      make("div", { className: "frame" }, make("div", { className: "body" }, ...parts)));
    peers.add(self);
    neighbours().forEach((peer) => peer.map.draw());
    if (rows.length) chooseControl(rows[0].control);
    draw();
    for (const [sheet, images] of [[imageSheet, content.images], [gridSheet, content.grid?.images]])
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
