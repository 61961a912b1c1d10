"""The settings in the `config.json` of a model's part: which ones the part's class takes, which are ignored, and which
are refused."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longtake.errors import BadCheckpoint

log = logging.getLogger(__name__)

IGNORED = frozenset({"architectures", "auto_map", "dtype", "model_type", "torch_dtype", "transformers_version"})
"""Settings that diffusers or transformers write into the `config.json` of a model's part, and that have no effect on
it.

Settings whose names begin with an underscore have no effect either. A part's dtype is set by longtake's own settings.
"""

_NOT_LOGGED = frozenset(
    {
        "bos_token_id",
        "cache_implementation",
        "decoder_start_token_id",
        "eos_token_id",
        "n_positions",
        "output_past",
        "pad_token_id",
        "sliding_window_pattern",
        "task_specific_params",
    }
)
"""Settings in the published `config.json` files of text encoders for which `log_ignored` logs no warning.

`log_ignored` warns of settings that the configuration class in transformers does not have. These concern only the
generation of text, which does not happen here, or the class does read them but stores them under another name.
"""


def with_effect(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a `config.json` without the settings that change nothing.

    Those are the settings in `IGNORED`, and the ones whose names begin with an underscore.
    """
    return {name: value for name, value in config.items() if not _is_ignored(name)}


def arguments(cls: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of `settings` that the constructor of `cls`, a class of diffusers, takes as arguments."""
    return {name: settings[name] for name in inspect.signature(cls).parameters if name in settings}


def check_known(path: Path, model: Any, settings: Mapping[str, Any]) -> None:
    """Raises `BadCheckpoint` if a checkpoint has settings that the model's class in diffusers does not have.

    Such settings are not ignored, because the checkpoint may be one of another architecture.

    path: the checkpoint, for the message.
    model: the model, built from those of `settings` that its class has.
    settings: all settings of the checkpoint.
    """
    unknown = settings.keys() - model.config.keys()
    if unknown:
        raise BadCheckpoint(
            f"The configuration of {path} has settings that {type(model).__name__} does not have: {_listed(unknown)}. "
            "Remove them if they are not needed."
        )


def log_ignored(path: Path, built: Any, config: Mapping[str, Any]) -> None:
    """Logs a warning that names the settings without effect: those that their class in transformers does not have.

    Settings in nested configurations are logged too.

    path: the checkpoint, for the log line.
    built: the configuration object of transformers that was made from `config`.
    config: the content of a `config.json`.
    """
    extra = vars(built).keys() & config.keys() - vars(type(built)()).keys()
    unknown = {name for name in extra if not _is_ignored(name) and name not in _NOT_LOGGED}
    if unknown:
        log.warning(
            "The configuration of %s has settings that %s does not have; they are ignored: %s.",
            path,
            type(built).__name__,
            _listed(unknown),
        )
    for name in getattr(built, "sub_configs", {}):
        if isinstance(config.get(name), Mapping):
            log_ignored(path, getattr(built, name), config[name])


def _is_ignored(name: str) -> bool:
    return name.startswith("_") or name in IGNORED


def _listed(names: set[str]) -> str:
    return ", ".join(name[:100] for name in sorted(names)[:8])
