"""XML documents of cameras: read without DTD, entities and namespaces, and within limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from polycast.errors import RemoteProtocolError
from polycast.wire.xml_text import without_invalid

MAXIMUM_DOCUMENT: Final = 128 * 1024
"""Bytes of a document: the profiles of a recorder with 64 channels are about 100 KiB."""
MAXIMUM_DEPTH: Final = 32
"""Elements inside each other; ONVIF uses about ten."""
MAXIMUM_ELEMENTS: Final = 8192
"""Elements of a document."""


class Element:
    """An element. Names are without their namespaces: cameras differ in the versions of these."""

    __slots__ = ("attributes", "children", "name", "parts")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.children: list[Element] = []
        self.parts: list[str] = []

    @property
    def text(self) -> str:
        """The text that is directly in it, without white space around it."""
        return "".join(self.parts).strip()

    def all(self, name: str) -> Iterator[Element]:
        """Yield the elements of a name, at any depth, in their order."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.all(name)

    def first(self, *names: str) -> Element | None:
        """Return the first element that is found along a path of names, each at any depth below the one before."""
        found: Element | None = self
        for name in names:
            found = next(found.all(name), None) if found is not None else None
        return found

    def value(self, *names: str) -> str:
        """Return the text of `first`; empty if there is none."""
        found = self.first(*names)
        return found.text if found is not None else ""


class _Builder:
    def __init__(self) -> None:
        self.root = Element("", {})
        self._open = [self.root]
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) > MAXIMUM_DEPTH or self._count > MAXIMUM_ELEMENTS:
            raise RemoteProtocolError("the document has too many elements")
        element = Element(_local(name), {_local(key): value for key, value in attributes.items()})
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, _: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        self._open[-1].parts.append(data)


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _refuse(*_: object) -> NoReturn:
    raise RemoteProtocolError("the document has a DTD or an entity")


def parse(data: bytes) -> Element:
    """Return the root element of a document. Raises RemoteProtocolError."""
    if len(data) > MAXIMUM_DOCUMENT:
        raise RemoteProtocolError("the document is too large")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    # A document type can define entities that grow without limits, or that read files; SOAP forbids it (SOAP 1.2 part 1
    # section 5).
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    parser.SkippedEntityHandler = _refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: an encoding that is not known
        raise RemoteProtocolError(f"not an XML document: {error}") from error
    return builder.root.children[0]


def element(name: str, *content: str, **attributes: str) -> str:
    """Return an element with content that is XML already; see `text`."""
    written = "".join(
        f" {key.replace('_', ':')}={quoteattr(without_invalid(value))}" for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(content)}</{name}>"


def text(value: str) -> str:
    """Return text as XML."""
    return escape(without_invalid(value))
