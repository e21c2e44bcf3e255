"""Keys that press buttons, as one line of page that says which.

Knows buttons by their elem_id. A key presses only what is on the screen and enabled, and never while
somebody types: whoever writes "12 ideas" into a field has not voted twice.
"""

import json
from collections.abc import Mapping

import gradio as gr

# A remounted component runs this again, so the listener of before is taken off first.
LISTEN = """
const buttons = %s;
const fields = 'textarea, select, [contenteditable="true"], ' +
  'input:not([type=radio]):not([type=checkbox]):not([type=range])';
const press = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest && event.target.closest(fields)) return;
  const button = document.getElementById(buttons[event.key.toLowerCase()]);
  if (!button || button.disabled || button.offsetParent === null) return;
  event.preventDefault();
  button.click();
};
const listeners = (window.playgroundKeys ??= {});
document.removeEventListener("keydown", listeners[%s]);
listeners[%s] = press;
document.addEventListener("keydown", press);
"""


def listener(name: str, buttons: Mapping[str, str], hint: str) -> gr.HTML:
    """`buttons`: key -> elem_id. `hint` is a sentence of ours, shown where the listener stands."""
    quoted = json.dumps(name)
    return gr.HTML(
        f'<p class="keys">{hint}</p>',
        js_on_load=LISTEN % (json.dumps(dict(buttons)), quoted, quoted),
        elem_id=f"{name}-keys",
    )
