"use strict";
// Lays a picture over the source, with a slider between them, and zooms and pans both as one. Without it the pictures stand
// next to each other, as on paper. No markup is made from text, so that a session's texts stay texts.
{
  const viewer = document.querySelector(".viewer");
  const frame = viewer.querySelector(".frame");
  const stage = viewer.querySelector(".stage");
  const canvas = viewer.querySelector(".canvas");
  const tools = viewer.querySelector(".tools");
  const range = tools.querySelector("input[type=range]");
  const select = tools.querySelector("select");
  const boxes = tools.querySelector("input[type=checkbox]");
  const line = part("div", "line");
  const names = [part("span", "name left", "Source"), part("span", "name right")];
  const shots = [...document.querySelectorAll("figure[data-name]")].map((figure) => ({
    name: figure.dataset.name,
    image: figure.querySelector("img"),
    src: figure.querySelector("img").src,
    alt: figure.querySelector("img").alt,
    boxes: figure.querySelector(".boxes"),
  }));
  const after = viewer.querySelector(".after") ?? emptyResult();
  const source = viewer.querySelector(".before img");
  const image = after.querySelector("img");
  const MOST = 8;
  let zoom = null; // of the picture's own pixels; null is as large as fits

  function part(tag, className, text = "") {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  }

  // A session without a result may have pictures all the same.
  function emptyResult() {
    const figure = part("figure", "after");
    const sheet = part("div", "sheet");
    sheet.append(document.createElement("img"));
    figure.append(sheet, part("figcaption", ""));
    if (shots.length) canvas.append(figure);
    return figure;
  }

  const ratio = (picture) => picture.naturalWidth / picture.naturalHeight;

  const fitting = () => {
    const tallest = Math.max(240, innerHeight * 0.78);
    return Math.min(frame.clientWidth / image.naturalWidth, tallest / image.naturalHeight, 2);
  };

  // Where the visible part of the picture begins and ends in the stage, in pixels.
  const visible = () => {
    const left = canvas.offsetLeft - stage.scrollLeft;
    return [Math.max(0, left), Math.min(stage.clientWidth, left + canvas.offsetWidth), left];
  };

  function divide() {
    const [from, to, left] = visible();
    const at = from + ((to - from) * range.value) / 100;
    canvas.style.setProperty("--at", `${at - left}px`);
    line.style.left = `${at}px`;
    names[0].style.left = `${from}px`;
    names[1].style.right = `${frame.clientWidth - to}px`;
    names[0].hidden = range.value < 12;
    names[1].hidden = range.value > 88;
    range.ariaValueText = `${range.value} percent source`;
  }

  // A point of the stage keeps its place in the picture: its centre, or where a pointer is.
  function lay(x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    if (!image.naturalWidth) return;
    const inPicture = [
      (stage.scrollLeft + x - canvas.offsetLeft) / (canvas.offsetWidth || 1),
      (stage.scrollTop + y - canvas.offsetTop) / (canvas.offsetHeight || 1),
    ];
    const fit = fitting();
    const scale = zoom ?? fit;
    stage.style.height = `${Math.round(image.naturalHeight * fit)}px`;
    canvas.style.width = `${Math.round(image.naturalWidth * scale)}px`;
    canvas.style.height = `${Math.round(image.naturalHeight * scale)}px`;
    frame.classList.toggle("zoomed", zoom !== null);
    frame.classList.toggle("pixels", scale >= 3);
    frame.classList.toggle("reshaped", Math.abs(Math.log(ratio(source) / ratio(image))) > 0.01);
    stage.tabIndex = zoom === null ? -1 : 0;
    stage.scrollLeft = canvas.offsetLeft + inPicture[0] * canvas.offsetWidth - x;
    stage.scrollTop = canvas.offsetTop + inPicture[1] * canvas.offsetHeight - y;
    tools.querySelector("output").textContent = `${Math.round(scale * 100)} %`;
    tools.querySelector("[data-zoom=fit]").ariaPressed = String(zoom === null);
    tools.querySelector("[data-zoom=full]").ariaPressed = String(zoom === 1);
    divide();
  }

  function change(how, x, y) {
    const now = zoom ?? fitting();
    const next = { fit: null, full: 1, in: Math.min(now * 1.5, MOST), out: Math.max(now / 1.5, 0.05) };
    zoom = next[how];
    lay(x, y);
  }

  function show(number) {
    const shot = shots[number];
    after.querySelector(".boxes")?.remove();
    if (shot.boxes) after.querySelector(".sheet").append(shot.boxes.cloneNode(true));
    image.src = shot.src;
    image.alt = shot.alt;
    names[1].textContent = shot.name;
    after.querySelector("figcaption").textContent = shot.name;
    select.value = String(number);
    tools.querySelector(".marked").hidden = !shot.boxes;
    image.decode().then(() => lay(), () => {});
  }

  function slide(event) {
    const [from, to] = visible();
    const x = event.clientX - stage.getBoundingClientRect().left;
    range.value = String(Math.round(((x - from) / Math.max(1, to - from)) * 100));
    divide();
  }

  function drag(element, begins, moved) {
    let last = null;
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !begins(event)) return;
      event.preventDefault();
      element.setPointerCapture(event.pointerId);
      last = event;
      moved(event, event);
    });
    element.addEventListener("pointermove", (event) => {
      if (last) moved(event, last);
      if (last) last = event;
    });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => (last = null));
  }

  function pan(event, last) {
    if (zoom === null) return slide(event);
    stage.scrollLeft -= event.clientX - last.clientX;
    stage.scrollTop -= event.clientY - last.clientY;
  }

  if (shots.length) {
    shots.forEach((shot, number) => select.append(new Option(shot.name, String(number))));
    document.querySelectorAll(".card figure[data-name]").forEach((figure) => {
      const button = part("button", "compare", "Compare");
      const number = shots.findIndex((shot) => shot.image === figure.querySelector("img"));
      button.type = "button";
      button.ariaLabel = `Compare with the source: ${figure.dataset.name}`;
      button.addEventListener("click", () => {
        show(number);
        viewer.scrollIntoView({ block: "start" });
        range.focus({ preventScroll: true });
      });
      figure.append(button);
    });
    stage.setAttribute("role", "group");
    stage.ariaLabel = "The pictures; arrow keys scroll them when zoomed";
    frame.append(line, ...names);
    viewer.classList.add("live");
    tools.hidden = false;
    tools.querySelector(".choice").hidden = shots.length === 1;
    range.addEventListener("input", divide);
    select.addEventListener("change", () => show(Number(select.value)));
    boxes.addEventListener("change", () => frame.classList.toggle("plain", !boxes.checked));
    tools.addEventListener("click", (event) => {
      const how = event.target.closest("[data-zoom]")?.dataset.zoom;
      if (how) change(how);
    });
    stage.addEventListener("scroll", divide);
    stage.addEventListener("dblclick", (event) => {
      const box = stage.getBoundingClientRect();
      change(zoom === null ? "full" : "fit", event.clientX - box.left, event.clientY - box.top);
    });
    // Fingers pan by scrolling.
    drag(stage, (event) => zoom === null || event.pointerType === "mouse", pan);
    drag(line, () => true, slide);
    new ResizeObserver(() => lay()).observe(frame);
    show(0);
  }
}
