"""The site's processes under test are real, and end with their test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import django_rq
import psutil
import pytest

from tests.conftest import MakeAsset, Manage, StartWorker
from tests.processes import COMMAND_SECONDS, ROOT, start_python
from tests.waiting import is_alive, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_manage__works_on_the_tests_database(make_asset: MakeAsset, manage: Manage) -> None:
    make_asset()
    count = "from thumbnails.models import ImageAsset; print(ImageAsset.objects.count())"
    done = manage("shell", "--no-imports", "-c", count)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(3)", 3), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -9)]
)
def test_start_python__is_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, status: int
) -> None:
    monkeypatch.setenv("ONLY_IN_THE_TESTS", "yes")
    program, logs = tmp_path / "program.py", [tmp_path / "warm", tmp_path / "cold"]
    program.write_text(
        "import os, sys\n"
        "print(sys.argv[1:], os.environ.get('ONLY_IN_THE_TESTS'), os.getcwd())\n"
        "print(os.getsid(0) == os.getpid(), oct(os.umask(0)), sys.stdin.read(), flush=True)\n"
        f"{end}\n"
    )
    warm, cold = (
        start_python([str(program), "a b"], {}, log, cold=log.name == "cold") for log in logs
    )
    assert warm.wait(COMMAND_SECONDS) == cold.wait(COMMAND_SECONDS) == warm.poll() == status
    warm.send_signal(signal.SIGTERM)  # nobody is hurt
    said, *others = (log.read_text().splitlines() for log in logs)
    assert said[:2] == others[0][:2]
    assert said[:2] == [f"['a b'] None {ROOT}", "True 0o22 "]
    assert ("ZeroDivisionError" in said[-1]) == (status == 1)


def test_start_python__ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text("import time\ntime.sleep(600)\n")
    starter = (
        "import os, sys; from pathlib import Path; from tests.processes import start_python\n"
        "started = start_python([sys.argv[1]], os.environ, Path(sys.argv[2]))\n"
        "print(started.pid, flush=True); started.wait()"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", starter, program, log], cwd=ROOT, stdout=subprocess.PIPE
    )
    with asking:
        assert asking.stdout is not None
        started = psutil.Process(int(asking.stdout.readline()))
        asking.kill()
    wait_for(lambda: not is_alive(started), "its end")


def test_worker__is_killed_with_the_horse_that_it_left_behind(worker: StartWorker) -> None:
    started = worker()
    django_rq.get_queue("thumbnails-now").enqueue(time.sleep, 600)
    wait_for(started.horses, "the horse")
    os.kill(started.pid, signal.SIGKILL)
    wait_for(lambda: not started.running, "the worker's end")
    assert started.horses()
    started.kill()
    assert not started.horses()
