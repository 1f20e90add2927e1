// @ts-check
/**
 * What the timeline draws with, so that another backend than Canvas2D can be put behind it: `begin`, `image`, `rect`,
 * `text` (and `patch` under it). Lengths are CSS pixels; images are placed on device pixels.
 */

export class Renderer {
  #canvas;
  #context;
  #ratio = 1;
  /** @type {Map<string, number>} */
  #widths = new Map();

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    const context = canvas.getContext('2d', { alpha: true });
    if (!context) throw new Error('this browser has no 2D canvas');
    this.#context = context;
  }

  get ratio() {
    return this.#ratio;
  }

  /** For what only the overlay draws: curves. */
  get context() {
    return this.#context;
  }

  /**
   * Clears the canvas, sized to its element.
   * @param {number} width @param {number} height @param {number} ratio device pixels a CSS pixel
   */
  begin(width, height, ratio) {
    const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
    if (this.#canvas.width !== w || this.#canvas.height !== h) {
      this.#canvas.width = w;
      this.#canvas.height = h;
    }
    this.#ratio = ratio;
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.clearRect(0, 0, w, h);
    this.#context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /**
   * Draws a part of an image, given as shares of its width.
   * @param {OffscreenCanvas} image @param {number} from @param {number} share
   * @param {number} x @param {number} y @param {number} width @param {number} height
   */
  image(image, from, share, x, y, width, height) {
    const ratio = this.#ratio;
    const left = Math.round(x * ratio);
    const right = Math.round((x + width) * ratio);
    const context = this.#context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    // Wider than its columns: crisp edges instead of a blur.
    context.imageSmoothingEnabled = right - left <= image.width * share * 1.05;
    context.drawImage(
      image, from * image.width, 0, share * image.width, image.height,
      left, Math.round(y * ratio), Math.max(1, right - left), Math.round(height * ratio),
    );
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /**
   * @param {string} colour @param {number} x @param {number} y @param {number} width @param {number} height
   */
  rect(colour, x, y, width, height) {
    this.#context.fillStyle = colour;
    this.#context.fillRect(x, y, width, height);
  }

  /**
   * Writes a text, shortened to a width; nothing where not even three letters fit.
   * @param {string} text @param {string} colour @param {string} font @param {number} x @param {number} y the middle
   * @param {number} width
   */
  text(text, colour, font, x, y, width) {
    const context = this.#context;
    if (context.font !== font) context.font = font;
    const fitting = this.#fitting(text, font, width);
    if (!fitting) return;
    context.textBaseline = 'middle';
    context.fillStyle = colour;
    context.fillText(fitting, x, y);
  }

  /**
   * A plain patch as wide as a text that will stand on it.
   * @param {string} text @param {string} colour @param {string} font
   * @param {number} x @param {number} y @param {number} width @param {number} height
   */
  patch(text, colour, font, x, y, width, height) {
    if (this.#context.font !== font) this.#context.font = font;
    const fitting = this.#fitting(text, font, width);
    if (fitting) this.rect(colour, x, y, Math.min(this.#width(fitting, font), width) + 6, height);
  }

  /** @param {string} text @param {string} font @param {number} width */
  #fitting(text, font, width) {
    const whole = this.#width(text, font);
    if (whole <= width) return text;
    const letters = Math.floor((text.length * (width - 8)) / whole);
    return letters >= 3 ? `${text.slice(0, letters)}…` : '';
  }

  /** @param {string} text @param {string} font */
  #width(text, font) {
    const key = `${font}|${text}`;
    let width = this.#widths.get(key);
    if (width === undefined) {
      if (this.#widths.size > 5000) this.#widths.clear();
      width = this.#context.measureText(text).width;
      this.#widths.set(key, width);
    }
    return width;
  }
}
