"""How Hydra reads ``conf/``: YAML values laid over the dataclass that the option's name stands for, imported only when chosen.

A group of many models would otherwise import all of them, and torch, to show a help text. An option without a YAML file is
found by its registered name alone, so that a plug-in of another package needs no file in ours.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict

from recbench.config.foreign import refuse_foreign_values
from recbench.config.schemas import GROUPS, HERE, conf_dir, known_option, read_values, registered
from recbench.config.settings import RootConfig
from recbench.config.tuned import OFF, flat_values
from recbench.core.errors import UserError
from recbench.core.secrets import hide_values

#: What a file of tuned values may set.
TUNED = ("model", "training")
#: The name of the top config; its schema is RootConfig.
TOP = "config"
#: A group without files: its one option is the name of the tuned file that is read unless another is named.
AUTOMATIC = "automatic"


def register_sources() -> None:
    """Tell Hydra of the two classes below; again is no harm."""
    from hydra.core.plugins import Plugins

    for plugin in (SchemaSource, SearchPath):
        Plugins.instance().register(plugin)


class SchemaSource(ConfigSource):
    """Config source ``recbench://FOLDER``."""

    @staticmethod
    def scheme() -> str:
        return "recbench"

    def _file(self, config_path: str) -> Path:
        own = f"tuned/{HERE}"
        if config_path.startswith(own):
            return Path("tuned", self._normalize_file_name(config_path.removeprefix(own))).absolute()
        return Path(self.path) / self._normalize_file_name(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._file(config_path)
        group, _, option = config_path.removesuffix(".yaml").rpartition("/")
        if group == AUTOMATIC:
            return self._plain(config_path, {"automatic": option})
        if config_path.removesuffix(".yaml") == f"tuned/{OFF}":
            return self._plain(config_path, {"tuned": {"name": OFF}})
        if not path.is_file() and option not in registered(group):
            raise ConfigLoadError(f"Config not found : {path}")
        text = path.read_text(encoding="utf-8") if path.is_file() else f"name: {option}"
        try:
            values = read_values(text)
        except yaml.YAMLError as error:
            raise UserError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from error
        if not isinstance(values, dict):
            raise UserError(f"{path} must hold keys with values")
        if config_path.startswith("tuned/"):  # so that what came from it can be told
            refuse_foreign_values(values, str(path), TUNED)
            name = config_path.removesuffix(".yaml").removeprefix("tuned/")
            values = {**values, "tuned": {"name": name, "values": flat_values(values)}}
        values = hide_values(values)
        defaults = values.pop("defaults", None)
        config = self._typed(group, option, values)
        if defaults is not None:
            with open_dict(config):
                config.defaults = defaults
        header = self._get_header_dict(text[:512])
        return ConfigResult(provider=self.provider, path=f"{self.scheme()}://{self.path}", config=config, header=header)

    def _plain(self, config_path: str, values: dict[str, Any]) -> ConfigResult:
        """A config that stands in no file."""
        made = OmegaConf.create(values)
        return ConfigResult(
            provider=self.provider, path=f"{self.scheme()}://{self.path}", config=made, header=self._get_header_dict("")
        )

    @staticmethod
    def _typed(group: str, option: str, values: dict[str, Any]) -> DictConfig:
        if group in GROUPS:
            return copy.deepcopy(known_option(group, values.get("name", option), values))
        if not group and option == TOP:
            hydra_part = values.pop("hydra", {})
            config = OmegaConf.merge(OmegaConf.structured(RootConfig), values)
            assert isinstance(config, DictConfig)
            with open_dict(config):
                config.hydra = hydra_part
            return config
        return OmegaConf.create(values)

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        return (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        group, _, option = config_path.removesuffix(".yaml").rpartition("/")
        made = group == AUTOMATIC or (group, option) == ("tuned", OFF)
        return made or self._file(config_path).is_file() or option in registered(group)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found: list[str] = []
        names = [entry.name for entry in (Path(self.path) / config_path).iterdir()]
        names += [f"{name}.yaml" for name in registered(config_path.strip("/"))]
        for name in names:
            self._list_add_result(found, f"{config_path}/{name}".lstrip("/"), name, results_filter)
        return sorted(set(found))


class SearchPath(SearchPathPlugin):
    """Puts ``conf/`` on Hydra's search path, read through SchemaSource."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="recbench", path=f"{SchemaSource.scheme()}://{conf_dir()}")
