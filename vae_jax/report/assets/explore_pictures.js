// What the parts of an explorer share: buttons, numbers as text, and images on a canvas.
globalThis.vaePictures ??= (() => {
  "use strict";
  const { make } = globalThis.vaeElements;

  const button = (text, onclick, properties = {}) =>
    make("button", { type: "button", textContent: text, onclick, ...properties });
  const canvas = ([height, width], label) => make("canvas", { width, height, ariaLabel: label, role: "img" });

  // What rounds to zero has no sign.
  const fixed = (value, digits) => {
    const text = value.toFixed(digits);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "\u2212");
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // An image of `channels` numbers a pixel, in [0, 1].
  function paint(target, values, channels) {
    const { width, height } = target, context = target.getContext("2d");
    const pixels = context.createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * values[i * channels + Math.min(c, channels - 1)];
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  }

  // Image n of a sheet of images side by side; none where n is null.
  function drawTile(target, sheet, columns, n) {
    const { width, height } = target, context = target.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (n === null || !sheet.complete) return;
    const [x, y] = [(n % columns) * width, Math.floor(n / columns) * height];
    context.drawImage(sheet, x, y, width, height, 0, 0, width, height);
  }

  return { button, canvas, fixed, clamp, paint, drawTile };
})();
