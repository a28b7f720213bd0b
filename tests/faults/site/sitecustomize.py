"""Python imports it at every start where this folder is in PYTHONPATH.

A clock may be wrong; and in render processes a stand-in takes the decoder's place, before they
import it.
"""

import importlib
import os
import sys

if os.environ.get("FAULTS_CLOCK_SECONDS"):
    importlib.import_module("tests.faults.clock")

if "thumbnails.rendering.process" in sys.orig_argv:
    from tests.faults import decoder
    from thumbnails.rendering import render

    render.render = decoder.render
