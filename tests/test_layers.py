"""The rules of the architecture, held by reading the sources: who may import whom, who may name a protocol, sizes.

Imports for type checking only count like all others: whoever needs the type of a thing knows it.
"""

from __future__ import annotations

import ast
import functools
import re
import tokenize
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "polycast"

LEAVES = {"errors", "log", "security", "_version"}
"""Modules beside the layers that import nothing of ours and that every layer may import."""

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "log": {"errors"},
    "security": set(),
    "_version": set(),
    "media": set(LEAVES),
    "codecs": {"media", *LEAVES},
    "rtp": {"codecs", "media", *LEAVES},
    "hub": {"rtp", "codecs", "media", "config", *LEAVES},
    "wire": {"codecs", "media", "errors", "security"},
    "net": {"wire", *LEAVES},
    "config": {"providers", *LEAVES},
    "items": set(LEAVES),
    "providers": set(),
    "web": set(LEAVES),
    "service": set(),
    "transcode": {"codecs", "media", *LEAVES},
    "protocols": {"items", "web", "transcode", "hub", "rtp", "codecs", "media", "wire", "net", "config", *LEAVES},
    "record": {"items", "hub", "codecs", "media", "wire", "config", *LEAVES},
    "playback": {"transcode", "record", "web", "net", "codecs", "media", "wire", "config", *LEAVES},
    "control": {
        *{"items", "playback", "record", "transcode", "hub", "codecs", "media", "wire", "net", "config"},
        *LEAVES,
    },
    "cluster": {"items", "hub", "rtp", "codecs", "media", "wire", "net", "config", *LEAVES},
    "slates": {"hub", "wire", "codecs", "media", "config", *LEAVES},
    "demo": {"hub", "codecs", "media", *LEAVES},
}
"""What each layer may import besides itself. Those that are not listed (app, workers, cli, api) put them together."""

NO_INPUT_OUTPUT = {"asyncio", "socket", "select", "selectors", "ssl", "time", "random", "secrets", "os", "logging",
                   "threading", "subprocess", "uvloop"}  # fmt: skip
SANS_IO_LAYERS = ("wire", "media", "codecs", "rtp", "security")

PROTOCOL_NAMES = re.compile(r"rtsp(?!-simple-server)|rtmp|hls|webrtc|srt", re.IGNORECASE)
"""The name of the server that Polycast stands in for is no protocol's."""
OF_THE_NETWORK = ("polycast.wire.http.", "polycast.wire.pcapng", "polycast.wire.proxy_protocol")
"""Engines of protocols and formats that carry no streams, which the network and the control services may know."""
NAMELESS_LAYERS = ("hub", "control", "cluster")
ASSEMBLING_LAYERS = ("config", "app", "cli", "api", "workers")
NAMING_MODULES = {
    "app/application.py",
    "app/codec_document.py",
    "config/path_schema.py",
    "config/dialects/mediamtx_unsupported.py",
}
"""Commands get the port of one protocol, as they always did; the table of codecs has a column for each container; the
settings of a path have the names that users know, and another server has protocols that do not exist here."""

MODULE_LINES = 600
FUNCTION_LINES = 60
INITIAL_ATTRIBUTES = 12
TOO_LONG_MODULES: set[str] = set()
TOO_LONG_FUNCTIONS: set[str] = set()
"""Known to be over the limit (``path`` or ``path:function``). These two sets may only shrink."""
TOO_MANY_ATTRIBUTES: dict[str, int] = {
    "api/subscription.py:Subscription": 16,
    "api/writer.py:Writer": 15,
    "app/application.py:Application": 13,
    "hub/path.py:Path": 18,
    "media/continuity.py:TrackContinuity": 21,
    "net/budget.py:BudgetedProtocol": 15,
    "net/tls_handshake.py:TlsHandshake": 14,
    "net/tls_transport.py:TlsTransport": 19,
    "protocols/hls/remuxer.py:Remuxer": 20,
    "protocols/rtsp/source_receiver.py:SourceReceiver": 15,
    "protocols/webrtc/inbound.py:InboundMedia": 14,
    "protocols/webrtc/incoming.py:Incoming": 13,
    "protocols/webrtc/outgoing.py:OutgoingTrack": 13,
    "protocols/webrtc/session.py:Session": 14,
    "rtp/reports.py:ReceiverStatistics": 13,
    "wire/hls/muxer.py:Muxer": 15,
    "wire/hls/parser.py:_MediaParser": 18,
    "wire/hls/rendition.py:Rendition": 22,
    "wire/hls/segmenter.py:Segmenter": 14,
    "wire/rtmp/connection.py:Connection": 19,
}
"""Classes (``path:class``) whose ``__init__`` is known to make more attributes, and how many. May only shrink."""

READ_THE_ENVIRONMENT: set[str] = {"control/commands.py", "control/settings.py"}
"""Modules that read environment variables, besides those of the command line."""

CIRCLES: dict[frozenset[str], str] = {}
"""Circles of imports that are known, and why they are there. No other may be added."""


def modules(folder: str = "") -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py")) if folder else sorted(PACKAGE.rglob("*.py"))


@functools.cache
def parse(text: str) -> ast.Module:
    """Return the syntax tree of a module, which several rules look at."""
    return ast.parse(text)


@functools.cache
def import_statements(text: str) -> list[ast.Import | ast.ImportFrom]:
    """Return those of a module, inside functions, too."""
    return [node for node in ast.walk(parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield line, absolute name and imported names of every import of a module.

    Those inside functions and those for type checking only count, too.
    """
    package = ["polycast", *path.relative_to(PACKAGE).parent.parts]
    for node in import_statements(path.read_text()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, source, [alias.name for alias in node.names]


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import; what is imported from the package itself counts as a module."""
    for line, source, names in imports(path):
        if source == "polycast" and names:
            yield from ((line, f"polycast.{name}") for name in names)
        else:
            yield line, source


def import_graph() -> dict[str, set[str]]:
    """Return the modules that each module imports, for type checking and inside functions, too, by ``path``."""
    by_name = {module_name(path): relative(path) for path in modules()}
    return {
        relative(path): {by_name[name] for name in found_modules(path, by_name) if by_name[name] != relative(path)}
        for path in modules()
    }


def module_name(path: Path) -> str:
    return ".".join(("polycast", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def found_modules(path: Path, known: Container[str]) -> Iterator[str]:
    """Yield those of the ``known`` modules that a module names in its imports: ``from .a import b`` may be ``a.b``."""
    for _, source, names in imports(path):
        for name in names or [""]:
            if f"{source}.{name}" in known:
                yield f"{source}.{name}"
            elif source in known:
                yield source


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the modules that import each other, in groups (strongly connected components, Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for imported in graph[module]:
            if imported not in order:
                visit(imported)
            if imported in stack:
                lowest[module] = min(lowest[module], lowest[imported])
        if lowest[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[-len(group) :]
            if len(group) > 1:
                found.add(frozenset(group))

    for module in graph:
        if module not in order:
            visit(module)
    return found


def layered_modules() -> list[Path]:
    return [path for path in modules() if layer_of(path) in ALLOWED]


def test_there_are_modules_to_check() -> None:
    assert {"media", "codecs", "rtp", "hub", "wire", "net", "protocols"} <= {layer_of(path) for path in modules()}


def wrong_imports(path: Path) -> Iterator[str]:
    """Yield what a module imports although its layer may not."""
    layer = layer_of(path)
    allowed = ALLOWED[layer] | {layer}
    for line, name in imported_modules(path):
        if name.split(".")[0] == "polycast" and (name.split(".")[1:2] or ["the whole package"])[0] not in allowed:
            yield f"{relative(path)}:{line}: {layer} imports {name}"


def test_imports_go_one_way() -> None:
    wrong = [line for path in layered_modules() for line in wrong_imports(path)]
    assert not wrong, "\n".join(wrong)


def input_output(path: Path) -> Iterator[str]:
    """Yield what an engine imports although it does no I/O."""
    for line, name in imported_modules(path):
        if name.split(".")[0] in NO_INPUT_OUTPUT:
            yield f"{relative(path)}:{line}: imports {name}"


def test_engines_do_no_input_output() -> None:
    wrong = [line for folder in SANS_IO_LAYERS for path in modules(folder) for line in input_output(path)]
    assert not wrong, "\n".join(wrong)


def catch_alls(path: Path) -> Iterator[str]:
    """Yield where a module catches every exception."""
    for node in ast.walk(parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            caught = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)} if node.type else {"all"}
            if caught & {"all", "Exception", "BaseException"}:
                yield f"{relative(path)}:{node.lineno}: catches every exception"


def test_engines_hide_no_defects() -> None:
    """Only documented errors leave an engine; whatever else is raised is a defect, which ends the session."""
    wrong = [line for folder in SANS_IO_LAYERS for path in modules(folder) for line in catch_alls(path)]
    assert not wrong, "\n".join(wrong)


def names_of_protocols(path: Path, kinds: Container[int]) -> Iterator[str]:
    """Yield the lines of a module that name a protocol, in tokens of some kinds."""
    if not PROTOCOL_NAMES.search(path.read_text()):
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type in kinds and PROTOCOL_NAMES.search(token.string):
                yield f"{relative(path)}:{token.start[0]}: {token.line.strip()}"


def test_the_generic_layers_name_no_protocol() -> None:
    kinds = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT}
    wrong = [line for folder in NAMELESS_LAYERS for path in modules(folder) for line in names_of_protocols(path, kinds)]
    assert not wrong, "\n".join(wrong)


def test_what_is_made_of_declarations_names_no_protocol() -> None:
    """Texts for people may; names in the code would be a table of protocols that somebody has to know of."""
    every = [path for folder in ASSEMBLING_LAYERS for path in modules(folder) if relative(path) not in NAMING_MODULES]
    wrong = [line for path in every for line in names_of_protocols(path, {tokenize.NAME})]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("layer", ["net", "control"])
def test_the_network_knows_no_streaming_protocol(layer: str) -> None:
    wrong = [
        f"{relative(path)}:{line}: imports {name}"
        for path in modules(layer)
        for line, name in imported_modules(path)
        if name.startswith("polycast.wire") and not name.startswith(OF_THE_NETWORK)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_environment_is_only_read_for_the_configuration_and_for_programs() -> None:
    """Nothing behaves differently because of a variable that no document names."""
    reading = {
        relative(path) for path in modules() if re.search(r"\bos\.environ\b|\bgetenv\(|\.environ\b", path.read_text())
    }
    assert {name for name in reading if not name.startswith("cli/")} == READ_THE_ENVIRONMENT
    importing = {relative(path) for path in modules() if "__import__(" in path.read_text()}
    assert importing == {"net/loop.py"}


def test_no_module_is_too_long() -> None:
    too_long = {relative(path) for path in modules() if len(path.read_text().splitlines()) > MODULE_LINES}
    assert too_long - TOO_LONG_MODULES == set(), f"over {MODULE_LINES} lines: split by subject"
    assert TOO_LONG_MODULES - too_long == set(), "no longer too long: take it off the list"


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield the qualified name and the number of lines, docstring and decorators aside, of every function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}{child.name}"
            assert child.end_lineno is not None
            lines = child.end_lineno - child.lineno + 1
            first = child.body[0]
            if ast.get_docstring(child) is not None and first.end_lineno is not None:
                lines -= first.end_lineno - first.lineno + 1
            yield name, lines
            yield from functions(child, f"{name}.")
        else:
            yield from functions(child, prefix)


def test_no_function_is_too_long() -> None:
    too_long = {
        f"{relative(path)}:{name}"
        for path in modules()
        for name, lines in functions(parse(path.read_text()), "")
        if lines > FUNCTION_LINES
    }
    assert too_long - TOO_LONG_FUNCTIONS == set(), f"over {FUNCTION_LINES} lines: split"
    assert TOO_LONG_FUNCTIONS - too_long == set(), "no longer too long: take it off the list"


def test_no_modules_import_each_other() -> None:
    found = circles(import_graph())
    described = "\n".join(" <-> ".join(sorted(group)) for group in found - CIRCLES.keys())
    assert found - CIRCLES.keys() == set(), described
    assert CIRCLES.keys() - found == set(), "no longer a circle: take it off the list"


def attributes(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and number of attributes of every class of a module that has an ``__init__``."""
    for owner in ast.walk(parse(path.read_text())):
        for method in owner.body if isinstance(owner, ast.ClassDef) else []:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                own = method.args.args[0].arg
                names = {
                    node.attr
                    for node in ast.walk(method)
                    if isinstance(node, ast.Attribute)
                    and isinstance(node.ctx, ast.Store)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == own
                }
                yield owner.name, len(names)


def test_no_object_has_too_many_attributes() -> None:
    found = {
        f"{relative(path)}:{name}": count
        for path in modules()
        for name, count in attributes(path)
        if count > INITIAL_ATTRIBUTES
    }
    more = {name: count for name, count in found.items() if count > TOO_MANY_ATTRIBUTES.get(name, INITIAL_ATTRIBUTES)}
    assert more == {}, "too many attributes, or more than there were: group some in an object of their own"
    fewer = {name: count for name, count in TOO_MANY_ATTRIBUTES.items() if found.get(name, 0) < count}
    assert fewer == {}, "fewer than the list says: write down what there is now, or take it off the list"


def test_the_rules_catch_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    for layer in ("hub", "app", "wire"):
        (tmp_path / layer).mkdir()
    bad = tmp_path / "hub" / "bad.py"
    bad.write_text("from ..net import tcp\nfrom polycast import wire\nimport asyncio\nx = 'RTSP'\n")
    assert list(imported_modules(bad)) == [(1, "polycast.net"), (2, "polycast.wire"), (3, "asyncio")]
    with pytest.raises(AssertionError, match=r"hub imports polycast\.net"):
        test_imports_go_one_way()
    with pytest.raises(AssertionError, match="x = 'RTSP'"):
        test_the_generic_layers_name_no_protocol()
    test_engines_do_no_input_output()
    (tmp_path / "wire" / "bad.py").write_text("import asyncio\n")
    with pytest.raises(AssertionError, match="imports asyncio"):
        test_engines_do_no_input_output()
    for clause in ("except:", "except (ValueError, Exception):"):
        (tmp_path / "wire" / "bad.py").write_text(f"try:\n    f()\n{clause}\n    pass\n")
        with pytest.raises(AssertionError, match=r"wire/bad\.py:3: catches every exception"):
            test_engines_hide_no_defects()
    (tmp_path / "app" / "bad.py").write_text("x = 'RTSP'\n")
    test_what_is_made_of_declarations_names_no_protocol()
    (tmp_path / "app" / "bad.py").write_text("rtsp_port = 1\n")
    with pytest.raises(AssertionError, match="rtsp_port = 1"):
        test_what_is_made_of_declarations_names_no_protocol()
    bad.write_text("def f():\n" + "    pass\n" * FUNCTION_LINES)
    with pytest.raises(AssertionError, match="split"):
        test_no_function_is_too_long()


def test_circles_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    monkeypatch.setattr(f"{__name__}.CIRCLES", {})
    (tmp_path / "wire" / "parts").mkdir(parents=True)
    sources = {
        "wire/first.py": "from polycast.wire.second import Second\n",
        "wire/second.py": "from polycast.wire.parts import third\n",
        "wire/parts/__init__.py": "",
        "wire/parts/third.py": "import polycast.wire.first\n",
        "wire/fourth.py": "from polycast.wire import first, second\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(AssertionError, match=r"wire/first\.py <-> wire/parts/third\.py <-> wire/second\.py"):
        test_no_modules_import_each_other()
    (tmp_path / "wire/parts/third.py").write_text("")
    test_no_modules_import_each_other()
    monkeypatch.setattr(f"{__name__}.CIRCLES", {frozenset({"wire/first.py", "wire/second.py"}): "a reason"})
    with pytest.raises(AssertionError, match="no longer a circle"):
        test_no_modules_import_each_other()


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from polycast.hub.other import Other\n",
        "def late():\n    from polycast.hub import other\n",
        "from . import other\n",
        "from .other import Other\n",
    ],
)
def test_imports_for_type_checking_or_inside_functions_count(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    monkeypatch.setattr(f"{__name__}.CIRCLES", {})
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "one.py").write_text(text)
    (tmp_path / "hub" / "other.py").write_text("import polycast.hub.one")
    with pytest.raises(AssertionError, match=r"hub/one\.py <-> hub/other\.py"):
        test_no_modules_import_each_other()
    (tmp_path / "hub" / "one.py").write_text(
        text.replace("hub", "net").replace("from . ", "from ..net ").replace("from .o", "from ..net.o")
    )
    with pytest.raises(AssertionError, match=r"hub imports polycast\.net"):
        test_imports_go_one_way()


def test_attributes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    monkeypatch.setattr(f"{__name__}.TOO_MANY_ATTRIBUTES", {})
    module = tmp_path / "large.py"

    def write(count: int) -> None:
        lines = [f"self.a{number}: int = {number}" for number in range(count - 2)]
        lines += ["self.first, self.second = range(2)", "other.third = self.first = 1"]
        body = "".join(f"        {line}\n" for line in lines)
        module.write_text(f"class Large:\n    def __init__(self, other):\n{body}")

    write(INITIAL_ATTRIBUTES)
    test_no_object_has_too_many_attributes()
    write(INITIAL_ATTRIBUTES + 1)
    with pytest.raises(AssertionError, match="in an object of their own"):
        test_no_object_has_too_many_attributes()
    monkeypatch.setattr(f"{__name__}.TOO_MANY_ATTRIBUTES", {"large.py:Large": INITIAL_ATTRIBUTES + 1})
    test_no_object_has_too_many_attributes()
    write(INITIAL_ATTRIBUTES + 2)
    with pytest.raises(AssertionError, match="in an object of their own"):
        test_no_object_has_too_many_attributes()
    write(INITIAL_ATTRIBUTES)
    with pytest.raises(AssertionError, match="fewer than the list says"):
        test_no_object_has_too_many_attributes()
