// By what the dots of a map are coloured, the key to it, and which values are hidden.
globalThis.vaeColours ??= (() => {
  "use strict";
  const { make } = globalThis.vaeElements;
  const { button } = globalThis.vaePictures;
  const MAX_NAMES = 20, SWATCHES = 256, DIM = 0.12;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // A colour "#rrggbb" that is seen on the page: on a dark one, what is dim is mixed with white.
  function pageColour(colour) {
    const levels = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16) / 255);
    const mix = (share) => levels.map((level) => level + share * (1 - level));
    const luminance = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * rgb[i] ** 2.2, 0);
    let share = 0;
    while (dark.matches && luminance(mix(share)) < DIM) share += 0.02;
    return `rgb(${mix(share).map((level) => Math.round(255 * level)).join(" ")})`;
  }

  // Args: the colourings of a page; the colour of dots where there is none; what applies a change to all keys.
  function key(colourings, plain, apply) {
    const hidden = new Set(), legend = make("div", { className: "legend" });
    let colouring = colourings[0];
    let shades = [];
    const choice = make("select", { ariaLabel: "colour of the dots",
      onchange: () => apply((colours) => colours.select(choice.selectedIndex)) });
    choice.append(...colourings.map(({ name }) => make("option", { textContent: name })));

    const swatch = (value) => {
      const mark = make("i");
      mark.style.background = shades[value];
      return mark;
    };
    function toggle(value, ...content) {
      const { name, values } = colouring, label = name === "class" ? values[value] : `${name} ${values[value]}`;
      const element = button("", () => apply((colours) => colours.toggle(value)), { title: label, ariaLabel: label });
      element.append(swatch(value), ...content);
      return element;
    }
    // Values with an order, and many, are a ramp with the names of its ends; others have their names beside them.
    function drawLegend() {
      shades = colouring.colours.map(pageColour);
      const { values, ordered } = colouring, name = (value) => make("span", { textContent: values[value] });
      const toggles = values.length <= SWATCHES ? values.map((_, value) => value) : [];
      const all = button("all", () => apply((colours) => colours.hide([])), { className: "set" });
      const none = button("none", () => apply((colours) => colours.hide(toggles)), { className: "set" });
      if (!ordered && values.length <= MAX_NAMES) {
        legend.replaceChildren(...toggles.map((value) => toggle(value, ` ${values[value]}`)), all, none);
        return;
      }
      const ramp = make("span", { className: "ramp" }, ...toggles.map((value) => toggle(value)));
      if (!toggles.length) ramp.style.background = `linear-gradient(to right, ${shades.join(", ")})`;
      legend.replaceChildren(name(0), ramp, name(values.length - 1), ...(toggles.length ? [all, none] : []));
    }
    function mark() {
      const toggles = [...legend.querySelectorAll("button:not(.set)")];
      toggles.forEach((element, value) => element.setAttribute("aria-pressed", String(!hidden.has(value))));
    }

    const colours = {
      element: make("div", { className: "key", hidden: !colourings.length },
        make("label", {}, "Coloured by ", choice), legend),
      colour: (n) => (colouring ? shades[colouring.indices[n]] : plain),
      state: () => [colouring?.name, ...hidden],
      visible: (n) => !colouring || !hidden.has(colouring.indices[n]),
      words: (n) => colourings.map(({ name, values, indices }) =>
        (name === "class" ? values[indices[n]] : `${name} ${values[indices[n]]}`)).join(", "),
      select(position) {
        choice.selectedIndex = position;
        colouring = colourings[position];
        hidden.clear();
        drawLegend();
        mark();
      },
      toggle(value) {
        if (!hidden.delete(value)) hidden.add(value);
        mark();
      },
      hide(values) {
        hidden.clear();
        values.forEach((value) => hidden.add(value));
        mark();
      },
    };
    if (colouring) colours.select(0);
    dark.addEventListener("change", () => colouring && (drawLegend(), mark()));
    return colours;
  }

  return { key };
})();
