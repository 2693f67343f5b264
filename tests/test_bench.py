"""The measurements in bench/ still fit what they measure: each is imported, none is run."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.mark.parametrize("path", sorted(BENCH.glob("*.py")), ids=lambda path: path.stem)
def test_it_can_be_imported_and_says_what_it_measures(path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))  # some import another
    before = set(sys.modules)
    spec = spec_from_file_location(f"bench_{path.stem}", path)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # for dataclasses
    try:
        spec.loader.exec_module(module)
    finally:
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCH:
                del sys.modules[name]
    assert module.__doc__
