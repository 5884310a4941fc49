"""What knows containers: a platform finds the one that an attachment means."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from msgspec.structs import replace

from squash import images
from squash.errors import ApiError, SettingError, SquashError
from squash.model import AttachmentSpec
from squash.model import Container as KnownContainer
from squash.reasons import Reason
from squash.settings import CoordinatorSettings

GROUP = "squash.platforms"


@dataclass(frozen=True)
class Container:
    """A container that runs. `attachment` is the `spec.attachment` that means this one and no other."""

    image: str
    node: str
    attachment: dict[str, Any]
    images: frozenset[str] = frozenset()
    """Other names of the same image, such as its digest."""


class Platform(Protocol):
    """Made with the coordinator's settings; raises SettingError then when it cannot work."""

    async def locate(self, attachment: Mapping[str, Any]) -> Container:
        """Raises ApiError 404 when there is none or several that could be meant, 422 for an unfit value."""
        ...

    async def containers(self) -> list[KnownContainer]:
        """Every container that runs, to choose from."""
        ...


def load(settings: CoordinatorSettings) -> Platform:
    """The installed platform that the settings name: an entry point of the group `squash.platforms`."""
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if settings.platform not in installed:
        known = ", ".join(sorted(installed))
        raise SettingError(f"platform = {settings.platform!r} cannot be used: installed are {known}")
    try:
        factory = installed[settings.platform].load()
    except ImportError as error:
        name = settings.platform
        raise SettingError(f"platform = {name!r} needs a library: pip install 'squash[{name}]' ({error})") from error
    platform: Platform = factory(settings)
    return platform


async def located(platform: Platform, spec: AttachmentSpec) -> AttachmentSpec:
    """The spec with image, node and attachment of its container. Raises ApiError 400 when it named another image."""
    container = await platform.locate(spec.attachment)
    if spec.image and not images.same(spec.image, container.image, container.images):
        message = f"spec.image is {spec.image!r}, and the container runs {container.image!r}"
        raise ApiError(400, Reason.IMAGE_MISMATCH, message)
    others = sorted(container.images - {container.image}) or None
    return replace(spec, image=container.image, images=others, node=container.node, attachment=container.attachment)


def text(attachment: Mapping[str, Any], key: str) -> str | None:
    """A value of `spec.attachment` that has to be text; None when it is absent or empty. Raises ApiError 422."""
    value = attachment.get(key)
    if value is not None and not isinstance(value, str):
        raise ApiError(422, Reason.INVALID, f"spec.attachment.{key} must be text, got {type(value).__name__}")
    return value or None


def refused(error: SquashError) -> ApiError:
    """What a container runtime could not tell, as an answer of the API."""
    return error if isinstance(error, ApiError) else ApiError(503, error.reason, error.message)
