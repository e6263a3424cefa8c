// Which view an address shows.

import * as api from "./api.js";
import { closeAll } from "./live.js";
import { copy, title } from "./words.js";
import { showBuild } from "./build.js";
import { showProjects } from "./projects.js";

const main = document.getElementById("main");
const caller = document.getElementById("caller");

function trouble(heading, detail) {
  const [view, part] = copy("trouble");
  part("title").textContent = heading;
  part("detail").textContent = detail;
  main.replaceChildren(view);
  title(heading, false);
}

function signIn() {
  caller.hidden = true;
  main.replaceChildren(copy("sign-in")[0]);
  title("Sign in", false);
  // Who has signed in in another window comes back to this one.
  document.addEventListener("visibilitychange", () => document.hidden || location.reload(), { once: true });
}

/** What a view calls when the server no longer answers it as it should. */
function failed(error) {
  closeAll();
  if (error.code === "UNAUTHENTICATED") return signIn();
  if (error instanceof api.Problem) return trouble("That did not work", error.detail);
  trouble("Something went wrong in this page", String(error));
  throw error;
}

async function show() {
  const me = await api.me();
  caller.querySelector("[data-name]").textContent = me.holder;
  caller.hidden = false;
  if (location.pathname === "/") return showProjects(main, me, failed);
  const project = api.projectOf(location.pathname);
  if (!project) return trouble("No such page", "This address names no project.");
  return showBuild(main, me, project, failed);
}

caller.querySelector("[data-sign-out]").addEventListener("click", async () => {
  await api.signOut().catch(failed);
  location.reload();
});

show().catch(failed);
