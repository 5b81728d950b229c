"""Finds the route of a request from the raw path, before anything is percent-decoded.

So `%2F` never separates: `/kv/x%2Fmetadata` is the value of a key (a reserved one), not the metadata of `x`. A `{key}`
in a template takes any number of segments, also none (the key check answers for that); other names take one segment.

aiohttp's own router decodes before handlers see the path, and its application layer costs a third of a GET; the
handlers therefore sit on aiohttp's low-level server.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from kvs.auth.principal import Principal
from kvs.errors import MethodNotAllowed, NotFound
from kvs.server.access import Access
from kvs.server.response import Response
from kvs.server.room import Room


class Call:
    """What a handler gets: the request, the raw values of the template's names, and who asks.

    `principal` can be another one behind a body: see `admit_again`. `room` is where a large body has its place while it
    arrives; None for peers, who are trusted to send what they say.
    """

    __slots__ = ("admit", "parameters", "principal", "request", "room")

    def __init__(
        self,
        request: web.BaseRequest,
        parameters: Mapping[str, str],
        principal: Principal,
        admit: Callable[[], Principal],
        room: Room | None = None,
    ) -> None:
        self.request = request
        self.parameters = parameters
        self.principal = principal
        self.admit = admit
        """Tells who asks now."""
        self.room = room

    def admit_again(self) -> None:
        """For behind a wait for the client, which may take minutes: meanwhile a token ends, a user leaves a group.
        Raises Unauthorized, Forbidden."""
        self.principal = self.admit()


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, eq=False, slots=True)
class Route:
    """`template` is the documented path; `access` is what whoever asks must have. Each is only equal to itself, so that
    looking something up by it costs next to nothing."""

    method: str
    template: str
    access: Access
    handler: Handler


class _Resource(NamedTuple):
    pattern: re.Pattern[str]
    methods: dict[str, Route]


_NO_PARAMETERS: Mapping[str, str] = {}


class Router:
    """Resolves a path by the first template that matches it, in the order of the table."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._static: dict[str, dict[str, Route]] = {}
        self._by_root: dict[str, list[_Resource]] = {}
        templates: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = templates.setdefault(route.template, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route
        for template, methods in templates.items():
            if "{" not in template:
                self._static[template] = methods
            else:
                root = _root(template)
                self._by_root.setdefault(root, []).append(_Resource(_compile(template), methods))

    def resolve(self, method: str, raw_path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and its raw parameters. Raises NotFound, MethodNotAllowed."""
        methods = self._static.get(raw_path)
        parameters = _NO_PARAMETERS
        if methods is None:
            for resource in self._by_root.get(_root(raw_path), ()):
                found = resource.pattern.fullmatch(raw_path)
                if found is not None:
                    methods, parameters = resource.methods, found.groupdict()
                    break
            else:
                raise NotFound("there is no such resource", code="unknown_route")
        route = methods.get(method)
        if route is None:
            raise MethodNotAllowed(f"this resource does not take {method[:20]}", sorted(methods))
        return route, parameters


def _root(path: str) -> str:
    """The first segment with its slashes."""
    return path[: path.find("/", 1) + 1]


def _compile(template: str) -> re.Pattern[str]:
    pattern = re.escape(template).replace(r"\{key\}", "(?P<key>.*)")
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]*)", pattern), re.DOTALL)
