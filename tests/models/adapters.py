"""Reads the adapters of a plan, all of them at once."""

from collections.abc import Sequence

from longtake.models.lora_files import NO_SOURCES, LoraSources
from longtake.models.loras import LoadedAdapter, LoraCache, open_adapters, read_adapters
from longtake.models.registry import ModelCard
from longtake.plans import PlannedAdapter
from longtake.settings import Settings


def load_adapters(
    planned: Sequence[PlannedAdapter],
    card: ModelCard,
    settings: Settings,
    cache: LoraCache,
    sources: LoraSources = NO_SOURCES,
) -> list[LoadedAdapter]:
    with open_adapters(planned, card, settings, sources) as opened:
        return list(read_adapters(opened, cache, sources.check))
