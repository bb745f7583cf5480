"""A delivery that comes too late to end its job: does it add anything to what ended the job?"""

from worker.core.job.models import JSONObject


def adds(came: JSONObject | None, ending: JSONObject | None, *, was_resubmitted: bool) -> bool:
    """Say whether what came is worth keeping beside what ends the job, or has ended it well.

    A failure may have won the job just before its song came. So may a part of the song, or the song
    of another submission of the same job.

    Args:
        came: the result that the delivery holds; None if it holds none.
        ending: the result that ends the job; None if the job fails.
        was_resubmitted: the provider may have made two songs for this job.
    """
    if ending is None:
        return True
    if came is None:
        return False
    if was_resubmitted and came["clips"] and _songs(came).isdisjoint(_songs(ending)):
        return True
    return bool(ending["partial"] and not came["partial"])


def _songs(result: JSONObject) -> set[str]:
    return {clip["clip_id"] or clip["audio_url"] for clip in result["clips"]}
