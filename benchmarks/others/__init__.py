"""Other libraries that make thumbnails, each in a Django project and a process of its own.

They are installed by `environment` in a virtual environment that only this comparison uses. Each is
used as its documentation says.
"""
