"""How the newest run stands, where the page itself is not seen: the browser tab's title, and a notification at the end.

Knows no tab. What reaches the browser is a run's name, its number of steps and words of ours.
"""

from collections.abc import Sequence

import gradio as gr

from core import runs
from core.runs import Phase, Run, RunStatus
from core.ui import views
from core.ui.parts import QUIET

AGAIN = "announce-again"
OVER = "".join(views.MARKS[status] for status in RunStatus if status not in runs.ALIVE)

# Only what ends before one's eyes, or behind one's back, is told: not what was over when the page was opened.
SAY = f"""(said) => {{
  const isOver = (words) => Boolean(words) && "{OVER}".includes(words[0]);
  const before = window.playgroundSaid;
  window.playgroundSaid = said;
  document.title = said ? said + " - Preference Playground" : "Preference Playground";
  if (before && !isOver(before) && isOver(said) && window.Notification?.permission === "granted")
    new Notification("Preference Playground", {{body: said, tag: "run"}});
}}"""
# A timer of Gradio's rests while the page is hidden, which is when somebody wants to be told.
KEEP_LOOKING = f"""() => {{
  setInterval(() => document.hidden && document.getElementById("{AGAIN}")?.click(), 5000);
}}"""
ASK = """() => {
  if (window.Notification?.permission === "default") Notification.requestPermission();
}"""


class Announcer:
    """`said` shows the `words` of the newest run."""

    def build(self) -> None:
        self.said = gr.Textbox("", visible="hidden", elem_id="announced")
        self.again = gr.Button("", visible="hidden", elem_id=AGAIN)

    def wire(self, demo: gr.Blocks, starts: Sequence[gr.Button]) -> None:
        """Whoever presses one of `starts` is asked whether to be told of the end."""
        self.said.change(None, self.said, None, js=SAY, **QUIET)
        self.again.click(self.look, None, self.said, **QUIET)
        demo.load(None, js=KEEP_LOOKING, **QUIET)
        for start in starts:
            start.click(None, js=ASK, **QUIET)

    def look(self) -> str:
        return self.words(runs.list_runs())

    def words(self, past: Sequence[Run]) -> str:
        run = views.newest(past)
        return title_words(run) if run else ""


def title_words(run: Run) -> str:
    """12/60 dpo-1122-1405 while it trains; ✓ dpo-1122-1405 finished."""
    if run.is_alive and run.phase == Phase.TRAINING and run.steps:
        mark = "" if run.status is RunStatus.RUNNING else f"{views.MARKS[run.status]} "
        return f"{mark}{run.step}/{run.steps} {run.name}"
    return f"{views.MARKS[run.status]} {run.name} {run.phase if run.is_alive else run.status.value}".strip()
