// Conveniences: copy buttons, live results, time zones. The pages work without them.
"use strict";

function addCopyButton(box) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const text = box.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without https, scripts can't use the clipboard. Select the text, so that Ctrl+C works.
      const range = document.createRange();
      range.selectNodeContents(box.querySelector("code"));
      const selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  box.append(button);
}

function follow(live) {
  const events = new EventSource(live.dataset.events);
  const opened = () => [...live.querySelectorAll("details")].map((each) => each.open);
  events.addEventListener("save", (event) => {
    const before = opened();
    live.innerHTML = JSON.parse(event.data);
    live.querySelectorAll("details").forEach((each, i) => { each.open = Boolean(before[i]); });
  });
  events.addEventListener("done", () => events.close());
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) {
      setTimeout(() => window.location.reload(), 4000);
    }
  });
}

for (const box of document.querySelectorAll(".command")) addCopyButton(box);
const live = document.querySelector("#live[data-events]");
if (live) follow(live);

// Disable the button while a form is being sent, so that a second click does nothing.
for (const form of document.querySelectorAll("form.save")) {
  form.addEventListener("submit", () => {
    const button = form.querySelector("button[type=submit]");
    setTimeout(() => { button.disabled = true; button.textContent = "Saving…"; }, 0);
  });
}

// Say so if this computer's time zone differs from that of the page's times.
for (const zone of document.querySelectorAll(".zone")) {
  const ahead = -new Date().getTimezoneOffset() - Number(zone.dataset.minutes);
  const hours = `${Math.floor(Math.abs(ahead) / 60)}:${String(Math.abs(ahead) % 60).padStart(2, "0")}`;
  if (ahead) zone.append(` Your computer’s clock is ${hours} h ${ahead < 0 ? "behind" : "ahead of"} that.`);
}
window.addEventListener("pageshow", (event) => { if (event.persisted) window.location.reload(); });
