"""What holds for the progress reports of every job."""

from collections import defaultdict
from collections.abc import Sequence

from longtake.video import STAGES, Progress


def assert_share_never_falls(reports: Sequence[Progress], *, until: dict[str, float]) -> None:
    """Fails if the finished share of a stage falls, or if a stage's last report is below a share.

    reports: all reports of a job, in order.
    until: the stages that the job has, with the least share of their last reports.
    """
    shares: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        assert report.stage.split()[0] in STAGES
        shares[report.stage].append(report.share)
    for stage, of_stage in shares.items():
        assert of_stage == sorted(of_stage), stage
    assert {stage: of_stage[-1] for stage, of_stage in shares.items() if of_stage[-1] < until[stage]} == {}
    assert shares.keys() == until.keys()
