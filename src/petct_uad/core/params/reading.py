"""Read params.yaml; say which key is wrong, how, and what is allowed there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from petct_uad.core.errors import ParamsError, did_you_mean
from petct_uad.core.params.base import GeneralPart, Part

PARAMS_FILE = Path("params.yaml")

T = TypeVar("T")


@dataclass
class ParamsFile:
    """A params.yaml whose sections are checked when they are asked for, and which keeps count.

    Attributes:
        path: named in messages.
        content: as YAML gave it.
        asked: the dotted keys that were read so far, and their values, for lineage. ``workers`` is
            never among them, since it changes no byte of any output.
    """

    path: Path
    content: Any
    asked: dict[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, path: Path = PARAMS_FILE) -> Self:
        """The file as it lies there.

        Raises:
            ParamsError: it is missing or no YAML.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ParamsError(
                f"{path}: not found. Run stages from the repository's root."
            ) from None
        except UnicodeDecodeError as error:
            raise ParamsError(f"{path}: is not valid YAML: {error}") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """The text of a params.yaml; ``path`` is named in messages.

        Raises:
            ParamsError: it is no YAML.
        """
        try:
            # As DVC reads it: YAML 1.2, in which 1e-9 is a number. PyYAML would see a string.
            return cls(path, YAML(typ="safe").load(text))
        except YAMLError as error:
            raise ParamsError(f"{path}: is not valid YAML: {error}") from error

    @property
    def dataset(self) -> str:
        """The name of the data set.

        Raises:
            ParamsError: it is missing or none.
        """
        dataset = self._checked(TypeAdapter(GeneralPart)).dataset
        self.asked["dataset"] = dataset
        return dataset

    @property
    def workers(self) -> int:
        """How many processes read and write data. It changes no byte, so no stage depends on it.

        Raises:
            ParamsError: it is missing or no such number.
        """
        return self._checked(TypeAdapter(GeneralPart)).workers

    def section(self, kind: type[T], key: str = "") -> T:
        """What lies under a dotted key, or the whole file, as a checked ``kind``; noted as asked.

        Raises:
            ParamsError: naming each wrong key, its value and what is allowed there.
        """
        adapter = TypeAdapter(kind)
        found = self._checked(adapter, key)
        plain = adapter.dump_python(found, mode="json", by_alias=True)
        if isinstance(kind, type) and issubclass(kind, Part):
            self.asked.update({f"{key}.{name}".lstrip("."): plain[name] for name in plain})
        else:
            self.asked[key] = plain
        return found

    def _checked(self, adapter: TypeAdapter[T], key: str = "") -> T:
        place = tuple(filter(None, key.split(".")))
        try:
            # Through JSON, since strict mode then still lets a list become a tuple.
            return adapter.validate_json(json.dumps(self._under(place)))
        except ValidationError as error:
            lines = explained(error, adapter, place)
            raise ParamsError("\n".join(f"{self.path}: {line}" for line in lines)) from error

    def _under(self, place: tuple[str, ...]) -> Any:
        content = self.content
        for depth, part in enumerate(place, start=1):
            known = content if isinstance(content, dict) else {}
            if part not in known:
                raise ParamsError(
                    f"{'.'.join(place[:depth])}: not in {self.path}; "
                    f"expected one of {', '.join(map(str, known)) or 'its keys'}"
                )
            content = known[part]
        return content


def explained(
    error: ValidationError, adapter: TypeAdapter[T], place: tuple[str, ...] = ()
) -> Iterator[str]:
    """A line for every wrong key of what the adapter checks, at ``place`` in params.yaml."""
    schema = adapter.json_schema()
    return (_explain(detail, schema, place) for detail in error.errors())


def _explain(detail: ErrorDetails, schema: dict[str, Any], place: tuple[str, ...]) -> str:
    location = detail["loc"]
    key = ".".join(map(str, (*place, *location))) or "params"
    if detail["type"] == "extra_forbidden":
        siblings = sorted(schema_node(schema, location[:-1]).get("properties", {}))
        hint = did_you_mean(str(location[-1]), siblings)
        allowed = ", ".join(siblings)
        return f"{key} = {detail['input']!r}: unknown key.{hint} Allowed here: {allowed}"
    if detail["type"] == "missing":
        return f"{key}: missing; expected {allowed_in_words(schema_node(schema, location))}"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    shown = "null" if detail["input"] is None else repr(detail["input"])
    return f"{key} = {shown}: expected {allowed_in_words(schema_node(schema, location))}"


def schema_node(schema: dict[str, Any], location: tuple[int | str, ...]) -> dict[str, Any]:
    """What a JSON schema says of one key.

    Args:
        schema: of the whole of what is checked, with its ``$defs``.
        location: the names of groups and of the key, and places in a list.

    Returns:
        The node there, references followed; {} where the schema has no such key.
    """
    node = schema
    for part in location:
        inner = (
            node.get("items", {})
            if isinstance(part, int)
            else node.get("properties", {}).get(part, node.get("additionalProperties", {}))
        )
        node = inner if isinstance(inner, dict) else {}
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def allowed_in_words(node: dict[str, Any]) -> str:
    """What a key accepts, in words: ``an integer, at least 1, at most 64``."""
    if "enum" in node or "const" in node:
        return "one of " + ", ".join(map(repr, node.get("enum", [node.get("const")])))
    kinds = {"integer": "an integer", "number": "a number", "boolean": "true or false",
             "string": "a string", "object": "a group of keys", "array": "a list"}  # fmt: skip
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most",
             "exclusiveMaximum": "below", "multipleOf": "a multiple of", "pattern": "matching",
             "minLength": "of length at least", "maxLength": "of length at most",
             "minItems": "of at least (items)"}  # fmt: skip
    parts = [kinds.get(node.get("type", ""), "another value")]
    parts += [f"{word} {node[name]}" for name, word in words.items() if name in node]
    return ", ".join(parts)
