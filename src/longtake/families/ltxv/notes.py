"""Notes for the user about a plan of LTX-Video 0.9.x, such as that source frames are repeated."""

from longtake.families.ltxv.options import LTXVOptions
from longtake.plans import MOST_RATE, Plan, rate_note, unseen_source_note
from longtake.video import Span, VideoInfo


def plan_notes(options: LTXVOptions, source: VideoInfo, span: Span, plan: Plan) -> tuple[str, ...]:
    """Returns the notes about a plan: sentences for the user about what differs from the request.

    The notes about the numbers of source frames and new frames are not among them; `frame_counts` returns those.

    `options`: the options of the request.
    `source`: the facts of the source video.
    `span`: the source frames that the request allows. The plan may use fewer.
    """
    found = (
        rate_note(source.rate, plan.context.rate),
        speed_note(source, plan),
        trim_note(options, source, span, plan),
        guide_note(options, plan),
        strength_note(options, plan),
        tone_map_note(options, plan),
    )
    return tuple(note for note in found if note is not None)


def speed_note(source: VideoInfo, plan: Plan) -> str | None:
    """Returns a note if the output shows the source faster or slower than its own speed; otherwise None."""
    clock = plan.context.rate
    if plan.speed == 1 or not plan.shown_frames:
        return None
    read = f"has {float(clock):.6g} frames per second" if clock == source.rate else f"is resampled to {clock} fps"
    remedy = f"; {round(clock)} keeps its speed" if 1 <= round(clock) <= MOST_RATE else ""
    return (
        f"The source {read} and plays {float(plan.speed):.3g} times as fast, because frame_rate is {plan.rate}{remedy}."
    )


def trim_note(options: LTXVOptions, source: VideoInfo, span: Span, plan: Plan) -> str | None:
    """Returns a note that says which source frames are used, if the request's fields do not show it; otherwise None.

    The plan may use fewer frames than the request allows, because the model must see 8k+1 frames. With the option
    `max_frames`, only the frames nearest to the new ones are used.

    `span`: the source frames that the request allows.
    """
    # The plan is moved if it begins after `start_frame`, and limited if more than `max_frames` frames follow that.
    clock, used = plan.context.rate, plan.context
    is_moved = not span.reverse and used.start > int(options.start_frame * clock / source.rate)
    is_limited = options.max_frames is not None and options.max_frames < source.num_frames - options.start_frame
    fields = [f"video.start_frame_num = {options.start_frame}"] if options.start_frame and is_moved else []
    if is_limited and (fields or len(used) < len(span)):
        fields.append(f"video.max_num_frames = {options.max_frames}")
    if not fields:
        return None
    first = int(used.start * source.rate / clock)
    which = f"the {'first' if span.reverse else 'last'} {'8k+1' if len(used) < len(span) else 'ones'}"
    allow = "allow" if len(fields) > 1 else "allows"
    count = "1 source frame is" if len(used) == 1 else f"{len(used)} source frames are"
    return f"{count} used, from frame {first} on: {which} that {' and '.join(fields)} {allow}."


def guide_note(options: LTXVOptions, plan: Plan) -> str | None:
    """Returns a note if the source is a guide and no LoRA is applied; otherwise None.

    A guide is a clip that the video follows without containing it. The models need a LoRA to follow a guide.
    """
    if options.guide == "rgb" or plan.adapters:
        return None
    return (
        f"video.conditioning_type is {options.guide}, and no LoRA that follows such a guide is given: the source is "
        f"not shown, and the model may ignore it."
    )


def strength_note(options: LTXVOptions, plan: Plan) -> str | None:
    """Returns a note if the strength is 0, at which the model sees nothing of the source; otherwise None."""
    if options.strength:
        return None
    if options.guide != "rgb":
        return "video.strength is 0: the guide has no effect."
    return unseen_source_note(plan, "video.strength")


def tone_map_note(options: LTXVOptions, plan: Plan) -> str | None:
    """Returns a note if there is a tone map (a compression of the latents' values) and the output shows unchanged
    source frames; otherwise None.

    The tone map then acts on the model's frames only, and begins gradually within one second.
    """
    if not options.tone_map_compression_ratio or not plan.source_frames:
        return None
    return "tone_map_compression_ratio acts on new frames alone and sets in over their first second, without a step."
