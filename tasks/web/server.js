"use strict";
// The backend of the page that asks the server which the page comes from.
let token = sessionStorage.getItem("token") || "";

async function ask(path, options = {}) {
  const headers = token ? {authorization: `Bearer ${token}`} : {};
  let response;
  try {
    response = await fetch(path, {...options, headers: {...headers, ...options.headers}});
  } catch (error) {
    throw Error("the server does not answer");
  }
  if (response.status === 401) {
    throw Object.assign(
      Error(token ? "the token is wrong" : "this server needs a token"), {needsToken: true});
  }
  const content = await response.json();
  if (content.error) throw Error(content.error);
  return content;
}

const backend = {
  badge: "computed by this server",
  privacy: "Images are sent to this server only.",

  open(given) {
    if (given !== undefined) sessionStorage.setItem("token", token = given);
    return ask("models");
  },

  async predict(model, file, explain) {
    const query = new URLSearchParams({model: model.name, draw: model.draws && !explain, explain});
    const content = await ask(`predict?${query}`, {
      method: "POST", body: file, headers: {"content-type": "application/octet-stream"},
    });
    return content.predictions[0];
  },

  async generate(model, seeds, label) {
    const query = new URLSearchParams({model: model.name, first: seeds[0], second: seeds[1], label});
    return (await ask(`generate?${query}`, {method: "POST"})).images;
  },
};
