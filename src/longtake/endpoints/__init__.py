"""The endpoints by their ids: one request model each, whose schema is the published one."""

from types import ModuleType

from longtake.endpoints import ltx23, ltxv097, ltxv098
from longtake.errors import InvalidRequest

ENDPOINTS: dict[str, ModuleType] = {module.ENDPOINT: module for module in (ltxv097, ltxv098, ltx23)}


def endpoint(name: str) -> ModuleType:
    """The endpoint with this id, or whose id holds this part of one (`098`)."""
    found = [module for key, module in ENDPOINTS.items() if key == name] or [
        module for key, module in ENDPOINTS.items() if name and name in key
    ]
    if len(found) != 1:
        raise InvalidRequest(
            f"There is no endpoint {name!r}; there are {', '.join(ENDPOINTS)}.", loc=("endpoint",), given=name
        )
    return found[0]
