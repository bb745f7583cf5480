"""A POST to a peer, over a connection that is kept, by the cheapest client at hand."""

import urllib3

_pool = urllib3.PoolManager(maxsize=8, timeout=10, retries=False)


def post(url: str, body: str = "") -> None:
    """Send a text.

    Raises RuntimeError if it was not accepted.
    """
    answer = _pool.request("POST", url, body=body.encode())
    if answer.status >= 300:
        raise RuntimeError(f"{url}: {answer.status}: {answer.data.decode('utf-8', 'replace')}")
