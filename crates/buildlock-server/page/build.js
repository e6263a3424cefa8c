// The view of one project: who builds, a prompt, the place in line, the build and its log.

import * as api from "./api.js";
import { Line, fresh } from "./line.js";
import { followEvents, gathered } from "./live.js";
import { Log } from "./log.js";
import { alarm, clock, copy, duration, place, say, showStatus, title, waiting, who, whoBuilds } from "./words.js";

const PARTS = ["name", "status", "word", "busy", "who", "message", "waiting", "form", "wrong", "hint", "refused",
  "refusal", "wait", "dismiss", "line", "place", "line-what", "leave", "result", "title", "build-status", "build-word",
  "outcome", "site", "cancel", "cut", "log", "earlier", "builds"];

const LOOKS = 5;
const LOOK_AGAIN_MS = 300;

class BuildView {
  #me;
  #project;
  #failed;
  #at = {};
  #log;
  #line;
  #status = null;
  #builds = [];
  /** The build that is shown, and whether somebody chose it from the list. */
  #shown = null;
  #chosen = false;
  #refused = null;
  #sending = false;
  /** How often a lease's build was looked for. */
  #looks = 0;
  #load;

  constructor(main, me, project, failed) {
    this.#me = me.holder;
    this.#project = project;
    this.#failed = failed;
    const [view, part] = copy("build");
    for (const name of PARTS) this.#at[name] = part(name);
    this.#at.name.textContent = project;
    main.replaceChildren(view);
    this.#log = new Log(this.#at.log, this.#at.cut);
    this.#line = new Line(project, () => this.#draw());
    this.#load = gathered(() => this.#fetch(), failed);
    this.#listen();
  }

  #listen() {
    const { form, wait, dismiss, leave, cancel } = this.#at;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start(event.submitter?.value ?? "generate", form.elements.prompt.value);
    });
    form.elements.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    wait.addEventListener("click", () => {
      const { operation, prompt } = this.#refused;
      this.#refused = null;
      this.#line.join(operation, prompt, (build) => this.#started(build, true), (...why) => this.#refusedBy(...why));
      this.#at.leave.focus();
      this.#load();
    });
    dismiss.addEventListener("click", () => {
      this.#refused = null;
      this.#draw();
      form.elements.prompt.focus();
    });
    leave.addEventListener("click", () => {
      this.#line.leave();
      say("You have left the line.");
      form.elements.prompt.focus();
    });
    cancel.addEventListener("click", async () => {
      try {
        await api.cancel(this.#shown.id);
      } catch (error) {
        this.#wrong(error.detail ?? String(error));
      }
      this.#load();
    });
  }

  run() {
    this.#draw();
    this.#line.resume((build) => this.#started(build, true), (...why) => this.#refusedBy(...why));
    followEvents((event) => (event?.project ?? this.#project) === this.#project && this.#load(), this.#load);
  }

  async #fetch() {
    const [status, builds] = await Promise.all([api.project(this.#project), api.builds(this.#project)]);
    this.#status = status;
    this.#builds = builds;
    const newest = builds[0];
    const shown = builds.find(({ id }) => id === this.#shown?.id);
    if (newest && (!this.#shown || (!this.#chosen && newest.id !== this.#shown.id))) this.#show(newest);
    else if (shown) this.#update(shown);
    this.#draw();
    // A lease comes a moment before its build is on record; a lease of something else has none.
    const { lease } = status ?? {};
    const isKnown = !lease || builds.some(({ token }) => token === lease.token);
    this.#looks = isKnown ? 0 : this.#looks + 1;
    if (!isKnown && this.#looks <= LOOKS) setTimeout(this.#load, LOOK_AGAIN_MS);
  }

  async #start(operation, prompt) {
    this.#wrong("");
    if (this.#line.waits || this.#sending) return;
    this.#sending = true;
    this.#refused = null;
    this.#draw();
    try {
      this.#started(await api.start({ project: this.#project, operation, prompt, key: fresh() }), false);
    } catch (error) {
      this.#refusedBy(error, operation, prompt);
    } finally {
      this.#sending = false;
      this.#draw();
    }
  }

  #refusedBy(error, operation, prompt) {
    if (error.code === "PROJECT_LOCKED" && error.lock) {
      this.#refused = { operation, prompt, lock: error.lock };
      const holder = error.lock.holder === this.#me ? "You are" : `${error.lock.holder} is`;
      say(`Your build has not started: ${holder} building this project. You can wait in line.`);
    } else if (error.code === "UNAUTHENTICATED" || !(error instanceof api.Problem)) {
      return this.#failed(error);
    } else {
      this.#wrong(error.detail);
      alarm(`Your build has not started: ${error.detail}`);
    }
    this.#load();
    this.#draw();
  }

  #started(build, waited) {
    say(waited ? "It is your turn: your build has started." : "Your build has started.");
    this.#chosen = false;
    this.#refused = null;
    this.#show(build);
    this.#load();
    this.#draw();
  }

  #show(build) {
    if (this.#shown?.id !== build.id) this.#log.show(build.id, this.#load);
    this.#shown = build;
  }

  /** Takes what is new of the build that is shown, and says how it ended. */
  #update(build) {
    const ended = this.#shown.status === "running" && build.status !== "running";
    this.#shown = build;
    if (!ended) return;
    const words = `The build has ${{ succeeded: "succeeded", failed: "failed", cancelled: "been cancelled" }[build.status] ?? "been lost"}.`;
    if (build.status === "lost") alarm(`${words} ${build.reason ?? ""}`);
    else say(words);
  }

  #wrong(text) {
    this.#at.wrong.hidden = !text;
    this.#at.wrong.textContent = text;
  }

  #draw() {
    this.#drawBusy();
    this.#drawRefusal();
    this.#drawLine();
    this.#drawBuild();
    this.#drawBuilds();
  }

  #drawBusy() {
    const { status, word, busy, who: builder, message, waiting: count, form, hint } = this.#at;
    const lease = this.#status?.lease;
    showStatus(status, word, lease ? "processing" : "idle");
    title(this.#project, Boolean(lease));
    // A refusal says the same.
    busy.hidden = !lease || Boolean(this.#refused);
    if (lease) {
      builder.replaceChildren(...whoBuilds(lease, this.#me));
      message.hidden = !lease.message;
      message.textContent = lease.message;
      count.textContent = waiting(this.#status.queue.length);
    }
    const inLine = Boolean(this.#line.waits);
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", String(inLine || this.#sending));
    hint.textContent = inLine ? "You are in line already." : lease ? "The project is busy: you can wait in line." : "";
  }

  #drawRefusal() {
    const { refused, refusal } = this.#at;
    refused.hidden = !this.#refused;
    if (!this.#refused) return;
    // What was true when it was refused may be over by now: say how it is.
    const { lock, operation } = this.#refused;
    const lease = this.#status?.lease;
    if (this.#status && !lease) {
      refusal.textContent = "The project was busy; it is free now.";
    } else {
      const count = lease ? this.#status.queue.length : lock.queueLength;
      refusal.replaceChildren(...whoBuilds(lease ?? lock, this.#me), ` ${waiting(count)} You can wait in line: the ${operation} with your prompt then starts by itself.`);
    }
  }

  #drawLine() {
    const { line, place: where, "line-what": what } = this.#at;
    const { waits } = this.#line;
    line.hidden = !waits;
    if (!waits) return;
    const number = this.#line.placeIn(this.#status?.queue ?? []);
    const words = number ? place(number) : "You are in line.";
    if (where.textContent !== words) {
      where.textContent = words;
      say(words);
    }
    what.textContent = `For: ${waits.operation}${waits.prompt ? ` “${waits.prompt.slice(0, 100)}${waits.prompt.length > 100 ? "…" : ""}”` : ""}`;
  }

  #drawBuild() {
    const at = this.#at;
    const build = this.#shown;
    at.result.hidden = !build;
    if (!build) return;
    const ms = (build.endedAt ? Date.parse(build.endedAt) : api.now()) - Date.parse(build.startedAt);
    at.title.replaceChildren(build.operation, " by ", who(build.holder, this.#me), ` at ${clock(build.startedAt)}`);
    showStatus(at["build-status"], at["build-word"], build.status);
    at.result.setAttribute("aria-busy", String(build.status === "running"));
    at.outcome.hidden = build.status === "running";
    at.outcome.textContent = build.reason ? `Ended after ${duration(ms)}: ${build.reason}` : `Took ${duration(ms)}.`;
    at.cancel.hidden = build.status !== "running" || build.holder !== this.#me;
    this.#drawSite(build);
  }

  async #drawSite(build) {
    const { site } = this.#at;
    site.href = api.siteOf(this.#project);
    const made = build.status === "succeeded" && (await api.hasSite(this.#project));
    if (this.#shown === build) site.hidden = !made;
  }

  #drawBuilds() {
    const { earlier, builds } = this.#at;
    earlier.hidden = this.#builds.length < 2;
    const at = document.activeElement?.dataset?.build;
    builds.replaceChildren(...this.#builds.map((build) => this.#row(build)));
    if (at) builds.querySelector(`[data-build="${CSS.escape(at)}"]`)?.focus();
  }

  #row(build) {
    const [element, part] = copy("build-row");
    const button = element.querySelector("button");
    button.dataset.build = build.id;
    button.setAttribute("aria-current", String(build.id === this.#shown?.id));
    showStatus(part("status"), part("word"), build.status);
    part("what").append(build.operation, " by ", who(build.holder, this.#me));
    part("when").dateTime = build.startedAt;
    part("when").textContent = clock(build.startedAt);
    button.addEventListener("click", () => {
      this.#chosen = build.id !== this.#builds[0].id;
      this.#show(build);
      this.#draw();
    });
    return element;
  }
}

export function showBuild(main, me, project, failed) {
  new BuildView(main, me, project, failed).run();
}
