"""Whose requests this process holds: those of its own pod, or of the pods that share it."""

from collections import ChainMap, Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from squash.errors import SquashError
from squash.model import DebugAttachment
from squash.reasons import Reason
from squash.settings import SidecarSettings

from .identity import Identity, Peer, Pod, identified, load
from .template import render

REMEMBERED = 1_024
"""Identities whose attachment need not be rendered again."""


@dataclass(frozen=True)
class Tenant:
    """Of one hold: the attachment to create, or why there must be none."""

    attachment: DebugAttachment
    pod: Pod | None = None
    full: bool = False
    """As many requests of the pod are held as may be."""
    barred: Reason | None = None
    problem: str | None = None


class Tenants:
    """Raises SettingError when the template or the plug-in cannot be used."""

    def __init__(self, settings: SidecarSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._peers = load(settings.peers) if settings.peers else None
        self._held: Counter[Pod] = Counter()
        self._rendered: dict[Identity, DebugAttachment] = {}
        # Also a template for many is tried at the start.
        nobody = Identity(Pod("", ""))
        self._own = self._render(nobody) if self._peers else render(settings.template, environ)

    @property
    def namespace(self) -> str | None:
        """That of all requests, where it is one and known."""
        return self.container.get("namespace")

    @property
    def container(self) -> dict[str, str]:
        """Which container all requests are of, as far as the template names it; nothing where there are many."""
        given = {} if self._peers else self._own.spec.attachment
        named = {key: given.get(key) for key in ("pod", "namespace", "container")}
        return {key: value for key, value in named.items() if isinstance(value, str) and value}

    def begin(self, claims: Mapping[str, str], peer: Peer | None) -> Tenant:
        """A marked request came on a connection with `peer`; `end` must follow."""
        if self._peers is None:
            return Tenant(self._own)
        try:
            identity = identified(self._peers.pod_of(peer) if peer else None, claims)
        except SquashError as error:
            return Tenant(self._own, barred=error.reason, problem=error.message)
        full = self._held[identity.pod] >= self._settings.max_holds_per_pod
        self._held[identity.pod] += 1
        return Tenant(self._attachment(identity), identity.pod, full)

    def end(self, tenant: Tenant) -> None:
        """The hold is over."""
        if tenant.pod:
            self._held[tenant.pod] -= 1
            if not self._held[tenant.pod]:
                del self._held[tenant.pod]

    def _attachment(self, identity: Identity) -> DebugAttachment:
        if identity not in self._rendered:
            if len(self._rendered) >= REMEMBERED:
                self._rendered.clear()
            self._rendered[identity] = self._render(identity)
        return self._rendered[identity]

    def _render(self, identity: Identity) -> DebugAttachment:
        found = render(self._settings.template, ChainMap(identity.environ, dict(self._environ)))
        named = found.spec.attachment
        if not identity.container or named.get("container"):
            return found
        spec = msgspec.structs.replace(found.spec, attachment={**named, "container": identity.container})
        return msgspec.structs.replace(found, spec=spec)
