"use strict";

new Tablesort(document.getElementById("comparison"));

const dark = matchMedia("(prefers-color-scheme: dark)");
const LARGEST = 560; // pixels that a plot is wide at most
const MARGINS = 120; // pixels for the labels beside a plot that DVC makes of fields
const text = document.getElementById("specifications").textContent;
const specifications = JSON.parse(text, (_, value) => (value?.select === "interval" ? calm(value) : value));

/** Return the selection that moves and zooms a plot, such that the wheel alone scrolls the page. */
function calm(selection) {
  return { ...selection, select: { type: "interval", zoom: "wheel![event.ctrlKey]" } };
}

/** Draw the plot of a figure, as wide as the figure allows. */
function draw(place) {
  const { title, $schema, ...specification } = structuredClone(specifications[place.dataset.plot]);
  const width = place.clientWidth - 38; // the button of vega-embed is beside the plot
  if (specification.width) {
    specification.width = Math.min(LARGEST, width);
    specification.autosize = { type: "fit-x", contains: "padding" };
  }
  for (const layer of specification.spec?.layer ?? []) {
    if (layer.width) layer.width = Math.min(layer.width, width - MARGINS);
  }
  return vegaEmbed(place, specification, {
    mode: "vega-lite",
    renderer: "svg",
    logLevel: vega.Error,
    theme: dark.matches ? "dark" : undefined,
    actions: { export: true, source: false, compiled: false, editor: false },
    config: {
      background: "transparent",
      axis: { gridColor: dark.matches ? "#3a3e45" : "#dddddd" },
      legend: { orient: "bottom", labelLimit: 300 },
    },
  });
}

/** Draw all plots, and say in the place of a plot why it could not be drawn. */
function drawAll() {
  for (const place of document.querySelectorAll("[data-plot]")) {
    draw(place).catch((error) => {
      place.textContent = `This plot cannot be drawn: ${error.message ?? error}`;
      console.error(error);
    });
  }
}

dark.addEventListener("change", drawAll);
drawAll();
