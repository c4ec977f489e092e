// A decoder in the browser, of the layers and weights that decoder_export.py makes of a run; explorer.py says why.
globalThis.vaeDecoder ??= (() => {
  "use strict";

  // Numbers, as decoder_export.py packs them: little-endian, base64.

  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const float32 = (text) => new Float32Array(bytes(text).buffer);

  function float16(text) {
    return Float32Array.from(new Uint16Array(bytes(text).buffer), (word) => {
      const exponent = (word >> 10) & 31, fraction = word & 1023;
      const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
      return word >> 15 ? -size : size;
    });
  }

  const UNPACK = { float32, float16 };

  // The decoder: layers, activations and expected grey levels as in vae_jax/models.

  const sigmoid = (v) => 1 / (1 + Math.exp(-v));

  const ACTIVATIONS = {
    none: (v) => v,
    relu: (v) => Math.max(v, 0),
    tanh: Math.tanh,
    gelu: (v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))),
    silu: (v) => v * sigmoid(v),
    elu: (v) => (v > 0 ? v : Math.expm1(v)),
    leaky_relu: (v) => (v > 0 ? v : 0.01 * v),
    softplus: (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v))),
  };

  const clip = (v) => Math.min(Math.max(v, 0), 1);

  // Of the `parts` numbers from `start` on, the expected grey level.
  const MEANS = {
    value: (v, start) => v[start],
    sigmoid: (v, start) => sigmoid(v[start]),
    shifted: (v, start) => clip(v[start] + 0.5),
    continuous(v, start) {
      const l = v[start];
      return Math.abs(l) < 0.1 ? 0.5 + l / 12 - l ** 3 / 720 : clip(1 / -Math.expm1(-l) - 1 / l);
    },
    mixture(v, start, parts) {
      const count = parts / 3, largest = Math.max(...v.subarray(start, start + count));
      let total = 0, sum = 0;
      for (let k = 0; k < count; k++) {
        const weight = Math.exp(v[start + k] - largest);
        total += weight;
        sum += weight * clip(v[start + count + k] + (k + 0.5) / count);
      }
      return sum / total;
    },
  };

  const EPSILON = 1e-6; // in the variance of a norm

  // y[target + j] += sum_i x[source + i] kernel[first + i, j]
  function addProduct(y, target, outputs, x, source, inputs, kernel, first) {
    for (let i = 0; i < inputs; i++) {
      const value = x[source + i], offset = first + i * outputs;
      if (value) for (let j = 0; j < outputs; j++) y[target + j] += value * kernel[offset + j];
    }
  }
  const repeat = (count, bias) => Float32Array.from({ length: count * bias.length }, (_, i) => bias[i % bias.length]);

  const LAYERS = {
    dense(x, { shape: [inputs, outputs], kernel, bias }) {
      const y = bias.slice();
      addProduct(y, 0, outputs, x, 0, inputs, kernel, 0);
      return y;
    },
    pointwise(x, { shape: [pixels, inputs, outputs], kernel, bias }) {
      const y = repeat(pixels, bias);
      for (let n = 0; n < pixels; n++) addProduct(y, n * outputs, outputs, x, n * inputs, inputs, kernel, 0);
      return y;
    },
    // Output pixel (r, s) meets input pixel (r + a - 1, s + b - 1) through tap (a, b) of the 3x3 kernel.
    convolution(x, { shape: [height, width, inputs, outputs], kernel, bias }) {
      const y = repeat(height * width, bias);
      for (let pixel = 0; pixel < height * width; pixel++)
        for (let tap = 0; tap < 9; tap++) {
          const row = Math.floor(pixel / width) + Math.floor(tap / 3) - 1, column = (pixel % width) + (tap % 3) - 1;
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          const source = (row * width + column) * inputs;
          addProduct(y, pixel * outputs, outputs, x, source, inputs, kernel, tap * inputs * outputs);
        }
      return y;
    },
    norm(x, { shape: [pixels, channels, groups], kernel, bias }) {
      const y = new Float32Array(x.length), size = channels / groups;
      for (let group = 0; group < groups; group++) {
        const sum = (f) => {
          let total = 0;
          for (let n = 0; n < pixels; n++)
            for (let c = group * size; c < (group + 1) * size; c++) total += f(x[n * channels + c]);
          return total / (pixels * size);
        };
        const mean = sum((v) => v), scale = 1 / Math.sqrt(sum((v) => (v - mean) ** 2) + EPSILON);
        for (let n = 0; n < pixels; n++)
          for (let c = group * size, i = n * channels + c; c < (group + 1) * size; c++, i++)
            y[i] = (x[i] - mean) * scale * kernel[c] + bias[c];
      }
      return y;
    },
    keep(x, layer, stack) {
      stack.push(x);
      return x;
    },
    add: (x, layer, stack) => stack.pop().map((value, i) => value + x[i]),
    // Input pixel (r, s) meets output pixel (2r + a - 1, 2s + b - 1) through tap (a, b) of the 4x4 kernel.
    transposed(x, { shape: [height, width, inputs, tall, wide, outputs], kernel, bias }) {
      const y = repeat(tall * wide, bias);
      for (let pixel = 0; pixel < height * width; pixel++)
        for (let tap = 0; tap < 16; tap++) {
          const row = 2 * Math.floor(pixel / width) + (tap >> 2) - 1, column = 2 * (pixel % width) + (tap & 3) - 1;
          if (row < 0 || row >= tall || column < 0 || column >= wide) continue;
          const target = (row * wide + column) * outputs;
          addProduct(y, target, outputs, x, pixel * inputs, inputs, kernel, tap * inputs * outputs);
        }
      return y;
    },
  };

  const SIZES = {
    dense: ([inputs, outputs]) => [inputs * outputs, outputs],
    pointwise: ([, inputs, outputs]) => [inputs * outputs, outputs],
    convolution: ([, , inputs, outputs]) => [9 * inputs * outputs, outputs],
    transposed: ([, , inputs, , , outputs]) => [16 * inputs * outputs, outputs],
    norm: ([, channels]) => [channels, channels],
    keep: () => [0, 0],
    add: () => [0, 0],
  };

  // code -> image, both Float32Array.
  function decoder({ layers, weights, dtype, mean, parts }) {
    const numbers = UNPACK[dtype](weights);
    let offset = 0;
    const take = (count) => numbers.subarray(offset, (offset += count));
    const read = layers.map((layer) => {
      const [kernel, bias] = SIZES[layer.kind](layer.shape).map(take);
      return { ...layer, kernel, bias };
    });
    return (code) => {
      const stack = [];
      let x = code;
      for (const layer of read) x = LAYERS[layer.kind](x, layer, stack).map(ACTIVATIONS[layer.activation]);
      return Float32Array.from({ length: x.length / parts }, (_, i) => MEANS[mean](x, i * parts, parts));
    };
  }

  function largestDifference(decode, { codes, images }, size) {
    const inputs = float32(codes), targets = float32(images), pixels = (targets.length / inputs.length) * size;
    let largest = 0;
    for (let n = 0; n * size < inputs.length; n++)
      decode(inputs.subarray(n * size, (n + 1) * size)).forEach((value, i) => {
        const difference = Math.abs(value - targets[n * pixels + i]);
        if (!(difference <= largest)) largest = difference; // which is so for NaN too
      });
    return largest;
  }

  return { float32, decoder, largestDifference };
})();
