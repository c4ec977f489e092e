// The line between two codes: its ends, held-out images or codes, and the place on it.
globalThis.vaeLine ??= (() => {
  "use strict";
  const { make, button, clamp } = globalThis.vaePictures;
  const MILLISECONDS = 2500;
  const blend = (a, b, t) => a.map((value, i) => (1 - t) * value + t * b[i]);

  // A box for the number of a held-out image.
  const imageNumber = (count, label, change) =>
    make("input", { type: "number", min: 0, max: count - 1, ariaLabel: label, onchange: ({ target }) => {
      const index = clamp(Math.round(target.valueAsNumber), 0, count - 1);
      if (Number.isFinite(index)) change(index);
    } });

  function line(explorer) {
    let ends = null, playing = 0;
    const { count, codeOf, linked } = explorer, codeAt = (end) => end.code ?? codeOf(end.index);
    const here = () => ({ index: explorer.chosen() ?? 0 });
    const from = imageNumber(count, "line from held-out image", (index) => playAll({ index }, ends?.[1] ?? here()));
    const to = imageNumber(count, "line to held-out image", (index) => playAll(ends?.[0] ?? here(), { index }));
    const along = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, disabled: true,
      ariaLabel: "place on the line", oninput: () => linked((peer) => peer.line.onLine(Number(along.value))) });
    const again = button("Play", () => playAll(...ends), { disabled: true });

    // A line between images is one of all that follow, between codes one's own.
    const playAll = (a, b) => (a.code || b.code ? play(a, b) : linked((peer) => peer.line.play(a, b)));

    function play(a, b) {
      stop();
      ends = [a, b];
      along.disabled = again.disabled = false;
      const began = performance.now(), still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const frame = (now) => {
        const t = clamp((now - began) / MILLISECONDS, 0, 1);
        if (!still && t < 1) playing = requestAnimationFrame(frame);
        onLine(still ? 0.5 : t, true);
      };
      frame(began);
    }

    function onLine(t, keep = false) {
      if (!ends) return;
      along.value = t;
      const end = t === 0 ? ends[0] : t === 1 ? ends[1] : {};
      explorer.go(blend(codeAt(ends[0]), codeAt(ends[1]), t), end.index ?? null, keep);
    }

    const stop = () => cancelAnimationFrame(playing);
    const draw = () => {
      [from.value, to.value] = ends ? ends.map(({ index }) => index ?? "") : ["", ""];
    };
    const clear = () => {
      ends = null;
      along.value = 0;
      along.disabled = again.disabled = true;
    };
    const element = make("div", { className: "line" }, "Line from ", from, " to ", to, again, along);
    return { element, playAll, play, onLine, stop, clear, draw, codes: () => ends?.map(codeAt) };
  }

  return { line, imageNumber };
})();
