"""Hops 4 to 8: a prepared request becomes a longer video in one file. The only place that knows the whole way."""

from collections.abc import Sequence
from pathlib import Path

from longtake import take_ltx2, take_ltxv
from longtake.clip import OnProgress, ignore_progress
from longtake.extend.kept import NOTHING_KEPT, Kept
from longtake.footage import Result
from longtake.media.formats import Recipe
from longtake.models.lora_files import Fetch, Lora
from longtake.models.loras import Adapter, LoraCache, gather, own
from longtake.models.ltx2 import LTX2
from longtake.models.ltxv import LTXV
from longtake.models.registry import ModelCard
from longtake.plan import AnyPlan, LTX2Plan
from longtake.prepare import Prepared
from longtake.settings import Settings


def take(
    prepared: Prepared,
    models: LTXV | LTX2,
    path: Path,
    recipe: Recipe,
    settings: Settings,
    *,
    adapters: Sequence[tuple[Adapter, float]] = (),
    kept: Kept = NOTHING_KEPT,
    on_progress: OnProgress = ignore_progress,
) -> Result:
    """Carries a plan out and writes the video to `path`, which appears whole or not at all.

    `adapters` are those the plan names, read (`adapters_of`). What is done of it is `kept`: the same plan carried out
    again goes on from there, to the same bits. `on_progress` hears of every step, and cancels the work
    by raising.
    """
    plan = prepared.plan
    if isinstance(plan, LTX2Plan):
        assert isinstance(models, LTX2)
        return take_ltx2.take(
            prepared, plan, models, path, recipe, settings, adapters=adapters, kept=kept, on_progress=on_progress
        )
    assert isinstance(models, LTXV)
    return take_ltxv.take(
        prepared, plan, models, path, recipe, settings, adapters=adapters, kept=kept, on_progress=on_progress
    )


def adapters_of(
    plan: AnyPlan,
    card: ModelCard,
    settings: Settings,
    cache: LoraCache,
    *,
    fetch: Fetch | None = None,
    any_path: bool = False,
) -> list[tuple[Adapter, float]]:
    """All adapters that a plan names, read, with their scales in the first pass: the user's LoRAs, the camera's, and
    the distilled one. Raises InvalidRequest or NotSupported naming the field of one that is not to be had."""
    loras = [Lora(lora.path, lora.scale, lora.weight_name) for lora in plan.loras]
    adapters = gather(loras, settings, cache, fetch=fetch, any_path=any_path)
    if isinstance(plan, LTX2Plan):
        if plan.camera is not None:
            camera = own(card, f"camera_{plan.camera}", settings, cache, field="camera_lora")
            adapters.append((camera, plan.camera_scale))
        if any(scale.distill for scale in plan.scales):
            distill = own(card, "distill", settings, cache, field="distill_lora_first_pass_scale")
            adapters.append((distill, plan.scales[0].distill))
    return adapters
