"""What this target uses of the SDK beyond its public interface is what we have read.

Whatever we override, and every private name that we use, is found by looking at the package. A new
SDK that fails here must be read before the digest is renewed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import itertools
import pkgutil
import subprocess
import sys
import typing as t
from functools import cached_property
from pathlib import Path

import pytest
from harness import customer, schema, state

import target_altcraft

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Result

    from target_altcraft.sandbox import Sandbox

    Deliver = Callable[..., Result]

OVERRIDDEN_OR_PRIVATE = {
    "plugin_base.BaseSingerReader._assert_line_requires": "f6e8d2627b01de71",
    "plugin_base.PluginBase.cb_config": "bb313c8c34f6ff33",
    "singerlib.encoding.base.GenericSingerReader.__init__": "028cb63c3ebe744a",
    "singerlib.encoding.base.GenericSingerReader.assert_line_requires": "91c2ae04d02f56c8",
    "singerlib.encoding.base.GenericSingerReader.default_input": "b652918fcea2d3bd",
    "singerlib.encoding.base.GenericSingerReader.deserialize_json": "2c8df589c4175b25",
    "singerlib.encoding.base.GenericSingerReader.process_lines": "f6d848854616d1d8",
    "sinks.core.BaseJSONSchemaValidator.__init__": "23ad94bd50baba52",
    "sinks.core.BaseJSONSchemaValidator.validate": "d0ed279b19c9a336",
    "sinks.core.Sink.__init__": "8013bcca4771f0ee",
    "sinks.core.Sink.get_validator": "bb2fff05e8ae5de8",
    "sinks.core.Sink.process_batch": "595e61c36b1a07bb",
    "sinks.core.Sink.process_record": "c7178cb50eea36eb",
    "target_base.Target.__init__": "8bd68db7b870726f",
    "target_base.Target._handle_max_record_age": "5762750ab1035404",
    "target_base.Target._handle_termination": "0d610b822293792b",
    "target_base.Target._process_activate_version_message": "377950028ca9b3eb",
    "target_base.Target._process_batch_message": "f26fbe519745daf2",
    "target_base.Target._process_record_message": "08aaf4096e2d39e7",
    "target_base.Target._process_schema_message": "ed6e8449bc8ff234",
    "target_base.Target._process_state_message": "e27158e2b1e7ea6d",
    "target_base.Target.append_builtin_config": "a13850e650ef84ac",
    "target_base.Target.get_singer_command": "8cfb93a350314f81",
    "target_base.Target.invoke": "09090ea685c4bda1",
    "target_base.Target.process_endofpipe": "cfb659b6898b0490",
}
"""Found by looking at the package; paths within `singer_sdk`."""

RELIED_ON = {
    # The way of a line and of a run.
    "plugin_base.BaseSingerReader.listen": "5bdc6bfc69145dcd",
    "plugin_base.BaseSingerReader.process_lines": "3442243efb20c07d",
    "plugin_base.BaseSingerReader.__init__": "a6124e35eb5e6d02",
    "plugin_base.BaseSingerIO.__init__": "a6f8a8c17c916e52",
    "plugin_base.BaseSingerIO.instantiate_processor": "54bc39122e596c27",
    "plugin_base.PluginBase.__init__": "e4d42262fbeb7fbe",
    "plugin_base.PluginBase._setup_signal_handlers": "eb4287001bdd7d19",
    "plugin_base.PluginBase._validate_config": "0584b9e347e353fa",
    "plugin_base.SingerCommand": "125d5647c22b8191",
    "plugin_base._ConfigInput": "9af0dd6ae9800be9",
    "_logging._setup_console_logging": "24724879cbb17e02",
    # Sinks, which hold no records: what drains them finds nothing and emits no STATE.
    "target_base.Target.get_sink": "d50a023664a5c97b",
    "target_base.Target.add_sink": "73895e789f578eb6",
    "target_base.Target.drain_all": "1da0109210d345c4",
    "target_base.Target.drain_one": "97c86cb67c13cf79",
    "target_base.Target._drain_all": "8160903b09186596",
    "sinks.core.Sink.current_size": "d5a202dd74824174",
    "sinks.core.Sink.clean_up": "4b228ab949f482fb",
    # Stream maps: which there are for a stream, and what leaves a record as it is.
    "mapper.PluginMapper.register_raw_stream_schema": "b86016569f9b1404",
    "mapper.StreamMap.flattening_enabled": "9e9ab2f48c35207e",
    "mapper.StreamMap.transform": "3d21910fbf85f850",
    "mapper.SameRecordTransform": "a97c612521d83812",
    "mapper.RemoveRecordTransform": "72e50f9199ea12e8",
    "mapper.CustomStreamMap.transform": "52eeba72b355b5ab",
    "mapper.CustomStreamMap._eval": "389317fd6fbbdc12",
    # What is compiled of a stream map, and from where: its rules and its filter.
    "mapper.CustomStreamMap._init_functions_and_schema": "bf9de492d675eecc",
    "mapper.CustomStreamMap.get_filter_result": "c9e760f3f494520b",
    "mapper.CustomStreamMap.functions": "11b566f4cd1831b0",
    "mapper.StreamMap.flatten_record": "ccb0ee05e2c2b860",
    "mapper._MapperEval": "4459bd4ba21babb0",
    # The stock validator, for schemas that the compiled one does not know.
    "sinks.core.JSONSchemaValidator.__init__": "17bce4eb0d6684b9",
    # Metrics, and the log: its formatter knows a metric by the arguments of the log call.
    "metrics.Point": "f8c6ccb278e7413c",
    "metrics.log": "5a690282ec87bd6d",
    "logging.StructuredFormatter.format": "ba6573a5c549c4e7",
}
"""What our code takes for granted of how the SDK works."""

FOLDER = Path(target_altcraft.__file__).parent
MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages([str(FOLDER)], "target_altcraft.")
    if not found.name.startswith("target_altcraft.sandbox")
]


def is_of_the_sdk(thing: t.Any) -> bool:
    return str(thing.__module__).split(".")[0] == "singer_sdk"


def path_of(base: type, name: str) -> str:
    return f"{base.__module__}.{base.__qualname__}.{name}".partition(".")[2]


def our_classes() -> Iterator[type]:
    """Those that derive from one of the SDK's."""
    for module in MODULES:
        for _, one in inspect.getmembers(module, inspect.isclass):
            if one.__module__ == module.__name__ and any(map(is_of_the_sdk, one.__mro__)):
                yield one


def function_of(thing: t.Any) -> t.Any:
    """The function behind a method or property; None if it is a plain value."""
    if isinstance(thing, property):
        return thing.fget
    if isinstance(thing, cached_property):
        return thing.func
    thing = getattr(thing, "__func__", thing)
    return thing if inspect.isfunction(thing) else None


def overridden() -> Iterator[str]:
    for one in our_classes():
        for name in vars(one):
            bases = [base for base in one.__mro__ if is_of_the_sdk(base) and name in vars(base)]
            if bases and function_of(vars(bases[0])[name]):
                yield path_of(bases[0], name)


def private_names(tree: ast.Module) -> set[str]:
    """The private names of others that a module uses."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    used = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
    return {name for name in used - own if name[0] == "_" and name[:2] != "__"}


def private() -> Iterator[str]:
    bases = {base for one in our_classes() for base in one.__mro__ if is_of_the_sdk(base)}
    for module in MODULES:
        tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("singer_sdk"):
                for alias in node.names:
                    path = f"{node.module}.{alias.name}"
                    if "._" in path:
                        yield path.partition(".")[2]
        for name, base in itertools.product(private_names(tree), bases):
            if function_of(vars(base).get(name)):
                yield path_of(base, name)
            elif f"self.{name}" in inspect.getsource(vars(base).get("__init__", path_of)):
                yield path_of(base, "__init__")


def digest(path: str) -> str:
    """Of the source of what stands at a dotted path within the SDK."""
    thing: t.Any = importlib.import_module("singer_sdk")
    for name in path.split("."):
        if hasattr(thing, "__path__") and importlib.util.find_spec(f"{thing.__name__}.{name}"):
            thing = importlib.import_module(f"{thing.__name__}.{name}")
        else:
            thing = inspect.getattr_static(thing, name)
    source = inspect.getsource(function_of(thing) or thing)
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def test_everything_that_we_override_or_use_in_private_is_listed() -> None:
    found = {*overridden(), *private()}
    assert {path: digest(path) for path in sorted(found - OVERRIDDEN_OR_PRIVATE.keys())} == {}
    assert sorted(OVERRIDDEN_OR_PRIVATE.keys() - found) == []  # no longer used


@pytest.mark.parametrize("path", [*OVERRIDDEN_OR_PRIVATE, *RELIED_ON])
def test_the_sdk_is_as_we_have_read_it(path: str) -> None:
    assert digest(path) == {**OVERRIDDEN_OR_PRIVATE, **RELIED_ON}[path]


# Its deprecation warnings are errors of the suite (see pyproject.toml); the command runs alone.

_IMPORT = """
import warnings
from singer_sdk.helpers import _compat
warnings.simplefilter("error", _compat.SingerSDKDeprecationWarning)
warnings.simplefilter("error", _compat.SingerSDKPendingDeprecationWarning)
import {}
"""


@pytest.mark.parametrize("module", ["target", "reader", "validation"])
def test_importing_uses_nothing_that_the_sdk_is_about_to_drop(module: str) -> None:
    command = [sys.executable, "-c", _IMPORT.format(f"target_altcraft.{module}")]
    subprocess.run(command, check=True, timeout=60)


def test_a_run_uses_nothing_that_the_sdk_is_about_to_drop(
    sandbox: Sandbox, deliver: Deliver, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 2, "email": "c2@example.com"}\n', encoding="utf-8")
    batch = {
        "type": "BATCH",
        "stream": "customers",
        "encoding": {"format": "jsonl"},
        "manifest": [path.as_uri()],
    }
    settings = {
        "stream_maps": {"customers": {"_city": "'Perm'"}},
        "flattening_enabled": True,
        "flattening_max_depth": 1,
    }
    result = deliver([schema(), customer(1), batch, state(1)], settings)
    assert result.status == 0, result.stderr
    assert len(sandbox.entries) == 2
    assert "DeprecationWarning" not in result.stderr
