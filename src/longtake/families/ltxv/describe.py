"""Describes a plan of LTX-Video 0.9.x for people to read."""

from longtake.families.family import Description
from longtake.families.ltxv.plan import LTXVPlan, Pass
from longtake.video import VideoInfo


def describe(plan: LTXVPlan, facts: VideoInfo) -> Description:
    """Returns the description of `plan` for people to read. `facts` (not used) are the facts of the source video."""
    kind = "" if plan.guide == "rgb" else f" as {plan.guide} guidance"
    context = f"the last {plan.context_frames} of them{kind}, at strength {plan.strength:g}"
    return Description(
        goes_in=[("model sees", context if plan.strength else "none of them (strength 0)")],
        how=[
            ("clip", f"{plan.sampled_frames} frames, in {_windows_text(plan)}"),
            *((f"pass {number}", _pass_text(pass_)) for number, pass_ in enumerate(plan.passes, 1)),
            ("evaluations", str(plan.evaluations)),
        ],
    )


def _windows_text(plan: LTXVPlan) -> str:
    spans = ", ".join(f"{window.start}-{window.stop - 1}" for window in plan.windows)
    if len(plan.windows) == 1:
        return f"one window of latent frames {spans}"
    shared = f"each begins with the last {plan.overlap_latents} before it, at strength {plan.overlap_strength:g}"
    return f"{len(plan.windows)} windows of latent frames {spans}; {shared}"


def _pass_text(pass_: Pass) -> str:
    """Returns a text about a pass: the size in pixels of the frames that it samples, the number of steps, and how often
    each step evaluates the model."""
    steps = pass_.steps - pass_.skip_initial - pass_.skip_final
    of = f" (of {pass_.steps})" if steps != pass_.steps else ""
    each = sorted({pass_.guidance.evaluations(t) for t in pass_.guidance.timesteps})
    evaluations = str(each[0]) if len(each) == 1 else f"{each[0]} to {each[-1]}, by noise level"
    width, height = pass_.canvas
    return f"{width}x{height}, {steps} steps{of} per window, evaluations per step: {evaluations}"
