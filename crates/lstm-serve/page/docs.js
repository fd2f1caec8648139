// The document of the API as people read it.
"use strict";

const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

function fields(schema, schemas, path) {
  const own = schema.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema;
  const table = document.createElement("table");
  table.append(make("caption", "Fields of the body"));
  const head = document.createElement("tr");
  for (const name of ["Field", "Default", "Meaning"]) head.append(Object.assign(make("th", name), { scope: "col" }));
  table.append(head);
  for (const [name, field] of Object.entries(own.properties)) {
    const row = document.createElement("tr");
    row.append(Object.assign(make("th", name), { scope: "row" }), make("td", field.default === undefined ? "" : JSON.stringify(field.default)), make("td", field.description ?? ""));
    table.append(row);
  }
  const scroll = document.createElement("div");
  scroll.className = "scroll";
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `Fields of the body of ${path}`);
  scroll.append(table);
  return scroll;
}

fetch("/openapi.json").then((response) => response.json()).then((api) => {
  const main = document.getElementById("api");
  main.replaceChildren(make("p", api.info.description));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, what] of Object.entries(methods)) {
      main.append(make("h2", `${method.toUpperCase()} ${path}`), make("p", what.summary));
      const body = what.requestBody?.content["application/json"];
      if (body) main.append(fields(body.schema, api.components.schemas, path));
      if (body?.example) {
        const example = make("pre", JSON.stringify(body.example, null, 1));
        example.tabIndex = 0;
        main.append(make("h3", "For example"), example);
      }
    }
  }
});
