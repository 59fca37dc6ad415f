// A line that shows a stretch of time: zoomed with the wheel or two fingers, moved by dragging. Times are seconds since 1970.

const SHORTEST = 60;
const LONGEST = 31 * 86_400;
const LABELS = 9; // at most
const DRAG_PIXELS = 6; // less is a click
const STEPS = [5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];

export class Timeline {
  /** ``actions``: onMoved(), onClick(seconds), onHover(seconds), onLeave(). */
  constructor(elements, actions) {
    this.elements = elements;
    this.actions = actions;
    this.first = 0;
    this.last = 86_400;
    this.pointers = new Map();
    this.wasDragged = false;
    const line = elements.timeline;
    line.addEventListener("click", (event) => !this.wasDragged && actions.onClick(this.timeAt(event.clientX)));
    line.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    line.addEventListener("pointerdown", (event) => this.onDown(event));
    line.addEventListener("pointermove", (event) => this.onMove(event));
    for (const name of ["pointerup", "pointercancel"]) {
      line.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    line.addEventListener("pointerleave", () => actions.onLeave());
  }

  show(first, last) {
    this.first = first;
    this.last = last;
    this.label();
    this.actions.onMoved();
  }

  /** Show ``factor`` times as much, with ``center`` staying where it is; the middle if that is not shown. */
  zoom(factor, center) {
    const { first, last } = this;
    const fixed = center !== null && center >= first && center <= last ? center : (first + last) / 2;
    const length = Math.min(Math.max((last - first) * factor, SHORTEST), LONGEST);
    const begin = fixed - ((fixed - first) / (last - first)) * length;
    this.show(begin, begin + length);
  }

  percent(seconds) {
    return `${(100 * (seconds - this.first)) / (this.last - this.first)}%`;
  }

  place(element, first, last) {
    element.style.left = this.percent(first);
    element.style.width = `${(100 * (last - first)) / (this.last - this.first)}%`;
  }

  timeAt(x) {
    const box = this.elements.timeline.getBoundingClientRect();
    const share = Math.min(Math.max((x - box.left) / box.width, 0), 1);
    return this.first + share * (this.last - this.first);
  }

  draw(periods) {
    const shown = periods.filter(({ first, last }) => last > this.first && first < this.last);
    this.elements.periods.replaceChildren(...shown.map(({ first, last }) => {
      const span = document.createElement("span");
      this.place(span, first, last);
      return span;
    }));
  }

  /** Write times below the line, at round ones of the browser's time zone. */
  label() {
    const length = this.last - this.first;
    const step = STEPS.find((seconds) => length / seconds <= LABELS) ?? STEPS.at(-1);
    const day = new Date(this.first * 1000).setHours(0, 0, 0, 0) / 1000;
    const labels = [];
    for (let time = day + Math.ceil((this.first - day) / step) * step; time <= this.last; time += step) {
      const date = new Date(time * 1000);
      const label = document.createElement("span");
      label.style.left = this.percent(time);
      if (step >= 86_400) {
        label.textContent = date.toLocaleDateString(undefined, { month: "short", day: "numeric" });
      } else {
        const fields = { hour: "numeric", minute: "2-digit", ...(step < 60 && { second: "2-digit" }) };
        label.textContent = date.toLocaleTimeString(undefined, fields);
      }
      labels.push(label);
    }
    this.elements.ticks.replaceChildren(...labels);
    const [begin, end] = [this.first, this.last].map((time) => new Date(time * 1000));
    this.elements.span.value = length > 2 * 86_400
      ? `${begin.toLocaleDateString()} – ${end.toLocaleDateString()}` : begin.toLocaleDateString();
  }

  onWheel(event) {
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      return this.move(event.deltaX);
    }
    this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.timeAt(event.clientX));
  }

  move(pixels) {
    const seconds = (pixels / this.elements.timeline.clientWidth) * (this.last - this.first);
    this.show(this.first + seconds, this.last + seconds);
  }

  onDown(event) {
    if (!this.pointers.size) {
      this.wasDragged = false;
    }
    this.pointers.set(event.pointerId, { x: event.clientX, from: event.clientX });
  }

  onMove(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      return this.actions.onHover(this.timeAt(event.clientX));
    }
    const before = pointer.x;
    const isDragged = this.wasDragged || Math.abs(event.clientX - pointer.from) > DRAG_PIXELS;
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((each) => each !== pointer);
      const distance = Math.abs(before - other.x);
      pointer.x = event.clientX;
      this.wasDragged = true;
      if (distance > DRAG_PIXELS && Math.abs(pointer.x - other.x) > DRAG_PIXELS) {
        this.zoom(distance / Math.abs(pointer.x - other.x), this.timeAt((pointer.x + other.x) / 2));
      }
    } else if (isDragged) {
      this.wasDragged = true;
      try {
        this.elements.timeline.setPointerCapture(event.pointerId);
      } catch {
        // it has been lifted meanwhile
      }
      pointer.x = event.clientX;
      this.actions.onLeave();
      this.move(before - event.clientX);
    }
  }
}
