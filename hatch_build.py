"""Put recipes and the plugin's help page into the wheel; an editable install finds them in the checkout."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RecipesHook(BuildHookInterface[Any]):
    """Adds ``configs/`` to a standard wheel; an editable one would shadow the checkout with a copy."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name what the wheel holds beside the package; called by hatchling before each build."""
        if version == "standard":
            build_data["force_include"]["configs"] = "medseg/configs"
            build_data["force_include"]["docs/napari.md"] = "napari_plugin/napari.md"
