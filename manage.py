#!/usr/bin/env python
"""Django's command line for this site."""

import os
import sys


def main() -> None:
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says of what Ctrl-C ended


def run() -> None:
    # Here, since Ctrl-C may come while they are imported.
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415
    from django.core.management import execute_from_command_line  # noqa: PLC0415
    from django.db import OperationalError  # noqa: PLC0415

    from thumbsite.demo import saved_environment  # noqa: PLC0415

    # In a checkout where `make run` has set up a demo site, every command uses that site.
    # What the environment says already always wins.
    saved_environment.load_environment()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thumbsite.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except OperationalError as error:
        sys.stderr.write(f"The database does not answer: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
