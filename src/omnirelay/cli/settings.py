"""Where the mesh is and who asks: options, else OMNIRELAY_* variables, else the profile file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirelay.errors import ConfigInvalid

DEFAULT_PROFILE = "~/.config/omnirelay/profile.yaml"
_PROFILE_KEYS = frozenset({"endpoint", "ca", "cert", "key", "token_file", "output"})
_IDENTITY = ("cert", "key", "token_file", "token")


@dataclass(frozen=True, slots=True)
class Settings:
    endpoints: tuple[str, ...]
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    token: str | None = None
    output: str = "table"


def resolve(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Raises ConfigInvalid, which names what is missing or wrong.

    An identity is taken as a whole from the first place that has one: a token from the command line never travels
    beside somebody's certificate from the environment.
    """
    sources = [_given(options), _environment(environ), _profile(environ)]
    identity = next((found for source in sources if (found := _pick(source, _IDENTITY))), {})
    rest = {name: value for source in reversed(sources) for name, value in source.items() if name not in _IDENTITY}
    if not rest.get("endpoint"):
        raise ConfigInvalid("no endpoint: name one with --endpoint, OMNIRELAY_ENDPOINT or the profile")
    return Settings(
        endpoints=tuple(rest["endpoint"]),
        ca=_path(rest.get("ca")),
        cert=_path(identity.get("cert")),
        key=_path(identity.get("key")),
        token=identity.get("token") or _token(_path(identity.get("token_file"))),
        output=str(rest.get("output", "table")),
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = ("ca", "cert", "key", "token", "token_file", "output")
    found: dict[str, Any] = {name: environ.get(f"OMNIRELAY_{name.upper()}") for name in names}
    found["endpoint"] = [part.strip() for part in environ.get("OMNIRELAY_ENDPOINT", "").split(",") if part.strip()]
    return _given(found)


def _profile(environ: Mapping[str, str]) -> dict[str, Any]:
    chosen = environ.get("OMNIRELAY_PROFILE")
    path = Path(chosen or DEFAULT_PROFILE).expanduser()
    if not chosen and not path.exists():
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigInvalid(f"cannot read the profile {path}: {error}") from error
    if not isinstance(content, dict) or (unknown := content.keys() - _PROFILE_KEYS):
        wrong = f"unknown keys {sorted(map(str, unknown))}" if isinstance(content, dict) else "not a mapping"
        raise ConfigInvalid(f"the profile {path} is wrong: {wrong}; it may have {sorted(_PROFILE_KEYS)}")
    for name in ("ca", "cert", "key", "token_file"):
        if name in content:
            content[name] = path.parent / Path(str(content[name])).expanduser()
    if isinstance(content.get("endpoint"), str):
        content["endpoint"] = [content["endpoint"]]
    return _given(content)


def _pick(source: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: source[name] for name in names if name in source}


def _path(value: object) -> Path | None:
    return Path(str(value)).expanduser() if value else None


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"cannot read the token file {path}: {error}") from error
