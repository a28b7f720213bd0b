"""The pinned requirements: what `make lock` writes, and what pip installs from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.processes import ROOT

NAMES = ("requirements", "requirements-dev", "requirements-bench")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
OPTION = re.compile(r"^\s*(-[^=\s]+)", re.MULTILINE)


@dataclass(frozen=True)
class Pin:
    version: str
    hashes: tuple[str, ...]
    asked_by: str
    """The names of the packages and files that ask for it."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins_of(name: str) -> dict[str, Pin]:
    """The packages that a file pins, by their names."""
    found: dict[str, Pin] = {}
    # A package's lines are indented, but for the first one.
    for entry in re.findall(r"^[^\s#].*(?:\n[ ].*)*", text_of(f"{name}.txt"), re.MULTILINE):
        head, _, asked_by = entry.partition("# via")
        requirement = Requirement(re.split(r"\s+\\\n|\n", head)[0])
        [pinned] = requirement.specifier
        assert pinned.operator == "=="
        found[canonicalize_name(requirement.name)] = Pin(
            pinned.version, tuple(HASH.findall(head)), asked_by
        )
    return found


def asked_for(name: str) -> Iterator[Requirement]:
    """What the file of names asks for."""
    for line in text_of(f"{name}.in").splitlines():
        wanted = line.partition("#")[0].strip()
        if wanted and not wanted.startswith("-r "):
            yield Requirement(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_pins__each_has_a_hash(name: str) -> None:
    pins = pins_of(name)
    assert [package for package, pin in pins.items() if not pin.hashes] == []
    assert len(pins) > len(list(asked_for(name)))


@pytest.mark.parametrize("name", NAMES)
def test_pins__name_no_address(name: str) -> None:
    """The index is chosen where they are installed, and the hashes hold for every index."""
    text = text_of(f"{name}.txt")
    assert "//" not in text
    assert set(OPTION.findall(text)) == {"--hash"}


@pytest.mark.parametrize("name", NAMES)
def test_pins__are_of_what_the_names_ask_for(name: str) -> None:
    pins, wanted = pins_of(name), list(asked_for(name))
    for requirement in wanted:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), requirement
    direct = {package for package, pin in pins.items() if f"-r {name}.in" in pin.asked_by}
    assert direct == {canonicalize_name(requirement.name) for requirement in wanted}


def test_pins__of_the_site_are_among_those_for_tests_and_benchmarks() -> None:
    site, *others = (
        {package: pin.version for package, pin in pins_of(name).items()} for name in NAMES
    )
    assert all(site.items() <= other.items() for other in others)


def test_pins__are_what_the_package_asks_for() -> None:
    """The tests run on these, and so on nothing that the package does not allow."""
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = pins_of("requirements-dev")
    for wanted in (*package["dependencies"], *chain(*package["optional-dependencies"].values())):
        requirement = Requirement(wanted)
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), wanted
