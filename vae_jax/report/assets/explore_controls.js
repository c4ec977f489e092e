// What moves a code, a row each: a latent along its range, or a group of latents from vector to vector of a codebook.
globalThis.vaeControls ??= (() => {
  "use strict";
  const { make } = globalThis.vaeElements;
  const { button, fixed, clamp } = globalThis.vaePictures;
  const STOPS = 9;

  // Each kind says its range, its value in a code, the code with another value, where a strip of images stops and what
  // the strip shows.
  function latent({ dimension, name, low, high, steps }, rendered) {
    const count = rendered ? steps + 1 : STOPS, reach = high - low;
    return {
      name, about: `${name} from low to high, the rest of the code as it is`, min: low, max: high, step: reach / steps,
      read: (code) => code[dimension],
      write: (code, value) => code.map((old, i) => (i === dimension ? value : old)),
      text: (value) => fixed(value, 2),
      stops: () => Array.from({ length: count }, (_, i) => low + (i / (count - 1)) * reach),
      place: (value) => clamp((value - low) / reach, 0, 1) * (count - 1),
    };
  }

  function group({ dimension, group, name, common, allowed }, { size, dim, shared, vectors }) {
    const first = shared ? 0 : group * size * dim;
    const vector = (index) => vectors.subarray(first + index * dim, first + (index + 1) * dim);
    const distanceTo = (code, index) =>
      vector(index).reduce((sum, value, i) => sum + (value - code[dimension + i]) ** 2, 0);
    const nearest = (indices, measure) => {
      let best = 0, least = Infinity;
      for (const index of indices) {
        const distance = measure(index);
        if (distance < least) [best, least] = [index, distance];
      }
      return best;
    };
    const vectorIndices = Array.from({ length: size }, (_, index) => index);
    const read = (code) => nearest(vectorIndices, (index) => distanceTo(code, index));
    return {
      name, about: `${name}: its most used vectors, by index; the other groups stay.`,
      min: 0, max: size - 1, step: 1, whole: true, read,
      write(code, value) {
        const index = nearest(allowed ?? vectorIndices, (index) => Math.abs(index - value)), moved = code.slice();
        moved.set(vector(index), dimension);
        return moved;
      },
      text: String,
      stops(current) {
        const indices = common.slice(0, STOPS);
        if (!indices.includes(current)) indices[Math.min(indices.length, STOPS - 1)] = current;
        return indices.sort((a, b) => a - b);
      },
      place: (value, stops) => stops.indexOf(value),
    };
  }

  const kinds = ({ sliders, codebook, grid }, unpack) => {
    if (!codebook) return sliders.map((slider) => latent(slider, grid));
    const book = { ...codebook, vectors: unpack(codebook.vectors) };
    return sliders.map((slider) => group(slider, book));
  };

  // Args: the explorer; the content of its page; how numbers are unpacked; what chooses a control for the strip.
  function rows(explorer, content, unpack, choose) {
    return kinds(content, unpack).map((control, i) => {
      const { name, min, max, step, whole } = control;
      const change = ({ target }) => {
        const value = clamp(target.valueAsNumber, min, max);
        if (Number.isFinite(value)) explorer.go(control.write(explorer.base(), value));
      };
      const title = button(name, () => choose(control), { className: "name", title: `images along ${name}` });
      const input = make("input", { type: "range", min, max, step, ariaLabel: name, oninput: change });
      const number = whole && { type: "number", min, max, step, ariaLabel: `index of ${name}`, onchange: change };
      const output = whole ? make("input", number) : make("output");
      const detail = make("small", { textContent: content.sliders[i].detail });
      const element = make("div", { className: whole ? "control whole" : "control" },
        make("span", {}, title, " ", detail), input, output);
      element.addEventListener("focusin", () => choose(control));
      const mark = (choice) => title.setAttribute("aria-pressed", String(choice === control));
      const draw = () => {
        const value = control.read(explorer.code());
        input.value = value;
        if (whole) output.value = value;
        else output.textContent = control.text(value);
      };
      return { control, element, draw, mark };
    });
  }

  return { rows };
})();
