"""Decides whether a delivery that came too late adds anything to the result that ended its job."""

from worker.core.job.models import JSONObject


def adds(came: JSONObject | None, ending: JSONObject | None, *, was_resubmitted: bool) -> bool:
    """Say whether a late delivery is worth keeping beside the event that ends or ended its job.

    A failure may have claimed the job just before its song came. So may a part of the song, or the
    song of another submission of the same job.

    Args:
        came: the result that the delivery holds; None if it holds none.
        ending: the result that ends the job; None if the job fails.
        was_resubmitted: the provider may have made two songs for this job.
    """
    if ending is None:
        return True
    if came is None:
        return False
    # Two submissions make songs with different ids, and both were paid for.
    if was_resubmitted and came["clips"] and _songs(came).isdisjoint(_songs(ending)):
        return True
    return bool(ending["partial"] and not came["partial"])


def _songs(result: JSONObject) -> set[str]:
    return {clip["clip_id"] or clip["audio_url"] for clip in result["clips"]}
