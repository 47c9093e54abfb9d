// Makes the table of entries sortable and searchable, and its columns a matter of choice. Without it, the first rows stand there.
"use strict";
(() => {
  const { default: DataTable } = window.rstbenchTables;
  const table = document.querySelector("table.board");
  const headings = [...table.tHead.rows[0].cells];
  const choice = document.getElementById("choice");
  const ticks = new Map([...choice.querySelectorAll("input")].map((tick) => [tick.value, tick]));

  // Figures: what was not run comes last, whichever way they are sorted.
  const figure = (text) => (text === "" ? null : Number(text));
  const lastIfNull = (compare) => (a, b) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : compare(a, b));
  DataTable.type("figure", {
    className: "",
    detect: () => false,
    order: {
      pre: figure,
      asc: lastIfNull((a, b) => a - b),
      desc: lastIfNull((a, b) => b - a),
    },
  });

  // A cell is [HTML, what sorting compares, what searching reads]; all HTML was made, and escaped, with the page.
  const parts = { display: 0, sort: 1, type: 1, filter: 2 };
  const figures = new Set(["rank", "metric", "number", "bytes"]);
  const isFigure = ({ kind, name }) => figures.has(kind) || name === "remaining_ratio";
  const filter = (heading) => ({ extend: "dropdown", text: `Filter: ${heading}`, icon: "search", content: ["searchList"] });
  const column = ({ dataset, className, textContent }, index) => ({
    name: dataset.name,
    data: index,
    render: (cell, part) => cell[parts[part] ?? 2],
    type: isFigure(dataset) ? "figure" : "string",
    className,
    cellType: dataset.kind === "name" ? "th" : "td",
    createdCell: dataset.kind === "name" ? (cell) => cell.setAttribute("scope", "row") : null,
    visible: ticks.get(dataset.name)?.checked ?? true,
    orderSequence: dataset.kind === "metric" ? ["desc", "asc"] : ["asc", "desc"],
    columnControl: "filtered" in dataset ? [filter(textContent)] : [],
  });

  const board = new DataTable(table, {
    data: JSON.parse(document.getElementById("rows").textContent),
    columns: headings.map(column),
    order: [[0, "asc"]],
    autoWidth: false,
    pageLength: 50,
    lengthMenu: [25, 50, 100, 250, { label: "all", value: -1 }],
    layout: {
      topStart: "search",
      topEnd: [() => choice, "pageLength"],
      bottomStart: "info",
      bottomEnd: "paging",
    },
    language: {
      thousands: "\u202f",
      search: "Search",
      searchPlaceholder: "name, network, flag …",
      lengthMenu: "Rows _MENU_",
      info: "_START_ to _END_ of _TOTAL_ entries",
      infoEmpty: "No entries",
      infoFiltered: "(of _MAX_)",
      zeroRecords: "No entry fits the search and filters.",
    },
  });

  choice.addEventListener("change", ({ target }) => board.column(`${target.value}:name`).visible(target.checked));
  document.addEventListener("click", (event) => {
    if (!choice.contains(event.target)) choice.open = false;
  });
  choice.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    choice.open = false;
    choice.querySelector("summary").focus();
  });
  choice.hidden = false;
})();
