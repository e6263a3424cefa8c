// The view of all projects: who builds what since when.

import * as api from "./api.js";
import { followEvents, gathered } from "./live.js";
import { copy, showStatus, title, waiting, whoBuilds } from "./words.js";

// One page of projects; more than that want a search, not a list.
const SHOWN = 200;

function row(project, me) {
  const [element, part] = copy("project-row");
  element.querySelector("a").href = api.pageOf(project.project);
  part("name").textContent = project.project;
  showStatus(part("status"), part("word"), project.buildStatus);
  if (project.lease) {
    part("what").append(...whoBuilds(project.lease, me.holder), " ", waiting(project.queue.length));
  } else {
    part("what").remove();
  }
  return element;
}

export function showProjects(main, me, failed) {
  const [view, part] = copy("projects");
  const [open, list, none, more] = ["open", "list", "none", "more"].map(part);
  main.replaceChildren(view);
  title("Projects", false);

  open.addEventListener("submit", (event) => {
    event.preventDefault();
    location.href = api.pageOf(open.elements.project.value);
  });

  const load = gathered(async () => {
    const found = (await api.projects(SHOWN)).projects;
    // Busy ones first; the order of their names otherwise.
    const sorted = [...found].sort((a, b) => Number(Boolean(b.lease)) - Number(Boolean(a.lease)));
    const at = document.activeElement?.closest?.(".project")?.getAttribute("href");
    list.replaceChildren(...sorted.map((project) => row(project, me)));
    if (at) [...list.querySelectorAll(".project")].find((link) => link.getAttribute("href") === at)?.focus();
    none.hidden = found.length > 0;
    more.hidden = found.length < SHOWN;
    more.textContent = `The first ${SHOWN} are shown. Open any other by its name.`;
    const busy = found.filter((project) => project.lease).length;
    title(busy ? `${busy} building` : "Projects", busy > 0);
  }, failed);
  followEvents(load, load);
}
