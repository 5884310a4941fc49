"""What knows containers: a platform finds the one that an attachment means."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from msgspec.structs import replace

from squash.errors import ApiError, SettingError
from squash.model import AttachmentSpec
from squash.reasons import Reason
from squash.settings import CoordinatorSettings

GROUP = "squash.platforms"


@dataclass(frozen=True)
class Container:
    """A container that runs. `attachment` is the `spec.attachment` that means this one and no other."""

    image: str
    node: str
    attachment: dict[str, Any]


class Platform(Protocol):
    """Made with the coordinator's settings; raises SettingError then when it cannot work."""

    async def locate(self, attachment: Mapping[str, Any]) -> Container:
        """Raises ApiError 404 when there is none or several that could be meant, 422 for an unfit value."""
        ...


def load(settings: CoordinatorSettings) -> Platform:
    """The installed platform that the settings name: an entry point of the group `squash.platforms`."""
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if settings.platform not in installed:
        known = ", ".join(sorted(installed))
        raise SettingError(f"platform = {settings.platform!r} cannot be used: installed are {known}")
    platform: Platform = installed[settings.platform].load()(settings)
    return platform


async def located(platform: Platform, spec: AttachmentSpec) -> AttachmentSpec:
    """The spec with image, node and attachment of its container. Raises ApiError 400 when it named another image."""
    container = await platform.locate(spec.attachment)
    if spec.image and spec.image != container.image:
        message = f"spec.image is {spec.image!r}, and the container runs {container.image!r}"
        raise ApiError(400, Reason.IMAGE_MISMATCH, message)
    return replace(spec, image=container.image, node=container.node, attachment=container.attachment)
