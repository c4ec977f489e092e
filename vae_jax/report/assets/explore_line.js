// The line between two codes: its ends, held-out images or codes, and the place on it.
globalThis.vaeLine ??= (() => {
  "use strict";
  const { make } = globalThis.vaeElements;
  const { button, clamp } = globalThis.vaePictures;
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
    const currentEnd = () => ({ index: explorer.image() ?? 0 });
    const startBox = imageNumber(count, "line from held-out image", (index) =>
      playAll({ index }, ends?.[1] ?? currentEnd()));
    const endBox = imageNumber(count, "line to held-out image", (index) =>
      playAll(ends?.[0] ?? currentEnd(), { index }));
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, disabled: true,
      ariaLabel: "place on the line", oninput: () => linked((peer) => peer.line.onLine(Number(slider.value))) });
    const playButton = button("Play", () => playAll(...ends), { disabled: true });

    // A line between images is one of all that follow, between codes one's own.
    const playAll = (a, b) => (a.code || b.code ? play(a, b) : linked((peer) => peer.line.play(a, b)));

    function play(a, b) {
      stop();
      ends = [a, b];
      slider.disabled = playButton.disabled = false;
      const startTime = performance.now(), reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const frame = (now) => {
        const t = clamp((now - startTime) / MILLISECONDS, 0, 1);
        if (!reducedMotion && t < 1) playing = requestAnimationFrame(frame);
        onLine(reducedMotion ? 0.5 : t, true);
      };
      frame(startTime);
    }

    function onLine(t, keep = false) {
      if (!ends) return;
      slider.value = t;
      const end = t === 0 ? ends[0] : t === 1 ? ends[1] : {};
      explorer.go(blend(codeAt(ends[0]), codeAt(ends[1]), t), end.index ?? null, keep);
    }

    const stop = () => cancelAnimationFrame(playing);
    const draw = () => {
      [startBox.value, endBox.value] = ends ? ends.map(({ index }) => index ?? "") : ["", ""];
    };
    const clear = () => {
      ends = null;
      slider.value = 0;
      slider.disabled = playButton.disabled = true;
    };
    const element = make("div", { className: "line" }, "Line from ", startBox, " to ", endBox, playButton, slider);
    return { element, playAll, play, onLine, stop, clear, draw, codes: () => ends?.map(codeAt) };
  }

  return { line, imageNumber };
})();
