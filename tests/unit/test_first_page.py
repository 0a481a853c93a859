"""The first moments of a server, in which two tabs may want the same modules."""

from __future__ import annotations

import subprocess
import sys

from tests.training import ROOT

TWO_TABS = """
import importlib, sys, threading, time, types

class Reached(Exception):
    pass

def stand_in(*_, **__):
    raise Reached

streamlit, app = types.ModuleType("streamlit"), types.ModuleType("app")
streamlit.set_page_config, app.looking, app.state = stand_in, None, None
sys.modules |= {"streamlit": streamlit, "app": app}
source, failed = compile(open("app/main.py").read(), "main.py", "exec"), []

def tab(first):
    try:
        exec(source, {"__file__": "app/main.py", "__name__": "__main__"})
    except Reached:
        pass
    try:
        importlib.import_module(first)
    except BaseException as error:
        failed.append(f"{first}: {error}")

threads = [threading.Thread(target=tab, args=(first,)) for first in ("pandas", "pandas.api.types")]
for thread in threads:
    thread.start()
    time.sleep(0.1)
for thread in threads:
    thread.join()
print(failed)
"""


def test_two_tabs_that_draw_the_first_table_import_pandas_whole() -> None:
    """One draws by way of `import pandas`, the other by way of a part of it, as places in Streamlit do."""
    done = subprocess.run([sys.executable, "-c", TWO_TABS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stdout + done.stderr
