"use strict";

// Grey for no difference; the images are grey, so that their red channel says all.
function drawDifference(canvas, left, right, gain) {
  canvas.width = left.naturalWidth;
  canvas.height = left.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pixels = (image) => {
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };
  const from = pixels(left).data;
  const result = pixels(right);
  for (let i = 0; i < from.length; i += 4) {
    const grey = 127.5 + gain * (result.data[i] - from[i]);
    result.data[i] = result.data[i + 1] = result.data[i + 2] = grey;
  }
  context.putImageData(result, 0, 0);
}

function connect(panel) {
  const stage = panel.querySelector(".stage");
  const slider = stage.querySelector("input");
  const images = [...stage.querySelectorAll("img")];
  const chosen = [...panel.querySelectorAll("select")];
  const difference = panel.querySelector(".difference");

  async function show() {
    const [left, right] = chosen.map((select) => images[select.selectedIndex]);
    images.forEach((image) => {
      image.classList.toggle("left", image === left);
      image.classList.toggle("right", image === right);
    });
    panel.querySelector(".sides").replaceChildren(...[left, right].map((image) => {
      const side = document.createElement("span");
      side.textContent = image.alt;
      return side;
    }));
    difference.textContent = `${right.alt} − ${left.alt}, ${difference.dataset.range}`;
    await Promise.all([left.decode(), right.decode()]);
    drawDifference(panel.querySelector("canvas"), left, right, Number(panel.dataset.gain));
  }

  const move = () => stage.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", move);
  chosen.forEach((select) => select.addEventListener("change", show));
  move();
  show();
}

document.querySelectorAll(".panel").forEach(connect);
